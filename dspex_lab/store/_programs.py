"""The versions of programs that jobs made: kept at once, one of them adopted, every earlier one to go back to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import StoreError, did_you_mean
from dspex_lab.security import redact
from dspex_lab.store._encode import LARGEST_WHOLE, to_text
from dspex_lab.store._transaction import kept, micros, read, whole

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store

log = logging.getLogger("dspex_lab")


@dataclass(frozen=True, slots=True)
class ProgramRow:
    """One version of a program; times are seconds since the epoch.

    ``version`` counts from 1 within its ``name``; ``parent`` is the version that it was made from; ``fingerprint`` tells
    versions of the same content; ``state`` is what is loaded into a program of its shape, as JSON, ``source`` its file as text;
    ``score`` with ``interval`` (low, high) what was measured on held-out rows; ``adopted`` when it was last put to use and
    ``retired`` when another one took its place (None while it is the one in use); ``reason`` why; ``masked`` says that secrets
    in its state were masked, so that it is not quite what it was.
    """

    name: str
    fingerprint: str
    state: dict[str, Any]
    time: float
    version: int = 0
    parent: int | None = None
    source: str | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    adopted: float | None = None
    retired: float | None = None
    reason: str | None = None
    job_id: str | None = None
    masked: bool = False

    @property
    def in_use(self) -> bool:
        """Whether it is the adopted version."""
        return self.adopted is not None and self.retired is None


_FIELDS = """
    name, fingerprint, state::VARCHAR, epoch(time), version, parent, source, score, low, high, epoch(adopted), epoch(retired),
    reason, job_id, masked
"""


class ProgramTable:
    """Reads and writes the versions of programs. Thread-safe; what is written is on the disk when a call returns.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, row: ProgramRow) -> ProgramRow:
        """Keep a version of a program and return it with its number, the next of its name; it is not adopted by that.

        Raises:
            StoreError: it is too large to be kept.
        """
        state, masked = kept(row.state, f"The state of program {row.name!r}", self.store.path)
        if masked:
            log.warning("the state of program %s holds a secret: it is kept masked", row.name)
        source = to_text(row.source, redact, LARGEST_WHOLE)
        low, high = row.interval or (None, None)

        def work(cursor: DuckDBPyConnection) -> int:
            found = cursor.execute("SELECT coalesce(max(version), 0) + 1 FROM programs WHERE name = ?", [row.name]).fetchone()
            version = int(found[0]) if found else 1
            cursor.execute(
                "INSERT INTO programs VALUES (?, ?, ?, ?, ?::JSON, ?, ?, ?, ?, NULL, NULL, ?, make_timestamp(?::BIGINT), ?, ?)",
                [
                    *(row.name, version, row.parent, row.fingerprint, state, source, row.score, low, high),
                    *(to_text(row.reason, redact), micros(row.time), row.job_id, masked),
                ],
            )
            return version

        version = whole(self.store, work)
        return replace(row, version=version, state=read(state), adopted=None, retired=None, masked=masked)

    def adopt(self, name: str, version: int, at: float, reason: str | None = None) -> ProgramRow | None:
        """Put a version to use, in place of the one in use; return that one, None where there was none.

        Raises:
            StoreError: there is no such version.
        """
        self.get(name, version)
        before = self.in_use(name)

        def work(cursor: DuckDBPyConnection) -> None:
            cursor.execute(
                "UPDATE programs SET retired = make_timestamp(?::BIGINT) "
                "WHERE name = ? AND version <> ? AND adopted IS NOT NULL AND retired IS NULL",
                [micros(at), name, version],
            )
            cursor.execute(
                "UPDATE programs SET adopted = make_timestamp(?::BIGINT), retired = NULL, reason = coalesce(?, reason) "
                "WHERE name = ? AND version = ?",
                [micros(at), to_text(reason, redact), name, version],
            )

        whole(self.store, work)
        return before

    def get(self, name: str, version: int) -> ProgramRow:
        """Return one version of a program.

        Raises:
            StoreError: there is none.
        """
        found = self._rows("WHERE name = ? AND version = ?", [name, version])
        if found:
            return found[0]
        versions = [row.version for row in self.versions(name)]
        if versions:
            said = f"There is no version {version} of program {name!r}."
            raise StoreError(said, path=self.store.path, hint=f"There are {', '.join(map(str, versions))}.")
        names = self.names()
        raise StoreError(
            f"No version of program {name!r} is kept in {self.store.path}.{did_you_mean(name, names)}",
            path=self.store.path,
            hint=f"Kept: {', '.join(names) or 'none'}.",
        )

    def in_use(self, name: str) -> ProgramRow | None:
        """Return the adopted version of a program, None where there is none."""
        found = self._rows("WHERE name = ? AND adopted IS NOT NULL AND retired IS NULL", [name])
        return found[0] if found else None

    def last_good(self, name: str) -> ProgramRow | None:
        """Return the version that was in use before the one that is: what to go back to; None where there was none."""
        found = self._rows("WHERE name = ? AND retired IS NOT NULL ORDER BY adopted DESC, version DESC LIMIT 1", [name])
        return found[0] if found else None

    def versions(self, name: str) -> list[ProgramRow]:
        """Return the versions of a program, the newest first."""
        return self._rows("WHERE name = ? ORDER BY version DESC", [name])

    def names(self) -> list[str]:
        """Return the names of the programs that have versions, in order."""
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute("SELECT DISTINCT name FROM programs ORDER BY name").fetchall()
        )
        return [name for (name,) in found]

    def _rows(self, where: str, parameters: Sequence[Any]) -> list[ProgramRow]:
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute(f"SELECT {_FIELDS} FROM programs {where}", parameters).fetchall()  # noqa: S608
        )
        return [
            ProgramRow(
                *(row[0], row[1], read(row[2]) or {}, row[3], row[4], row[5], row[6], row[7]),
                None if row[8] is None or row[9] is None else (row[8], row[9]),
                *row[10:],
            )
            for row in found
        ]
