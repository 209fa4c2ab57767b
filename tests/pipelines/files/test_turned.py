"""What was turned in a pipeline, parameters of functions and the adapter of a module, is in its file and comes back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from round_trip_helpers import FORM, equal

import dspex_lab as dx
from dspex_lab import pipelines
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines import load_pipeline
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import expose


def find(customer: str, limit: int = 3, share: float = 0.5, fast: bool = False, mode: str = "a", also: Any = None) -> dict:
    return {"orders": [f"{customer}{limit}{share}{fast}{mode}{also}"]}


async def later(orders: list, k: int = 1) -> dict:
    return {"top": orders[:k] * k}


def made() -> dx.Pipeline:
    return dx.pipeline("p", find=find, later=later, ask=dspy.ChainOfThought("customer -> reply"))


def turned(values: dict[str, Any]) -> dx.Pipeline:
    return pipelines.with_values(made(), values)


def test_values_of_functions_are_written_and_read() -> None:
    pipeline = turned({"find.limit": 9, "find.share": 0.25, "find.fast": True, "find.mode": "b: no", "later.k": 2})
    assert "values: {" in pipeline.to_yaml() or "values:\n" in pipeline.to_yaml()
    read = equal(pipeline)
    with dx.Lab(":memory:") as lab, dspy.context(lm=scripted_lm({"reply": "r", "reasoning": "x"})):
        found = lab.run(read, customer="c")
        assert found["orders"] == ["c90.25Trueb: noNone"]
        assert len(found["top"]) == 2
        assert lab.run(read, customer="c", limit=1)["orders"] == ["c10.25Trueb: noNone"]  # a run's own still holds
    assert {k.path: expose.present(k, read) for k in pipelines.knobs(read)}["find.limit"] == 9
    back = pipelines.with_values(read, {"find.limit": 3, "find.share": 0.5, "find.fast": False, "find.mode": "a", "later.k": 1})
    assert "values" not in back.to_yaml()


def test_the_adapter_of_a_module_is_written_and_read() -> None:
    pipeline = turned({"ask.adapter": "json", "ask.predict.instructions": "Reply."})
    assert "adapter: json" in pipeline.to_yaml()
    read = equal(pipeline)
    target = read.steps["ask"].target
    assert (expose.adapter_of(target), target.predict.signature.instructions) == ("json", "Reply.")
    assert "adapter" not in pipelines.with_values(read, {"ask.adapter": expose.IN_USE}).to_yaml()


def test_what_was_turned_is_in_the_python_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = turned({"find.limit": 9, "ask.adapter": "json"})
    (tmp_path / "turned_pipeline.py").write_text(pipelines.to_python(pipeline), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "turned_pipeline", raising=False)
    import turned_pipeline  # type: ignore[import-not-found]

    read = turned_pipeline.p()
    assert {k.path: expose.present(k, read) for k in pipelines.knobs(read)}["find.limit"] == 9
    assert expose.adapter_of(read.steps["ask"].target) == "json"


TEXT = """\
name: p
steps:
  find:
    type: native
    function: find
    values: VALUES
"""


@pytest.mark.parametrize(
    ("values", "message", "column"),
    [
        ("{limt: 4}", "has no parameter 'limt'. Did you mean 'limit'", 14),
        ("{limit: many}", "limit is 'many', and its default 3 is int", 21),
        ("{limit: true}", "limit is True, and its default 3 is int", 21),
        ("{limit: 1.5}", "limit is 1.5, and its default 3 is int", 21),
        ("{fast: 1}", "fast is 1, and its default False is bool", 20),
        ("{mode: 3}", "mode is 3, and its default 'a' is str", 20),
        ("{limit: [1, 2]}", "limit is a list, not a number, a truth value or a text", 21),
        ("{also: {a: 1}}", "also is a mapping, not a number, a truth value or a text", 20),
        ("{share: .nan}", "share is nan, not a number, a truth value or a text", 21),
        ("{limit: null}", "limit is nothing, not a number, a truth value or a text", 21),
        ("[limit, 4]", "values", 13),
        ("7", "values", 13),
    ],
)
def test_values_that_no_function_can_have_are_refused_where_they_stand(values: str, message: str, column: int) -> None:
    with pytest.raises(PipelineError) as caught:
        load_pipeline(TEXT.replace("VALUES", values), functions={"find": find})
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (6, column)


def test_a_whole_number_is_a_share_and_no_values_are_none() -> None:
    read = load_pipeline(TEXT.replace("VALUES", "{share: 1}"), functions={"find": find})
    assert read.steps["find"].target.values == {"share": 1.0}
    assert load_pipeline(TEXT.replace("VALUES", "{}"), functions={"find": find}).steps["find"].target is find


def test_a_function_whose_parameters_nobody_knows_has_no_values() -> None:
    with pytest.raises(PipelineError, match=r"values cannot be given .* nobody can tell"):
        load_pipeline(TEXT.replace("VALUES", "{limit: 4}"), functions={"find": min})


@pytest.mark.parametrize(
    ("adapter", "message"), [("jsn", "adapter is 'jsn'"), ("[json]", "adapter"), ("{a: 1}", "adapter"), ("in use", None)]
)
def test_an_adapter_that_is_none_is_refused_where_it_stands(adapter: str, message: str | None) -> None:
    text = f"name: p\nsteps:\n  ask:\n    type: dspy\n    module: Predict\n    signature: x -> y\n    adapter: {adapter}\n"
    if message is None:
        assert expose.adapter_of(load_pipeline(text).steps["ask"].target) is None
        return
    with pytest.raises(PipelineError) as caught:
        load_pipeline(text)
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (7, 14)
    if adapter == "jsn":
        assert "Did you mean 'json'" in str(caught.value)


def test_the_schema_knows_both() -> None:
    step = {"type": "native", "function": "f", "values": {"k": 1}}
    asks = {"type": "dspy", "module": "Predict", "signature": "x -> y", "adapter": "json"}
    FORM.validate({"name": "p", "steps": {"a": step, "b": asks}})
    for wrong in ({**step, "values": [1]}, {**asks, "adapter": 5}, {**asks, "values": {}}):
        assert not FORM.is_valid({"name": "p", "steps": {"a": wrong}})
