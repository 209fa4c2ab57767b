"""Types that signatures are made of."""

from __future__ import annotations

import dataclasses

import pydantic


class Item(pydantic.BaseModel):
    n: int


@dataclasses.dataclass
class Data:
    label: str
    tags: list[str] = dataclasses.field(default_factory=list)
    score: float = 0.5


class Model(pydantic.BaseModel):
    label: str = pydantic.Field(description="the label")
    score: float = pydantic.Field(0.5, ge=0, le=1)
