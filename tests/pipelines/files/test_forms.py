"""What a file can say beyond what is written, and what its schema says of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml
from round_trip_helpers import FORM, equal, tidy

from dspex_lab import Lab
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines import (
    compute,
    load_pipeline,
    pipeline,
    step,
    transform,
)
from dspex_lab.pipelines.files import SCHEMA
from dspex_lab.testing import scripted_lm


def test_presets_conditions_switches_and_whiles_are_read(lab: Lab) -> None:
    text = """
name: p
variables: {n: 0}
presets:
  default: {timeout: 9, lm: offline}
  quick: {timeout: 1}
steps:
  kind: {type: switch, on: x, cases: {card: one, 2: two, '3': three}, default: other}
  doubled: {type: compute, values: {twice: 'n * 2'}, preset: quick, condition: {any: [x == 'card', {not: x != 2}]}}
  n: {type: loop, do: up, while: {all: [n < 3, true]}, replaces: true}
  picked: {type: transform, field: rows, keep: item.k > n, make: item.k, sort: item.k, descending: true, limit: 2}
"""
    names: dict[str, Any] = {n: lambda n=n: n for n in ("one", "two", "three", "other")}
    made = load_pipeline(text, functions={**{k: _constant(k) for k in names}, "up": lambda n: n + 1})
    rows = [{"k": 9}, {"k": 2}, {"k": 7}, {"k": 8}]
    out = {x: lab.run(made, x=x, rows=rows).raise_for_status().outputs for x in ("card", 2, "3", 3)}
    assert [o["kind"] for o in out.values()] == ["one", "two", "three", "other"]
    assert [o["twice"] for o in out.values()] == [0, 0, None, None]
    assert (out["card"]["n"], out["card"]["picked"]) == (3, [9, 8])
    assert made.steps["doubled"].target.then.timeout == 1
    assert made.steps["n"].target.step.timeout == 9
    assert made.steps["n"].timeout is None
    equal(made)


def _constant(value: str) -> Callable[[], str]:
    def constant() -> str:
        return value

    return constant


def test_condition_on_a_step_that_replaces_keeps_that() -> None:
    made = load_pipeline("name: p\nsteps: {x: {function: f, replaces: true, condition: x > 1}}\n", functions={"f": tidy})
    assert made.steps["x"].replaces
    assert not made.steps["x"].target.then.replaces


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    for wrong in (
        {"name": "p"},
        {"name": "p", "steps": {}},
        {"name": "p", "steps": {"a": {"type": "lm"}}},
        {"name": 1, "steps": {"a": "f"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            FORM.validate(wrong)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_knows_every_kind_and_every_option() -> None:
    from dspex_lab.pipelines.files._kinds import DUMPERS, LOADERS
    from dspex_lab.pipelines.files._reader import OPTIONS
    from dspex_lab.pipelines.files._schema import COMMON, TYPES

    assert set(TYPES) == set(LOADERS)
    assert set(COMMON) == set(OPTIONS) - {"type"}
    assert set(DUMPERS) <= set(LOADERS)


def test_a_file_is_run_by_the_lab_like_any_pipeline(lab: Lab) -> None:
    lab.use(scripted_lm([{"label": "no"}]))
    made = load_pipeline('name: p\nsteps: {a: {type: predict, signature: \'x -> label: Literal["no", "on"]\'}}\n')
    assert lab.run(made, x="y").outputs == {"label": "no"}


def test_transform_and_compute_say_what_is_wrong(lab: Lab) -> None:
    made = pipeline("p", a=transform("xs", sort="item"))
    assert lab.run(made, xs=[2, 1]).outputs == {"a": [1, 2]}
    assert "needs a list in 'xs'" in str(lab.run(made, xs="ab").error)
    assert "cannot be sorted" in str(lab.run(made, xs=[1, "a"]).error)
    with pytest.raises(PipelineError, match="is no name of a field"):
        transform("item")
    with pytest.raises(PipelineError, match="is no name of a field"):
        compute(**{"a b": "1"})
    assert lab.run(pipeline("p", a=transform("xs", descending=True)), xs=[1, 2]).outputs == {"a": [2, 1]}
    cached = pipeline(
        "p", a=step(transform("xs", keep="item > k"), cache=True), b=step(compute(t="k + 1"), cache=True, retries=1)
    )
    assert lab.run(cached, xs=[1, 2], k=1).outputs == lab.run(cached, xs=[1, 2], k=1).outputs == {"a": [2], "t": 2}
    assert [n["does"] for n in cached.graph()["nodes"]] == ["xs, keep item > k", "t = k + 1"]


def test_the_example_of_the_rooms_docstring_is_read_as_it_stands() -> None:
    import textwrap

    from dspex_lab.pipelines import files

    example = textwrap.dedent(str(files.__doc__).split("A file::\n", 1)[1].split("A step is a mapping", 1)[0])
    FORM.validate(yaml.safe_load(example))
    made = load_pipeline(example, functions={"normalise": lambda message: message})
    assert (made.steps["triage"].retries, made.steps["triage"].timeout, made.defaults) == (2, None, {"tone": "friendly"})
    assert made.steps["reply"].target.then.timeout == 20
    equal(made)
