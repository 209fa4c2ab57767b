"""Types that answers are read as."""

from __future__ import annotations

import dataclasses
import enum
import typing
from typing import Any, NamedTuple, NewType, TypeVar

import typing_extensions
from pydantic import BaseModel, RootModel, field_validator, model_validator


class Intent(enum.Enum):
    CARD = "card arrival"
    BILLING = "billing"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Order(BaseModel):
    number: int
    tags: list[str] = []


class Row(typing.TypedDict):
    x: int
    note: typing.NotRequired[str]


class Loose(typing_extensions.TypedDict, total=False):
    x: int


class Pair(NamedTuple):
    a: int
    b: str


class Tags(RootModel[list[str]]):
    pass


class Code(BaseModel):
    code: str

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: Any) -> Any:
        return {"code": value} if isinstance(value, str) else value


class Picky(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def never(cls, value: int) -> int:
        raise RuntimeError("no luck")


Age = NewType("Age", int)
T = TypeVar("T", bound=int)
Alias = typing_extensions.TypeAliasType("Alias", list[int])
