"""Every domain comes back from its description, every value from its JSON, and every searched value from its distribution."""

from __future__ import annotations

import json
import pickle
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import VariableError
from dspex_lab.variables import (
    AdapterChoice,
    Bool,
    Choice,
    Demos,
    Float,
    Int,
    LMChoice,
    ModuleChoice,
    Plain,
    Tensor,
    Text,
    domain_from,
)

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | finite | letters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=3),
    max_leaves=8,
)
demos = st.lists(st.dictionaries(letters, plain, max_size=3), max_size=3)
names = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), min_size=1, max_size=4, unique=True)


@st.composite
def floats(draw: Any) -> Float:
    low = draw(st.none() | finite)
    high = draw(st.none() | (finite if low is None else st.floats(low, 1e39, allow_nan=False)))
    step = draw(st.none() | st.floats(1e-3, 1e3)) if low is not None else None
    if step is not None and (abs(low) > 1e6 or (high is not None and high - low > 1e6)):  # type: ignore[arg-type]
        step = None
    return Float(low, high, step, step is None and low is not None and low > 0 and draw(st.booleans()))


@st.composite
def ints(draw: Any) -> Int:
    low = draw(st.none() | st.integers(-(2**53), 2**53))
    high = draw(st.none() | st.integers(low if low is not None else -(2**53), 2**53))
    step = 1 if low is None else draw(st.integers(1, 50))
    return Int(low, high, step, step == 1 and low is not None and low > 0 and draw(st.booleans()))


scalars = st.none() | st.booleans() | st.integers(-9, 9) | finite | letters
domains = st.one_of(
    floats(),
    ints(),
    st.just(Bool()),
    st.lists(scalars, min_size=1, max_size=5, unique_by=lambda option: (type(option), option)).map(Choice),
    st.builds(Text, st.lists(letters, max_size=3)),
    st.builds(Demos, st.lists(demos, max_size=3)),
    names.map(ModuleChoice),
    names.map(LMChoice),
    names.map(AdapterChoice),
    st.builds(Tensor, st.lists(st.integers(0, 3), max_size=3).map(tuple), st.sampled_from(["float32", "int16", "bool"])),
    st.just(Plain()),
)


@settings(max_examples=100)
@given(domains, plain, st.integers(0, 99))
def test_what_is_described_comes_back(domain: Any, anything: Any, seed: int) -> None:
    description = json.loads(json.dumps(domain.describe(), allow_nan=False))
    again = domain_from(description)
    assert again == domain
    assert hash(again) == hash(domain)
    assert pickle.loads(pickle.dumps(domain)) == domain  # noqa: S301
    for value in [domain.first(), *domain.corners(), *drawn(domain, seed), *cast(domain, anything)]:
        kept = domain.cast(value, "x")
        assert domain.equal(kept, domain.cast(kept, "x"))
        read = again.from_json(json.loads(json.dumps(domain.to_json(kept), allow_nan=False)))
        assert domain.equal(again.cast(read, "x"), kept)


@settings(max_examples=100)
@given(domains, st.integers(0, 99))
def test_what_is_searched_comes_back(domain: Any, seed: int) -> None:
    values = [*domain.corners(), *drawn(domain, seed)]
    try:
        distribution = domain.distribution()
    except VariableError:
        return
    for value in values:
        put = domain.to_distribution(value)
        if hasattr(distribution, "choices"):
            assert put in distribution.choices
        else:
            assert distribution.low <= put <= distribution.high
        inside = distribution.to_external_repr(distribution.to_internal_repr(put))
        assert domain.equal(domain.from_distribution(inside), value)


@settings(max_examples=60)
@given(domains)
def test_what_is_counted_is_all_there_is(domain: Any) -> None:
    size = domain.size()
    if size is not None and size <= 500:
        every = list(domain.every())
        assert len(every) == size
        assert all(domain.equal(domain.cast(value, "x"), value) for value in every)


def drawn(domain: Any, seed: int) -> list[Any]:
    try:
        return [domain.draw(Random(seed))]
    except VariableError:
        return []


def cast(domain: Any, value: Any) -> list[Any]:
    try:
        return [domain.cast(value, "x")]
    except VariableError:
        return []
