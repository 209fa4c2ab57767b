"""The leases of a space: the table of them, and the threads and tasks that wait for one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from dspex_lab.errors import LeaseError
from dspex_lab.events import Event
from dspex_lab.resilience import TaskWaiter, ThreadWaiter, Waiter
from dspex_lab.variables._lease import Lease, held_here
from dspex_lab.variables._lease_table import Ended, Held, LeaseStatus, LeaseTable, Ticket
from dspex_lab.variables._protocols import Author, Commit

#: Seconds for which a lease lasts without a renewal, where nothing else is said.
TTL = 30.0


class CommitHere(Protocol):
    """``Space.commit``."""

    def __call__(self, values: Mapping[str, Any], *, expect: Any, author: Author, lease: Lease) -> Commit: ...


@dataclass(slots=True)
class _Waiting:
    waiter: Waiter
    deadline: float
    woken: bool = False


class Leases:
    """Who may write which variables of one space, and who waits for that. Thread-safe; waiting blocks no event loop.

    Args:
        space: its name, for events.
        lock: the space's own, which :meth:`check` is called under: so nothing is written by a lease that ends meanwhile.
        clock: seconds since the epoch.
        emit: told of each lease that begins or ends, outside the lock.
        commit: writes under a lease.
        above: the greatest fencing number that was ever journalled.
    """

    def __init__(
        self,
        space: str,
        lock: AbstractContextManager[Any],
        clock: Callable[[], float],
        emit: Callable[[Event], None],
        commit: CommitHere,
        above: int = 0,
    ) -> None:
        self.table = LeaseTable(above)
        self.commit = commit
        self._space, self._lock, self._clock, self._emit = space, lock, clock, emit
        self._waiting: dict[Ticket, _Waiting] = {}
        self._claimed: set[int] = set()

    # ---- asking ----------------------------------------------------------------------------------------------------

    def take(self, names: Iterable[str], *, owner: str, ttl: float = TTL, patience: float | None = None) -> Lease:
        """Wait in this thread until all of ``names`` can be had.

        Args:
            patience: seconds to wait at most; None for as long as it takes.

        Raises:
            LeaseError: no patience is left, or the request would have to wait while who asks holds another lease.
        """
        ticket, waiter = self._ask(names, owner, ttl, patience, ThreadWaiter)
        try:
            while (lease := self._look(ticket)) is None:
                waiter.wait(self._until_next(ticket))
        except BaseException:
            self._leave(ticket)
            raise
        return lease

    def ask(self, names: Iterable[str], *, owner: str, ttl: float = TTL, patience: float | None = None) -> Asked:
        """Return what can be awaited for the lease, or be used in ``async with``; raises as :meth:`take` does."""
        wanted = tuple(names)
        return Asked(lambda: self._atake(wanted, owner, ttl, patience))

    async def _atake(self, names: Iterable[str], owner: str, ttl: float, patience: float | None) -> Lease:
        ticket, waiter = self._ask(names, owner, ttl, patience, TaskWaiter)
        try:
            while (lease := self._look(ticket)) is None:
                await waiter.wait(self._until_next(ticket))
        except BaseException:
            self._leave(ticket)
            raise
        return lease

    # ---- holding: what a Lease calls -------------------------------------------------------------------------------

    def renew(self, fence: int) -> Held:
        """Let a lease last for its time from now on.

        Raises:
            LeaseError: it is over.
        """
        try:
            with self._lock:
                return self.table.renew(fence, self._clock())
        finally:
            self.tend()

    def release(self, fence: int) -> None:
        """End a lease; one that is over is left alone."""
        with self._lock:
            self.table.release(fence, self._clock())
        self.tend()

    async def arelease(self, fence: int) -> None:
        """End a lease; it takes no time here."""
        self.release(fence)

    def holds(self, held: Held) -> bool:
        """Say whether a lease is not over yet."""
        self.tend()
        with self._lock:
            return self.table.lease(held.fence, self._clock()) is not None

    def break_lease(self, name: str, why: str | None = None) -> Ended:
        """End the lease that ``name`` is in, at once; who has it finds its next commit refused.

        Raises:
            LeaseError: nobody has a lease on it.
        """
        with self._lock:
            ended = self.table.break_off(name, why, self._clock())
        self.tend()
        if ended is None:
            raise LeaseError(f"Variable {name!r} is not leased to anybody.", name=name)
        return ended

    # ---- the space -------------------------------------------------------------------------------------------------

    def check(self, names: Iterable[str], fence: int | None) -> None:
        """Return if ``names`` may be written now. Call it with the lock held, and :meth:`tend` after that, without.

        Raises:
            LeaseError: see :meth:`LeaseTable.check`.
        """
        self.table.check(names, fence, self._clock())

    def status(self) -> tuple[LeaseStatus, ...]:
        """Return who holds and who waits: the leases in the order of their grants, then the requests in theirs."""
        self.tend()
        with self._lock:
            return self.table.status(self._clock())

    def tend(self) -> None:
        """End what is over, wake whose turn it is, and tell of it. Cheap where there is nothing to do; not under the lock."""
        if self.table.idle and not self._waiting:
            return  # after each commit
        with self._lock:
            now = self._clock()
            ended = self.table.expire(now)
            while self._wake(now):
                ended += self.table.expire(now)
            known = [over for over in ended if over.lease.fence in self._claimed]
            self._claimed -= {over.lease.fence for over in known}
        for over in known:
            self._emit(self._ended_event(over))

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _ask(self, names: Iterable[str], owner: str, ttl: float, patience: float | None, kind: Any) -> tuple[Ticket, Any]:
        if patience is not None and not patience >= 0:
            raise LeaseError(f"Nobody can wait for {patience!r} seconds.", hint="patience=None waits as long as it takes.")
        holding = held_here()
        self.tend()
        with self._lock:
            now = self._clock()
            ticket = self.table.request(owner, names, ttl, now, holding=holding)
            deadline = float("inf") if patience is None else now + patience
            waiting = self._waiting[ticket] = _Waiting(kind(), deadline)
        return ticket, waiting.waiter

    def _look(self, ticket: Ticket) -> Lease | None:
        """Return the lease that a request has got; None where it waits on."""
        self.tend()
        with self._lock:
            now = self._clock()
            held = self.table.granted(ticket)
            if held is not None:
                del self._waiting[ticket]
                self._claimed.add(held.fence)
            elif not self.table.waits(ticket):
                raise LeaseError(f"A lease of {ticket.owner!r} ended before it was taken up.", holder=ticket.owner)
            elif now >= self._waiting[ticket].deadline:
                raise _impatient(ticket, self.table.behind(ticket), now)
        if held is None:
            return None
        self._emit(self._event("variable.lease", held, {"ttl": held.ttl, "waited": held.waited}))
        return Lease(self, held)

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._waiting.pop(ticket, None)
            self.table.cancel(ticket, self._clock())
        self.tend()

    def _until_next(self, ticket: Ticket) -> float | None:
        """Return for how many seconds a request sleeps if nobody wakes it."""
        with self._lock:
            now = self._clock()
            ends = [end for end in (self._waiting[ticket].deadline, self.table.next_expiry(now)) if end is not None]
            return max(min(ends) - now, 0.0)

    def _wake(self, now: float) -> bool:
        """Wake those whose wait is over; say whether one of them could not be woken, whose lease is free again."""
        freed = False
        for ticket, waiting in list(self._waiting.items()):
            if waiting.woken or (self.table.waits(ticket) and now < waiting.deadline):
                continue
            waiting.woken = True
            if not waiting.waiter.wake():  # its event loop is closed
                del self._waiting[ticket]
                self.table.cancel(ticket, now)
                freed = True
        return freed

    def _event(self, name: str, lease: Held, data: Mapping[str, Any], when: float | None = None) -> Event:
        about = {"space": self._space, "names": list(lease.names), "owner": lease.owner, "fence": lease.fence, **data}
        return Event(name, lease.since if when is None else when, data=about)

    def _ended_event(self, ended: Ended) -> Event:
        name = "variable.expire" if ended.how == "expired" else "variable.release"
        data = {"how": ended.how, "why": ended.why, "seconds": ended.when - ended.lease.since}
        return self._event(name, ended.lease, data, ended.when)


class Asked:
    """A lease that was asked for: ``await`` it, or use it in ``async with``. Nothing is asked before."""

    def __init__(self, take: Callable[[], Any]) -> None:
        self._take = take
        self._lease: Lease | None = None

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._take().__await__()

    async def __aenter__(self) -> Lease:
        self._lease = await self._take()
        return await self._lease.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.__aexit__(kind, error, where)


def _impatient(ticket: Ticket, behind: tuple[str, ...], now: float) -> LeaseError:
    names, others = ", ".join(map(repr, sorted(ticket.names))), " and then ".join(map(repr, behind))
    return LeaseError(
        f"{ticket.owner!r} waited {round(now - ticket.asked, 3):g} s for {names}, which {others} has.",
        name=min(ticket.names),
        holder=behind[0],
        hint="Give it more patience, or end the lease of the other one: space.break_lease(name, why=...).",
    )
