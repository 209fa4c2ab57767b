"""What a session keeps comes back equal; what it cannot keep is named; what is read is never run."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import pickle
import threading
import uuid
from typing import Any

import dspy
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import SessionError
from dspex_lab.sessions._values import changeable, decode, encode, joined, memory_of, parted, texts_in


def again(value: Any) -> Any:
    text = encode(value, "state['x']")
    assert parted(joined({"x": text})) == {"x": text}, "the store gives it back as it is"
    return decode(text, "state['x']")


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters(exclude_categories=()))
    | st.binary()
    | st.dates()
    | st.times().map(lambda t: t.replace(fold=0))
    | st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(lambda t: t.replace(fold=0))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.complex_numbers(allow_nan=False)
)
_KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.binary() | st.just("$")
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_KEYS, inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(_KEYS, max_size=4)
        | st.frozensets(_KEYS, max_size=4)
    ),
    max_leaves=12,
)


def alike(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(
            alike(a, b) for a, b in zip(one.values(), other.values(), strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    return repr(one) == repr(other)


@given(_VALUES)
@settings(max_examples=200, deadline=None)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert alike(again(value), value)


def test_numbers_that_json_has_not() -> None:
    assert math.isnan(again(math.nan))
    assert again([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert again({"$": 1, "v": 2}) == {"$": 1, "v": 2}
    assert again("\ud800 half") == "\ud800 half"
    assert again(bytearray(b"x")) == bytearray(b"x")


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12, dtype="int16").reshape(3, 4),
        np.array([["ä", "bc"]]),
        np.array(["2024-01-01"], dtype="datetime64[D]"),
        np.zeros((0, 3)),
        np.float32(1.5),
        np.int64(7),
        np.bool_(True),
        np.array(3.5),
        np.asfortranarray(np.ones((2, 3))),
    ],
    ids=str,
)
def test_arrays(value: Any) -> None:
    found = again(value)
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


_FRAMES = [
    pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, np.nan]}),
    pd.DataFrame({"a": [1, 2]}, index=pd.Index(["p", "q"], name="key")),
    pd.DataFrame({1: [1], ("t", 2): [2]}),
    pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["one", "two"])),
    pd.DataFrame({"c": pd.Categorical(["u", "v", "u"]), "t": pd.to_datetime(["2024-01-01"] * 3)}),
    pd.DataFrame(),
]


@pytest.mark.parametrize("frame", _FRAMES, ids=range(len(_FRAMES)))
def test_frames(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(again(frame), frame)


def test_series_indexes_tables_and_examples() -> None:
    series = pd.Series([1, 2], index=["a", "b"], name="n")
    pd.testing.assert_series_equal(again(series), series)
    pd.testing.assert_series_equal(again(pd.Series([1.5])), pd.Series([1.5]))
    pd.testing.assert_index_equal(again(pd.Index(["a", "b"], name="k")), pd.Index(["a", "b"], name="k"))
    stamps = pd.DatetimeIndex(["2024-01-01", "2024-01-03"])
    pd.testing.assert_index_equal(again(stamps), stamps)
    assert again(pd.Timestamp("2024-01-01T01:02:03.000000004")) == pd.Timestamp("2024-01-01T01:02:03.000000004")
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    assert again(table).equals(table)
    example = dspy.Example(question="q", answer="a").with_inputs("question")
    found = again([example])[0]
    assert (found.toDict(), set(found.inputs().keys())) == ({"question": "q", "answer": "a"}, {"question"})
    assert again(dspy.Example(a=1)).toDict() == {"a": 1}


class Mine:
    """A class of the user's."""


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"client": {"lock": threading.Lock()}}, r"state\['x'\]\['client'\]\['lock'\] cannot be kept: it is a _thread\.lock"),
        ([1, (2, Mine())], r"state\['x'\]\[1\]\[1\] cannot be kept: it is a test_session_values\.Mine"),
        ({1: {2: open}}, r"state\['x'\]\[1\]\[2\] cannot be kept: it is a builtin_function"),
        ({(Mine,): 1}, r"state\['x'\]: key .*\[0\] cannot be kept: it is a type"),
        (np.array([Mine()]), "an array of Python objects"),
        (np.ma.array([1]), "a numpy.MaskedArray"),
        (pd.DataFrame({"a": [Mine()]}), "a DataFrame with values that Arrow has no type for"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of one name"),
        (pd.DataFrame({"a": [1, "b"]}), "a DataFrame with values"),
        (pd.DataFrame({"t": [(1, 2)]}), "lists, tuples or dicts in its cells"),
        (pd.DataFrame({"o": pd.Series([1, 2], dtype=object)}), "Arrow gives back changed"),
    ],
    ids=range(11),
)
def test_what_cannot_be_kept_is_named_by_its_path(value: Any, path: str) -> None:
    with pytest.raises(SessionError, match=path) as caught:
        encode(value, "state['x']")
    assert caught.value.hint


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SessionError, match="deeper than 100 levels, or contains itself"):
        encode(loop, "state['x']")


@pytest.mark.parametrize(
    "hostile",
    [
        pickle.dumps(Mine()).decode("latin-1"),
        json.dumps({"$": "os.system", "v": "true"}),
        json.dumps({"$": "ndarray", "v": base64.b64encode(pickle.dumps([1])).decode()}),
        json.dumps({"$": "DataFrame", "v": ["AAAA", {}]}),
        json.dumps({"$": "tuple"}),
        json.dumps({"$": "bytes", "v": "not base64!"}),
        json.dumps({"$": {"$": "list"}, "v": 1}),
    ],
    ids=range(7),
)
def test_what_cannot_be_read_is_an_error_that_names_it(hostile: str) -> None:
    with pytest.raises(SessionError, match=r"state\['x'\] cannot be read"):
        decode(hostile, "state['x']")


def test_an_array_with_a_pickle_in_it_is_not_unpickled(tmp_path: Any) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "boom"), "w"))

    path = tmp_path / "bomb.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    text = json.dumps({"$": "ndarray", "v": base64.b64encode(path.read_bytes()).decode()})
    with pytest.raises(SessionError, match="cannot be read"):
        decode(text, "state['x']")
    assert not (tmp_path / "boom").exists()


def test_texts_that_base64_hides_are_found() -> None:
    hidden = {
        "a": b"first secret",
        "b": [np.array(["second secret"]), np.array([b"third secret"])],
        "c": pd.DataFrame({"k": ["fourth secret"]}),
        "d": pa.table({"k": ["fifth secret"]}),
        "e": pd.Series(["sixth secret"]),
        "f": np.arange(3),
    }
    found = "\n".join(texts_in(encode(hidden, "s")))
    for each in ("first", "second", "third", "fourth", "fifth", "sixth"):
        assert f"{each} secret" in found
    assert list(texts_in(encode({"a": "plain"}, "s"))) == []


def test_what_can_change_in_itself() -> None:
    for value in (None, 1, "a", 1.5, b"x", dt.date.today(), uuid.uuid4(), decimal.Decimal(1)):
        assert not changeable(value)
    for value in ([], {}, set(), bytearray(), np.zeros(1), ([],)):
        assert changeable(value)


def test_memory_is_that_of_what_is_stored() -> None:
    entries = {"a": encode([1, 2], "s"), "ü": encode("x" * 100, "s")}
    assert memory_of(entries) == len(joined(entries)) - 1
