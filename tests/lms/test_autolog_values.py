"""Values of plain DSPy calls become plain data."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex_lab.lms.plain._values import as_json, inputs_of, outputs_of


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Trap:
    @property
    def toDict(self) -> Any:  # noqa: N802
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, True),
        ("é", "é"),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (Colour.RED, "red"),
        (Point(1, 2.0), {"x": 1, "y": 2.0}),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (b"abc", "<bytes of 3 bytes>"),
        ({1: (2, {3})}, {"1": [2, [3]]}),
        (dspy.Prediction(a=1, b=[dspy.Example(c="d")]), {"a": 1, "b": [{"c": "d"}]}),
        (Path("/x"), f"{Path('/x')!r}"),
        (Hostile(), "<Hostile>"),
        (Trap(), "<Trap>"),
        (Point, repr(Point)),
    ],
)
def test_values_become_plain_data(value: Any, kept: Any) -> None:
    assert as_json(value) == kept
    json.dumps(as_json(value))


def test_values_without_end_are_cut() -> None:
    knot: list[Any] = []
    knot.append(knot)
    assert len(json.dumps(as_json(knot))) < 5_000
    assert len(as_json(list(range(5_000)))) == 1_000
    assert len(as_json(type("Long", (), {"__repr__": lambda self: "x" * 9_000})())) == 2_001


def test_a_language_model_is_named_and_its_key_is_not_told() -> None:
    secret = "sk-do-not-tell-anybody"  # noqa: S105
    kept = inputs_of((), {"lm": dspy.LM("openai/gpt-5-mini", api_key=secret)})
    assert kept == {"lm": "<LM openai/gpt-5-mini>"}
    assert outputs_of(3) == {"output": 3}


def test_pydantic_values_are_their_fields() -> None:
    from pydantic import BaseModel

    class Item(BaseModel):
        when: dt.date

    assert as_json([Item(when=dt.date(2026, 1, 2))]) == [{"when": "2026-01-02"}]
    assert "Item" in as_json(Item)
