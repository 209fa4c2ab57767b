"""The quick way to a validator and Pydantic's own accept, refuse and return the same; patterns are searched in linear time."""

from __future__ import annotations

import datetime
import enum
import sys
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import annotated_types as at
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import ValidationError
from steady import STEADY

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, Field, Signature, signature
from dspex_lab.signatures._core import core_of, record_validator
from dspex_lab.signatures._meta import Regex, engine_of
from dspex_lab.signatures._typed_dict import readable
from dspex_lab.signatures._validate import Checker, adapter

MANY = settings(STEADY, max_examples=300)


class Color(enum.Enum):
    RED = "red"


class Leaf(pydantic.BaseModel):
    n: int = 0


class Node(pydantic.BaseModel):
    leaf: Leaf | None = None
    kids: list[Node] = []


class Hooked(pydantic.BaseModel):
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.int_schema()


class Unfinished(pydantic.BaseModel):
    other: NotThere  # type: ignore[name-defined]  # noqa: F821


class Inner(TypedDict, total=False):
    z: int
    y: Required[str]


class Outer(TypedDict):
    """An outer one."""

    a: int
    b: NotRequired[list[Inner]]


class Forbidding(TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]
    a: int


class Circle(TypedDict):
    again: list[Circle]


def _limited(tp: Any, *limits: Any) -> Any:
    return Annotated[(tp, *limits)]


leaves: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([str, int, float, bool, bytes, type(None), Any, object, list, dict, set, frozenset, tuple]),
    st.lists(st.sampled_from(["a", 1, True, None, 0]), min_size=1, max_size=3).map(lambda v: Literal[tuple(v)]),
    st.integers(-2, 2).map(lambda n: _limited(int, at.Ge(n), at.Lt(n + 3))),
    st.integers(-2, 2).map(lambda n: _limited(float, at.Gt(n / 2), at.MultipleOf(0.5))),
    st.integers(0, 2).map(lambda n: _limited(str, at.MinLen(n), at.MaxLen(n + 1))),
    st.sampled_from(["^a", "b$", "a(?!b)"]).map(lambda p: _limited(str, Regex(p))),
    st.sampled_from([Leaf, Node]),
    # These go Pydantic's way.
    st.sampled_from([Color, datetime.date, complex, tuple[()]]),
)
types = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda tp: list[tp]),
        inner.map(lambda tp: _limited(list[tp], at.MinLen(1))),
        inner.map(lambda tp: frozenset[tp]),
        st.tuples(inner, inner).map(lambda pair: dict[pair]),
        st.tuples(inner, inner).map(lambda pair: tuple[pair]),
        inner.map(lambda tp: tuple[tp, ...]),
        inner.map(lambda tp: tp | None if tp not in (Any, type(None)) else tp),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1] if pair[0] is not pair[1] else pair[0]),
    ),
    max_leaves=4,
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.5, 1.0]),
    st.sampled_from(["", "a", "ab", "ba", b"a", Color.RED]),
)
records = st.sampled_from([Leaf(n=1), Node(kids=[Node()]), {"n": 1}, {"n": "1"}, {"kids": [{}]}])
values = st.recursive(
    st.one_of(scalars, records),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(scalars, inner, max_size=2),
        st.frozensets(scalars, max_size=2),
        st.sets(scalars, max_size=2),
    ),
    max_leaves=4,
)


def outcome(validate: Any, record: Any) -> Any:
    try:
        found = validate(record, strict=True)
    except ValidationError as error:
        return [(e["type"], e["loc"], e["msg"]) for e in error.errors(include_url=False)]
    return repr(found)


@MANY
@given(st.lists(types, min_size=1, max_size=2), st.data())
def test_both_ways_accept_and_return_the_same(chosen: list[Any], data: st.DataObject) -> None:
    defaults = data.draw(st.lists(st.sampled_from([MISSING, MISSING, None]), min_size=2, max_size=2))
    fields = {f"f{i}": Field(f"f{i}", tp, default=defaults[i]) for i, tp in enumerate(chosen)}
    types_of = {name: field.checked_type for name, field in fields.items()}
    quick = record_validator(fields, types_of)
    if quick is None:
        return
    slow = adapter(Checker("s", "inputs", fields)._record_type(types_of)).validator.validate_python
    for _ in range(4):
        record = data.draw(st.dictionaries(st.sampled_from([*fields, "f9"]), values, max_size=3))
        assert outcome(quick, record) == outcome(slow, record)


@pytest.mark.parametrize(
    "text",
    [
        'q, a: int[1..5] = 3, b: float | None, c: list[str][1..5] -> d: Literal["a", 1], e: dict[str, list[int]]',
        "a: str[/^x/][1..9], b: set[int], c: frozenset[str], d: tuple[int, ...], i: tuple[int, str] -> e: Any",
        "f: bytes, g: NoneType -> h: bool",
    ],
)
def test_plain_signatures_go_the_quick_way(text: str) -> None:
    for field in signature(text).fields.values():
        assert core_of(field.checked_type) is not None, field


@pytest.mark.parametrize(
    "tp",
    [
        *(
            Color,
            datetime.date,
            complex,
            Hooked,
            Unfinished,
            dict[str, Color],
            list[datetime.date],
            int | Color,
            Literal[Color.RED],
            tuple[()],
        ),
        *(
            Annotated[int, pydantic.AfterValidator(abs)],
            Annotated[int, pydantic.Field(strict=False)],
            _limited(int, at.Ge(0.5)),
        ),
        *(_limited(bool, at.Ge(0)), _limited(int | None, at.Ge(0)), _limited(str, at.Ge("a")), list[list[Color]], [1]),
        *(
            frozenset[Color],
            tuple[Color, ...],
            tuple[int, Color],
            Annotated[Annotated[int, at.Ge(1)], pydantic.AfterValidator(abs)],
        ),
    ],
    ids=str,
)
def test_other_types_go_pydantics_way(tp: Any) -> None:
    assert core_of(tp) is None


def test_a_description_inside_a_type_does_not_matter() -> None:
    sig = signature("x: list[Annotated[int, Field(description='a', ge=1)]] -> y")
    assert core_of(sig.inputs["x"].checked_type) == {"type": "list", "items_schema": {"type": "int", "ge": 1}}
    assert sig.json_schema("inputs")["properties"]["x"]["items"]["description"] == "a"


def test_a_constraint_nobody_can_check_is_an_error_of_the_signature() -> None:
    sig = Signature([Field("x", int, constraints={"multiple_of": 0.5}), Field("y", int, constraints={"ge": 2**70})])
    with pytest.raises(SignatureError, match="cannot be checked"):
        Signature([Field("x", list[int], constraints={"max_length": -1})]).validate_inputs({"x": [1]})
    assert list(sig.inputs) == ["x", "y"]


# -- patterns ---------------------------------------------------------------------------------------------------------
def test_no_text_makes_a_pattern_slow() -> None:
    """With a backtracking engine this would not come back: 2**5000 ways to read the text."""
    sig = signature(r"x: str[/^(a+)+$/], y: list[Annotated[str, Field(pattern='^(a|a)*$')]] -> z")
    with pytest.raises(SignatureError, match="'x' expected"):
        sig.validate_inputs({"x": "a" * 5_000 + "!", "y": ["a" * 5_000 + "!"]})


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", r"(a)\1", "a*+b", "a++", "[[a]", "[a&&b]", "[a--b]", r"\<a", r"a{,3}b", r"\Aa\Z"]
)
def test_what_the_linear_engine_reads_otherwise_goes_to_pythons(pattern: str) -> None:
    assert engine_of(pattern) == "python-re"


@pytest.mark.parametrize("pattern", ["^a$", r"\d{3}", "(?i)yes|no", r"^\w+@\w+\.\w+$", "(?P<n>a)", "[^a-c]"])
def test_the_rest_is_searched_in_linear_time(pattern: str) -> None:
    assert engine_of(pattern) == "rust-regex"


@MANY
@given(
    st.lists(
        st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", "(a|b)", "(?:ab)?", "a*", "b+", "^", r"\b", "a{2}"]), max_size=5
    ),
    st.text("ab1 ", max_size=8),
)
def test_both_engines_find_the_same(parts: list[str], text: str) -> None:
    import re

    pattern = "".join(parts)
    fits = adapter(Annotated[str, Regex(pattern)]).validator.isinstance_python(text)
    assert fits == (re.search(pattern, text) is not None)


def test_the_end_is_the_very_end() -> None:
    with pytest.raises(SignatureError):
        signature("x: str[/^a$/] -> y").validate_inputs({"x": "a\n"})


# -- typed dicts ------------------------------------------------------------------------------------------------------
def test_a_typed_dict_of_typing_is_checked_in_any_python() -> None:
    sig = signature("x: Outer, l: list[Outer | None] = [] -> y: Outer")
    assert sig.validate_inputs({"x": {"a": 1, "b": [{"y": "k"}]}}) == {"x": {"a": 1, "b": [{"y": "k"}]}, "l": []}
    for wrong in ({"a": "1"}, {"b": []}, {"a": 1, "b": [{"z": 1}]}):
        with pytest.raises(SignatureError, match="in the field 'y'"):
            sig.validate_outputs({"y": wrong})
    schema = sig.json_schema("outputs")
    assert (schema["$defs"]["Outer"]["description"], schema["$defs"]["Inner"]["required"]) == ("An outer one.", ["y"])
    assert sig.dump_outputs({"y": {"a": 1}}) == {"y": {"a": 1}}
    assert sig.inputs["x"].type is Outer


def test_its_configuration_counts() -> None:
    with pytest.raises(SignatureError, match="Extra inputs are not permitted"):
        Signature([Field("x", Forbidding)]).validate_inputs({"x": {"a": 1, "b": 2}})


def test_other_types_stay_what_they_are() -> None:
    tp = dict[str, list[int | None]]
    assert readable(tp) is tp


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Pydantic reads it itself")
def test_one_that_is_made_of_itself_is_refused_in_words() -> None:
    with pytest.raises(SignatureError, match=r"typing_extensions\.TypedDict"):
        Signature([Field("x", Circle)]).validate_inputs({"x": {"again": []}})
