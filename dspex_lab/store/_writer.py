"""The one thread that writes, and the queue before it.

Handing over a record costs an append to a deque and two comparisons. Two thresholds steer everything: at ``_limit`` records
in the queue a writer of records must look closer (the queue is full, or the store is closed or broken), at ``_attention``
the thread is woken (1 while it is asleep, a batch while it waits for more, never while it is at work). After a commit it does
not fall asleep at once: for a while it looks into the queue by itself, because a run that wakes it waits for a switch of
threads, which costs as much as the run.
"""

from __future__ import annotations

# Not used here. The thread imports pyarrow with its first record, pyarrow imports this, and at the interpreter's end,
# which may be when the first record is written, this one can no longer be imported.
import concurrent.futures.thread  # noqa: F401
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import StoreError
from dspex_lab.events import Decision, Event, Record, RunRecord, TrialRecord, VariableRecord
from dspex_lab.store._batch import tables_of
from dspex_lab.store._encode import Redact
from dspex_lab.store._schema import TABLES, DefinitionRecord

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger("dspex_lab")

#: So many records are committed at once without waiting for more.
BATCH = 1_000

#: Seconds a record waits for company before it is committed.
LINGER = 0.25

#: Seconds after a commit in which nobody has to wake the thread.
DROWSE = 5.0

#: When the thread is behind, one transaction takes up to so many records; a row then costs a third.
LARGEST_BATCH = 10_000

_NEVER = sys.maxsize

Observer = Callable[[list[Record]], None]


class _Barrier:
    """Stands in the queue; is reached when all before it is committed."""

    def __init__(self) -> None:
        self.reached = threading.Event()


class _Whole(tuple[Any, ...]):
    """Records that stand in the queue as one: all of them are in a transaction, or none."""

    __slots__ = ()


_OUTCOMES = (RunRecord, Decision, VariableRecord, TrialRecord, DefinitionRecord)


def is_outcome(record: Any) -> bool:
    """Say whether a record may never be dropped: how a run ended, that it began, and what the router chose and why.

    Likewise what variables are and were, and what jobs did and tried. Recovery needs the beginnings, ``lab.why`` and
    the replay of policies need every decision. The rest is detail.
    """
    return isinstance(record, _OUTCOMES) or (isinstance(record, Event) and record.name.startswith(("run.start", "job.")))


class Writer:
    """Takes records from any thread and commits them, in order, in batches.

    Args:
        con: a cursor that from now on belongs to the thread.
        path: for messages.
        lab_id: written beside runs and events.
        redact: masks secrets in every text, in the thread; None for none.
        capacity: records the queue holds before detail is dropped and, a tenth later, outcomes wait.
    """

    def __init__(self, con: DuckDBPyConnection, *, path: str, lab_id: str, redact: Redact | None, capacity: int) -> None:
        self._con, self._path, self._lab_id, self._redact = con, path, lab_id, redact
        self._queue: deque[Record | _Barrier | _Whole] = deque()
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._capacity, self._limit, self._attention = capacity, capacity, 1
        self._room = threading.Condition()
        self._hurry = self._stopping = self._busy = False
        self._awake = 0.0
        self._taken: list[_Barrier] = []
        self._refusal: StoreError | None = None
        self.failure: StoreError | None = None
        self.dropped = 0
        self._dropped_written = self._under_way = 0
        self._observers: tuple[Observer, ...] = ()
        self.thread = threading.Thread(target=self._run, name="dspex-store-writer", daemon=True)
        self.thread.start()

    # -- for any thread ------------------------------------------------------------------------------------------------

    def write(self, record: Record) -> None:
        """Hand over one record; see :meth:`Store.write`."""
        if type(record) not in TABLES:
            raise TypeError(f"A store keeps records of dspex_lab.events, not {type(record).__name__}.")
        waiting = self._queue
        if len(waiting) >= self._limit:
            self._crowded(record)
            return
        waiting.append(record)
        if len(waiting) >= self._attention:
            self._wake()

    def write_many(self, records: Iterable[Record]) -> None:
        """Hand over several records in order."""
        for record in records:
            self.write(record)

    def write_whole(self, records: Iterable[Any]) -> None:
        """Hand over records of which all are committed at once, or none; none is ever dropped."""
        whole = _Whole(records)
        if len(self._queue) >= self._limit:
            if self._refusal is not None:
                raise self._refused()
            self._wait_for_room()
        self._queue.append(whole)
        if len(self._queue) >= self._attention:
            self._wake()

    def flush(self) -> None:
        """Return when all that was handed over before is committed and the observers were told."""
        if self._refusal is not None:
            raise self._refused()
        # Seen in this order, an empty queue and an idle thread mean that nothing is under way.
        if not self._queue and not self._busy:
            return
        if self.is_current():
            raise StoreError(
                "flush() was called by an on_commit callback, in the thread it would have to wait for.",
                path=self._path,
                hint="What the callback is given is committed already.",
            )
        barrier = _Barrier()
        self._queue.append(barrier)
        self._hurry = True
        self._wake()
        # The time limit only matters when the thread ended between the look at it above and the append.
        while not barrier.reached.wait(0.5):
            if not self.thread.is_alive():
                break
        if self.failure is not None:
            raise self._refused()

    def is_current(self) -> bool:
        """Say whether the calling thread is the writing one."""
        return threading.current_thread() is self.thread

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Add an observer of commits and return the function that removes it."""
        with self._room:
            self._observers = (*self._observers, observer)

        def unsubscribe() -> None:
            with self._room:
                self._observers = tuple(o for o in self._observers if o is not observer)

        return unsubscribe

    def stop(self, refusal: StoreError) -> None:
        """Refuse further records with ``refusal``; the thread commits what it was handed and ends."""
        self.refuse(refusal)
        self._stopping = self._hurry = True
        self._wake()

    def finish(self) -> StoreError | None:
        """After the thread's end: commit what was handed over in its last moment and note the lab's end.

        Returns:
            why this could not be done; None when it was.
        """
        try:
            records = self._take()
            if records:
                self._commit(records)
            self._con.execute(
                "UPDATE labs SET ended = make_timestamp(?::BIGINT) WHERE lab_id = ?", [int(time.time() * 1e6), self._lab_id]
            )
        except Exception as error:
            self._fail(error)
        return self.failure

    def refuse(self, refusal: StoreError) -> None:
        """Refuse further records, from now on and without a lock."""
        self._refusal = refusal
        self._limit = -1

    # -- the slow paths ------------------------------------------------------------------------------------------------

    def _refused(self) -> StoreError:
        # A new one each time: raising the same object twice grows its traceback.
        refusal = self._refusal or self.failure
        assert refusal is not None  # noqa: S101 - only called when one of them is set
        error = StoreError(refusal.message, path=refusal.path, hint=refusal.hint)
        error.__cause__ = refusal.__cause__
        return error

    def _wake(self) -> None:
        self._attention = _NEVER
        self._tokens.put(None)

    def _crowded(self, record: Record) -> None:
        if self._refusal is not None:
            raise self._refused()
        if is_outcome(record):
            self._wait_for_room()
        elif len(self._queue) >= self._capacity:
            with self._room:
                self.dropped += 1
                first = self.dropped == 1
            if first:
                log.warning("%s: records come faster than they can be written; details are dropped and counted", self._path)
            return
        self._queue.append(record)
        self._wake()

    def _wait_for_room(self) -> None:
        if self.is_current():
            return  # an observer that writes would wait for itself
        most = self._capacity + max(self._capacity // 10, 1)
        with self._room:
            while len(self._queue) >= most and self._refusal is None:
                self._wake()
                self._room.wait(0.1)
        if self._refusal is not None:
            raise self._refused()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._stopping and not self._queue):
                self._gather()
                records = self._take()
                if records:
                    self._commit(records)
                    self._awake = time.monotonic() + DROWSE
                self._busy = False
                self._reach()
        except BaseException as error:
            self._fail(error)
            self._taken.extend(item for item in self._queue.copy() if isinstance(item, _Barrier))
            self._reach()

    def _reach(self) -> None:
        while self._taken:
            self._taken.pop().reached.set()

    def _gather(self) -> None:
        """Wait for a first record, then for a batch of them or a quarter of a second or somebody in a hurry.

        While the thread is awake by itself it looks every quarter of a second, and what it finds has waited no longer.
        """
        waiting = self._queue
        self._attention = BATCH
        while time.monotonic() < self._awake and not self._hurry:
            self._linger()
            if waiting:
                self._attention = _NEVER
                return
        while not waiting and not self._stopping and not self._hurry:
            self._attention = 1
            if not waiting and not self._stopping:
                self._tokens.get()
        self._attention = BATCH
        self._linger()
        self._attention = _NEVER

    def _linger(self) -> None:
        deadline = time.monotonic() + LINGER
        while len(self._queue) < BATCH and not self._hurry and (left := deadline - time.monotonic()) > 0:
            try:
                self._tokens.get(timeout=left)
            except queue.Empty:
                return

    def _take(self) -> list[Record]:
        records: list[Record] = []
        self._busy = True
        self._hurry = self._stopping
        waiting = self._queue
        while waiting and len(records) < LARGEST_BATCH:
            item = waiting.popleft()
            if isinstance(item, _Barrier):
                self._taken.append(item)
            elif isinstance(item, _Whole):
                records.extend(item)
            else:
                records.append(item)
        self._under_way = len(records)
        with self._room:
            self._room.notify_all()
        return records

    def _fail(self, error: BaseException) -> None:
        log.error("%s: the store can no longer write: %s", self._path, error)
        failure = StoreError(
            f"{self._path} can no longer be written: {str(error).strip().rstrip('.') or type(error).__name__}. "
            f"The {self._under_way + len(self._queue):,} records that waited are not in it; all that was committed before is.",
            path=self._path,
            hint="Make room on the disk or mend what is said above, then close this lab and open it again.",
        )
        failure.__cause__ = error
        self.failure = failure
        self.refuse(failure)
        with self._room:
            self._room.notify_all()

    def _commit(self, records: list[Record]) -> None:
        import duckdb

        try:
            self._insert(records)
        except (duckdb.DataError, duckdb.InvalidInputException, TypeError, ValueError, OverflowError) as error:
            # Of a batch that is refused for a value, halves are tried until the one bad record stands alone.
            if len(records) == 1:
                self._lose(records[0], error)
                return
            middle = len(records) // 2
            self._commit(records[:middle])
            self._commit(records[middle:])
            return
        self._tell(records)

    def _lose(self, record: Record, error: Exception) -> None:
        with self._room:
            self.dropped += 1
        log.error("%s: a %s cannot be stored (%s): %.500r", self._path, type(record).__name__, error, record)

    def _insert(self, records: Sequence[Record]) -> None:
        con, dropped = self._con, self.dropped
        tables = tables_of(records, self._lab_id, self._redact)
        # Outside of the transaction: within one that failed, a batch could not be taken off again. The next replaces it.
        for name, batch in tables.items():
            con.register(f"batch_of_{name}", batch)
        con.execute("BEGIN TRANSACTION")
        try:
            for name in tables:
                con.execute(f"INSERT INTO {name} BY NAME SELECT * FROM batch_of_{name}")  # noqa: S608 - tables of ours
            if dropped != self._dropped_written:
                con.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [f"dropped.{self._lab_id}", str(dropped)])
            con.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._dropped_written = dropped

    def _roll_back(self) -> None:
        import duckdb

        try:
            self._con.execute("ROLLBACK")
        except duckdb.Error as error:
            # A commit that failed has rolled back already; the first error is the one to show.
            log.debug("%s: nothing to roll back: %s", self._path, error)

    def _tell(self, records: list[Record]) -> None:
        for observer in self._observers:
            try:
                observer(records)
            except Exception:
                log.exception("an observer of the store's commits raised; it will go on being told")
