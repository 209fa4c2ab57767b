"""Messages between the kernel and the code."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.security.sandbox import _frames

MANY = 1 << 20
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def unpacked(data: bytes, depth: int = 100) -> Any:
    size = _frames.HEADER.size
    assert _frames.length(data[:size]) == len(data) - size
    return _frames.unpack(data[size:], depth)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(VALUES)
def test_what_is_packed_comes_out(value: Any) -> None:
    assert unpacked(_frames.pack(value, MANY, 100)) == value


@given(VALUES, st.integers(0, 5))
def test_a_depth_is_held_exactly(value: Any, depth: int) -> None:
    data = json.dumps(value).encode()
    if depth_of(value) <= depth:
        _frames.check_depth(data, depth)
    else:
        with pytest.raises(_frames.TooLarge, match=f"more than {depth} deep"):
            _frames.check_depth(data, depth)


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_a_value_or_an_error_by_name(data: bytes) -> None:
    try:
        value = _frames.unpack(data, 20)
    except (_frames.Malformed, _frames.TooLarge):
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no surrogates, no NaN


@given(st.text(st.characters(codec=None, categories=["Cs", "L", "P"])))
def test_half_a_pair_of_surrogates_becomes_a_character(text: str) -> None:
    got = unpacked(_frames.pack(text, MANY, 1))
    assert got.encode().decode() == got
    assert got == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def test_a_message_may_be_as_large_as_is_said_and_no_larger() -> None:
    assert unpacked(_frames.pack("x" * 98, 100, 1)) == "x" * 98
    with pytest.raises(_frames.TooLarge, match="101 bytes as JSON, and 100 are allowed"):
        _frames.pack("x" * 99, 100, 1)


@pytest.mark.parametrize("value", [{1}, object(), float("nan"), [float("-inf")], b"x"])
def test_what_is_no_json_is_not_packed(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        _frames.pack(value, MANY, 100)


@pytest.mark.parametrize("text", ["", "x", "{", "NaN", "-Infinity", "1e999", "1" * 4301, "[1,]", "\ufeff1"])
def test_what_is_no_json_is_malformed(text: str) -> None:
    with pytest.raises(_frames.Malformed):
        _frames.unpack(text.encode(), 100)


def test_python_s_own_limits_are_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(_frames.Malformed, match="a number of 5,000 digits"):
            _frames.unpack(b"9" * 5000, 1)
    finally:
        sys.set_int_max_str_digits(before)


def test_brackets_in_texts_are_not_counted() -> None:
    assert unpacked(_frames.pack(['[[[[{{{"\\', "]"], MANY, 1), 1) == ['[[[[{{{"\\', "]"]
