"""A variable as its space has it: what it is, and its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.variables._formula import Formula, Source
from dspex_lab.variables._protocols import Definition, Domain


class Unset:
    """No default was given; None may be one."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class Entry:
    """A variable: what it may be, and what it depends on."""

    name: str
    domain: Domain
    default: Any = None
    derive: Formula | None = None
    when: Formula | None = None
    pinned: bool = False
    note: str | None = None
    reads: tuple[str, ...] = field(init=False, default=(), repr=False)

    def __post_init__(self) -> None:
        """Find out which variables its value and its condition read."""
        reads = [each for formula in (self.derive, self.when) if formula for each in formula.reads]
        object.__setattr__(self, "reads", tuple(dict.fromkeys(reads)))

    def definition(self) -> Definition:
        """Return it as it is kept."""
        return Definition(
            name=self.name,
            domain=self.domain.describe(),
            default=None if self.derive else self.domain.to_json(self.default),
            derived=self.derive.text if self.derive else None,
            active=self.when.text if self.when else None,
            pinned=self.pinned,
            note=self.note,
        )

    def same(self, other: Entry) -> bool:
        """Say whether the other one is defined alike; whether they are pinned does not matter."""

        def alike(one: Formula | None, two: Formula | None) -> bool:
            return one is two or (one is not None and one.same(two))

        return (
            self.domain == other.domain
            and alike(self.derive, other.derive)
            and alike(self.when, other.when)
            and self.note == other.note
            and (self.derive is not None or self.domain.equal(self.default, other.default))
        )


@dataclass(frozen=True, slots=True)
class New:
    """A variable to be defined with others at once, by ``Space.add_all``; see ``Space.add``.

    Args:
        pinned: it keeps its value until it is unpinned; one that is there already stays as it is in that.
    """

    name: str
    domain: Domain
    default: Any = UNSET
    note: str | None = None
    when: Source | None = None
    reads: Sequence[str] | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, the version of the space at which it came, and whether the variable counts."""

    value: Any
    version: int
    active: bool = True
