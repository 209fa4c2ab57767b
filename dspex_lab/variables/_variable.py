"""One variable of a space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dspex_lab.variables._entry import Cell, Entry
from dspex_lab.variables._protocols import Author, Commit, CommitObserver, Domain
from dspex_lab.variables._show import History, Table, domain_words, marks_of, value_words, words


class Home(Protocol):
    """What a variable needs of its space."""

    name: str

    def cell(self, name: str) -> Cell:
        """Return its value."""
        ...

    def entry(self, name: str) -> Entry:
        """Return what it is."""
        ...

    def commit(self, values: dict[str, Any], *, expect: Any = None, author: Author | None = None, lease: Any = None) -> Commit:
        """Write."""
        ...

    def history(self, name: str | None = None, limit: int | None = None) -> History:
        """Return its values."""
        ...

    def rollback(self, version: int, names: Any = None, *, author: Author | None = None, lease: Any = None) -> Commit:
        """Bring a value back."""
        ...

    def pin(self, *names: str) -> None:
        """Let it keep its value."""
        ...

    def unpin(self, *names: str) -> None:
        """Let it change again."""
        ...

    def observe(self, observer: Any, names: Any = None) -> Callable[[], None]:
        """Tell of its commits."""
        ...


class Variable:
    """A typed, observed, versioned value of a space; what it shows is always the present state.

    Any thread may read and write it. It is made by a space: ``space.float("temperature", 0, 2)``, ``space["temperature"]``.
    """

    __slots__ = ("__weakref__", "_name", "_space")

    def __init__(self, space: Home, name: str) -> None:
        self._space, self._name = space, name

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def space(self) -> Any:
        """The space that it belongs to."""
        return self._space

    @property
    def domain(self) -> Domain:
        """What it may be."""
        return self._space.entry(self._name).domain

    @property
    def value(self) -> Any:
        """Its value; writing it is a commit.

        Raises:
            VariableError: it cannot take the value, is derived, pinned or leased, or was dropped.
        """
        return self._space.cell(self._name).value

    @value.setter
    def value(self, value: Any) -> None:
        self.set(value)

    def get(self) -> Any:
        """Return its value."""
        return self._space.cell(self._name).value

    def set(self, value: Any, why: str | None = None, score: float | None = None) -> Commit:
        """Give it a value.

        Args:
            why: a sentence, for its history.
            score: what was measured with it.

        Raises:
            VariableError: as writing ``value`` does.
        """
        return self._space.commit({self._name: value}, author=Author(why=why, score=score))

    @property
    def version(self) -> int:
        """The version of the space at which it got its value."""
        return self._space.cell(self._name).version

    @property
    def active(self) -> bool:
        """Whether it counts: its condition holds, and all that it reads counts too."""
        return self._space.cell(self._name).active

    @property
    def pinned(self) -> bool:
        """Whether it keeps its value."""
        return self._space.entry(self._name).pinned

    @property
    def derived(self) -> str | None:
        """The expression, or the function, that it is computed by; None where it has a value of its own."""
        derive = self._space.entry(self._name).derive
        return derive.text if derive else None

    @property
    def when(self) -> str | None:
        """The condition under which it counts; None where it always does."""
        when = self._space.entry(self._name).when
        return when.text if when else None

    @property
    def default(self) -> Any:
        """The value that it began with."""
        return self._space.entry(self._name).default

    @property
    def note(self) -> str | None:
        """What it is, for people."""
        return self._space.entry(self._name).note

    def history(self, limit: int | None = None) -> History:
        """Return its values, the newest first."""
        return self._space.history(self._name, limit)

    def rollback(self, version: int) -> Commit:
        """Give it the value again that it had at a version of the space."""
        return self._space.rollback(version, [self._name])

    def pin(self) -> Variable:
        """Let it keep its value until :meth:`unpin`."""
        self._space.pin(self._name)
        return self

    def unpin(self) -> Variable:
        """Let it change again."""
        self._space.unpin(self._name)
        return self

    def observe(self, observer: CommitObserver | Variable) -> Callable[[], None]:
        """Tell ``observer`` of each commit that changes it; see ``Space.observe``."""
        return self._space.observe(observer, [self._name])

    def __repr__(self) -> str:
        entry, cell = self._space.entry(self._name), self._space.cell(self._name)
        marks = marks_of(entry, cell)
        about = f"{domain_words(entry.domain.describe())}; version {cell.version}{'; ' + marks if marks else ''}"
        return f"<Variable {words(self._name)} = {value_words(cell.value)} ({about})>"

    def _repr_html_(self) -> str:
        entry, cell = self._space.entry(self._name), self._space.cell(self._name)
        rows = [
            ("value", value_words(cell.value)),
            ("may be", domain_words(entry.domain.describe())),
            ("version", str(cell.version)),
            ("note", words(entry.note or "")),
            ("", marks_of(entry, cell)),
        ]
        return Table(words(self._name), ("", ""), [row for row in rows if row[1]])._repr_html_()
