"""The jobs of a Lab: written at once, by whoever asks, so that they are listed and resumed after a restart."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import StoreError
from dspex_lab.events import Event, TrialRecord
from dspex_lab.security import holds_secret, redact
from dspex_lab.store._encode import to_text
from dspex_lab.store._transaction import kept, micros, read, whole

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store

log = logging.getLogger("dspex_lab")

#: The states of a job that has not ended.
UNDER_WAY = ("waiting", "running", "stopping")

#: Bytes that are kept for a job at most, each time.
_LARGEST = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the store has it; the fields are those of ``dspex_lab.jobs``' own row, and said there.

    ``state`` is ``"waiting"``, ``"running"``, ``"stopping"``, ``"complete"``, ``"stopped"``, ``"failed"`` or ``"interrupted"``;
    times are seconds since the epoch, ``cost`` is in US dollars.
    """

    job_id: str
    kind: str
    name: str
    state: str
    created: float
    number: int = 0
    version: int = 0
    started: float | None = None
    ended: float | None = None
    pool: str | None = None
    attempts: int = 0
    repeated: int = 0
    done: float = 0.0
    total: float | None = None
    best: float | None = None
    cost: float | None = None
    calls: int = 0
    tokens: int = 0
    note: str | None = None
    error: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    lab_id: str = ""


_TIMES, _TEXTS = ("created", "started", "ended"), ("name", "note", "error")
_NAMES = tuple(f.name for f in dataclasses.fields(JobRow))
_FIELDS = ", ".join(f"epoch({n})" if n in _TIMES else "settings::VARCHAR" if n == "settings" else n for n in _NAMES)
_PLACES = {n: "make_timestamp(?::BIGINT)" if n in _TIMES else "?::JSON" if n == "settings" else "?" for n in _NAMES}


class JobTable:
    """Reads and writes the jobs of a store; the book of ``dspex_lab.jobs``. Thread-safe.

    What is written is on the disk when a call returns, secrets masked. What a job tried, and what it told, are records and
    events on the bus, which the store's writer keeps.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lab_id = store.lab_id

    def add(self, row: Any) -> Any:
        """Keep a new job and return it with its ``number`` (the next one) and this Lab's ``lab_id``.

        Raises:
            StoreError: there is one of that id, or its settings are too large to be kept.
        """
        values = self._values(row)

        def work(cursor: DuckDBPyConnection) -> int:
            if cursor.execute("SELECT 1 FROM jobs WHERE job_id = ?", [row.job_id]).fetchone():
                raise StoreError(f"There is a job {row.job_id!r} already.", path=self.store.path)
            found = cursor.execute("SELECT coalesce(max(number), 0) + 1 FROM jobs").fetchone()
            values["number"] = int(found[0]) if found else 1
            cursor.execute(
                f"INSERT INTO jobs ({', '.join(values)}) VALUES ({', '.join(_PLACES[n] for n in values)})",  # noqa: S608
                list(values.values()),
            )
            return int(values["number"])

        return replace(row, number=whole(self.store, work), lab_id=self.lab_id)

    def save(self, row: Any, states: Collection[str]) -> bool:
        """Write a job as it is now, as one of this Lab, unless somebody else did since.

        Args:
            row: as it is to be; its version is the new one.
            states: those in which it may be in the store.

        Returns:
            whether it was written; False where it is in another state, or of another version than the one before ``row``'s.
        """
        values = {n: v for n, v in self._values(row).items() if n not in ("job_id", "number", "created")}

        def work(cursor: DuckDBPyConnection) -> bool:
            found = cursor.execute(
                f"UPDATE jobs SET {', '.join(f'{n} = {_PLACES[n]}' for n in values)} "  # noqa: S608 - names of this module
                "WHERE job_id = ? AND version = ? AND list_contains(?::VARCHAR[], state) RETURNING 1",
                [*values.values(), row.job_id, row.version - 1, list(states)],
            ).fetchone()
            return found is not None

        return whole(self.store, work)

    def row(self, job_id: str) -> JobRow | None:
        """Return a job, None where there is none of this id."""
        found = self._rows("WHERE job_id = ?", [job_id])
        return found[0] if found else None

    def rows(self, *, limit: int | None = None) -> list[JobRow]:
        """Return the jobs, the newest first."""
        return self._rows("ORDER BY number DESC LIMIT ?::BIGINT", [2**62 if limit is None else limit])

    def abandoned(self) -> list[JobRow]:
        """Return the jobs that have not ended and whose Lab is not open any more, the oldest first."""
        from dspex_lab.store._store import open_labs

        here = open_labs(self.store)
        rows = self._rows("WHERE list_contains(?::VARCHAR[], state) ORDER BY number", [list(UNDER_WAY)])
        return [row for row in rows if row.lab_id not in here]

    def keep(self, job_id: str, what: str, data: bytes) -> None:
        """Keep bytes for a job, in place of earlier ones of that name; they are never unpickled here.

        What holds a secret, or is larger than 256 MB, is not kept; a warning says so, and :meth:`kept` gives None for it.
        """
        why = None
        if len(data) > _LARGEST:
            why = f"has {len(data) >> 20:,} MB, more than the {_LARGEST >> 20} that are kept"
        elif holds_secret(data):
            why = "holds a secret"

        def work(cursor: DuckDBPyConnection) -> None:
            if why is None:
                now = micros(time.time())
                cursor.execute(
                    "INSERT OR REPLACE INTO job_data VALUES (?, ?, ?, make_timestamp(?::BIGINT))", [job_id, what, data, now]
                )
            else:
                cursor.execute("DELETE FROM job_data WHERE job_id = ? AND what = ?", [job_id, what])

        whole(self.store, work)
        if why is not None:
            log.warning("job %s: its %s %s: it is not kept, and after this kernel's end the job lacks it", job_id, what, why)

    def kept(self, job_id: str, what: str) -> bytes | None:
        """Return what :meth:`keep` was given."""
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute("SELECT data FROM job_data WHERE job_id = ? AND what = ?", [job_id, what]).fetchone()
        )
        return None if found is None else bytes(found[0])

    def trials(self, job_id: str) -> list[TrialRecord]:
        """Return what a job tried in the order of its numbers; of one number the last that was told."""
        found = self._read(
            "SELECT job_id, number, parent, status, epoch(started), seconds, score, scores::VARCHAR, "
            't."values"::VARCHAR, candidate::VARCHAR, cost, calls, t."rows", error, note '
            "FROM trials t WHERE job_id = ? "
            "QUALIFY row_number() OVER (PARTITION BY number ORDER BY rowid DESC) = 1 ORDER BY number",
            [job_id],
        )
        return [TrialRecord._make((*row[:7], *map(read, row[7:10]), *row[10:])) for row in found]

    def events(self, job_id: str) -> list[Event]:
        """Return what a job told (``job.*`` with its ``job_id``) in the order of ``seq``."""
        found = self._read(
            "SELECT name, epoch(time), run_id, span_id, step, data::VARCHAR FROM events "
            "WHERE name LIKE 'job.%' AND data->>'job_id' = ? ORDER BY (data->>'seq')::BIGINT, time",
            [job_id],
        )
        return [Event._make((*row[:5], read(row[5]))) for row in found]

    def _read(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        if not self.store._core.writer.is_current():
            self.store.flush()
        return self.store._core.with_cursor(lambda cursor: cursor.execute(sql, parameters).fetchall())

    def _rows(self, where: str, parameters: Sequence[Any]) -> list[JobRow]:
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute(f"SELECT {_FIELDS} FROM jobs {where}", parameters).fetchall()  # noqa: S608
        )
        rows = (dict(zip(_NAMES, row, strict=True)) for row in found)
        return [JobRow(**{**row, "settings": read(row["settings"]) or {}}) for row in rows]

    def _values(self, row: Any) -> dict[str, Any]:
        values = {name: getattr(row, name) for name in _NAMES}
        values["settings"] = kept(row.settings, f"The settings of job {row.name!r}", self.store.path)[0]
        values |= {name: micros(values[name]) for name in _TIMES}
        values |= {name: to_text(values[name], redact) for name in _TEXTS}
        return {**values, "lab_id": self.lab_id}
