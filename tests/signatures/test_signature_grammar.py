"""What a text says: fields, types, constraints, descriptions, defaults; and where a wrong text is wrong."""

from __future__ import annotations

import datetime
import decimal
import enum
import typing
from typing import Annotated, Any, Literal, Optional

import annotated_types as at
import pytest

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, signature
from dspex_lab.signatures._meta import Described, Regex


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


LIMIT = 7
TRIAGE = '''
"""Route a customer's message."""
message: str                           # what the customer wrote
-> intent: Literal["billing", "card", "transfer"], urgency: float[0..1]
'''


def one(text: str) -> Any:
    """Return the type of the field ``x`` with its constraints."""
    return signature(f"x: {text} -> y").inputs["x"].annotation


def test_the_example_of_the_design() -> None:
    sig = signature(TRIAGE, name="Triage")
    assert sig.name == "Triage"
    assert sig.instructions == "Route a customer's message."
    assert list(sig.inputs) == ["message"]
    assert list(sig.outputs) == ["intent", "urgency"]
    assert sig.inputs["message"].description == "what the customer wrote"
    assert sig.outputs["intent"].type == Literal["billing", "card", "transfer"]
    assert sig.outputs["urgency"].type is float
    assert sig.outputs["urgency"].constraints == {"ge": 0, "le": 1}
    assert sig.outputs["urgency"].description is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("list[dict[str, int]]", list[dict[str, int]]),
        ("List[int]", typing.List[int]),  # noqa: UP006
        ("List", list),
        ("Optional[int]", Optional[int]),  # noqa: UP045
        ("Union[int, str]", int | str),
        ("int | (str | None)", int | str | None),
        ("None | int", int | None),
        ("None", str),
        ("NoneType", type(None)),
        ("tuple[int, ...]", tuple[int, ...]),
        ("tuple[()]", tuple[()]),
        ("dict[(str, int)]", dict[str, int]),
        ("Literal['a' 'b', -1, True, None, b'x']", Literal["ab", -1, True, None, b"x"]),
        ("Literal[Color.RED]", Literal[Color.RED]),
        ("'int'", int),
        ("list['Color']", list[Color]),
        ("datetime.date", datetime.date),
        ("collections.abc.Sequence[int]", __import__("collections").abc.Sequence[int]),
        ("Callable[[int, str], bool]", typing.Callable[[int, str], bool]),
        ("Callable[..., Any]", typing.Callable[..., Any]),
        ("Color", Color),
        ("dict[str, list[Color] | None]", dict[str, list[Color] | None]),
        ("float[0..1]", Annotated[float, at.Ge(0), at.Le(1)]),
        ("float[-1.5..]", Annotated[float, at.Ge(-1.5)]),
        ("int[..+5]", Annotated[int, at.Le(5)]),
        ("decimal.Decimal[0..1]", Annotated[decimal.Decimal, at.Ge(0), at.Le(1)]),
        ("list[str][1..5]", Annotated[list[str], at.MinLen(1), at.MaxLen(5)]),
        ("list[float[0..1]]", list[Annotated[float, at.Ge(0), at.Le(1)]]),
        ("str[/^[A-Z]+$/]", Annotated[str, Regex("^[A-Z]+$")]),
        (r"str[/a\/b/][2..]", Annotated[str, at.MinLen(2), Regex("a/b")]),
        ("str[/[/]/]", Annotated[str, Regex("[/]")]),
        ("int[1..5] | None", Annotated[int, at.Ge(1), at.Le(5)] | None),
        ("Annotated[int, Field(ge=1, le=5)]", Annotated[int, at.Ge(1), at.Le(5)]),
        ("list[Annotated[int, Field(gt=0, description='d')]]", list[Annotated[int, at.Gt(0), Described("d")]]),
        ("Annotated[int, 3]", Annotated[int, 3]),
        ("int[0x10..1_000]", Annotated[int, at.Ge(16), at.Le(1000)]),
        ("float[1e-3..1e+3]", Annotated[float, at.Ge(0.001), at.Le(1000.0)]),
    ],
)
def test_types(text: str, expected: Any) -> None:
    assert one(text) == expected
    assert typing.get_args(one(text)) == typing.get_args(expected)


def test_quoted_literals_do_not_end_a_signature() -> None:
    sig = signature("a: Literal['->', '#', ','] -> b")
    assert sig.inputs["a"].type == Literal["->", "#", ","]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("int = 3", 3),
        ("int = -3", -3),
        ("float = 3", 3.0),
        ("str = 'a' 'b'", "ab"),
        ("list[int] = [1, 2,]", [1, 2]),
        ("tuple[int, ...] = (1,)", (1,)),
        ("tuple[int, str] = [1, 'a']", (1, "a")),
        ("dict[str, int] = {'a': 1, 'b': 2}", {"a": 1, "b": 2}),
        ("dict = {}", {}),
        ("set[int] = {1, 2}", {1, 2}),
        ("int = (3)", 3),
        ("int = LIMIT", 7),
        ("Color = Color.RED", Color.RED),
        ("Color = 'blue'", Color.BLUE),
        ("datetime.date = '2024-02-29'", datetime.date(2024, 2, 29)),
        ("int | None = None", None),
        ("int = None", None),
        ("int[1..5] = None", None),
        ("int = Field(default=4, ge=1, description='how many')", 4),
        ("bool = True", True),
    ],
)
def test_defaults_are_honoured(text: str, value: Any) -> None:
    field = signature(f"x: {text} -> y").inputs["x"]
    assert field.default == value
    assert type(field.default) is type(value)
    assert not field.required


def test_a_field_without_default_has_none() -> None:
    field = signature("x -> y").inputs["x"]
    assert field.default is MISSING
    assert field.required


def test_field_call_says_constraints_description_and_default() -> None:
    field = signature("x: float = Field(gt=0, lt=9, multiple_of=0.5, default=1.0, desc='half steps') -> y").inputs["x"]
    assert field.constraints == {"gt": 0, "lt": 9, "multiple_of": 0.5}
    assert (field.description, field.default) == ("half steps", 1.0)


def test_an_optional_of_a_constrained_type_keeps_the_constraint() -> None:
    sig = signature("k: int[1..5] = None -> y")
    assert sig.validate_inputs({"k": 5}) == {"k": 5}
    with pytest.raises(SignatureError, match="found 6"):
        sig.validate_inputs({"k": 6})


def test_comments_describe_the_field_before_them() -> None:
    sig = signature(
        """
        # a remark at the top describes nothing
        a: int,   # first
        b         # second, which is
                  # continued here
                  #
        # a remark between
        c: list[  # inside a bracket describes nothing
            str
        ], d      # the fourth
        -> e      # the fifth
        , f
        # a remark at the end
        """
    )
    assert {name: field.description for name, field in sig.fields.items()} == {
        "a": "first",
        "b": "second, which is continued here",
        "c": None,
        "d": "the fourth",
        "e": "the fifth",
        "f": None,
    }


def test_lines_may_end_anywhere_python_lets_them() -> None:
    sig = signature("a:\n int\n | str\nb\n: list[\nint]\n\\\n= [1]\n->\nc")
    assert sig.inputs["a"].type == int | str
    assert sig.inputs["b"].default == [1]
    assert list(sig.outputs) == ["c"]


def test_instructions_are_cleaned_as_docstrings_are() -> None:
    sig = signature("'''\n    One.\n      Two.\n    ''' a -> b")
    assert sig.instructions == "One.\n  Two."


def test_escapes_in_strings_are_pythons_and_unknown_ones_stay() -> None:
    sig = signature(r"x: Literal['\n\x41\101\d\'', r'\n', '\u00e9', '''a'b'''] -> y")
    assert sig.inputs["x"].type == Literal["\nAA\\d'", "\\n", "é", "a'b"]


def test_names_are_normalised_as_python_does() -> None:
    assert list(signature("é -> ﬁ").fields) == ["é", "fi"]


def test_either_side_may_be_empty_as_in_dspy() -> None:
    assert list(signature("-> a").outputs) == ["a"]
    assert list(signature("a ->").inputs) == ["a"]
    assert signature("->").fields == {}


@pytest.mark.parametrize(
    ("text", "line", "column", "said", "hint"),
    [
        ("", 1, 1, "expected '->'", "question -> answer"),
        ("a", 1, 2, "expected '->' between inputs and outputs, found the end", ""),
        ("a -> b -> c", 1, 8, "second '->'", ""),
        ("a => b", 1, 4, "unexpected '>'", "'->'"),
        ("a → b", 1, 3, "unexpected '→'", "'->'"),
        ("a; b -> c", 1, 2, "unexpected ';'", "','"),
        ("a ? b -> c", 1, 3, "unexpected character '?'", ""),
        ("a b -> c", 1, 3, "after the field 'a', found 'b'", ""),
        ("a -> b c", 1, 8, "after the field 'b', found 'c'", ""),
        (", a -> b", 1, 1, "expected the name of a field, found ','", ""),
        ("a,, b -> c", 1, 3, "expected the name of a field", ""),
        ("*a -> b", 1, 1, "name of a field", "Every field is named"),
        ("3a -> b", 1, 1, "neither a number nor a name", ""),
        ("a, b,\n  a -> c", 2, 3, "'a' is given twice", "line 1, column 1"),
        ("a ->\n b,\n a", 3, 2, "'a' is both an input and an output", "line 1, column 1"),
        ("class -> b", 1, 1, "word of Python's", "'class_'"),
        ("_a -> b", 1, 1, "underscore", "'a'"),
        ("__ -> b", 1, 1, "underscore", "Choose another"),
        ("fields -> b", 1, 1, "need themselves", "'fields_'"),
        ("a: -> b", 1, 4, "expected a type after 'a:'", ""),
        ("a: , b -> c", 1, 4, "expected a type after 'a:'", ""),
        ("a: ) -> c", 1, 4, "expected a type, found ')'", ""),
        ("a: int | -> c", 1, 10, "expected a type, found '->'", ""),
        ("q\n-> a: strng", 2, 7, "unknown type 'strng' of the field 'a'", "Did you mean 'str'?"),
        ("a: list[Colr] -> b", 1, 9, "unknown type 'Colr'", "'Color'"),
        ("a: Path -> b", 1, 4, "unknown type 'Path'", "'pathlib.Path'"),
        ("a: Qqqqqq -> b", 1, 4, "unknown type 'Qqqqqq'", "types="),
        ("a: datetime.dat -> b", 1, 4, "unknown type 'datetime.dat'", "'datetime.date'"),
        ("a: datetime.zzzzzz -> b", 1, 4, "unknown type", "no type of that name"),
        ("a: antigravity.Fly -> b", 1, 4, "unknown type 'antigravity.Fly'", "Import 'antigravity' first"),
        ("a: Color.__class__ -> b", 1, 4, "unknown type", ""),
        ("a: LIMIT -> b", 1, 4, "LIMIT is a int value, not a type", ""),
        ("a: typing.cast -> b", 1, 4, "is a function, not a type", ""),
        ("a: collections.abc -> b", 1, 4, "is a module", "collections.abc."),
        ("a: Optional -> b", 1, 4, "in brackets, as in Optional", ""),
        ("a: ClassVar[int] -> b", 1, 4, "mark for attributes", ""),
        ("a: Generic -> b", 1, 4, "no type of a value", ""),
        ("a: 3 -> b", 1, 4, "expected a type for 'a', found 3", "Literal[3]"),
        ("a: 1.5 -> b", 1, 4, "expected a type for 'a', found 1.5", ""),
        ("a: 'two words' -> b", 1, 4, "found the text 'two words'", "Literal['two words']"),
        ("a: ... -> b", 1, 4, "found Ellipsis", ""),
        ("a: (int, str) -> b", 1, 4, "found a bracket", "tuple[int, str]"),
        ("a: foo() -> b", 1, 4, "found a call", ""),
        ("a: int. -> b", 1, 9, "expected a name after 'int.'", ""),
        ("a: int.class -> b", 1, 4, "'class' is not a name", ""),
        ("a: list[str -> b", 1, 8, "'[' is never closed", ""),
        ("a: list[str\nb: int -> c", 1, 8, "'[' is never closed", ""),
        ("a: (int -> c", 1, 4, "'(' is never closed", ""),
        ("a: list[str) -> c", 1, 12, "expected ',' or ']', found ')'", ""),
        ("a: list[str, int] -> c", 1, 4, "expected one type in the brackets of list", ""),
        ("a: dict[str] -> c", 1, 4, "expected 2 types in the brackets of dict", ""),
        ("a: list[] -> c", 1, 4, "expected something in the brackets", ""),
        ("a: list[str][int] -> c", 1, 4, "does not take these brackets", ""),
        ("a: Optional[int, str] -> c", 1, 4, "exactly one type", ""),
        ("a: Union[()] -> c", 1, 4, "expected types in the brackets", ""),
        ("a: Literal[()] -> c", 1, 4, "empty Literal", ""),
        ("a: Literal[billing] -> c", 1, 12, "found the name billing", "'billing', in quotes"),
        ("a: Literal[1.5] -> c", 1, 12, "expected a text, a whole number", ""),
        ("a: Annotated[int] -> c", 1, 4, "what annotates it", ""),
        ("a: Annotated[int, [1]] -> c", 1, 19, "expected Field(…)", ""),
        ("a: Annotated[int, Field(default=3)] -> c", 1, 19, "default stands behind the type", ""),
        ("a: Annotated[int, Ge(ge=1)] -> c", 1, 19, "only Field(…) is read", ""),
        ("a: Annotated[int, Field(gee=1)] -> c", 1, 25, "Field knows no 'gee'", "'ge'"),
        ("a: Annotated[int, Field(1)] -> c", 1, 25, "expected 'name=value' in Field(…)", ""),
        ("a: Annotated[int, Field(ge=1 -> c", 1, 24, "'(' is never closed", ""),
        ("a: int[5..1] -> c", 1, 8, "range 5..1 is empty", "1..5"),
        ("a: int[..] -> c", 1, 8, "without bounds", ""),
        ("a: int[1..x] -> c", 1, 11, "expected ',' or ']', found 'x'", ""),
        ("a: int[1..-x] -> c", 1, 12, "expected a number", ""),
        ("a: int[-x] -> c", 1, 9, "expected a number", ""),
        ("a: int[0.5..2] -> c", 1, 8, "whole numbers in the range of an int", "float"),
        ("a: list[int][-1..2] -> c", 1, 14, "whole numbers from 0 on", ""),
        ("a: str[0.5..2] -> c", 1, 8, "whole numbers from 0 on", ""),
        ("a: bool[0..1] -> c", 1, 9, "a range fits numbers", ""),
        ("a: tuple[int, str][1..2] -> c", 1, 20, "a range fits", ""),
        ("a: (int | str)[1..2] -> c", 1, 16, "a range fits", "int[1..5] | None"),
        ("a: int[1..2][1..3] -> c", 1, 14, "constrained twice", ""),
        ("a: int[5] -> c", 1, 8, "expected a range", "int[1..5]"),
        ("a: str[/(/] -> c", 1, 8, "not a regular expression", ""),
        ("a: str[/x/i] -> c", 1, 11, "expected ',' or ']', found 'i'", "(?i)"),
        ("a: str[/x] -> c", 1, 8, "never closed", "str[/"),
        ("a: int[/x/] -> c", 1, 8, "a pattern fits str", ""),
        ("a: Annotated[str, Field(pattern=3)] -> c", 1, 33, "not a regular expression", ""),
        ("a: int = 'x' -> c", 1, 10, "default of 'a' does not fit: expected int, found 'x' (str)", ""),
        ("a: float[0..1] = 2 -> c", 1, 18, "default of 'a' does not fit: expected float[0..1], found 2", ""),
        ("a: Literal['x'] = 'y' -> c", 1, 19, "does not fit", ""),
        ("a: int = f() -> c", 1, 10, "only Field(…) is read", ""),
        ("a = {[1]: 2} -> c", 1, 5, "cannot be built", ""),
        ("a = {1: 2, 3} -> c", 1, 13, "expected ':' after a key", ""),
        ("a = -> c", 1, 5, "expected a plain value", ""),
        ("a = [f()] -> c", 1, 6, "expected a plain value for 'a'", ""),
        ("a = nothing -> c", 1, 5, "unknown type 'nothing'", ""),
        ("a = 'x' b'y' -> c", 1, 9, "string of the same kind", ""),
        ("a = 'x -> c", 1, 5, "never closed", ""),
        ("a = 'x\n' -> c", 1, 5, "never closed", ""),
        ("a = f'x' -> c", 1, 5, "f-string", ""),
        ("a = '\\N{nothing}' -> c", 1, 5, "cannot be read", ""),
        ("a = '\\ud800' -> c", 1, 5, "cannot be read", ""),
        ("a = 007 -> c", 1, 5, "is not a number", ""),
        ("a: \ud800 -> c", 1, 4, "surrogate", ""),
        ("a: " + "[" * 90 + " -> c", 1, 34, "nested deeper", ""),
        ("a: str" + "[1..]" * 9 + " -> c", 1, 47, "brackets in a row", ""),
    ],
)
def test_errors_say_place_expectation_and_remedy(text: str, line: int, column: int, said: str, hint: str) -> None:
    with pytest.raises(SignatureError) as caught:
        signature(text, types={"Color": Color, "LIMIT": LIMIT})
    error = caught.value
    assert said in error.message
    assert hint in (error.hint or "")
    assert (error.line, error.column) == (line, column)
    assert error.text == text
    assert (f"Line {line}, column {column}: " if line > 1 else f"Column {column}: ") in error.message


def test_the_error_names_its_field_and_shows_its_line() -> None:
    with pytest.raises(SignatureError) as caught:
        signature("question: str\n-> answer: strng")
    assert caught.value.field == "answer"
    assert caught.value.excerpt() == ["line 2 | -> answer: strng", "                    ^"]


def test_a_text_of_novel_length_is_refused_unread() -> None:
    with pytest.raises(SignatureError, match="characters"):
        signature("a" * 300_000 + " -> b")


def test_an_attribute_that_raises_is_an_error_of_the_signature() -> None:
    class Trap:
        def __getattr__(self, name: str) -> None:
            raise RuntimeError("sprung")

    with pytest.raises(SignatureError, match=r"looking up 'trap.x' failed: RuntimeError: sprung") as caught:
        signature("a: trap.x -> b", types={"trap": Trap()})
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_class_may_take_values_in_its_brackets() -> None:
    class Shape:
        def __class_getitem__(cls, item: Any) -> Any:
            return Annotated[list, "shape", item]

    assert signature("a: Shape[3, 'x'] -> b").inputs["a"].annotation == Annotated[list, (3, "x")]


def test_annotations_by_name() -> None:
    positive = at.Gt(0)
    assert signature("a: Annotated[int, positive, 'how many'] -> b", types={"positive": positive}).inputs["a"].constraints == {
        "gt": 0
    }
