"""What cannot be connected: only definite clashes are told."""

from __future__ import annotations

import collections
import collections.abc
import datetime
import decimal
import fractions
import pathlib
import re
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ForwardRef, Literal, NewType, Optional, Union

import dspy
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import pytest
from clash_types import (
    Abstract,
    Base,
    Color,
    Custom,
    Data,
    Derived,
    FromAttributes,
    FromText,
    Guessed,
    Mixin,
    Name,
    Number,
    Other,
    Plain,
    Reads,
    Root,
    T,
    Tup,
    Typed,
    UserId,
)

from dspex_lab.signatures import why_not


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


def test_a_clash_is_told_also_where_a_class_has_more_subclasses_than_are_looked_at() -> None:
    kept = [type(f"D{number}", (dict,), {}) for number in range(12_000)]
    assert why_not(dict, datetime.date) == "dict is no datetime.date", len(kept)
