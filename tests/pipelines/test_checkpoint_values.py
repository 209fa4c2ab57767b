"""Checkpoints: a value comes back as it was, or its step runs again."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pydantic
import pytest
from checkpoint_helpers import C, Colour, Loud, Order, Point, Work, again
from hypothesis import given
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._fingerprint import fingerprint

# --- values ----------------------------------------------------------------------------------------------------------------


TYPED: list[tuple[Any, Any]] = [
    (Order | None, Order(number=3, at=dt.datetime(2020, 1, 2, 3, 4), colours=(Colour.RED,))),
    (list[Order], [Order(number=1, at=dt.datetime(2020, 1, 2, tzinfo=dt.UTC))]),
    (Point | None, Point(1, dt.date(2020, 1, 2))),
    (dict[str, dt.datetime], {"at": dt.datetime(2020, 1, 2, tzinfo=dt.UTC)}),
    (dict[str, Any], {"a": [1, {"b": 2.0}]}),
    (Colour, Colour.RED),
    (dt.date, dt.date(2020, 1, 2)),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (bytes, b"abc"),
    (dict[int, str], {1: "a"}),
    (float, 0.1 + 0.2),
    (int | str, "3"),
    (Literal["a", "b"], "b"),
    (str | None, None),
    (Any, {"a": [1, 2.5, None, True, "é\u2028"]}),
]


def _renamed(give: Callable[[int], Point]) -> Callable[..., Point]:
    def made(n: int) -> Point:
        return give(n)

    return made


def run_with(lab: dx.Lab, kind: Any, value: Any) -> tuple[dx.Result, int]:
    """Give a value from a step that another one fails after, run again, and return the result and how often it was made."""
    made: list[Any] = []

    def give(x: int) -> Any:
        made.append(value)
        return value

    def end(give: Any) -> int:
        if len(made) and not again_now:
            raise ValueError("not yet")
        return 1

    give.__annotations__["return"] = kind
    whole = dx.pipeline("p", give=give, end=end)
    again_now: list[int] = []
    lab.run(whole, x=1, options=C)
    again_now.append(1)
    return lab.run(whole, x=1, options=C), len(made)


@pytest.mark.parametrize(("kind", "value"), TYPED, ids=lambda v: str(v)[:30])
def test_a_typed_value_comes_back_as_it_was(lab: dx.Lab, kind: Any, value: Any) -> None:
    result, made = run_with(lab, kind, value)
    assert made == 1
    assert result["give"] == value
    assert type(result["give"]) is type(value)


def test_a_record_comes_back_as_its_fields(lab: dx.Lab, work: Work) -> None:
    def give(x: int) -> Point:
        work("give")
        return Point(x, dt.date(2020, 1, 2))

    def end(when: dt.date) -> dt.date:
        work("end")
        return when

    work.broken = {"end"}
    give.__annotations__["x"] = int
    whole = dx.pipeline("p", n=lambda seed: seed, give=dx.step(_renamed(give)), end=end)
    lab.run(whole, seed=1, options=C)
    result = again(lab, work, whole, seed=1)
    assert work.ran == ["end"]
    assert result["end"] == dt.date(2020, 1, 2)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: "a"},
        {1, 2},
        Colour.RED,
        Loud.YES,
        np.float64(1.5),
        np.arange(3),
        float("nan"),
        object(),
        b"abc",
        Point(1, dt.date.today()),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_value_that_json_would_change_is_said_and_made_again(lab: dx.Lab, value: Any) -> None:
    result, made = run_with(lab, Any, value)
    assert made == 2
    assert result.status == "complete"
    told = lab.sql("SELECT step, data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")
    assert told["step"][0] == "give"
    assert "declare their types" in told["data"][0]


def test_a_value_that_cannot_be_compared_is_made_again(lab: dx.Lab) -> None:
    class Touchy(pydantic.BaseModel):
        n: int

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("do not compare me")

    result, made = run_with(lab, list[Touchy], [Touchy(n=1)])
    assert made == 2
    assert result.status == "complete"


def test_fields_that_came_or_went_are_not_the_same() -> None:
    from dspex_lab.pipelines import _checkpoint

    assert not _checkpoint._same({"a": 1}, {"a": 1, "b": 2}, Shape({}, {}))


def test_an_input_that_cannot_be_compared_is_said(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=lambda x: 1, end=lambda a: 1 / 0)
    lab.run(whole, x=threading.Lock(), options=C)
    told = lab.sql("SELECT data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")["data"]
    assert "an input cannot be compared" in told[0]


def test_a_secret_is_not_kept_and_not_masked(lab: dx.Lab) -> None:
    key = "sk-proj-" + "a1B2c3D4" * 5
    result, made = run_with(lab, str, key)
    assert made == 2
    assert result["give"] == key
    told = lab.sql("SELECT data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")["data"]
    assert "secret" in told[0]


def test_a_type_whose_serializer_fails_is_said(lab: dx.Lab) -> None:
    class Bad(pydantic.BaseModel):
        n: int

        @pydantic.field_serializer("n")
        def never(self, value: int) -> int:
            raise RuntimeError("no")

    result, made = run_with(lab, list[Bad], [Bad(n=1)])
    assert made == 2
    assert result.status == "complete"


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"give": "x"}', '{"other": 1}', "{", "null", '{"give": 1e999}'])
def test_what_is_kept_and_damaged_is_done_again(lab: dx.Lab, text: str) -> None:
    def give(x: int) -> int:
        return 7

    whole = dx.pipeline("p", give=give)
    key = fingerprint(whole.steps["give"], {"x": 1}, whole.shapes["give"])
    assert key is not None
    lab.store.put_checkpoint("c", "give", key, text)
    result = lab.run(whole, x=1, options=C)
    assert result["give"] == 7
    assert result.steps["give"].implementation == "give"
    lab.store.put_checkpoint("c", "give", key, '{"give": 8}')
    assert lab.run(whole, x=1, options=C)["give"] == 8, "so the key was the right one"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_whatever_json_can_say_comes_back_the_same(value: Any) -> None:
    from dspex_lab.pipelines import _checkpoint

    shape = Shape({}, {"v": StepField("v")}, "v")
    text = _checkpoint._written({"v": value}, shape)
    assert text is not None
    back = _checkpoint._read(text, shape)
    assert _checkpoint._same(back, {"v": value}, shape)
    assert repr(back) == repr({"v": value})
