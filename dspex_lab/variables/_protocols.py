"""What the parts of this room are to one another, and what it needs from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol

from dspex_lab.events import VariableRecord

Who = Literal["person", "optimizer", "job", "adaptation", "program", "derived"]


class Domain(Protocol):
    """The values that a variable may take. Domains are frozen, compare by value and can be pickled."""

    kind: str

    def cast(self, value: Any, name: str) -> Any:
        """Return ``value`` as the domain has it (``"0.5"`` as 0.5, 1.0 as 1).

        Raises:
            VariableError: it is none of the domain's; the message says what was found, what is allowed, and what may be meant.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return the domain as JSON; ``domain_from`` makes it again from that."""
        ...

    def to_json(self, value: Any) -> Any:
        """Return a value of the domain as JSON."""
        ...

    def from_json(self, value: Any) -> Any:
        """Return what :meth:`to_json` was given."""
        ...

    def equal(self, one: Any, other: Any) -> bool:
        """Say whether two values are the same one."""
        ...

    def distribution(self) -> Any:
        """Return it as an Optuna distribution.

        Raises:
            VariableError: it cannot be searched as it stands (a text without candidates, for instance).
        """
        ...

    def from_distribution(self, value: Any) -> Any:
        """Return the value of the domain that a value of the distribution stands for."""
        ...

    def to_distribution(self, value: Any) -> Any:
        """Return what stands for a value in the distribution: what a search starts with.

        Raises:
            VariableError: nothing does (a text that is none of the candidates).
        """
        ...

    def first(self) -> Any:
        """Return the value of a variable for which no default is given."""
        ...

    def size(self) -> int | None:
        """Return how many values there are; None where they cannot be counted."""
        ...

    def every(self) -> Iterator[Any] | None:
        """Return all values, one after another; None where they cannot be counted."""
        ...

    def draw(self, random: Random) -> Any:
        """Return a value at random, even on the domain's scale; among the candidates, where it has such.

        Raises:
            VariableError: nothing bounds the values.
        """
        ...

    def corners(self) -> tuple[Any, ...]:
        """Return the values at its ends."""
        ...


@dataclass(frozen=True, slots=True)
class Author:
    """Who commits, and why.

    Args:
        who: what it is.
        name: which one: a job's id, an optimizer's name, a person's.
        why: a sentence.
        score: what was measured with the values.
    """

    who: Who = "person"
    name: str | None = None
    why: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit made of one variable; ``before`` and ``parent`` are None and 0 for its first value."""

    name: str
    before: Any
    value: Any
    parent: int
    who: Who


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of a space: values that changed together.

    Args:
        version: of the space; each commit is one more.
        changes: by name, in topological order; what was derived is in it, with ``who="derived"``.
        fence: the number of the lease it was written under.
        undone: the version that this one brings back, for a rollback.
    """

    version: int
    time: float
    changes: Mapping[str, Change]
    author: Author
    fence: int | None = None
    undone: int | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """A variable as it is kept: what it may be, and what it depends on.

    Args:
        domain: as JSON (``Domain.describe``).
        default: as JSON.
        derived: the expression it is computed by; None where it has a value of its own. A function that derives has no
            text: it is ``"function NAME"``, and must be given again after a restart.
        active: the expression under which it counts.
        pinned: nobody writes it until it is unpinned.
        note: what it is, for people.
    """

    name: str
    domain: dict[str, Any]
    default: Any
    derived: str | None = None
    active: str | None = None
    pinned: bool = False
    note: str | None = None


class Journal(Protocol):
    """Where a space is kept.

    What it is given is written before the call returns, or in order by one writer: never out of order.
    """

    def define(self, space: str, definition: Definition) -> None:
        """Keep a definition, in place of an earlier one of that name."""
        ...

    def drop(self, space: str, name: str) -> None:
        """Forget the definition of a variable; its history stays."""
        ...

    def definitions(self, space: str) -> Sequence[Definition]:
        """Return what was defined, in the order in which it first was."""
        ...

    def write(self, records: Sequence[VariableRecord]) -> None:
        """Keep one commit, whole or not at all."""
        ...

    def latest(self, space: str) -> Mapping[str, VariableRecord]:
        """Return each variable's last record."""
        ...

    def history(self, space: str, name: str | None = None, *, limit: int | None = None) -> Sequence[VariableRecord]:
        """Return records, the newest first."""
        ...

    def fence(self, space: str) -> int:
        """Return the greatest fencing number of all records; 0 where none has one."""
        ...


#: Told of each commit once, in order.
CommitObserver = Callable[[Commit], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of a space at one version; it does not change.

    Args:
        version: of the space.
        values: by name, of the variables that count (whose ``active`` condition holds); derived ones included.
        versions: by name, at which version of the space each got its value.
    """

    version: int
    values: Mapping[str, Any]
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting of a program that can be turned: where it is, what it may be, how it is read and put.

    Args:
        path: its name in the program: ``"triage.predict.instructions"``.
        domain: what it may be.
        read: gives its present value in a program of this shape.
        write: puts a value into a program of this shape; it replaces what was there, and changes no object that copies of the
            program share.
        owned: the program has a value of its own (otherwise one that it takes from elsewhere, such as the LM in use).
        note: what it is, for people.
        pinned: its variable is pinned when the program is exposed: turning it may break the program, or does nothing.
        own: gives the value that the program itself has, ``UNSET`` where it has none; without it ``read`` does.
        rank: knobs of a higher rank are written later.
    """

    path: str
    domain: Domain
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]
    owned: bool = True
    note: str | None = None
    pinned: bool = False
    own: Callable[[Any], Any] | None = None
    rank: int = 0
