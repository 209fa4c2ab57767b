"""What cannot be connected, as a property: no value fits where a clash is told."""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union

import numpy as np
import pytest
from clash_types import (
    Base,
    Both,
    Color,
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
    Tup,
    Typed,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from steady import STEADY

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import Field, Signature, why_not

MANY = settings(STEADY, max_examples=400, suppress_health_check=[*STEADY.suppress_health_check, HealthCheck.filter_too_much])

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


@MANY
@given(typed, typed, st.data())
def test_no_value_fits_where_a_clash_is_told(produced: Drawn, wanted: Drawn, data: st.DataObject) -> None:
    clash = why_not(produced[0], wanted[0])
    if clash is None:
        return
    sig = Signature([Field("x", wanted[0])])
    for _ in range(3):
        with pytest.raises(SignatureError):
            sig.validate_inputs({"x": data.draw(produced[1])})


@MANY
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
