"""A session: state and history that span runs and outlive the kernel, with a worker where the state lives between calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from dspex_lab._options import RunOptions
from dspex_lab.errors import SessionError
from dspex_lab.security import one_line
from dspex_lab.sessions._around import Around
from dspex_lab.sessions._book import Entries
from dspex_lab.sessions._calls import call_on_worker
from dspex_lab.sessions._insights import Insights, insights_of
from dspex_lab.sessions._keeping import Keeping
from dspex_lab.sessions._metrics import SessionMetrics, metrics_of
from dspex_lab.sessions._seats import Affinity, Seats
from dspex_lab.sessions._settings import checked_settings
from dspex_lab.sessions._show import Sheet, count, duration, size
from dspex_lab.sessions._state import Optimization, State
from dspex_lab.sessions._values import memory_of
from dspex_lab.store import SessionRow, session_runs

if TYPE_CHECKING:
    import pandas as pd

#: The session of the run that is carried out in this thread or task.
_current: ContextVar[Session | None] = ContextVar("dspex_current_session", default=None)


def current_session() -> Session | None:
    """Return the session of the run in whose step this is called in the kernel, None where it belongs to none.

    A step on a pool is in another process; give it what it needs of the state, or use ``session.call``.
    """
    return _current.get()


class Session:
    """What several runs have in common; made by ``lab.sessions.open(name)``. Thread-safe.

    Calls of a session happen one after the other, in the order in which they were made. As a context manager it is closed at
    the end of the block, and its state forgotten.

    Args:
        row: what the store has of it.
        around: the Lab's parts.
        closing: closes it in the registry it is listed in: of the session and the reason.
        renaming: gives it another name there.
        entries: its state, where it is new.
    """

    def __init__(
        self,
        row: SessionRow,
        around: Around,
        *,
        closing: Callable[[Session, str], object],
        renaming: Callable[[Session, str], object],
        entries: Entries | None = None,
    ) -> None:
        self.around, self._closing, self._renaming = around, closing, renaming
        self.keeping, self.seats = Keeping(row, around, entries), Seats()
        self.book = self.keeping.book

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its id, which a rename does not change."""
        return self.book.row.session_id

    @property
    def state(self) -> State:
        """Named values; see :class:`State`."""
        return self.keeping.state

    @property
    def optimization(self) -> Optimization:
        """What optimizers keep here; see :class:`Optimization`."""
        return self.keeping.optimization

    @property
    def name(self) -> str:
        """Its name."""
        return self.book.row.name

    @property
    def pool(self) -> str:
        """The pool of its worker."""
        return self.book.row.pool

    @property
    def affinity(self) -> Affinity:
        """How much it wants its worker."""
        return self.book.row.affinity  # type: ignore[return-value]

    @property
    def ttl(self) -> float | None:
        """Seconds without use after which it is closed; None for never."""
        return self.book.row.ttl

    @property
    def created(self) -> float:
        """When it was opened first, in seconds since the epoch."""
        return self.book.row.created

    @property
    def touched(self) -> float:
        """When it was used last, in seconds since the epoch."""
        return self.book.touched

    @property
    def version(self) -> int:
        """How often its state was changed."""
        return self.book.row.version

    @property
    def calls(self) -> int:
        """How many calls on its worker were completed."""
        return self.book.row.calls

    @property
    def moves(self) -> int:
        """How often it went to another worker."""
        return self.book.row.moves

    @property
    def worker(self) -> str | None:
        """The name of its worker, None before the first call in this kernel."""
        seat = self.seats.of(self.pool)
        return None if seat is None else seat.worker

    @property
    def pid(self) -> int | None:
        """The process of its worker."""
        seat = self.seats.of(self.pool)
        return None if seat is None else seat.pid

    @property
    def unkept(self) -> tuple[str, ...]:
        """What of its state is not in the store because it holds a secret: it lives as long as the kernel."""
        return self.book.row.unkept

    @property
    def size(self) -> int:
        """The bytes of its state, as it is kept."""
        return self.book.size

    @property
    def status(self) -> Literal["open", "busy", "suspended", "closed", "expired"]:
        """``busy``: in a call or run; ``suspended``: open, and in the store only until it is used."""
        row = self.book.row
        if row.closed is not None:
            return "expired" if row.reason == "expired" else "closed"
        if self.keeping.busy:
            return "busy"
        return "open" if self.book.loaded else "suspended"

    @property
    def history(self) -> pd.DataFrame:
        """Its runs and maps, newest first, also those of earlier kernels and under earlier names.

        Columns: ``run_id, kind, name, status, started`` (UTC), ``seconds, error, error_step, lm, simulated, prompt_tokens,
        completion_tokens, cost`` (US dollars), ``tags``.
        """
        return session_runs(self.around.store, self.id)

    def metrics(self) -> SessionMetrics:
        """Return how long its runs took and whether that changes, how many failed, and what they cost."""
        return metrics_of(self.around.store, self.id, one_line(self.name))

    def insights(self) -> Insights:
        """Return what its runs taught, as sentences with their evidence."""
        learned = {} if self.keeping.closed else dict(self.optimization)
        return insights_of(self.around.store, self.id, one_line(self.name), learned)

    # ---- running -----------------------------------------------------------------------------------------------------

    def run(
        self, x: Any, inputs: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None, **fields: Any
    ) -> Any:
        """Run something in the Lab as a run of this session; as ``lab.run``."""
        return self._runs().run(x, inputs, options=self._options(options), **fields)

    async def arun(
        self, x: Any, inputs: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None, **fields: Any
    ) -> Any:
        """Run something on the caller's event loop, as ``lab.arun``."""
        return await self._runs().arun(x, inputs, options=self._options(options), **fields)

    def _runs(self) -> Any:
        self.save()
        if self.around.runs is None:
            raise SessionError(f"Session {self.name!r} belongs to no Lab that could run it.", session=self.name)
        return self.around.runs

    def _options(self, options: RunOptions | None) -> RunOptions:
        chosen = options or RunOptions()
        if chosen.session not in (None, self.name):
            raise SessionError(
                f"The options are for session {chosen.session!r}, and this one is {self.name!r}.",
                session=self.name,
                hint="Leave session= out of them.",
            )
        return replace(chosen, session=self.name)

    def call(self, fn: Callable[..., Any], /, *args: Any, **how: Any) -> Any:
        """Return what ``fn(state, *args)`` gives on the session's worker, where the state lives between calls.

        ``state`` is a dict there; what the call changes in it comes home and is saved. A call that fails, is cut off, or whose
        worker dies, changes nothing: the state is that of the last call that was completed, and goes to another worker.

        Args:
            fn: whatever the pool can carry; a coroutine function is awaited.
            how: as of ``Pool.call``: ``timeout`` (seconds), ``idempotent``, ``label``, ``long``, ``patience``; and ``pool``,
                where it is not the session's own.

        Raises:
            SessionError: the session is closed; a value in the state cannot be kept or is too large; its worker is gone
                (``strict-fail``).
            PoolError: as of ``Pool.call``; ``PoolBusy`` where its worker is busy (``strict-fail``).
            Exception: what ``fn`` raised.
        """
        return self.around.wait(self.acall(fn, *args, **how))

    async def acall(self, fn: Callable[..., Any], /, *args: Any, **how: Any) -> Any:
        """As :meth:`call`, to be awaited on any event loop."""
        keeping = self.keeping
        await keeping.turn.acquire()
        try:
            keeping.settle()
            came = await call_on_worker(self, fn, args, how)
            # What came home is saved though nobody may wait for it any more; only then it is the next one's turn.
            saving = asyncio.get_running_loop().run_in_executor(None, keeping.take_home, came.pool, came.stamp, came.changes)
        except BaseException:
            keeping.turn.leave()
            raise
        await asyncio.shield(saving)
        return came.value

    # ---- its state and its life --------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save what was changed inside values of the state; assignments are saved at once.

        Raises:
            SessionError: a value cannot be kept, or the state would be too large.
        """
        self.keeping.save()

    def refresh(self) -> None:
        """Read the state from the store anew, for instance because another Lab changed it; what was not saved is lost."""
        self.keeping.refresh()

    def release(self) -> None:
        """Give its worker up: the next call takes any."""
        self.seats.release()
        self.keeping.living = None

    def configure(self, **settings: Any) -> None:
        """Change its ``pool``, ``affinity`` or ``ttl`` (seconds, or None).

        Raises:
            SessionError: it is closed, or was changed by another Lab.
            ConfigurationError: a value makes no sense, or there is no such pool.
        """
        checked = checked_settings(self.around, **settings)
        with self.book.lock:
            self.book.check_open()
            if not self.book.note(**checked):
                raise self.book.overtaken()
        self.around.wake()

    def rename(self, name: str) -> None:
        """Give it another name; its history stays its own.

        Raises:
            SessionError: the name is none, or another open session has it.
        """
        self._renaming(self, name)

    def close(self) -> None:
        """End it: its state is forgotten, its runs and what is known of it stay in the store. May be called twice.

        Raises:
            SessionError: it is in a call, and this thread must not wait for its end.
        """
        self._closing(self, "closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def inside(self) -> Iterator[Session]:
        """Keep it from expiring in the block, as a run of it does, and let it be :func:`current_session` there."""
        with self.keeping.used():
            self.touch()
            before = _current.get()
            _current.set(self)
            try:
                yield self
            finally:
                # Put back and not reset by a token: a run that was given up is ended in another context than it was begun in.
                _current.set(before)
        self.touch()

    def touch(self) -> None:
        """Take note that it is used."""
        self.book.touch(self.worker)

    def moved(self, pool: str, worker: str, pid: int | None) -> None:
        """Take note of the worker that something of this session ran on."""
        told = self.seats.placed(pool, worker, pid)
        if told is not None:
            self.book.moved()
            self.around.tell("session.move", self.id, self.name, **told)

    # ---- how it is shown ---------------------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        """What it is and holds, for a cell."""
        row, idle = self.book.row, max(self.around.clock() - self.touched, 0.0)
        lasts = f"; closes after {duration(self.ttl)} without use" if self.ttl is not None else ""
        lines = [
            f"{self.status}; used {duration(idle)} ago{lasts}; id {self.id}",
            f"pool {self.pool}, worker {self.worker or 'none yet'}, affinity {self.affinity}; {count(row.calls)} calls, "
            f"{count(row.moves)} moves",
        ]
        for what in () if self.keeping.closed else self.keeping.parts:
            entries = self.keeping.entries(what)
            lines.append(f"{what}: {count(len(entries))} keys, {size(memory_of(entries))}; version {self.version}")
            lines += [f"  {one_line(key, 60)} = {one_line(text)}" for key, text in list(entries.items())[:20]]
        if self.unkept:
            lines.append(f"not kept, because it holds a secret: {one_line(', '.join(self.unkept))}")
        return Sheet(f"Session {one_line(self.name)}", lines)

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"<Session {one_line(self.name)!r}: {self.status}, version {self.version}, pool {self.pool!r}>"
