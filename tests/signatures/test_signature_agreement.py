"""What DSPy's own grammar accepts gives the same fields here, and what it refuses is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import Signature, signature

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "dspy_signature_strings.json"

#: Further strings, for what the published ones do not touch.
OWN = [
    *("-> a", "a ->", "->", "a,->b,", ",a->b", "a b->c", "a->b->c", "_a->b", "class->b", "fields->b", "instructions->b"),
    *("model_dump->b", "model_x->b", "copy->b", "dict -> json", "print -> x", "é->ﬁ", "a=3->b", "a: int=3 -> b: str='x'"),
    *("x: None->y", "x: list[None]->y", "x: 3->y", "x: Literal['a' 'b']->y", "x:\n int -> y", "x: int\n | str -> y"),
    *("x # c\n, y -> z", "x: Annotated[int, Field(ge=1, le=5)] -> y", "x: datetime.date -> y: decimal.Decimal"),
    *("x: Callable[...,int]->y", "x: dict[int]->y", "x: Any->y: object", "x: bytes | None -> y: complex", "x: type -> y"),
    *("x: Optional -> y", "x: Union->y", "x: Literal->y", "x: Annotated->y", "x: Type[int]->y", "x: typing.List[int]->y"),
    *("x: collections.abc.Sequence[int] -> y", "x: Final[int]->y", "x: TypeVar->y", "x: NoReturn->y", "x: (int)->y"),
    *("x: (int, str)->y", "x: tuple[()]->y", "x: NamedTuple -> y", "x: TypedDict->y", "x: Protocol->y", "x:int;y->z"),
    *("x: int | 3 -> y", "x: 'int' | None -> y", "x: Literal[True, None, 1]->y", "x: defaultdict[str,int]->y", "x: date->y"),
    *("x: DefaultDict[str,int]->y", "x: frozenset[int]->y", "x: datetime -> y", "x: list[str](1)->y", "x: not int->y"),
    *("x: int if 1 else 2->y", "x:=3->y", "x: lambda: 3->y", "x: str[0] -> y", "x: list[str][int] -> y", "x: cast -> y"),
    *(
        "x: Dict[str, Any] -> y",
        "x: Generic->y",
        "x: ForwardRef -> y",
        "x: Text -> y",
        "x: LiteralString -> y",
        "x: AnyStr -> y",
        "x: set->y",
    ),
    *("x:float|int|None->y", "x: dspy->y", "x: Optional[int,str]->y", "x: dspy.Code -> y: dspy.Tool", "x: ellipsis->y"),
    *("x: dspy.Audio, h: dspy.History -> y: dspy.Reasoning, t: list[dspy.ToolCalls]", "x: dspy.Nothing -> y"),
    *("x: Tuple[int, ...], u: uuid.UUID -> y: Optional[Dict[str, List[Union[int, str]]]]", "", "  ", "a", "a b", "->->"),
]


class Model(pydantic.BaseModel):
    x: int = 0


class Outer:
    class InnerType(pydantic.BaseModel):
        y: int = 0

    Query = Model
    Score = InnerType


CUSTOM: dict[str, Any] = {
    **dict.fromkeys(["CustomType", "GlobalCustomType", "LocalType", "NestedType", "OffStackItem", "Contact", "Person"], Model),
    **dict.fromkeys(["InnerType", "InnerTypeAlias"], Outer.InnerType),
    **dict.fromkeys(["OuterContainer", "Container2", "MyContainer"], Outer),
    "Path": Path,
}
#: DSPy looks into the frames of its callers when it is given no types; a name nobody uses keeps it from that.
NONE: dict[str, Any] = {"Nobody": int}

Fields = list[tuple[str, Any, str]]


def theirs(text: str, types: dict[str, Any]) -> tuple[Fields, Any] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fields that shadow an attribute
        try:
            cls = dspy.Signature(text, custom_types=types)
        except Exception:  # SyntaxError, ValueError, TypeError, Pydantic's: refused
            return None
    return [(n, f.annotation, f.json_schema_extra["__dspy_field_type"]) for n, f in cls.fields.items()], cls


def ours(text: str, types: dict[str, Any]) -> tuple[Fields, Signature] | None:
    try:
        sig = signature(text, types=types)
    except SignatureError:
        return None
    return [(f.name, f.type, f.role) for f in sig.fields.values()], sig


def agree(text: str, types: dict[str, Any]) -> None:
    their, our = theirs(text, types), ours(text, types)
    if their is None or our is None:
        assert their is None, f"{text!r} is refused here"
        assert our is None, f"{text!r} is accepted here"
        return
    assert our[0] == their[0]
    assert our[1].instructions == their[1].instructions
    made = our[1].to_dspy()
    assert [(n, f.annotation) for n, f in made.fields.items()] == [(n, f.annotation) for n, f in their[1].fields.items()]
    assert signature(str(our[1]), types=our[1].types) == our[1]
    if not {"=", "#"} & set(text) and "Annotated" not in text:  # DSPy drops defaults and comments
        assert made.equals(their[1])
        assert Signature.from_dspy(their[1]) == our[1]


@pytest.mark.parametrize("types", [CUSTOM, NONE], ids=["with types", "without"])
def test_all_strings_of_dspys_own_tests(types: dict[str, Any]) -> None:
    if not PUBLISHED.exists():
        pytest.skip(f"the published strings are not at {PUBLISHED.name} beside the project")
    strings = json.loads(PUBLISHED.read_text())
    assert len(strings) == 99
    for text in strings:
        agree(text, types)


@pytest.mark.parametrize("text", OWN)
def test_what_those_strings_do_not_touch(text: str) -> None:
    agree(text, NONE)


@pytest.mark.parametrize("text", ["a, a -> b", "*a -> b", "**k -> b", "a, /, b -> c", "a, *, b -> c", "x: list[int, str] -> y"])
def test_what_dspy_misreads_in_silence_is_refused(text: str) -> None:
    assert theirs(text, NONE) is not None
    assert ours(text, NONE) is None


@pytest.mark.parametrize(
    "text", ["x: 'int' -> y", "x: Literal[-1] -> y", "x: Literal['a->b'] -> y", "x: Callable[[int], str] -> y", "x: List -> y"]
)
def test_what_dspy_cannot_read_is_read(text: str) -> None:
    assert theirs(text, NONE) is None
    found = ours(text, NONE)
    assert found is not None
    found[1].to_dspy()


def test_the_language_of_code_is_a_text() -> None:
    sig = signature('x: dspy.Code["java"] -> y: list[dspy.Code["java"]]')
    assert sig.inputs["x"].type.language == "java"
    assert sig.inputs["x"].type is signature('x: dspy.Code["java"] -> z').inputs["x"].type
    assert signature(str(sig)) == sig
    made: Any = dspy.Code["java"]  # DSPy makes another class each time; the signature says the same all the same
    assert Signature.from_dspy(dspy.Signature({"x": (made, dspy.InputField()), "y": (list[made], dspy.OutputField())})) == sig
