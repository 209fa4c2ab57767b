"""Steps that count how often they ran, and values that are kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import Any

import pydantic

import dspex_lab as dx

C = dx.RunOptions(checkpoint="c")


class Work:
    """Counts how often each step ran; ``broken`` names the steps that fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, name: str) -> None:
        self.ran.append(name)
        if name in self.broken:
            raise ValueError(f"{name} is broken")


def again(lab: dx.Lab, work: Work, what: Any, /, **fields: Any) -> dx.Result:
    """Run once more, with nothing broken, and forget what ran before."""
    work.ran.clear()
    work.broken.clear()
    return lab.run(what, fields, options=C)


class Colour(enum.Enum):
    RED = "red"


class Loud(enum.StrEnum):
    YES = "yes"


@dataclasses.dataclass
class Point:
    x: int
    when: dt.date


class Order(pydantic.BaseModel):
    number: int
    at: dt.datetime
    colours: tuple[Colour, ...] = ()
