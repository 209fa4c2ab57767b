"""Pipelines as written, and what is refused before anything runs."""

from __future__ import annotations

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.pipelines import pipeline_from_source


def tidy(message: str) -> str:
    return message.strip()


def test_the_graph_is_plain_data() -> None:
    made = dx.pipeline(
        "p", message=dx.step(tidy, replaces=True), intent=dspy.Predict("message -> intent"), loud=lambda intent: intent
    )
    graph = made.graph()
    assert [(n["name"], n["kind"]) for n in graph["nodes"]] == [("message", "native"), ("intent", "dspy"), ("loud", "native")]
    assert {(e["from"], e["to"], e["field"]) for e in graph["edges"]} == {
        ("", "message", "message"),
        ("message", "intent", "message"),
        ("intent", "loud", "intent"),
    }
    assert graph["inputs"] == ["message"]
    assert repr(made) == "Pipeline('p': message -> message, intent, loud; steps message, intent, loud)"


def test_a_signature_as_a_step_is_predicted_by_the_router() -> None:
    made = dx.pipeline("p", a=dx.signature("question -> answer"), b=dx.chain_of_thought("answer -> verdict: bool"))
    assert [s.kind for s in made.steps.values()] == ["operation", "operation"]
    assert list(made.outputs) == ["answer", "verdict"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dx.pipeline("p"), "has no steps"),
        (lambda: dx.pipeline("p", a=3), "Step 'a' is int 3, which cannot be run"),
        (lambda: dx.pipeline("p", a=str), "which cannot be run"),
        (lambda: dx.step(tidy, on_error="explode"), "on_error='explode' is unknown"),
        (lambda: dx.step(tidy, on_error="fallback"), "belong together"),
        (lambda: dx.step(tidy, timeout=0), "not a number of seconds above 0"),
    ],
)
def test_what_cannot_be_built_is_refused(build, message: str) -> None:
    with pytest.raises(dx.PipelineError) as caught:
        build()
    assert message in str(caught.value)


def test_a_module_without_fields_must_be_told_its_outputs() -> None:
    class Opaque(dspy.Module):
        def forward(self, x):
            return dspy.Prediction(y=x)

    with pytest.raises(dx.PipelineError, match="output fields of Opaque cannot be told"):
        dx.pipeline("p", opaque=Opaque())
    made = dx.pipeline("p", opaque=dx.step(Opaque(), outputs=["y"]))
    assert list(made.outputs) == ["y"]


SOURCE = """import re

_word = re.compile("a+")

def find(message: str) -> dict:
    return {"found": bool(_word.search(message))}

found = find
verdict = step(lambda found: "yes" if found else "no")
"""


def test_a_cell_is_read_assignment_by_assignment() -> None:
    made = pipeline_from_source("p", SOURCE, {"step": dx.step})
    assert list(made.steps) == ["found", "verdict"]
    with dx.Lab(":memory:") as lab:
        assert lab.run(made, message="aa")["verdict"] == "yes"


@pytest.mark.parametrize(
    ("source", "message", "line"),
    [
        ("a = find\nb = (", "not valid Python", 2),
        ("a = find\nb = nothing", "NameError: name 'nothing'", 2),
        ("a = find\nb = 3", "Step 'b' is int 3", 2),
        ("a = find\na = find", "assigned twice", 2),
        ("a = lambda m: {'x': m}\n\nb = lambda m: {'x': m}", None, None),
        ("a = step(find)\nb = step(find)", "both produce the field 'found'", 2),
        ("x = step(lambda z: z)\ny = step(lambda x: x)\nz = step(lambda y: y)", "wait for each other", 1),
        ("a = step(find, on_error='no')", "is unknown", 1),
    ],
)
def test_what_is_wrong_in_a_cell_is_told_with_its_line(source: str, message: str | None, line: int | None) -> None:
    def find(message: str) -> dict:
        return {"found": message}

    namespace = {"step": dx.step, "find": find}
    if message is None:
        assert list(pipeline_from_source("p", source, namespace).outputs) == ["a", "b"]
        return
    with pytest.raises(dx.PipelineError) as caught:
        pipeline_from_source("p", source, namespace)
    assert message in str(caught.value)
    assert caught.value.line == line
    assert caught.value.excerpt()[1].endswith("^")


def test_copies_are_the_same_pipeline() -> None:
    import copy

    made = dx.pipeline("p", a=tidy)
    assert copy.deepcopy(made) is made
