"""To DSPy and back, and that DSPy's prompt shows what the signature says."""

from __future__ import annotations

import re
import typing
from typing import Annotated, Any, NewType

import annotated_types as at
import dspy
import pydantic
import pytest

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import Field, Signature, signature

UserId = NewType("UserId", int)
negate = pydantic.AfterValidator(lambda value: -value)


def prompt(cls: Any, **inputs: Any) -> str:
    return "\n".join(str(m["content"]) for m in dspy.ChatAdapter().format(cls, [], inputs))


def test_the_class_is_dspys_and_made_once() -> None:
    sig = signature('"""Route it."""\nmessage: str # the text\n -> urgency: float[0..1], k: int = 3', name="Triage")
    cls: Any = sig.to_dspy()
    assert issubclass(cls, dspy.Signature)
    assert sig.to_dspy() is cls
    assert (cls.__name__, cls.instructions) == ("Triage", "Route it.")
    assert cls.input_fields["message"].json_schema_extra["desc"] == "the text"
    assert cls.output_fields["k"].default == 3
    assert dspy.Predict(cls).signature is cls


def test_dspys_prompt_shows_instructions_descriptions_and_constraints() -> None:
    sig = signature(
        '"""Route it well."""\nmessage: str # the text they wrote\n'
        " -> urgency: float[0..1], tags: list[str][1..5], code: str[/^(?!X)[A-Z]+$/] # of the desk"
    )
    shown = prompt(sig.to_dspy(), message="hello")
    for part in (
        "Route it well.",
        "the text they wrote",
        "greater than or equal to: 0, less than or equal to: 1",
        "minimum length: 1, maximum length: 5",
        "matches the regular expression: ^(?!X)[A-Z]+$",
        "of the desk",
    ):
        assert part in shown


def test_nested_constraints_reach_the_schema_in_the_prompt() -> None:
    sig = signature("q -> scores: list[Annotated[float, Field(ge=0, le=1, description='a share')]]")
    shown = prompt(sig.to_dspy(), q="x")
    assert '"maximum": 1' in shown
    assert "a share" in shown


@pytest.mark.parametrize(
    "text",
    [
        "q -> a",
        '"""Do it."""\nq # what\n -> a: int[1..5] # how',
        "q: int = 3, r: str = None -> a: list[str][..3]",
        "q: str[/a(?!b)/][1..] -> a: Annotated[int, Field(gt=0, lt=9, multiple_of=2)]",
        "i: dspy.Image, h: dspy.History -> c: dspy.Code['python'], r: dspy.Reasoning",
        "a: Annotated[float, Field(strict=False, allow_inf_nan=False)] -> b",
        "copy, json: dict -> schema: str",
        "->",
    ],
)
def test_round_trips(text: str) -> None:
    sig = signature(text)
    rebuilt = Signature(sig.fields.values(), instructions=sig.instructions)
    cls = rebuilt.to_dspy()
    assert Signature.from_dspy(cls) == sig
    assert Signature.from_dspy(cls).to_dspy() is cls


def test_from_a_class_of_dspys() -> None:
    class Qa(dspy.Signature):
        """Answer.

        Briefly.
        """

        context = dspy.InputField(desc="may hold facts")
        question: Annotated[str, pydantic.Field(min_length=1, description="what is asked")] = dspy.InputField(max_length=9)
        extra: Annotated[int, "unknown to Pydantic"] = dspy.InputField(default=3)
        tags: list[str] = dspy.OutputField(default_factory=list)
        answer = dspy.OutputField()

    sig = Signature.from_dspy(Qa)
    assert (sig.name, sig.instructions) == ("Qa", "Answer.\n\nBriefly.")
    assert sig.inputs["context"].takes_any
    assert sig.inputs["context"].description == "may hold facts"
    assert sig.inputs["question"].description == "what is asked"
    assert sig.inputs["question"].constraints == {"min_length": 1, "max_length": 9}
    assert sig.inputs["extra"].default == 3
    assert sig.outputs["tags"].default == []
    assert sig.outputs["answer"].type is str
    assert sig.to_dspy() is Qa
    assert signature(str(sig), types=sig.types) == sig


def test_changed_classes_of_dspys_are_read_too() -> None:
    base: Any = signature("q: int[1..5] -> a: str[/x/]").to_dspy()
    changed = base.with_instructions("New.").append("b", dspy.OutputField(desc="more"), bool)
    sig = Signature.from_dspy(changed)
    assert sig.instructions == "New."
    assert list(sig.outputs) == ["a", "b"]
    assert sig.inputs["q"].constraints == {"ge": 1, "le": 5}
    assert sig.outputs["a"].constraints == {"pattern": "x"}
    assert sig.outputs["b"].description == "more"


def test_instructions_keep_their_margins() -> None:
    sig = Signature([Field("a"), Field("b", role="output")], instructions="\nOne:\n  two\n  three")
    assert sig.instructions == "One:\n  two\n  three"
    assert sig.to_dspy().instructions == sig.instructions
    assert Signature.from_dspy(sig.to_dspy()) == sig
    assert signature(str(sig)) == sig
    assert sig.replace(name="N").instructions == sig.instructions


def test_named_types_become_what_they_name() -> None:
    sig = signature("u: UserId -> v: list[UserId]")
    assert sig.to_dspy().input_fields["u"].annotation is int
    assert sig.validate_inputs({"u": 3}) == {"u": 3}
    assert signature("u: UserId[1..3] -> v").inputs["u"].constraints == {"ge": 1, "le": 3}


def test_unknown_metadata_of_a_field_of_dspys_stays_with_its_type() -> None:
    class Negated(dspy.Signature):
        x: Annotated[int, negate] = dspy.InputField()
        y: str = dspy.OutputField()

    assert Signature.from_dspy(Negated).validate_inputs({"x": 3}) == {"x": -3}


def test_a_language_is_no_subclass_of_another_class() -> None:
    class Snippet(dspy.Code):
        """A class of the user's own."""

    sig = signature("x: Snippet -> y")
    assert str(sig) == "x: Snippet -> y"
    assert sig.inputs["x"].type is Snippet


def test_a_type_dspy_cannot_hold_is_named() -> None:
    class Plain:
        """Nothing Pydantic knows."""

    sig = signature("q, p: list[Plain] -> a")
    assert sig.validate_inputs({"q": "x", "p": []}) == {"q": "x", "p": []}
    with pytest.raises(SignatureError, match="DSPy cannot hold 'p': Unable to generate") as caught:
        sig.to_dspy()
    assert caught.value.field == "p"


def test_only_classes_of_dspys_are_taken() -> None:
    with pytest.raises(SignatureError, match=r"Expected a class derived from dspy.Signature, found <class 'int'>"):
        Signature.from_dspy(int)  # type: ignore[arg-type]


def test_metadata_in_every_spelling_is_one() -> None:
    spellings: list[Any] = [
        Annotated[int, at.Ge(1), at.Le(5)],
        Annotated[int, at.Interval(ge=1, le=5)],
        Annotated[int, pydantic.Field(ge=1, le=5)],
        Annotated[Annotated[int, at.Le(5)], at.Ge(1)],
    ]
    assert len({str(Signature([Field("x", tp)])) for tp in spellings}) == 1
    assert len({str(Signature([Field("x", list[tp])])) for tp in spellings}) == 1
    texts: list[Any] = [
        Annotated[str, pydantic.StringConstraints(pattern="a", min_length=1)],
        Annotated[str, pydantic.Field(pattern="a", min_length=1)],
        Annotated[str, pydantic.Field(pattern="a"), at.Len(1)],
        Annotated[str, pydantic.Field(pattern=re.compile("a")), at.MinLen(1)],
    ]
    assert {str(Signature([Field("x", tp)])) for tp in texts} == {"x: str[1..][/a/] ->"}


def test_metadata_that_says_more_is_kept_whole() -> None:
    strip = pydantic.StringConstraints(strip_whitespace=True, pattern="a")
    flagged = pydantic.Field(pattern=re.compile("a", re.IGNORECASE))
    for item, given, result in ((strip, " a ", "a"), (flagged, "A", "A")):
        sig = Signature([Field("x", Annotated[str, item])])
        assert sig.validate_inputs({"x": given}) == {"x": result}
        assert signature(str(sig), types=sig.types) == sig


def test_pydantics_words_and_typing_extensions_doc() -> None:
    import typing_extensions

    field = Field("x", Annotated[float, pydantic.Strict(False), pydantic.AllowInfNan(False), typing_extensions.Doc("so")])
    assert field.constraints == {"strict": False, "allow_inf_nan": False}
    assert field.description == "so"
    assert Field("x", Annotated[int, pydantic.Field(default=3)]).default == 3
    assert typing.get_origin(field.annotation) is Annotated
