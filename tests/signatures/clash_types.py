"""Types that may be connected, and types that cannot."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
from typing import Any, NamedTuple, NewType, Protocol, TypedDict, TypeVar

import pydantic


class Color(enum.Enum):
    RED = "red"
    TWO = 2


class Guessed(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Guessed:
        return cls.A


class Name(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Data:
    a: int


class Base(pydantic.BaseModel):
    a: int


class Derived(Base):
    b: int = 0


class Other(pydantic.BaseModel):
    a: int


class FromText(pydantic.BaseModel):
    a: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        return {"a": int(value)} if isinstance(value, str) else value


class FromAttributes(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)
    a: int


class Root(pydantic.RootModel[list[int]]):
    pass


class Tup(NamedTuple):
    a: int


class Typed(TypedDict):
    a: int


class Plain:
    pass


class Mixin:
    pass


class Both(Plain, Mixin):
    pass


class Custom:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


class Reads(Protocol):
    def read(self) -> str: ...


class Abstract(collections.abc.Sized):
    pass


T = TypeVar("T")
UserId = NewType("UserId", int)
