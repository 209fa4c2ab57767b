"""The sessions of a Lab, by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dspex_lab._loop import LoopThread
from dspex_lab.errors import SessionError, did_you_mean
from dspex_lab.events import Event, Record, new_id
from dspex_lab.pools import Placement
from dspex_lab.sessions._around import Around, Pool, Runs
from dspex_lab.sessions._checkout import Checkout
from dspex_lab.sessions._known import Known
from dspex_lab.sessions._limits import SessionLimits
from dspex_lab.sessions._list import SessionList
from dspex_lab.sessions._names import checked_name, free_name
from dspex_lab.sessions._seats import Affinity
from dspex_lab.sessions._session import Session
from dspex_lab.sessions._settings import checked_settings
from dspex_lab.sessions._sweeper import Sweeper
from dspex_lab.sessions._worker import check_room, texts_of
from dspex_lab.store import SessionRow, Store

log = logging.getLogger("dspex_lab")

#: The pool of a session that names none.
POOL = "general"


class Sessions:
    """Opens, finds and closes sessions; ``lab.sessions``. Thread-safe.

    Sessions outlive the kernel: those that were open when it ended are there again, suspended until they are used.

    Args:
        store: where they are kept.
        pool: gives the pool of a name, as ``Pools.get``.
        emit: takes events; as ``Bus.emit``.
        wait: runs a coroutine and waits for it; by default on a loop in a thread of its own.
        runs: runs something, as a Lab does.
        limits: how many, and how large.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        pool: Callable[[str], Any],
        emit: Callable[[Event], None] | None = None,
        *,
        wait: Callable[[Coroutine[Any, Any, Any]], Any] | None = None,
        runs: Runs | None = None,
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._loop: LoopThread | None = None
        given: Callable[[str], Pool] = pool
        self.around = Around(store, given, emit or _nobody, wait or self._wait, runs, clock, limits or SessionLimits())
        self._known = Known(self.around, self._made)
        self._sweeper = Sweeper(self)
        self.around.wake = self._sweeper.wake
        #: The name of the session that runs belong to which name none.
        self.default: str | None = None

    @property
    def limits(self) -> SessionLimits:
        """How many sessions there may be, and how large; may be set."""
        return self.around.limits

    @limits.setter
    def limits(self, limits: SessionLimits) -> None:
        self.around.limits = limits

    # ---- finding -----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of the open sessions, the one used last first."""
        return [session.name for session in self]

    def list(self, *, closed: bool = False) -> SessionList:
        """Return the open sessions, the one used last first; a cell shows them as a table.

        Args:
            closed: those too that are closed or expired.
        """
        found = list(self)
        if closed:
            known = {session.id for session in found}
            rows = self.around.table.rows(closed=True)
            found += [self._made(row) for row in rows if row.closed is not None and row.session_id not in known]
        return SessionList(found, self.around.clock())

    def get(self, name: str) -> Session:
        """Return the open session of a name.

        Raises:
            SessionError: there is none.
        """
        self.sweep()
        found = self._known.by_name(name)
        if found is None:
            raise self._unknown(name)
        self._known.trim(found)
        return found

    def __getitem__(self, name: str) -> Session:
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        self.sweep()
        return isinstance(name, str) and self._known.by_name(name) is not None

    def __iter__(self) -> Iterator[Session]:
        self.sweep()
        with self._known.lock:
            return iter(sorted(self._known.all().values(), key=lambda s: (-s.touched, s.id)))

    def __len__(self) -> int:
        self.sweep()
        return len(self._known.all())

    # ---- opening and closing -----------------------------------------------------------------------------------------

    def open(
        self,
        name: str | None = None,
        *,
        pool: str | None = None,
        affinity: Affinity | None = None,
        ttl: float | None = None,
        state: Mapping[str, Any] | None = None,
        fresh: bool = False,
    ) -> Session:
        """Return the open session of a name, or a new one.

        Args:
            name: its name; None makes a new one and names it.
            pool: the pool of its worker; ``general`` by default. With ``affinity`` and ``ttl``, what is given is set for a
                session that is open already, and what is not stays as it was.
            affinity: ``"hint"`` (by default): it goes to the worker it had if that is free; ``"strict-queue"``: it waits for
                that one or its replacement; ``"strict-fail"``: an error at once where that one is busy or gone.
            ttl: seconds without use after which it is closed by itself; None for never.
            state: what a new one begins with, copied; one that is open keeps its own.
            fresh: make a new one; one of this name that is open is closed.

        Raises:
            SessionError: the name is none, a value of the state cannot be kept or is too large, or there are too many sessions.
            ConfigurationError: an affinity or a time that makes no sense, or no such pool.
        """
        given = {"pool": pool, "affinity": affinity, "ttl": ttl}
        settings = checked_settings(self.around, **{key: value for key, value in given.items() if value is not None})
        self.sweep()
        if name is not None and fresh and (old := self._known.by_name(checked_name(name))) is not None:
            self._close(old, "replaced")
        with self._known.lock:
            chosen = free_name({session.name for session in self._known.all().values()}) if name is None else checked_name(name)
            found = self._known.by_name(chosen)
            if found is None:
                found = self._opened(chosen, settings, state or {})
            elif settings:
                found.configure(**settings)
        self._known.trim(found)
        self._sweeper.wake()
        return found

    def _opened(self, name: str, settings: Mapping[str, Any], state: Mapping[str, Any]) -> Session:
        around = self.around
        known = self._known.all()
        if len(known) >= around.limits.sessions:
            oldest = min(known.values(), key=lambda s: s.touched)
            raise SessionError(
                f"There are {around.limits.sessions:,} open sessions, and no more may be.",
                session=name,
                hint=f"Close one, such as {oldest.name!r}, which was used longest ago, give them a ttl=, or raise "
                "lab.sessions.limits.",
            )
        now = around.clock()
        made = {"pool": POOL, "affinity": "hint", "ttl": None, **settings}
        entries = texts_of(state, name)
        check_room(entries, around.limits.state_bytes, name)
        session = self._made(SessionRow(new_id(), name, **made, created=now, touched=now), {"state": {}, "optimization": {}})
        around.table.open(session.book.row, "{}", "{}")
        known[session.id] = session
        around.tell("session.open", session.id, name, **made)
        if state:
            session.state.update(state)
            session.state.forget()  # it was copied: what the caller goes on changing is his
        return session

    def rename(self, name: str, to: str) -> Session:
        """Give a session another name and return it.

        Raises:
            SessionError: there is none of that name, or one that has the new name.
        """
        session = self.get(name)
        self._rename(session, to)
        return session

    def _rename(self, session: Session, name: str) -> None:
        with self._known.lock:
            before, after = session.name, checked_name(name)
            if before == after:
                return
            other = self._known.by_name(after)
            if other is not None:
                raise SessionError(
                    f"There is a session {after!r} already.", session=before, hint="Close it, or take another name."
                )
            session.book.rename(after)
            session.touch()
            if self.default == before:
                self.default = after
        self.around.tell("session.rename", session.id, after, before=before)

    def close(self, name: str | None = None) -> None:
        """Close the session of a name: its state is forgotten, its runs stay. Without a name, as the Lab does at its end: save
        what is open and let it be, for the next kernel.

        Raises:
            SessionError: there is none, or it is in a call and this thread must not wait for its end.
        """
        if name is not None:
            self._close(self.get(name), "closed")
            return
        open_here = self._known.close()
        self._sweeper.stop()
        for session in open_here:
            _let_be(session)
        if self._loop is not None:
            self._loop.close()

    def forget(self, name: str) -> int:
        """Close the session of a name and remove all that is known of it and of earlier ones of that name; return how many.

        Its runs are removed like any other run.

        Raises:
            SessionError: there is none and was none.
        """
        found = self._known.by_name(name)
        if found is not None:
            self._close(found, "closed")
        removed = self.around.table.forget(name)
        if not removed:
            raise self._unknown(name)
        return removed

    def sweep(self) -> Sequence[str]:
        """Close the sessions whose time to live is over, and return their names; it is also done by itself."""
        now = self.around.clock()
        over = [] if self._known.closed else [s for s in list(self._known.all().values()) if _left(s, now) <= 0]
        return [session.name for session in over if self._close(session, "expired", patient=False)]

    def due(self) -> float | None:
        """Return the seconds until a session may be over, None where none ever is."""
        now = self.around.clock()
        timed = [session for session in self._known.here() if session.ttl is not None]
        if not timed:
            return None
        late = [session for session in timed if _left(session, now) <= 0]
        if late:  # one that is in use now is looked at again a little later
            return 0.05 if all(session.status == "busy" for session in late) else 0.0
        return min(_left(session, now) for session in timed)

    def _close(self, session: Session, reason: str, *, patient: bool = True) -> bool:
        if not session.keeping.end(reason, patient=patient):
            return False
        with self._known.lock:
            self._known.drop(session)
            if self.default == session.name and reason != "replaced":
                self.default = None
        name = "session.expire" if reason == "expired" else "session.close"
        self.around.tell(name, session.id, session.name, reason=reason, version=session.version, calls=session.calls)
        return True

    # ---- runs and workers --------------------------------------------------------------------------------------------

    def use(self, name: str | None) -> Session | None:
        """Let following runs that name no session belong to this one, opened where it is not; None: to none."""
        session = None if name is None else self.open(name)
        self.default = None if session is None else session.name
        return session

    def inside(self, name: str | None) -> AbstractContextManager[Any]:
        """Keep a session in use in the block, which is a run of it; it is opened where it is not. None does nothing."""
        return nullcontext() if name is None else (self._known.by_name(name) or self.open(name)).inside()

    def placement(self, name: str | None, pool: str) -> Placement | None:
        """Return where a step of a run of that session is to go on a pool, None where any worker will do.

        Raises:
            SessionError: the session wants its worker only (``strict-fail``), and that is gone.
        """
        session = None if name is None else self._known.by_name(name)
        return None if session is None else session.seats.placement(pool, session.affinity, session.name)

    def placed(self, name: str | None, pool: str, worker: str, pid: int | None) -> None:
        """Take note of the worker that a step of a run of that session ran on."""
        session = None if name is None else self._known.by_name(name)
        if session is not None:
            session.moved(pool, worker, pid)

    def checkout(self, pool: str = POOL, name: str | None = None, patience: float | None = None) -> Checkout:
        """Return a worker for the block of a ``with`` or ``async with``, to which nobody else's calls are sent.

        ``with lab.sessions.checkout("neural") as worker: worker.call(fn, *args)``

        Args:
            pool: the pool.
            name: the session whose worker it is to be, opened where it is not; its calls and runs go there in the block.
            patience: seconds to wait for a worker that is free; then ``PoolBusy``.
        """
        self.around.pool(pool)
        return Checkout(self.around, pool, None if name is None else self.open(name), patience)

    def observe(self, record: Record) -> None:
        """Take note of workers that ended or left; an observer of the Lab's bus."""
        if not isinstance(record, Event) or record.name not in ("pool.restart", "pool.resize"):
            return
        data = record.data or {}
        pool, known = str(data.get("pool")), self._known.here()
        if record.name == "pool.restart":
            for session in known:
                session.seats.died(pool, str(data.get("worker")), data.get("pid"))
        elif any(session.seats.of(pool) for session in known):
            workers = {worker["name"] for worker in self.around.pool(pool).status()}
            for session in known:
                session.seats.left(pool, workers, session.affinity)

    # ---- within ------------------------------------------------------------------------------------------------------

    def _made(self, row: SessionRow, entries: dict[str, dict[str, str]] | None = None) -> Session:
        return Session(row, self.around, closing=self._close, renaming=self._rename, entries=entries)

    def _unknown(self, name: str) -> SessionError:
        earlier = [row for row in self.around.table.rows(closed=True, name=name) if row.closed is not None]
        open_names = self.names
        if earlier:
            how = "expired" if earlier[0].reason == "expired" else "was closed"
            return SessionError(f"Session {name!r} {how}.", session=name, hint=f"lab.sessions.open({name!r}) makes a new one.")
        return SessionError(
            f"There is no session {name!r}.{did_you_mean(name, open_names)}",
            session=name,
            hint=f"Open: {', '.join(open_names[:20]) or 'none; lab.sessions.open(name) makes one'}.",
        )

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        with self._known.lock:
            if self._loop is None:
                self._loop = LoopThread("dspex-sessions-loop")
        return self._loop.run(work)

    def _repr_html_(self) -> str:
        return self.list()._repr_html_()

    def __repr__(self) -> str:
        return "Sessions, closed" if self._known.closed else repr(self.list())


def _left(session: Session, now: float) -> float:
    return float("inf") if session.ttl is None else session.touched + session.ttl - now


def _nobody(event: Event) -> None:
    return None


def _let_be(session: Session) -> None:
    """Save what is not saved yet; one that cannot be is said, and the others are saved all the same."""
    try:
        session.keeping.put_down()
        session.book.note(worker=session.worker or session.book.row.worker)
    except Exception:
        log.exception("session %r could not be saved when its Lab was closed", session.name)
