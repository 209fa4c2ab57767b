"""What was adopted: the versions of each program, which of them is in use, and why."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dspex_lab.errors import StoreError, did_you_mean
from dspex_lab.jobs import PartDiff
from dspex_lab.store import ProgramRow, ProgramTable
from dspex_lab.variables import value_words

#: A change of so many lines is folded up in a cell.
_OPEN = 16
_COLUMNS = ("program", "version", "of", "score", "interval", "adopted", "state", "why")


@dataclass(frozen=True)
class Adoption:
    """One adoption, or one way back. A cell shows it.

    Args:
        program: its name.
        version: that is in use now; ``before`` the one that was.
        said: in a sentence.
        compared: the comparison on held-out rows, None where there was none.
        diff: what it changed, by predictor.
        values: what it committed to the Lab's variables, by name.
    """

    program: str
    version: int
    before: int | None
    said: str
    compared: Any = None
    diff: tuple[PartDiff, ...] = ()
    values: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return "\n".join([self.said, *self._changed(), *map(str, self.diff)])

    def _repr_html_(self) -> str:
        e = html.escape
        changed = "".join(f"<div><code>{e(line)}</code></div>" for line in self._changed())
        parts = "".join(
            f"<details{_open(diff)}><summary>what changed in {e(diff.path)}</summary>"
            f"<pre style='text-align:left'>{e(str(diff))}</pre></details>"
            for diff in self.diff
        )
        return f"<div class='mathjax_ignore tex2jax_ignore'><div>{e(self.said)}</div>{changed}{parts}</div>"

    def _changed(self) -> list[str]:
        values = (self.values or {}).items()
        return [f"{name} = {value_words(value) if isinstance(value, tuple) else repr(value)}" for name, value in values]


def _open(diff: PartDiff) -> str:
    return " open" if len(str(diff).splitlines()) < _OPEN else ""


class Programs:
    """The versions of programs in a store; ``lab.programs``. A cell shows them as a table.

    ::

        lab.programs["support"]             # its versions, the newest first
        lab.programs.in_use("support")      # the one in use
        lab.programs.use("support", 2)      # put that one to use, also after a restart

    Args:
        table: where they are kept.
        put: puts a version to use: the version, why, and the module to put it in.
    """

    def __init__(self, table: ProgramTable, put: Callable[[ProgramRow, str, Any], Adoption]) -> None:
        self._table, self._put = table, put

    @property
    def names(self) -> list[str]:
        """The programs that have versions."""
        return self._table.names()

    def __getitem__(self, name: str) -> list[ProgramRow]:
        found = self._table.versions(name)
        if not found:
            raise StoreError(
                f"No version of a program {name!r} is kept.{did_you_mean(name, self.names)}",
                path=self._table.store.path,
                hint=f"Kept: {', '.join(self.names) or 'none; job.adopt() keeps one'}.",
            )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def in_use(self, name: str) -> ProgramRow | None:
        """Return the version that was adopted, None where none is."""
        return self._table.in_use(name)

    def use(self, name: str, version: int | None = None, *, into: Any = None) -> Adoption:
        """Put a version to use; after a restart, without ``version``, the one that was in use.

        Args:
            into: the module to put it in, where this kernel does not know it.

        Raises:
            StoreError: there is no such version.
            JobError: no program of this name is known here, or it has other parts than the version.
        """
        row = self._table.in_use(name) or self[name][0] if version is None else self._table.get(name, version)
        return self._put(row, f"version {row.version} was put to use by hand", into)

    def rows(self) -> list[tuple[str, ...]]:
        """Return what the table shows."""
        return [_line(row) for name in self.names for row in self._table.versions(name)]

    def __repr__(self) -> str:
        rows = self.rows()
        if not rows:
            return "No versions of programs. job.adopt() keeps the first."
        widths = [max(len(row[at]) for row in (_COLUMNS, *rows)) for at in range(len(_COLUMNS))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in (_COLUMNS, *rows))

    def _repr_html_(self) -> str:
        def line(tag: str, cells: tuple[str, ...]) -> str:
            return "<tr>" + "".join(f"<{tag} style='text-align:left'>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        rows = self.rows()
        if not rows:
            return f"<div>{html.escape(repr(self))}</div>"
        return (
            f"<table class='mathjax_ignore tex2jax_ignore'>{line('th', _COLUMNS)}{''.join(line('td', r) for r in rows)}</table>"
        )


def _line(row: ProgramRow) -> tuple[str, ...]:
    low, high = row.interval or (None, None)
    return (
        row.name,
        str(row.version),
        "" if row.parent is None else str(row.parent),
        "" if row.score is None else f"{row.score:.4g}",
        "" if low is None else f"{low:.3g} to {high:.3g}",
        "" if row.adopted is None else f"{datetime.fromtimestamp(row.adopted, UTC):%Y-%m-%d %H:%M}",
        "in use" if row.in_use else "",
        row.reason or "",
    )
