"""Which worker of each pool a session has, and what becomes of a call that wants it."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from dspex_lab.errors import ConfigurationError, SessionError
from dspex_lab.pools import Placement

#: How much a session wants its worker: ``hint``: that one if it is free, else any; ``strict-queue``: it waits for that one, or
#: for what replaces it; ``strict-fail``: an error at once where that one is busy or gone.
Affinity: TypeAlias = Literal["hint", "strict-queue", "strict-fail"]


def checked_affinity(affinity: str) -> Affinity:
    """Return an affinity.

    Raises:
        ConfigurationError: there is none of that name.
    """
    known = get_args(Affinity)
    if affinity not in known:
        raise ConfigurationError(
            f"The affinity of a session is {affinity!r}.",
            key="affinity",
            expected=list(known),
            actual=affinity,
            hint=f"One of {', '.join(known)}.",
        )
    return affinity  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's process; ``gone``: it has ended."""

    worker: str
    pid: int | None
    gone: bool = False


class Seats:
    """The workers of one session, one in each pool at most. Thread-safe."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat] = {}
        self._reserved: dict[str, str] = {}
        self._lock = threading.Lock()

    def of(self, pool: str) -> Seat | None:
        """Return the session's worker in a pool, None where it has none yet."""
        return self._seats.get(pool)

    def placement(self, pool: str, affinity: Affinity, session: str) -> Placement | None:
        """Return where a call of the session is to run, None where any worker will do.

        Raises:
            SessionError: the affinity is ``strict-fail`` and the worker is gone.
        """
        with self._lock:
            seat, reserved = self._seats.get(pool), self._reserved.get(pool)
        if reserved is not None:
            return Placement(reservation=reserved)
        if seat is None:
            return None
        if affinity == "strict-fail" and seat.gone:
            raise gone(session, pool, seat)
        return Placement(worker=seat.worker, affinity=affinity)

    def placed(self, pool: str, worker: str, pid: int | None) -> dict[str, Any] | None:
        """Take note of the worker that a call ran on; return what is to be told where it is not the one before."""
        with self._lock:
            before, now = self._seats.get(pool), Seat(worker, pid or None)
            self._seats[pool] = now
        if before is None or before == now:
            return None
        why = "its worker died" if before.gone or before.worker == worker else "its worker was not free"
        return {"pool": pool, "before": before.worker, "after": worker, "pid": pid, "reason": why}

    def died(self, pool: str, worker: str, pid: int | None) -> None:
        """Take note that a worker's process ended."""
        with self._lock:
            seat = self._seats.get(pool)
            if seat is not None and seat.worker == worker and (not pid or seat.pid is None or pid == seat.pid):
                self._seats[pool] = replace(seat, gone=True)

    def left(self, pool: str, workers: Collection[str], affinity: Affinity) -> None:
        """Take note of the workers that a pool has now: one that left for good is given up, or gone (``strict-fail``)."""
        with self._lock:
            seat = self._seats.get(pool)
            if seat is not None and seat.worker not in workers:
                if affinity == "strict-fail":
                    self._seats[pool] = replace(seat, gone=True)
                else:
                    del self._seats[pool]

    def release(self, pool: str | None = None) -> None:
        """Forget the worker in a pool, or all: the next call takes any."""
        with self._lock:
            if pool is None:
                self._seats.clear()
            else:
                self._seats.pop(pool, None)

    def reserve(self, pool: str, reservation: str | None) -> None:
        """Send what the session runs on a pool to a reserved worker, with None no longer."""
        with self._lock:
            if reservation is None:
                self._reserved.pop(pool, None)
            else:
                self._reserved[pool] = reservation


def gone(session: str, pool: str, seat: Seat) -> SessionError:
    """Return the error for a worker that has ended."""
    return SessionError(
        f"The worker of session {session!r}, {seat.worker} (pid {seat.pid}) of pool {pool!r}, is gone.",
        session=session,
        hint="Its state is safe. session.release() lets the next call take another worker.",
    )
