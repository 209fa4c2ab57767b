"""A bulkhead: how many calls one provider gets at once, from all threads and event loops together.

The name is Nygard's (Release It!): a leak in one compartment does not sink the ship. How large the compartment is, it finds
out (`_limit.py`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from dspex_lab.errors import BulkheadFull
from dspex_lab.resilience._change import Change, Observer, describe, tell
from dspex_lab.resilience._checks import number
from dspex_lab.resilience._limit import AdaptiveLimit, BulkheadSettings, overloaded
from dspex_lab.resilience._retryable import retry_after
from dspex_lab.resilience._waiters import TaskWaiter, ThreadWaiter, Waiter

W = TypeVar("W", bound="Waiter")


@dataclass(frozen=True, slots=True)
class BulkheadStatus:
    """How a bulkhead stands.

    Attributes:
        limit: calls allowed at once.
        in_use: calls under way.
        waiting: calls in the queue.
        queue: calls that may wait.
        entered: calls that got a place since it was made.
        rejected: calls that got none.
        paused_for: seconds for which the provider is left alone because it asked for that; 0.0 where it is not.
    """

    limit: int
    in_use: int
    waiting: int
    queue: int
    entered: int
    rejected: int
    paused_for: float


class Slot:
    """A place for one call, and the duty to give it back: once; what is said later is not heard.

    As a context manager it judges by the exception that leaves the block.
    """

    __slots__ = ("_bulkhead", "_settled", "started")

    def __init__(self, bulkhead: Bulkhead, started: float) -> None:
        self._bulkhead = bulkhead
        self._settled = False
        self.started = started

    def succeeded(self) -> None:
        """Give it back: the provider answered. Its latency is learned from."""
        self._bulkhead._settle(self, True, None)

    def failed(self, error: BaseException) -> None:
        """Give it back: the call ended with ``error``."""
        self._bulkhead._judge(self, error)

    def released(self) -> None:
        """Give it back: the call shows nothing about the provider."""
        self._bulkhead._settle(self, None, None)

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if error is None:
            self.succeeded()
        else:
            self.failed(error)


class Bulkhead:
    """The places of one provider. A place that becomes free goes to who has waited longest.

    A pickled bulkhead comes back empty with its first limit, without its observer.

    Args:
        provider: whose places they are.
        settings: how many, and how that changes.
        told: told of each change of the limit, each pause and each refusal, outside the lock.
        clock: seconds that only grow; deadlines are on it.
    """

    def __init__(
        self,
        provider: str,
        settings: BulkheadSettings | None = None,
        told: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self.settings = settings or BulkheadSettings()
        self._told = told
        self._clock = clock
        self._lock = threading.Lock()
        self._limit = AdaptiveLimit(self.settings)
        self._in_use = 0
        self._queue: deque[Waiter] = deque()
        self._paused_until = 0.0
        self._entered = self._rejected = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.provider, self.settings))

    def __repr__(self) -> str:
        return f"Bulkhead({self.provider!r}, {self._in_use} of {self._limit.allowed} in use, {len(self._queue)} waiting)"

    def slot(self, *, deadline: float | None = None) -> _Door:
        """Return what waits for a place at ``with`` (in a thread) and gives it back at the end.

        Args:
            deadline: seconds of the clock; nobody waits until it or longer.

        Raises:
            BulkheadFull: at ``with``: the queue is full, or no place is free before the deadline.
        """
        return _Door(self, deadline)

    def aslot(self, *, deadline: float | None = None) -> _Door:
        """Return what waits for a place at ``async with``, as `slot` does, and blocks no loop."""
        return _Door(self, deadline)

    def acquire(self, *, deadline: float | None = None) -> Slot:
        """Wait in this thread for a place; who gets one gives it back.

        Raises:
            BulkheadFull: as from `slot`.
        """
        got = self._enter(deadline, ThreadWaiter)
        if isinstance(got, Slot):
            return got
        try:
            while True:
                got.wait(self._wait_of(deadline))
                slot = self._look(got, deadline)
                if slot is not None:
                    return slot
        except BaseException:
            self._wake(self._leave(got))
            raise

    async def aacquire(self, *, deadline: float | None = None) -> Slot:
        """Wait for a place without blocking the loop; who gets one gives it back.

        Raises:
            BulkheadFull: as from `slot`.
        """
        got = self._enter(deadline, TaskWaiter)
        if isinstance(got, Slot):
            return got
        try:
            while True:
                await got.wait(self._wait_of(deadline))
                slot = self._look(got, deadline)
                if slot is not None:
                    return slot
        except BaseException:
            self._wake(self._leave(got))
            raise

    def try_slot(self) -> Slot | None:
        """Return a place if one is free now and nobody waits for it, otherwise None; that is no refusal."""
        with self._lock:
            return self._take(self._clock())

    def has_room(self) -> bool:
        """Say whether a call would get a place at once; another may take it first."""
        with self._lock:
            return self._is_free(self._clock())

    def pause(self, seconds: float, reason: str = "the provider asked to wait") -> None:
        """Let nobody in for ``seconds``, bounded by ``longest_pause``; a longer pause under way stays. Calls go on."""
        number("Bulkhead.pause", "seconds", seconds, 0)
        with self._lock:
            change, woken = self._pause(seconds, self._clock(), reason)
        self._wake(woken)
        if change is not None:
            tell(self._told, change)

    def status(self) -> BulkheadStatus:
        """Return how it stands."""
        with self._lock:
            return BulkheadStatus(
                self._limit.allowed,
                self._in_use,
                len(self._queue),
                self.settings.queue,
                self._entered,
                self._rejected,
                max(self._paused_until - self._clock(), 0.0),
            )

    # The ways of a waiter: _enter, then _look after each time it wakes, and _leave where that ended without a place.

    def _enter(self, deadline: float | None, waiter: Callable[[], W]) -> Slot | W:
        """Return a place, or the waiter that now stands in the queue."""
        with self._lock:
            now = self._clock()
            if deadline is None or now < deadline:
                slot = self._take(now)
                if slot is not None:
                    return slot
            refusal = self._too_late(now, deadline)
            if refusal is None and len(self._queue) >= self.settings.queue:
                refusal = f"all {self._limit.allowed} places are taken and {len(self._queue)} calls wait"
            if refusal is None:
                mine = waiter()
                self._queue.append(mine)
                return mine
        raise self._refusal(refusal)

    def _look(self, waiter: Waiter, deadline: float | None) -> Slot | None:
        """Return the place of a waiter that woke, or None where it waits on."""
        with self._lock:
            now = self._clock()
            refusal = self._too_late(now, deadline)
            woken: list[Waiter] = []
            slot = None
            if refusal is None:
                if not waiter.granted:
                    woken = self._grant(now)
                if waiter.granted:
                    # From here on the slot answers for the place; who still means to wake this waiter finds it gone.
                    waiter.gone = True
                    slot = Slot(self, now)
        if refusal is not None:
            raise self._refusal(refusal)
        self._wake(woken)
        return slot

    def _leave(self, waiter: Waiter) -> list[Waiter]:
        """End its wait without a call; return whom to wake, for its place may be free now."""
        with self._lock:
            if waiter.gone:
                return []
            waiter.gone = True
            if not waiter.granted:
                self._queue.remove(waiter)
                return []
            self._in_use -= 1
            self._entered -= 1
            return self._grant(self._clock())

    def _wait_of(self, deadline: float | None) -> float | None:
        """Return for how many seconds a waiter sleeps if nobody wakes it."""
        with self._lock:
            now = self._clock()
            ends = [end for end in (deadline, self._paused_until) if end is not None and end > now]
        return min(ends) - now if ends else (None if deadline is None else 0.0)

    def _refusal(self, reason: str) -> BulkheadFull:
        with self._lock:
            self._rejected += 1
            left = max(self._paused_until - self._clock(), 0.0)
        tell(self._told, Change("bulkhead.reject", self.provider, "waiting", "rejected", reason))
        return BulkheadFull(
            f"{self.provider!r} has no place for another call: {reason}.",
            target=self.provider,
            retry_after=left or None,
            hint="Send fewer calls at once, or give them more time.",
        )

    # What follows is called with the lock held, but for _judge, _settle and _wake.

    def _is_free(self, now: float) -> bool:
        return not self._queue and self._in_use < self._limit.allowed and now >= self._paused_until

    def _take(self, now: float) -> Slot | None:
        if not self._is_free(now):
            return None
        self._in_use += 1
        self._entered += 1
        return Slot(self, now)

    def _too_late(self, now: float, deadline: float | None) -> str | None:
        if deadline is None:
            return None
        if now >= deadline:
            return "the deadline passed before one was free"
        if self._paused_until >= deadline:
            return f"it asked to be left alone for another {self._paused_until - now:.1f} s, which the deadline does not allow"
        return None

    def _grant(self, now: float) -> list[Waiter]:
        """Give the free places to who waited longest; return whom to wake."""
        if now < self._paused_until:
            return []
        granted = []
        while self._queue and self._in_use < self._limit.allowed:
            waiter = self._queue.popleft()
            waiter.granted = True
            self._in_use += 1
            self._entered += 1
            granted.append(waiter)
        return granted

    def _pause(self, seconds: float, now: float, reason: str) -> tuple[Change | None, list[Waiter]]:
        seconds = min(seconds, self.settings.longest_pause)
        if now + seconds <= self._paused_until or seconds <= 0:
            return None, []
        self._paused_until = now + seconds
        # All who wait learn of it: they wake themselves when it is over, or give up now if that is too late for them.
        return (
            Change("bulkhead.pause", self.provider, "running", "paused", reason, details={"seconds": seconds}),
            list(self._queue),
        )

    def _judge(self, slot: Slot, error: BaseException) -> None:
        refused = False
        try:
            refused = isinstance(error, Exception) and (self.settings.on or overloaded)(error)
        finally:
            # A judge that raises must not keep the place.
            self._settle(slot, False if refused else None, error if refused else None)

    def _settle(self, slot: Slot, answered: bool | None, error: BaseException | None) -> None:
        """Take a place back; ``answered`` is None where the call showed nothing, False where the provider had no room."""
        asked, said = (None, "") if error is None else (retry_after(error), describe(error))
        changes: list[Change | None] = []
        with self._lock:
            if slot._settled:
                return
            slot._settled = True
            now = self._clock()
            before = self._limit.allowed
            reason = None
            if answered:
                reason = self._limit.answered(slot.started, now, self._in_use)
            elif answered is not None:
                reason = self._limit.refused(slot.started, now)
            self._in_use -= 1
            if reason is not None:
                changes.append(
                    Change("bulkhead.limit", self.provider, str(before), str(self._limit.allowed), _because(reason, said))
                )
            woken: list[Waiter] = []
            if asked is not None:
                paused, woken = self._pause(asked, now, said)
                changes.append(paused)
            woken += self._grant(now)
        self._wake(woken)
        for change in changes:
            if change is not None:
                tell(self._told, change)

    def _wake(self, waiters: list[Waiter]) -> None:
        todo = deque(waiters)
        while todo:
            waiter = todo.popleft()
            if not waiter.wake():
                # Its loop is closed, so its task will never run: its place goes to the next.
                todo += self._leave(waiter)


class _Door:
    """One wait for a place and its return, for ``with`` and ``async with``."""

    __slots__ = ("_bulkhead", "_deadline", "_slot")

    def __init__(self, bulkhead: Bulkhead, deadline: float | None) -> None:
        self._bulkhead, self._deadline = bulkhead, deadline

    def __enter__(self) -> Slot:
        self._slot = self._bulkhead.acquire(deadline=self._deadline)
        return self._slot

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._slot.__exit__(kind, error, where)

    async def __aenter__(self) -> Slot:
        self._slot = await self._bulkhead.aacquire(deadline=self._deadline)
        return self._slot

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._slot.__exit__(kind, error, where)


def _because(reason: str, said: str) -> str:
    return f"{reason}: {said}" if said else reason
