"""How values are written for the sandbox, and that its decoder makes the same of them."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.security.interpreter._values import DECODER, MARK, encode, is_marked, jsonable


def there(value: Any) -> Any:
    """What ``value`` is in the sandbox: through JSON text, and what the decoder makes of it."""
    scope: dict[str, Any] = {}
    exec(DECODER, scope)  # noqa: S102 - our own
    return scope["__dspex_value__"](json.loads(json.dumps(encode(value), allow_nan=False)))


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Kind(enum.Enum):
    A = "a"


class Card(pydantic.BaseModel):
    name: str
    when: datetime.date


@dataclasses.dataclass
class Point:
    x: int
    y: tuple[int, ...]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_plain_values_are_what_they_were(value: Any) -> None:
    assert there(value) == value


def test_a_number_that_json_has_no_word_for() -> None:
    assert there([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert math.isnan(there(math.nan))


def test_a_dict_that_looks_like_one_of_ours_is_a_dict() -> None:
    odd = {MARK: "float", "value": "nan"}
    assert there(odd) == odd
    assert there({"in": [odd]}) == {"in": [odd]}


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("b"), ["b"]),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (Kind.A, "a"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Card(name="Ada", when=datetime.date(2026, 1, 2)), {"name": "Ada", "when": "2026-01-02"}),
        (Point(1, (2,)), {"x": 1, "y": [2]}),
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ("ünïcödé 🎉 \ud800", "ünïcödé 🎉 \ud800"),
    ],
)
def test_what_dspy_makes_plain_is_made_plain(value: Any, made: Any) -> None:
    assert there(value) == made
    assert type(there(value)) is type(made)
    assert not is_marked(encode(value))


def test_sets_of_several_types_are_lists_too() -> None:
    assert sorted(there({1, "a"}), key=str) == [1, "a"]


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.array([[True], [False]]), np.array([1, 2], "int8"), np.array([], "float32")],
    ids=str,
)
def test_arrays_are_exact(array: Any) -> None:
    made = there(array)
    assert made.dtype == array.dtype
    np.testing.assert_array_equal(made, array)
    assert made.flags.writeable


def test_an_array_of_objects_is_a_list() -> None:
    assert there(np.array([1, "a"], dtype=object)) == [1, "a"]


FRAME = pd.DataFrame(
    {
        "n": [1, 2, 3],
        "x": [0.1 + 0.2, math.nan, math.inf],
        "text": ["ä", None, "c"],
        "day": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
        "there": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"], utc=True),
        "kind": pd.Categorical(["a", "b", "a"]),
        "maybe": pd.array([1, None, 3], dtype="Int64"),
        "yes": [True, False, True],
        "list": [[1], [2, 3], []],
    }
)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.set_index("text"),
        FRAME.iloc[[2, 0]],
        FRAME[["n"]].iloc[:0],
        pd.DataFrame(),
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])),
    ],
    ids=["typed", "index", "picked", "empty", "nothing", "one name twice", "two levels"],
)
def test_frames_are_exact(frame: Any) -> None:
    pd.testing.assert_frame_equal(there(frame), frame, check_index_type=False, check_column_type=False)


def test_a_series_keeps_name_and_index() -> None:
    series = pd.Series([1.5, 2.5], index=["a", "b"], name="x")
    pd.testing.assert_series_equal(there(series), series, check_index_type=False)


def test_an_arrow_table_is_a_frame() -> None:
    import pyarrow

    pd.testing.assert_frame_equal(there(pyarrow.table({"a": [1, 2]})), pd.DataFrame({"a": [1, 2]}))


@pytest.mark.parametrize(
    "value",
    [object(), {(1, 2): 3}, [lambda: 1], FRAME.set_index(["n", "yes"])],
    ids=["object", "key", "function", "levels"],
)
def test_what_has_no_json_form_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be given to sandboxed code") as caught:
        encode(value)
    assert caught.value.hint


def test_what_a_tool_gives_becomes_json_or_text() -> None:
    assert jsonable(Card(name="a", when=datetime.date(2026, 1, 2))) == {"name": "a", "when": "2026-01-02"}
    assert jsonable((1, {2})) == [1, [2]]
    assert jsonable("a") == "a"
    assert jsonable(None) is None
    assert isinstance(jsonable(object()), str)
    assert jsonable(math.nan) in (None, "nan")
