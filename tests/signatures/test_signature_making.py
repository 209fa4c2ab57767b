"""Signatures from functions and classes."""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import dspy
import pydantic
import pytest
from signature_types import Data, Item, Model

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, input_field, output_field, signature


class Out(TypedDict):
    label: str
    score: Annotated[float, pydantic.Field(ge=0, le=1, description="how sure")]
    note: NotRequired[str]


class Tup(NamedTuple):
    a: int
    b: str = "x"


# -- functions --------------------------------------------------------------------------------------------------------
def classify(text: str, k: int = 3, *, item: Annotated[Item, "what it is about"]) -> Out:
    """Say what a text is.

    At length.
    """
    raise NotImplementedError


def test_a_function_gives_inputs_outputs_and_instructions() -> None:
    sig = signature(classify)
    assert (sig.name, sig.instructions) == ("classify", "Say what a text is.\n\nAt length.")
    assert {n: (f.type, f.default) for n, f in sig.inputs.items()} == {
        "text": (str, MISSING),
        "k": (int, 3),
        "item": (Item, MISSING),
    }
    assert sig.inputs["item"].description == "what it is about"
    assert {n: f.type for n, f in sig.outputs.items()} == {"label": str, "score": float, "note": str | None}
    assert sig.outputs["score"].constraints == {"ge": 0, "le": 1}
    assert sig.outputs["score"].description == "how sure"
    assert sig.outputs["note"].default is None


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (Data, {"label": (str, MISSING), "tags": (list[str], []), "score": (float, 0.5)}),
        (Model, {"label": (str, MISSING), "score": (float, 0.5)}),
        (Tup, {"a": (int, MISSING), "b": (str, "x")}),
        (Annotated[Data, "of it"], {"label": (str, MISSING), "tags": (list[str], []), "score": (float, 0.5)}),
        (int, {"step": (int, MISSING)}),
        (dict[str, int], {"step": (dict[str, int], MISSING)}),
        (Item | None, {"step": (Item | None, MISSING)}),
        (dspy.Image, {"step": (dspy.Image, MISSING)}),
    ],
)
def test_what_a_function_returns_gives_the_outputs(returned: Any, expected: dict[str, Any]) -> None:
    def step(x: str) -> Any: ...

    step.__annotations__ = {"x": str, "return": returned}
    assert {n: (f.type, f.default) for n, f in signature(step).outputs.items()} == expected


def test_a_model_s_descriptions_and_constraints_come_along() -> None:
    def step(x: str) -> Model: ...  # type: ignore[empty-body]

    sig = signature(step)
    assert sig.outputs["label"].description == "the label"
    assert sig.outputs["score"].constraints == {"ge": 0, "le": 1}


def test_functions_of_all_kinds() -> None:
    async def later(x: int) -> str: ...  # type: ignore[empty-body]

    class Callme:
        def __call__(self, x: int) -> str: ...  # type: ignore[empty-body]

        def method(self, x: int) -> str: ...  # type: ignore[empty-body]

    @functools.wraps(classify)
    def wrapped(*args: Any, **kwargs: Any) -> Any: ...

    assert list(signature(later).fields) == ["x", "later"]
    assert list(signature(Callme()).fields) == ["x", "Callme"]
    assert list(signature(Callme().method).fields) == ["x", "method"]
    assert list(signature(wrapped).inputs) == ["text", "k", "item"]
    assert list(signature(functools.partial(classify, k=4)).inputs) == ["text", "k", "item"]
    assert list(signature(lambda x: x).outputs) == ["result"]
    assert signature(later, name="Other").name == "Other"


def test_parameters_without_annotations_take_anything() -> None:
    def step(x, y=3):  # type: ignore[no-untyped-def]
        ...

    sig = signature(step)
    assert sig.inputs["x"].takes_any
    assert sig.validate_inputs({"x": object}) == {"x": object, "y": 3}
    assert sig.validate_outputs({"step": object}) == {"step": object}


def test_a_default_of_none_makes_the_type_optional() -> None:
    def step(x: int = None) -> int: ...  # type: ignore[assignment,empty-body]  # noqa: RUF013

    assert signature(step).inputs["x"].type == int | None


def test_functions_that_cannot_be_signatures_say_why() -> None:
    def loose(*args: int) -> int: ...  # type: ignore[empty-body]

    def wrong(x: int = "3") -> int: ...  # type: ignore[assignment,empty-body]

    def unknown(x: NotThere) -> int: ...  # type: ignore[name-defined,empty-body]  # noqa: F821

    def twice(twice: int) -> int: ...  # type: ignore[empty-body]

    with pytest.raises(SignatureError, match=r"the fields behind \*args are not known"):
        signature(loose)
    with pytest.raises(SignatureError, match="default of 'x' does not fit: expected int, found '3'"):
        signature(wrong)
    with pytest.raises(SignatureError, match=r"unknown: an annotation cannot be read: .*NotThere"):
        signature(unknown)
    with pytest.raises(SignatureError, match="'twice' is given twice"):
        signature(twice)
    with pytest.raises(SignatureError, match="does not say which parameters"):
        signature(max)
    with pytest.raises(SignatureError, match="Expected a text, a function or a class, found int"):
        signature(3)  # type: ignore[arg-type]


def test_quoted_annotations_see_the_caller_and_types() -> None:
    class Local(pydantic.BaseModel): ...

    def step(x: Local) -> Elsewhere: ...  # type: ignore[name-defined,empty-body]

    assert signature(step, types={"Local": Local, "Elsewhere": Data}).inputs["x"].type is Local
    Elsewhere = Model  # noqa: N806
    assert list(signature(step).outputs) == ["label", "score"]


# -- classes ----------------------------------------------------------------------------------------------------------
def test_a_class_with_marks() -> None:
    class Triage:
        """Route it."""

        message: str = input_field("what was written")
        k: int = input_field(default=3, ge=1)
        context = input_field()
        intent: str = output_field(pattern="^[a-z]+$")
        helper = 3

    class Further(Triage):
        """Further."""

        urgency: Annotated[float, pydantic.Field(ge=0, le=1)] = output_field("how urgent")

    sig = signature(Further)
    assert (sig.name, sig.instructions) == ("Further", "Further.")
    assert list(sig.inputs) == ["message", "k", "context"]
    assert list(sig.outputs) == ["intent", "urgency"]
    assert sig.inputs["k"].default == 3
    assert sig.inputs["context"].takes_any
    assert sig.outputs["intent"].constraints == {"pattern": "^[a-z]+$"}
    assert sig.outputs["urgency"].constraints == {"ge": 0, "le": 1}
    assert signature(Further, name="Other").name == "Other"


def test_a_pydantic_model_with_dspys_marks() -> None:
    class Marked(pydantic.BaseModel):
        text: str = dspy.InputField(desc="the text")
        label: int = dspy.OutputField(ge=1)

    class Bare:
        text: str = dspy.InputField(desc="the text")
        label: int = dspy.OutputField(ge=1)
        other: int = pydantic.Field(3)

    for cls in (Marked, Bare):
        sig = signature(cls)
        assert sig.inputs["text"].description == "the text"
        assert sig.outputs["label"].type is int
        assert sig.outputs["label"].constraints == {"ge": 1}
        assert list(sig.fields) == ["text", "label"]


def test_a_class_without_marks_says_what_to_do() -> None:
    with pytest.raises(SignatureError, match="no fields that are marked as inputs or outputs") as caught:
        signature(Item)
    assert "input_field()" in (caught.value.hint or "")


def test_wrong_constraints_are_named() -> None:
    class Wrong:
        x: int = input_field(gee=3)

    with pytest.raises(SignatureError, match=r"unknown constraint 'gee'. Did you mean 'ge'"):
        signature(Wrong)


def test_a_signature_and_a_class_of_dspys_pass_through() -> None:
    class Qa(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    sig = signature(Qa)
    assert (sig.name, sig.instructions) == ("Qa", "Answer.")
    assert signature(sig) is sig
    assert signature(sig, name="Other").name == "Other"
    assert signature(sig, name="Other") == sig
    assert signature(Qa, name="Other").name == "Other"


Pair = namedtuple("Pair", "left right")


def test_an_old_named_tuple_has_members_of_any_type() -> None:
    def step(x: int) -> Pair: ...  # type: ignore[empty-body]

    assert {name: field.type for name, field in signature(step).outputs.items()} == {"left": Any, "right": Any}
