"""Where jobs are kept: what this room needs of the store's ``JobTable``, and a book in memory that does the same."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from dspex_lab.events import Event, Record, TrialRecord
from dspex_lab.store import JobRow

State = Literal["waiting", "running", "stopping", "complete", "stopped", "failed", "interrupted"]


class JobBook(Protocol):
    """Keeps jobs; :class:`dspex_lab.store.JobTable` is one. Thread-safe; what it is given is kept when a call returns, except
    for records, which come to it over the bus.

    In a row ``number`` counts from 1 within the store, ``version`` grows by one with each save, ``attempts`` says how often the
    work was begun, ``repeated`` how much was done again by that, ``best`` is the best score so far, ``note`` what a person
    should know of it, ``settings`` what it was started with, and ``lab_id`` the Lab that runs it.
    """

    lab_id: str

    def add(self, row: JobRow) -> JobRow:
        """Keep a new job and return it with its ``number`` (the next one) and this Lab's ``lab_id``."""
        ...

    def save(self, row: JobRow, states: Collection[str]) -> bool:
        """Write a job as it is now, with this Lab's ``lab_id``, if its kept state is one of ``states`` and its kept version is
        ``row.version - 1``; else change nothing and return False."""
        ...

    def row(self, job_id: str) -> JobRow | None:
        """Return a job, None where there is none of this id."""
        ...

    def rows(self, *, limit: int | None = None) -> Sequence[JobRow]:
        """Return jobs, the newest first."""
        ...

    def abandoned(self) -> Sequence[JobRow]:
        """Return the jobs that are waiting, running or stopping and whose Lab is not open any more, in this process or
        another."""
        ...

    def keep(self, job_id: str, what: str, data: bytes) -> None:
        """Keep bytes for a job, in place of earlier ones of that name. They are not looked into."""
        ...

    def kept(self, job_id: str, what: str) -> bytes | None:
        """Return what :meth:`keep` was given; None where that is nothing, or was not kept because it held a secret."""
        ...

    def trials(self, job_id: str) -> Sequence[TrialRecord]:
        """Return the trials of a job in the order of their numbers; of one number the last that was told."""
        ...

    def events(self, job_id: str) -> Sequence[Event]:
        """Return the events ``job.*`` of a job (``data["job_id"]``) in the order of ``data["seq"]``."""
        ...


class MemoryBook:
    """A book without a file, for jobs without a store.

    Args:
        lab_id: whose.
        shared: another one, whose jobs these are too: that of another Lab.
    """

    def __init__(self, lab_id: str = "lab", shared: MemoryBook | None = None) -> None:
        self.lab_id = lab_id
        self._lock: threading.RLock = shared._lock if shared else threading.RLock()
        self._rows: dict[str, JobRow] = shared._rows if shared else {}
        self._bytes: dict[tuple[str, str], bytes] = shared._bytes if shared else {}
        self._records: list[Record] = shared._records if shared else []
        self._open: set[str] = shared._open if shared else set()
        self._open.add(lab_id)

    def close(self) -> None:
        """This Lab is over."""
        with self._lock:
            self._open.discard(self.lab_id)

    def write(self, record: Record) -> None:
        """Keep a record, if it is one of a job; what a bus tells it."""
        if isinstance(record, TrialRecord) or (isinstance(record, Event) and record.name.startswith("job.")):
            with self._lock:
                self._records.append(record)

    def add(self, row: JobRow) -> JobRow:
        """Keep a new job."""
        with self._lock:
            made = replace(row, number=len(self._rows) + 1, lab_id=self.lab_id)
            self._rows[row.job_id] = made
            return made

    def save(self, row: JobRow, states: Collection[str]) -> bool:
        """Write a job, if it is in one of these states and nobody else wrote it."""
        with self._lock:
            before = self._rows.get(row.job_id)
            if before is None or before.state not in states or before.version != row.version - 1:
                return False
            self._rows[row.job_id] = replace(row, lab_id=self.lab_id)
            return True

    def row(self, job_id: str) -> JobRow | None:
        """Return a job."""
        with self._lock:
            return self._rows.get(job_id)

    def rows(self, *, limit: int | None = None) -> Sequence[JobRow]:
        """Return jobs, the newest first."""
        with self._lock:
            return list(reversed(self._rows.values()))[:limit]

    def abandoned(self) -> Sequence[JobRow]:
        """Return the jobs of Labs that are over."""
        with self._lock:
            live = ("waiting", "running", "stopping")
            return [row for row in self._rows.values() if row.state in live and row.lab_id not in self._open]

    def keep(self, job_id: str, what: str, data: bytes) -> None:
        """Keep bytes."""
        with self._lock:
            self._bytes[job_id, what] = data

    def kept(self, job_id: str, what: str) -> bytes | None:
        """Return bytes."""
        with self._lock:
            return self._bytes.get((job_id, what))

    def trials(self, job_id: str) -> Sequence[TrialRecord]:
        """Return the trials of a job."""
        with self._lock:
            found = {r.number: r for r in self._records if isinstance(r, TrialRecord) and r.job_id == job_id}
        return [found[number] for number in sorted(found)]

    def events(self, job_id: str) -> Sequence[Event]:
        """Return the events of a job."""
        with self._lock:
            told = [r for r in self._records if isinstance(r, Event) and (r.data or {}).get("job_id") == job_id]
        return sorted(told, key=lambda event: (event.data or {})["seq"])
