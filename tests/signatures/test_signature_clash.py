"""What cannot be connected: only definite clashes are told, and each of them is one."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, NewType, Optional, Protocol, TypedDict, TypeVar, Union

import dspy
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import Field, Signature, why_not

STEADY = settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class Color(enum.Enum):
    RED = "red"
    TWO = 2


class Guessed(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Guessed:
        return cls.A


class Name(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Data:
    a: int


class Base(pydantic.BaseModel):
    a: int


class Derived(Base):
    b: int = 0


class Other(pydantic.BaseModel):
    a: int


class FromText(pydantic.BaseModel):
    a: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        return {"a": int(value)} if isinstance(value, str) else value


class FromAttributes(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)
    a: int


class Root(pydantic.RootModel[list[int]]):
    pass


class Tup(NamedTuple):
    a: int


class Typed(TypedDict):
    a: int


class Plain:
    pass


class Mixin:
    pass


class Both(Plain, Mixin):
    pass


class Custom:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


class Reads(Protocol):
    def read(self) -> str: ...


class Abstract(collections.abc.Sized):
    pass


T = TypeVar("T")
UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("produced", "wanted", "said"),
    [
        (list[str], int, "list[str] is no int"),
        (list[str], list[int], "list[str] is no list[int]"),
        (float, int, "float is no int"),
        (bool, int, "bool is no int"),
        (bool, float, "bool is no float"),
        (int, bool, "int is no bool"),
        (str, int, "str is no int"),
        (int, str, "int is no str"),
        (bytes, str, "bytes is no str"),
        (None, int, "None is no int"),
        (str | None, int, "str | None is no int"),
        (str, int | float, "str is no int | float"),
        (Optional[str], list[str], "str | None is no list[str]"),  # noqa: UP045
        (Literal["a"], Literal["b", "c"], "Literal['a'] is no Literal['b', 'c']"),
        (int, Literal["a"], "int is no Literal['a']"),
        (Literal["a"], int, "Literal['a'] is no int"),
        (Base, dict, "Base is no dict"),
        (Base, Other, "Base is no Other"),
        (Base, Typed, "Base is no Typed"),
        (Data, Base, "Data is no Base"),
        (str, Base, "str is no Base"),
        (list[int], Data, "list[int] is no Data"),
        (tuple[int, str], list[int], "tuple[int, str] is no list[int]"),
        (tuple[int, str], tuple[int, int], "tuple[int, str] is no tuple[int, int]"),
        (tuple[int, str], tuple[int], "tuple[int, str] is no tuple[int]"),
        (tuple[str, ...], tuple[int, int], "tuple[str, ...] is no tuple[int, int]"),
        (list[str], tuple[int, ...], "list[str] is no tuple[int, ...]"),
        (list[str], set[int], "list[str] is no set[int]"),
        (set[int], list[int], "set[int] is no list[int]"),
        (dict[str, str], dict[str, int], "dict[str, str] is no dict[str, int]"),
        (dict[int, int], dict[str, int], "dict[int, int] is no dict[str, int]"),
        (Sequence[str], list[int], "collections.abc.Sequence[str] is no list[int]"),
        (list[list[str]], list[list[int]], "list[list[str]] is no list[list[int]]"),
        (
            Annotated[str, "any note"],
            Annotated[int, pydantic.Field(ge=1)],
            "Annotated[str, Field(description='any note')] is no int[1..]",
        ),
        (UserId, str, "UserId is no str"),
        (str, UserId, "str is no UserId"),
        (str, Plain, "str is no Plain"),
        (Plain, str, "Plain is no str"),
        (Color, str, "Color is no str"),
        (bytes, Color, "bytes is no Color"),
        (float, Name, "float is no Name"),
        (dict, datetime.date, "dict is no datetime.date"),
        (int, datetime.date, "int is no datetime.date"),
        (datetime.time, datetime.date, "datetime.time is no datetime.date"),
        (list, decimal.Decimal, "list is no decimal.Decimal"),
        (str, collections.deque, "str is no collections.deque"),
        (int, Sequence[int], "int is no collections.abc.Sequence[int]"),
        (str, Callable[[int], str], "str is no collections.abc.Callable[[int], str]"),
        (str, Tup, "str is no Tup"),
        (str, Abstract, "str is no Abstract"),
        (np.ndarray, list[float], "ndarray is no list[float]"),
        (npt.NDArray[np.float64], str, "is no str"),
        (np.int64, int, "int64 is no int"),
        (pd.DataFrame, list, "DataFrame is no list"),
        (pd.DataFrame, pd.Series, "DataFrame is no Series"),
        (list[dict], pd.DataFrame, "list[dict] is no DataFrame"),
    ],
)
def test_definite_clashes(produced: Any, wanted: Any, said: str) -> None:
    found = why_not(produced, wanted)
    assert found is not None
    assert said in found


@pytest.mark.parametrize(
    ("produced", "wanted"),
    [
        *((tp, tp) for tp in (str, int, list[str], Base, Color, Plain, Typed, Union[int, str], None)),  # noqa: UP007
        *((Any, int), (int, Any), (object, int), (int, object), (T, int), (list[T], list[int]), (int, list[T] | int)),
        *((ForwardRef("X"), int), ("X", int), (list[ForwardRef("X")], list[int]), (int, ForwardRef("X"))),
        *(
            (int, float),
            (int, complex),
            (decimal.Decimal, float),
            (np.float64, float),
            (np.float32, float),
            (int, decimal.Decimal),
        ),
        *(
            (int | None, int),
            (int, int | None),
            (str | None, int | None),
            (int | str, str | list),
            (list[int | str], list[int]),
        ),
        *((Literal["a"], str), (str, Literal["a"]), (Literal["a", "b"], Literal["b"]), (int, Literal[1]), (bool, Literal[1])),
        *(
            (Literal["red"], Color),
            (str, Color),
            (int, Color),
            (Color, Literal[Color.RED]),
            (Literal[Color.RED], Literal["red"]),
        ),
        *((bytes, Guessed), (Name, str), (str, Name), (Number, int), (int, Number), (Name, Literal["a"])),
        *((Derived, Base), (Base, Derived), (dict, Base), (dict[str, int], Data), (Typed, Base), (dict, Typed), (Typed, dict)),
        *(
            (Typed, Mapping[str, int]),
            (collections.OrderedDict, dict),
            (dict, collections.OrderedDict),
            (dict, Tup),
            (list, Tup),
        ),
        *((str, FromText), (Other, FromAttributes), (list[int], Root), (int, Custom), (str, dspy.Image), (str, Reads)),
        *((str, Annotated[int, pydantic.BeforeValidator(int)]), (str, Annotated[int, pydantic.Field(strict=False)])),
        *((Annotated[int, "note"], int), (int, UserId), (UserId, int), (typing.List, list[int]), (list, typing.List)),  # noqa: UP006
        *((list, list[int]), (list[str], list), (list[int], tuple[int, ...]), (list[int], set[int]), (list, frozenset)),
        *((tuple[int, ...], tuple[int, int]), (Iterable[int], list[int]), (list[int], Iterable[int]), (Iterator[int], Any)),
        *(
            (list[int], collections.deque),
            (dict[str, int], dict[int, int]),
            (dict, collections.Counter),
            (list[int], tuple[()]),
        ),
        *((str, datetime.date), (datetime.datetime, datetime.date), (str, uuid.UUID), (str, pathlib.Path), (str, bytes)),
        *((str, re.Pattern), (Plain, Mixin), (Mixin, Plain), (Plain, Abstract), (Plain, Callable[..., int])),
        *((npt.NDArray[np.float64], np.ndarray), (pd.DataFrame, object), (fractions.Fraction, decimal.Decimal)),
    ],
)
def test_what_may_fit_is_not_refused(produced: Any, wanted: Any) -> None:
    assert why_not(produced, wanted) is None


def test_a_class_that_fails_when_asked_is_taken_to_fit() -> None:
    class Angry(type):
        def __subclasscheck__(cls, other: type) -> bool:
            raise TypeError

    class Odd(metaclass=Angry):
        pass

    assert why_not(Plain, Odd) is None
    named: Any = int
    for _ in range(40):
        named = NewType("named", named)
    assert why_not(named, str) is None
    deep: Any = int
    for _ in range(100):
        deep = list[deep]
    assert why_not(deep, str) == why_not(list, str).replace("list", "list[" * 100 + "int" + "]" * 100, 1)  # type: ignore[union-attr]
    assert why_not(deep, list[deep]) is None


def test_an_alias_that_names_itself_is_taken_to_fit() -> None:
    from typing_extensions import TypeAliasType

    json_like = TypeAliasType("json_like", "dict[str, json_like] | str")  # type: ignore[misc]
    alias = TypeAliasType("alias", list[int])
    generic: Any = TypeAliasType("generic", list[T], type_params=(T,))  # type: ignore[misc]
    assert why_not(json_like, int) is None
    assert why_not(generic[int], list[str]) is None
    assert why_not(generic[int], int) is not None
    assert why_not(alias, int) == "alias is no int"


# -- as a property ----------------------------------------------------------------------------------------------------
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.sampled_from(["", "a", "red", "1", "2024-01-01", "x" * 9]),
    int: st.integers(-3, 3),
    float: st.sampled_from([0.0, 1.0, 1.5, -2.0]),
    bool: st.booleans(),
    bytes: st.sampled_from([b"", b"a"]),
    complex: st.sampled_from([1j, 1 + 0j]),
    type(None): st.none(),
    datetime.date: st.sampled_from([datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1)]),
    datetime.datetime: st.just(datetime.datetime(2024, 1, 1)),
    datetime.time: st.just(datetime.time(1)),
    datetime.timedelta: st.just(datetime.timedelta(1)),
    decimal.Decimal: st.sampled_from([decimal.Decimal(1), decimal.Decimal("1.5")]),
    fractions.Fraction: st.just(fractions.Fraction(1)),
    uuid.UUID: st.just(uuid.UUID(int=1)),
    pathlib.Path: st.just(pathlib.Path("a")),
    Color: st.sampled_from(Color),
    Name: st.sampled_from(Name),
    Number: st.sampled_from(Number),
    Guessed: st.sampled_from(Guessed),
    Data: st.just(Data(1)),
    Base: st.sampled_from([Base(a=1), Derived(a=1)]),
    Derived: st.just(Derived(a=1)),
    Other: st.just(Other(a=1)),
    FromText: st.just(FromText(a=1)),
    FromAttributes: st.just(FromAttributes(a=1)),
    Tup: st.just(Tup(1)),
    Typed: st.just({"a": 1}),
    Plain: st.sampled_from([Plain(), Both()]),
    Mixin: st.just(Mixin()),
    np.float64: st.just(np.float64(1)),
    np.int64: st.just(np.int64(1)),
    Literal["a"]: st.just("a"),
    Literal["red", 2]: st.sampled_from(["red", 2]),
    Literal[1]: st.just(1),
    Literal[True]: st.just(True),
    Literal[Color.RED]: st.just(Color.RED),
}
leaves = st.sampled_from(list(SCALARS.items()))
Drawn = tuple[Any, st.SearchStrategy[Any]]


def _hashable(drawn: Drawn) -> bool:
    return drawn[0] in (str, int, float, bool, bytes, datetime.date, uuid.UUID, Color, Number)


def _optional(drawn: Drawn) -> Drawn:
    return drawn[0] | None if drawn[0] is not type(None) else drawn[0], st.one_of(drawn[1], st.none())


#: A type with its values; containers are not empty, as an empty one fits whatever it might hold.
typed: st.SearchStrategy[Drawn] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda d: (list[d[0]], st.lists(d[1], min_size=1, max_size=2))),
        inner.map(lambda d: (Sequence[d[0]], st.lists(d[1], min_size=1, max_size=2))),
        inner.map(lambda d: (tuple[d[0], ...], st.lists(d[1], min_size=1, max_size=2).map(tuple))),
        st.tuples(inner, inner).map(lambda p: (tuple[p[0][0], p[1][0]], st.tuples(p[0][1], p[1][1]))),
        inner.filter(_hashable).map(lambda d: (set[d[0]], st.sets(d[1], min_size=1, max_size=2))),
        inner.filter(_hashable).map(lambda d: (frozenset[d[0]], st.frozensets(d[1], min_size=1, max_size=2))),
        st.tuples(inner.filter(_hashable), inner).map(
            lambda p: (dict[p[0][0], p[1][0]], st.dictionaries(p[0][1], p[1][1], min_size=1, max_size=2))
        ),
        st.tuples(inner, inner).map(lambda p: (Union[p[0][0], p[1][0]], st.one_of(p[0][1], p[1][1]))),  # noqa: UP007
        inner.map(_optional),
        inner.map(lambda d: (Annotated[d[0], "note"], d[1])),
    ),
    max_leaves=3,
)


@STEADY
@given(typed, typed, st.data())
def test_no_value_fits_where_a_clash_is_told(produced: Drawn, wanted: Drawn, data: st.DataObject) -> None:
    clash = why_not(produced[0], wanted[0])
    if clash is None:
        return
    sig = Signature([Field("x", wanted[0])])
    for _ in range(3):
        with pytest.raises(SignatureError):
            sig.validate_inputs({"x": data.draw(produced[1])})


@STEADY
@given(typed, st.data())
def test_a_type_never_clashes_with_itself_or_what_it_is_part_of(drawn: Drawn, data: st.DataObject) -> None:
    tp = drawn[0]
    assert why_not(tp, tp) is None
    assert why_not(tp, Union[tp, Plain]) is None  # noqa: UP007
    assert why_not(Union[tp, Plain], tp) is None  # noqa: UP007
    assert why_not(list[tp], list[tp]) is None
    assert why_not(tp, Annotated[tp, "note"]) is None


@pytest.mark.parametrize("produced", SCALARS, ids=str)
def test_every_pair_of_plain_types_is_told_truly(produced: Any) -> None:
    """Nothing that is accepted is called a clash (all pairs, all values)."""
    values: list[Any] = []

    @settings(max_examples=20, derandomize=True, database=None)
    @given(SCALARS[produced])
    def collect(value: Any) -> None:
        values.append(value)

    collect()
    for wanted in SCALARS:
        if why_not(produced, wanted) is None:
            continue
        sig = Signature([Field("x", wanted)])
        for value in values:
            with pytest.raises(SignatureError):
                sig.validate_inputs({"x": value})


def test_a_clash_is_told_also_where_a_class_has_more_subclasses_than_are_looked_at() -> None:
    kept = [type(f"D{number}", (dict,), {}) for number in range(12_000)]
    assert why_not(dict, datetime.date) == "dict is no datetime.date", len(kept)
