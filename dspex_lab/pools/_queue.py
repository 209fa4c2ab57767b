"""Who waits for a worker, and who waits to be allowed to wait."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dspex_lab.errors import PoolError
from dspex_lab.pools._placement import ANYWHERE, Candidate, Placement, choose, keep

log = logging.getLogger("dspex_lab")

W = TypeVar("W", bound=Candidate)


@dataclass(eq=False, slots=True)
class _Visitor:
    loop: asyncio.AbstractEventLoop
    let_in: asyncio.Future[None]
    granted: bool = False


class Admission:
    """Lets so many calls be packed and wait at once; the others wait here, unpacked, first come first served.

    Thread-safe; callers may be on any loop.

    Args:
        places: how many.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()
        self._visitors: OrderedDict[_Visitor, None] = OrderedDict()
        self._refusal: Callable[[], PoolError] | None = None

    @property
    def waiting(self) -> int:
        """How many are not let in yet."""
        return len(self._visitors)

    async def enter(self, seconds: float | None) -> None:
        """Wait for a place, for at most ``seconds``; who gets one gives it back by :meth:`leave`.

        Raises:
            TimeoutError: none became free.
            PoolError: it was closed.
        """
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            if self._free and not self._visitors:
                self._free -= 1
                return
            loop = asyncio.get_running_loop()
            visitor = _Visitor(loop, loop.create_future())
            self._visitors[visitor] = None
        try:
            async with asyncio.timeout(seconds):
                await visitor.let_in
        except BaseException:
            with self._lock:
                self._visitors.pop(visitor, None)
                if visitor.granted:
                    self._pass_on()
            raise

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._pass_on()

    def close(self, refusal: Callable[[], PoolError]) -> None:
        """Refuse those who wait and those who come, each with an error of its own."""
        with self._lock:
            self._refusal = refusal
            for visitor in self._visitors:
                self._wake(visitor, refusal())
            self._visitors.clear()

    def _pass_on(self) -> None:
        while self._visitors:
            visitor, _ = self._visitors.popitem(last=False)
            visitor.granted = True
            if self._wake(visitor, None):
                return
        self._free += 1

    def _wake(self, visitor: _Visitor, error: PoolError | None) -> bool:
        """Return False where whoever waited is gone with its loop."""

        def wake() -> None:
            if not visitor.let_in.done():
                if error is None:
                    visitor.let_in.set_result(None)
                else:
                    visitor.let_in.set_exception(error)

        try:
            visitor.loop.call_soon_threadsafe(wake)
        except RuntimeError:
            log.debug("a loop was closed while a call on it waited for a pool")
            return False
        return True


@dataclass(eq=False, slots=True)
class Seeker(Generic[W]):
    """Somebody who wants a worker: a call, or a reservation (``alone``: it wants the worker for itself).

    Args:
        label: how errors call it.
        place: where it wants to go.
        take: called with the worker, once.
        refuse: called, once, where it gets none.
        alone: whether it takes only a worker that runs nothing.
        shunned: the name of a worker that it takes only if no other is free.
        deadline: seconds of the monotonic clock until which it waits.
    """

    label: str
    take: Callable[[W], None]
    refuse: Callable[[PoolError], None]
    place: Placement = ANYWHERE
    alone: bool = False
    shunned: str | None = None
    deadline: float | None = None
    since: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle | None = None


class Waiting(Generic[W]):
    """The queue before the workers, on the pools' loop: first come first served, except that who cannot use a free worker lets
    the next one pass."""

    def __init__(self) -> None:
        self._seekers: OrderedDict[Seeker[W], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seekers)

    def add(self, seeker: Seeker[W], expired: Callable[[Seeker[W]], None]) -> None:
        """Put somebody at the end; when its deadline is over, it is taken out and ``expired`` is told."""
        self._seekers[seeker] = None
        if seeker.deadline is not None:

            def expire() -> None:
                if self.remove(seeker):
                    expired(seeker)

            loop = asyncio.get_running_loop()
            seeker.timer = loop.call_later(max(0.0, seeker.deadline - time.monotonic()), expire)

    def remove(self, seeker: Seeker[W]) -> bool:
        """Take somebody out; return whether it was in."""
        if seeker not in self._seekers:
            return False
        del self._seekers[seeker]
        if seeker.timer is not None:
            seeker.timer.cancel()
        return True

    def drain(self, unwanted: Callable[[Seeker[W]], bool] = lambda seeker: True) -> list[Seeker[W]]:
        """Take out and return all, or those that are unwanted."""
        found = [seeker for seeker in self._seekers if unwanted(seeker)]
        for seeker in found:
            self.remove(seeker)
        return found

    def feed(self, workers: Iterable[W]) -> None:
        """Give free workers to those who wait, in their order."""
        everyone = list(workers)
        held: list[W] = []
        for seeker in tuple(self._seekers):
            if not any(w.free for w in everyone):
                return
            worker = choose(seeker.place, everyone, alone=seeker.alone, held=held, shunned=seeker.shunned)
            if worker is not None:
                self.remove(seeker)
                seeker.take(worker)
            elif seeker.alone and (kept := keep(seeker.place, everyone, held)) is not None:
                held.append(kept)

    def nearest(self, seeker: Seeker[W], workers: Iterable[W]) -> W | None:
        """Return the worker for somebody who has just come and need not wait, None where it has to.

        The queue is fed whenever a worker becomes free, so one that is free now is wanted by nobody, unless it is kept for
        somebody who wants to be alone."""
        everyone = list(workers)
        if not any(w.free for w in everyone):
            return None
        held: list[W] = []
        for other in self._seekers:
            if other.alone and (kept := keep(other.place, everyone, held)) is not None:
                held.append(kept)
        return choose(seeker.place, everyone, alone=seeker.alone, held=held, shunned=seeker.shunned)
