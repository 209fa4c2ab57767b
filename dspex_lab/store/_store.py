"""The store: one DuckDB file, written by one thread, read by anybody in this process."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from dspex_lab.errors import StoreError
from dspex_lab.events import Record, new_id
from dspex_lab.security import redact as default_redact
from dspex_lab.store import _checkpoints, _database
from dspex_lab.store._encode import Redact
from dspex_lab.store._maps import RecordedMap, last_map, recorded_map, reopen_map
from dspex_lab.store._recovery import Recovery
from dspex_lab.store._sql import Parameters, run_query
from dspex_lab.store._stream import Stream
from dspex_lab.store._writer import Writer

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

log = logging.getLogger("dspex_lab")

T = TypeVar("T")

#: Seconds :meth:`Store.close` waits for the writing thread, which may be held up by a callback that never returns.
CLOSING = 60.0


class Store:
    """Keeps the records of a Lab and answers queries over them.

    A file belongs to one process at a time. Within a process several stores may use the same file: they share the
    database, each writes with a thread and a ``lab_id`` of its own, and the file is closed with the last of them.
    Thread-safe. A store that is forgotten, or open at the interpreter's end, commits what it holds and closes itself.
    A child forked from the process can neither write, nor read, nor close it.

    Args:
        path: the file, made with its folders where missing; ``":memory:"`` keeps everything in memory.
        lab_id: the Lab's id, written beside its runs and events; a new one by default.
        redact: applied, in the writing thread, to every text and JSON value before it is written (ids excepted); by
            default :func:`dspex_lab.security.redact`; None writes everything as it is.
        capacity: records that may wait to be written. Beyond it details are dropped and counted; how runs began and
            ended and what the router decided is never dropped: whoever writes that waits.
        memory: megabytes that DuckDB may use for the file, where no other store has it open; by default 512, or 64 for
            each processor if that is more. Not for ``":memory:"``, which has no bound.

    Raises:
        StoreError: the file is held by another process, damaged, written by a newer version, not a store, not writable.
    """

    #: What opening the file found: interrupted runs, a damaged log. None for a clean start.
    recovery: Recovery | None

    def __init__(
        self,
        path: str | Path,
        *,
        lab_id: str | None = None,
        redact: Redact | None = default_redact,
        capacity: int = 100_000,
        memory: int | None = None,
    ) -> None:
        self.lab_id = lab_id or new_id()
        database = _database.acquire(path, memory)
        self.path: str = database.path
        self.recovery, database.recovery = database.recovery, None
        try:
            self._core = _Core(database, self.lab_id, redact, capacity)
        except Exception as error:
            _database.release(database)
            raise _database.explained(Path(database.path), error) from error
        #: What :meth:`write` does, without a call in between, for who hands over thousands a second.
        self.sink: Callable[[Record], None] = self._core.writer.write
        # Holds the core and not the store, so a store that nobody refers to any more is closed; also runs at exit.
        self._finalizer = weakref.finalize(self, _Core.abandon, self._core)

    @property
    def dropped(self) -> int:
        """How many records of detail were not written since this store was opened; the file has it in ``meta``."""
        return self._core.writer.dropped

    def write(self, record: Record) -> None:
        """Hand over a record; it is committed within a quarter of a second, or with the next thousand.

        Returns at once. Only where the queue is full does an outcome wait, and a detail is dropped and counted.

        Raises:
            StoreError: the store is closed, or can no longer be written (then with the cause).
            TypeError: not a record of :mod:`dspex_lab.events`.
        """
        self._core.writer.write(record)

    def write_many(self, records: Iterable[Record]) -> None:
        """Hand over several records, in order; as :meth:`write`."""
        self._core.writer.write_many(records)

    def flush(self) -> None:
        """Return when everything handed over before is committed and the ``on_commit`` callbacks have been told of it.

        Raises:
            StoreError: the store is closed or could not be written, or a callback called this.
        """
        self._core.writer.flush()

    def query(
        self, sql: str, parameters: Parameters = None, *, timeout: float | None = None, flush: bool = True
    ) -> pd.DataFrame:
        """Return the rows of a query, of the last one where there are several statements.

        Only queries: SELECT, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT, EXPLAIN. Times are UTC. Names of Python
        variables are not looked up, and no file is read but the store's own and those in ``exports`` beside it.
        KeyboardInterrupt stops the query.

        Args:
            sql: one or several statements.
            parameters: for ``?`` and ``$1`` a sequence, for ``$name`` a mapping.
            timeout: seconds after which the query is stopped; None for no limit.
            flush: first commit what was written before; without it the query may miss the last quarter of a second,
                and it works on a store that can no longer write.

        Raises:
            StoreError: with DuckDB's words and suggestion, and line and column in ``sql`` where it says them.
        """
        return self._core.query(sql, parameters, timeout, flush)

    def stream(self, sql: str, parameters: Parameters = None, *, rows: int = 1_000) -> Stream:
        """Return the rows of one query in pieces of at most ``rows``, as Arrow record batches; to be closed.

        As :meth:`query`, but the result is never whole in memory. While it is read, what is written meanwhile cannot be
        moved from the log into the file: read it quickly, or into a file of its own.

        Raises:
            StoreError: as :meth:`query`, also while it is read; or there are several statements.
        """
        return self._core.stream(sql, parameters, rows)

    def last_map(self, name: str, statuses: Iterable[str] = ("interrupted", "cancelled")) -> str | None:
        """Return the run id of the newest map ``name`` that ended so and wrote to no file, None where there is none."""
        self.flush()
        return self._core.with_cursor(lambda cursor: last_map(cursor, name, statuses))

    def recorded_map(self, run_id: str) -> RecordedMap:
        """Return what is recorded of a map that has ended, for instance of one that was interrupted.

        Raises:
            StoreError: there is no such map, or it has not ended.
        """
        self.flush()
        return self._core.with_cursor(lambda cursor: recorded_map(cursor, run_id, self.path))

    def reopen_map(self, run_id: str, without: Iterable[str] = ()) -> None:
        """Take back the end of a map, so that it can go on under its own id.

        Its record, and those of its rows whose run ids are in ``without``, are removed: those rows have no outcome until
        they ran again, and the map none until it ends again (where the process ends before, it is interrupted, as ever).
        """
        self.flush()
        self._core.with_cursor(lambda cursor: reopen_map(cursor, run_id, without))

    def put_checkpoint(self, name: str, step: str, key: str, outputs: str) -> str | None:
        """Keep the outputs (JSON) of a step of a run that is to go on after a kill; committed when this returns.

        Returns:
            why they were not kept, or None.
        """
        return self._core.with_cursor(lambda cursor: _checkpoints.put(cursor, name, step, key, outputs))

    def checkpoint(self, name: str) -> dict[str, tuple[str, str]]:
        """Return what is kept under ``name``: by step, the key of its work and its outputs."""
        return self._core.with_cursor(lambda cursor: _checkpoints.kept(cursor, name))

    def hold_checkpoint(self, name: str) -> None:
        """Keep other runs, also of other stores of this file, from using a checkpoint until :meth:`release_checkpoint`.

        Raises:
            ConfigurationError: a run under way uses it.
        """
        _checkpoints.hold(self._core.database, name)

    def release_checkpoint(self, name: str) -> None:
        """Let other runs use a checkpoint."""
        _checkpoints.release(self._core.database, name)

    def checkpoints(self) -> pd.DataFrame:
        """Return the checkpoints, the newest first: ``name, steps`` (with outputs kept), ``bytes, newest`` (UTC)."""
        return _checkpoints.listed(self)

    def forget_checkpoint(self, name: str) -> None:
        """Forget what is kept under ``name``.

        Raises:
            ConfigurationError: nothing is, or a run under way uses it.
        """
        self._core.with_cursor(lambda cursor: _checkpoints.refuse_unknown(cursor, name))
        self.hold_checkpoint(name)
        try:
            self.drop_checkpoint(name)
        finally:
            self.release_checkpoint(name)

    def drop_checkpoint(self, name: str) -> None:
        """Forget what is kept under ``name``."""
        self._core.with_cursor(lambda cursor: _checkpoints.drop(cursor, name))

    def on_commit(self, callback: Callable[[list[Record]], None]) -> Callable[[], None]:
        """Have ``callback`` told of every batch, in the writing thread, after its commit; return the function that ends it.

        The records are as they were written, not redacted. A callback that raises is logged and told on; one that is
        slow holds up the writing.
        """
        return self._core.writer.observe(callback)

    def close(self) -> None:
        """Commit what waits, note the end in ``labs`` and close the file where no other store uses it. May be repeated.

        Raises:
            StoreError: not everything could be written; the store is closed all the same.
        """
        self._core.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.path!r}{', closed' if self._core.closed else ''})"


class _Core:
    """What a store is made of, apart from it, so that it can be closed when the store itself is gone."""

    def __init__(self, database: _database.Database, lab_id: str, redact: Redact | None, capacity: int) -> None:
        self.database, self.lab_id = database, lab_id
        self.closed = self.forked = False
        self._closing = threading.Lock()
        self._queries: set[DuckDBPyConnection] = set()
        self._idle = threading.Condition()
        cursor = database.con.cursor()
        cursor.execute(
            "INSERT INTO labs VALUES (?, ?, make_timestamp(?::BIGINT), NULL)", [lab_id, os.getpid(), int(time.time() * 1e6)]
        )
        self.writer = Writer(cursor, path=database.path, lab_id=lab_id, redact=redact, capacity=capacity)
        self._cursor = cursor
        _living.add(self)

    def query(self, sql: str, parameters: Parameters, timeout: float | None, flush: bool) -> pd.DataFrame:
        if flush and not self.writer.is_current():
            self.writer.flush()
        cursor = self._begin()
        try:
            # It closes its cursor: one that is stopped and does not end at once still has it.
            return run_query(cursor, self.database.con, sql, parameters, timeout, self.database.path)
        finally:
            self._end(cursor)

    def with_cursor(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """Return what ``work`` gives for a cursor of its own, which closing the store interrupts."""
        cursor = self._begin()
        try:
            with cursor:
                return work(cursor)
        finally:
            self._end(cursor)

    def stream(self, sql: str, parameters: Parameters, rows: int) -> Stream:
        if not self.writer.is_current():
            self.writer.flush()
        cursor = self._begin()
        return Stream(cursor, self.database.con, sql, parameters, rows, self.database.path, lambda: self._end(cursor))

    def _begin(self) -> DuckDBPyConnection:
        with self._idle:
            if self.closed:
                raise self._closed_error()
            cursor = self.database.con.cursor()
            self._queries.add(cursor)
        return cursor

    def _end(self, cursor: DuckDBPyConnection) -> None:
        with self._idle:
            self._queries.discard(cursor)
            self._idle.notify_all()

    def close(self) -> None:
        if self.forked:
            return
        if self.writer.is_current():
            raise StoreError(
                "close() was called by an on_commit callback, in the thread it would have to wait for.",
                path=self.database.path,
                hint="Close the store from another thread.",
            )
        with self._closing:
            if self.closed:
                return
            with self._idle:
                self.closed = True
            failure = self._stop_writing()
            self._stop_reading()
            self._cursor.close()
            _database.release(self.database)
            _living.discard(self)
        if failure is not None:
            raise failure

    def abandon(self) -> None:
        """Close without raising, for the garbage collector and the interpreter's end."""
        if self.writer.is_current():
            # The collector may run in any thread, also in the one that close() waits for.
            threading.Thread(target=self.abandon, name="dspex-store-closer", daemon=True).start()
            return
        try:
            self.close()
        except StoreError as error:
            log.error("%s", error)

    def let_go(self) -> None:
        """In a forked child: refuse everything, close nothing."""
        self.forked = self.closed = True
        self._idle = threading.Condition()
        _database.leak(self._cursor)
        self.writer.refuse(self._closed_error())

    def _closed_error(self) -> StoreError:
        path = self.database.path
        if self.forked:
            return StoreError(
                f"{path} is open in process {self.database.pid}, from which this process was forked.",
                path=path,
                hint="Send results home and write them there.",
            )
        return StoreError(f"The store {path} is closed.", path=path, hint="Open it again with Store(path) or dx.Lab(path).")

    def _stop_writing(self) -> StoreError | None:
        failure = self.writer.failure
        self.writer.stop(failure or self._closed_error())
        self.writer.thread.join(CLOSING)
        if self.writer.thread.is_alive():
            return StoreError(
                f"The store {self.database.path} could not be closed properly: an on_commit callback does not return.",
                path=self.database.path,
            )
        return self.writer.failure or self.writer.finish()

    def _stop_reading(self) -> None:
        with self._idle:
            deadline = time.monotonic() + 5
            while self._queries and time.monotonic() < deadline:
                for cursor in self._queries:
                    cursor.interrupt()
                self._idle.wait(0.05)


_living: weakref.WeakSet[_Core] = weakref.WeakSet()


def open_labs(store: Store) -> set[str]:
    """Return the ids of the Labs that have the file of ``store`` open; all are of this process."""
    database = store._core.database
    return {core.lab_id for core in list(_living) if core.database is database and not core.closed}


def _in_child() -> None:
    _database.in_child_after_fork()
    for core in list(_living):
        core.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
