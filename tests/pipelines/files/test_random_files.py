"""Any pipeline written and read again is equal."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import dspy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from round_trip_helpers import equal, other, tidy

import dspex_lab as dx
from dspex_lab.pipelines import (
    Operation,
    Pipeline,
    Step,
    assert_,
    chain_of_thought,
    compute,
    each,
    loop,
    parallel,
    pipeline,
    predict,
    retrieve,
    step,
    suggest,
    template,
    transform,
    when,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}#\x00\r"), max_size=30)


words = (
    st.sampled_from(["no", "on", "1:30", "x y", "- a", "{{ x }}", "a: b", "# c", "'", '"', "é\u2028", "line\nline\n"]) | texts
)


#: Made here, because DSPy draws random numbers when it makes one.
MODULES = {
    (kind, tag): getattr(dspy, kind)(f"x -> {tag}_a: str, {tag}_b: list[int]")
    for kind in ("Predict", "ChainOfThought")
    for tag in (f"s{i}{'i' * depth}" for i in range(4) for depth in range(3))
}


@st.composite
def leaves(draw: Any, tag: str) -> Step:
    """A step without others in it, whose output fields carry ``tag``."""
    kind = draw(st.sampled_from(["native", "predict", "cot", "dspy", "lm", "retrieve", "compute", "transform"]))
    if kind == "native":
        return step(draw(st.sampled_from([tidy, other])))
    if kind in ("predict", "cot"):
        contract = dx.signature(
            f"x, k: int = 3 -> {tag}_label: Literal['a', 'no']", name=draw(st.sampled_from([None, "Triage"]))
        )
        demos = draw(st.lists(st.fixed_dictionaries({"x": words, f"{tag}_label": words}), max_size=2))
        config = draw(st.none() | st.just({"temperature": 0.5, "stop": ["\n"]}))
        made = predict(contract) if kind == "predict" else chain_of_thought(contract)
        return step(Operation(made.name, contract, tuple(dspy.Example(**d) for d in demos), config))
    if kind == "dspy":
        module = copy.deepcopy(MODULES[draw(st.sampled_from(["Predict", "ChainOfThought"])), tag])
        predictor = getattr(module, "predict", module)
        predictor.demos = [dspy.Example(x=draw(words), **{f"{tag}_a": draw(words)}, augmented=True)]
        if draw(st.booleans()):
            predictor.signature = predictor.signature.with_instructions(draw(words) or "Do it.")
        return step(module)
    if kind == "lm":
        returns = draw(st.sampled_from([str, int, list[str], {f"{tag}_t": str, f"{tag}_n": Literal["no", 1]}, bool]))
        system = draw(st.none() | words.filter(lambda w: "{{" not in w))
        return step(
            template(draw(words.filter(lambda w: "{" not in w)) + " {{ x }}", system=system, returns=returns, temperature=0.2)
        )
    if kind == "retrieve":
        source = draw(st.sampled_from([tidy, "http://127.0.0.1:9/api"]))
        return retrieve(source, query="x", k=draw(st.integers(1, 9)), scores=draw(st.booleans()))
    if kind == "compute":
        return compute(**{f"{tag}_c": draw(st.sampled_from(["x + 1", "'no'", "x == 'on'"]))})
    limit = draw(st.none() | st.integers(0, 5))
    return transform("xs", keep=draw(st.none() | st.just("item > x")), descending=draw(st.booleans()), limit=limit)


@st.composite
def trees(draw: Any, tag: str, depth: int) -> Step:
    """Any step, with options."""
    if depth == 0 or draw(st.booleans()):
        made = draw(leaves(tag))
    else:
        kind = draw(st.sampled_from(["parallel", "when", "each", "loop", "assert", "suggest", "pipeline"]))
        inner = draw(trees(f"{tag}i", depth - 1))
        named = dataclasses.replace(inner, name=draw(st.none() | st.just("inner")))
        condition = draw(st.sampled_from(["x > 1", "x == 'no'", tidy]))
        if kind == "parallel":
            made = parallel(**{f"{tag}_p": inner, f"{tag}_q": other})
        elif kind == "when":
            made = when(condition, named, draw(st.none() | st.just(step(tidy, name="second"))))
        elif kind == "each":
            made = each("xs", named, item="x", concurrency=draw(st.integers(1, 9))) if "x" in shape_of(inner) else step(tidy)
        elif kind == "loop":
            made = loop(named, until=condition, limit=draw(st.integers(1, 20)))
        elif kind in ("assert", "suggest"):
            checks = draw(st.sampled_from([condition, [condition, "x != 3"]]))
            make = assert_ if kind == "assert" else suggest
            made = make(named, checks, draw(st.none() | st.just("no: it's bad")), attempts=draw(st.integers(1, 4)))
        else:
            made = step(pipeline("inner pipe", **{f"{tag}_n": inner}))
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["timeout"] = draw(st.integers(1, 60) | st.floats(0.5, 60))
    if draw(st.booleans()):
        options |= {"retries": draw(st.integers(1, 3)), "idempotent": True}
    if draw(st.booleans()):
        options["cache"] = draw(st.just(True) | st.integers(1, 900))
    if draw(st.booleans()):
        options["lm"] = draw(st.sampled_from(["openai/gpt-5-mini", "offline", "anthropic/claude-sonnet-4-5"]))
    if draw(st.booleans()):
        options["on_error"] = "continue"
    elif draw(st.booleans()):
        options |= {"on_error": "fallback", "fallback": other}
    return step(made, **options)


def shape_of(item: Step) -> Mapping[str, Any]:
    return item.how.shape("s", item).inputs


@st.composite
def pipelines(draw: Any) -> Pipeline:
    count = draw(st.integers(1, 4))
    name = draw(words.filter(str.strip))
    made = pipeline(name, **{f"s{i}": draw(trees(f"s{i}", 2)) for i in range(count)})
    return made.with_defaults(x=draw(words)) if "x" in made.inputs and draw(st.booleans()) else made


@given(pipelines())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_any_pipeline_written_and_read_again_is_equal(made: Pipeline) -> None:
    equal(made)
