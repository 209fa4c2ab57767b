"""Values of every kind that conditions read, for their tests."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pydantic


class Color(enum.Enum):
    RED = "red"


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    total: float
    _secret: int = 3

    @property
    def computed(self) -> int:
        raise AssertionError("code of the value was run")

    def method(self) -> None:
        raise AssertionError("code of the value was run")


@dataclasses.dataclass
class Item:
    price: float
    made: datetime.date = datetime.date(2024, 1, 1)


class Point(NamedTuple):
    x: int


VALUES: dict[str, Any] = {
    "urgency": 0.9,
    "intent": "card",
    "message": "  My Card never came ",
    "n": 7,
    "nothing": None,
    "tags": ["a", "b"],
    "order": Order(total=12.5, note="gift"),
    "item": Item(3.0),
    "point": Point(4),
    "row": {"price": 5, "deep": {"list": [1, {"k": "v"}]}},
    "color": Color.RED,
    "day": datetime.date(2024, 5, 1),
    "counted": collections.defaultdict(int, a=1),
    "amount": Decimal("2.50"),
    "array": np.array([1.0, 2.0]),
    "one": np.int64(1),
    "sum": 3,
}
