"""A worker that is somebody's alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import SessionError
from dspex_lab.pools import Placement
from dspex_lab.sessions._around import Around

if TYPE_CHECKING:
    from dspex_lab.sessions._session import Session


class CheckedOut:
    """A worker to which nobody else's calls are sent. If its process dies, its replacement is reserved too.

    Args:
        around: the Lab's parts.
        pool: the pool's name.
        reservation: what the pool gave.
    """

    def __init__(self, around: Around, pool: str, reservation: Any) -> None:
        self.pool = pool
        self._around, self._reservation = around, reservation
        #: Calls made on it.
        self.calls = 0
        self._back = False

    @property
    def name(self) -> str:
        """The worker's name."""
        return str(self._reservation.worker)

    @property
    def pid(self) -> int | None:
        """The process it is now."""
        pid: int | None = self._reservation.pid
        return pid

    def call(self, fn: Callable[..., Any], /, *args: Any, **how: Any) -> Any:
        """Return what ``fn(*args)`` gives on this worker; ``how`` as of ``Pool.call``."""
        return self._around.wait(self.acall(fn, *args, **how))

    async def acall(self, fn: Callable[..., Any], /, *args: Any, **how: Any) -> Any:
        """As :meth:`call`, to be awaited.

        Raises:
            SessionError: the worker was given back.
        """
        if self._back:
            raise SessionError(
                f"The worker {self.name} of pool {self.pool!r} was given back.", hint="Use it inside its 'with' block."
            )
        self.calls += 1
        return await self._around.pool(self.pool).call(fn, *args, place=Placement(reservation=self._reservation.id), **how)

    def give_back(self) -> None:
        """Take no more calls."""
        self._back = True

    def __repr__(self) -> str:
        return f"<{self.name} of pool {self.pool!r}, {'given back' if self._back else f'yours alone, pid {self.pid}'}>"


class Checkout:
    """Checks a worker out for the block of a ``with`` or ``async with``.

    Args:
        around: the Lab's parts.
        pool: the pool's name.
        session: whose worker it is to be; its calls and runs go to it in the block.
        patience: seconds to wait for one; None is the pool's own.
    """

    def __init__(self, around: Around, pool: str, session: Session | None, patience: float | None) -> None:
        self._around, self._pool, self._session, self._patience = around, pool, session, patience
        self._held: AbstractAsyncContextManager[Any] | None = None
        self._worker: CheckedOut | None = None
        self._since = 0.0

    async def __aenter__(self) -> CheckedOut:
        if self._held is not None:
            raise SessionError("This checkout is in use.", hint="Make one for each block: lab.sessions.checkout(pool).")
        began = time.monotonic()
        session, name = self._session, self._pool
        place = None if session is None else session.seats.placement(name, session.affinity, session.name)
        held = self._around.pool(name).reserve(place=place, patience=self._patience)
        reservation = await held.__aenter__()
        self._held, self._since = held, time.monotonic()
        self._worker = worker = CheckedOut(self._around, name, reservation)
        if session is not None:
            session.seats.reserve(name, reservation.id)
            session.moved(name, worker.name, worker.pid)
        self._tell("session.checkout", worker, waited=self._since - began)
        return worker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, worker = self._held, self._worker
        assert held is not None and worker is not None  # noqa: S101, PT018 - it was entered
        self._held = None
        worker.give_back()
        if self._session is not None:
            self._session.seats.reserve(self._pool, None)
        try:
            await held.__aexit__(kind, error, trace)
        finally:
            self._tell("session.checkin", worker, seconds=time.monotonic() - self._since, calls=worker.calls)

    def __enter__(self) -> CheckedOut:
        worker: CheckedOut = self._around.wait(self.__aenter__())
        return worker

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._around.wait(self.__aexit__(kind, error, trace))

    def _tell(self, name: str, worker: CheckedOut, **data: Any) -> None:
        session = self._session
        about = {"pool": self._pool, "worker": worker.name, "pid": worker.pid, **data}
        known = (None, None) if session is None else (session.id, session.name)
        self._around.tell(name, *known, **about)
