"""Whatever a user's program passes round becomes valid JSON of bounded size."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import re
import uuid
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.store._encode import LARGEST, to_json, to_text


class Colour(enum.Enum):
    RED = "red"


class Named(enum.StrEnum):
    A = "a"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: Any


class Model(pydantic.BaseModel):
    name: str
    at: dt.date


class Example:
    def toDict(self) -> dict[str, int]:  # noqa: N802 - DSPy's name
        return {"a": 1}


class Angry:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class AngryExample:
    def toDict(self) -> dict[str, int]:  # noqa: N802 - DSPy's name
        raise RuntimeError("no")


def read(value: Any, **keywords: Any) -> Any:
    text = to_json(value, **keywords)
    assert text is not None
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, "x", None, True]}, {"a": [1, 2.5, "x", None, True]}),
        ((1, (2,)), [1, [2]]),
        (Point(1, Point(2, None)), {"x": 1, "y": {"x": 2, "y": None}}),
        (Model(name="n", at=dt.date(2024, 1, 2)), {"name": "n", "at": "2024-01-02"}),
        (Example(), {"a": 1}),
        (Colour.RED, "red"),
        ({Colour.RED: 1, Named.A: 2}, {"<Colour.RED: 'red'>": 1, "a": 2}),
        (dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC), "2024-01-02T03:04:00+00:00"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(seconds=90), 90.0),
        ({3, 1, 2}, [1, 2, 3]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (ValueError("bad"), "ValueError: bad"),
        (b"abc", "<bytes of 3 bytes>"),
        (uuid.UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')"),
        (decimal.Decimal("1.5"), "Decimal('1.5')"),
        (Path("a/b"), repr(Path("a/b"))),
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (np.array(4.0), 4.0),
        (np.zeros((100, 100)), "<ndarray of float64 and shape (100, 100)>"),
        (pd.DataFrame({"a": [1], "b": [2]}), "<DataFrame of shape (1, 2) with columns a, b>"),
        (pd.Series([1, 2]), "<Series of shape (2,)>"),
        (pa.table({"a": [1]}), "<Table of shape (1, 1) with columns a>"),
        ({"nan": float("nan"), "inf": [float("inf"), -float("inf")]}, {"nan": "NaN", "inf": ["Infinity", "-Infinity"]}),
        ({"np": np.float64("nan"), "ok": 1.5}, {"np": "NaN", "ok": 1.5}),
        ({"p": Point(1, float("nan"))}, {"p": {"x": 1, "y": "NaN"}}),
        ({(1, 2): "a", 3: "b", None: "c", 1.5: "d"}, {"(1, 2)": "a", "3": "b", "None": "c", "1.5": "d"}),
        ({(1,): [Named.A, Level.LOW]}, {"(1,)": ["a", 1]}),
        (Angry(), "<Angry, whose repr raised RuntimeError>"),
        (AngryExample(), "[not kept: AngryExample raised RuntimeError while it was read]"),
        ({(1,): AngryExample()}, {"(1,)": "<AngryExample that raised RuntimeError while it was read>"}),
        (Point, f"{__name__}.Point"),
        ({"s": "lone \ud800 surrogate"}, {"s": "lone ? surrogate"}),
        ({"s": "nul \0 and ü"}, {"s": "nul \0 and ü"}),
        (10**400, 10**400),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    assert read(value) == expected


def test_none_is_no_json() -> None:
    assert to_json(None) is None
    assert to_text(None) is None


def test_circles_and_great_depth_end() -> None:
    circle: dict[str, Any] = {"a": 1}
    circle["self"] = circle
    assert read(circle) == {"a": 1, "self": "[a dict that contains itself]"}
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    assert "deeper than 50 levels" in (to_json(deep) or "")


def test_a_large_string_is_cut_and_its_neighbours_stay() -> None:
    found = read({"label": "card", "text": "x" * 1_000_000})
    assert found["label"] == "card"
    assert found["text"].startswith("xxx")
    assert re.search(r"\[cut: \d+ more characters\]$", found["text"])
    assert len(to_json({"text": "x" * 1_000_000}) or "") <= LARGEST


def test_large_lists_and_dicts_are_cut_and_say_so() -> None:
    assert "more items]" in read(list(range(1_000_000)))[-1]
    assert "more entries" in read({str(i): i for i in range(200_000)})["[cut]"]


def test_what_cannot_be_shortened_inside_becomes_its_beginning() -> None:
    wide = [[[[["x" * 100] * 20] * 20] * 20] * 20]
    assert isinstance(read(wide, largest=1_000), str)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers() | st.binary(max_size=5),
        lambda v: st.lists(v) | st.dictionaries(st.text() | st.integers(), v) | st.tuples(v),
        max_leaves=30,
    ),
    st.sampled_from([100, 1_000, LARGEST]),
)
def test_anything_is_json_of_bounded_size(value: Any, largest: int) -> None:
    text = to_json(value, largest=largest)
    if text is not None:
        json.loads(text, parse_constant=lambda name: pytest.fail(name))
        text.encode()
        assert len(text) <= max(largest, 100)


def test_secrets_are_masked_before_the_text_is_cut() -> None:
    def hook(text: str) -> str:
        return text.replace("secret", "******")

    text = to_json({"a": "x" * (LARGEST // 2 - 3) + "secret" + "y" * LARGEST}, hook)
    assert text is not None
    assert "sec" not in text
    assert to_text("x" * (LARGEST - 3) + "secret", hook, LARGEST) == "x" * (LARGEST - 3) + "***…[cut: 3 more characters]"


def test_a_hook_that_eats_quotes_is_applied_to_each_string_instead() -> None:
    def hook(text: str) -> str:
        return re.sub(r"\S+@\S+", "<mail>", text)

    assert read({"to": "me@here.org", "n": 1, "list": ["a@b", True, None]}, redact=hook) == {
        "to": "<mail>",
        "n": 1,
        "list": ["<mail>", True, None],
    }


def test_a_hook_that_masks_numbers_masks_them_also_where_json_has_none() -> None:
    def hook(text: str) -> str:
        return re.sub(r"\d{6,}", "#", text)

    assert read({"account": 12345678, "n": 1, "s": "123456"}, redact=hook) == {"account": "#", "n": 1, "s": "#"}


def test_what_a_hook_raises_or_ruins_is_not_kept() -> None:
    def broken(text: str) -> str:
        raise RuntimeError

    assert "redaction failed with RuntimeError" in read({"a": "secret"}, redact=broken)
    assert to_text("secret", broken) == "[not kept: redaction failed with RuntimeError]"
    assert read({"a": "secret"}, redact=lambda text: text.replace('"', "")) == "[redacted as a whole]"


def test_text_of_anything() -> None:
    assert to_text(ValueError("x")) == "x"
    assert to_text("lone \ud800") == "lone ?"
    assert to_text(Angry()) == "<Angry, whose str raised RuntimeError>"
