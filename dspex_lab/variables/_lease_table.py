"""Who may write which variables: a pure table; it is told what time it is and knows no thread.

A request is for the whole set of names that will be written. It is granted when none of them is held and none is in an
earlier request that still waits: first in, first out among requests that overlap; disjoint ones never wait for each other.

**Why no deadlock can come about.** A deadlock needs owners in a circle, each of whom holds something while it waits for
something else (Coffman, Elphick and Shoshani, "System deadlocks", 1971). Here no owner both holds and waits:

1. a request gets all of its names at once or none of them, so who waits holds nothing by that request;
2. who holds a lease, or waits for one, is refused another one that would have to wait;
3. who waits is refused another one even where it could be had at once, as it would then hold it while it waits.

So the earliest request that waits can only be waiting for leases, not for other requests (none is earlier), and whoever holds
these waits for nothing: it ends, or its time does. Then the request is granted, and the same holds for the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from dspex_lab.errors import LeaseError

How = Literal["released", "expired", "broken"]

#: How many leases that are over are remembered, so that who comes late is told what became of its own.
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Held:
    """A lease.

    Args:
        owner: who has it.
        names: the variables, in order.
        fence: its number; each lease has a greater one than all before it, also before a restart.
        since: when it was granted; seconds since the epoch, as all times here.
        ttl: seconds for which it lasts from its grant or last renewal.
        expires: when it ends if it is not renewed.
        waited: seconds that it was waited for.
    """

    owner: str
    names: tuple[str, ...]
    fence: int
    since: float
    ttl: float
    expires: float
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A lease that is over: ``how`` it ended and ``when``; ``why`` it was broken."""

    lease: Held
    how: How
    when: float
    why: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A request's place. Two are the same only if they are one object."""

    owner: str
    names: frozenset[str]
    ttl: float
    asked: float


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """Who holds, or waits for, which variables.

    Args:
        state: ``"held"`` or ``"waiting"``.
        since: when it was granted; for one that waits, when it was asked for.
        fence: None for one that waits.
        expires: None for one that waits.
        behind: who has to end before: the owners of leases and of earlier requests that overlap, in order.
    """

    owner: str
    names: tuple[str, ...]
    state: Literal["held", "waiting"]
    since: float
    fence: int | None = None
    expires: float | None = None
    behind: tuple[str, ...] = ()


class LeaseTable:
    """Leases and the queue for them. Not thread-safe: its user has a lock.

    Every method first ends what is over at ``now``, and grants what can be granted after each end.

    Args:
        above: fencing numbers are greater than this one (the greatest that was ever journalled), and than the unix time in
            milliseconds at their grant.
    """

    def __init__(self, above: int = 0) -> None:
        self._fence = above
        self._held: dict[int, Held] = {}
        self._holder: dict[str, int] = {}
        self._queue: list[Ticket] = []
        self._grants: dict[Ticket, int] = {}
        self._over: dict[int, Ended] = {}
        self._unsaid: list[Ended] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is held or waited for, and no end of a lease is still to be told of. May be read without a lock."""
        return not (self._held or self._queue or self._unsaid)

    # ---- asking ----------------------------------------------------------------------------------------------------

    def request(self, owner: str, names: Iterable[str], ttl: float, now: float, *, holding: Collection[Held] = ()) -> Ticket:
        """Ask for ``names``, all of them at once; :meth:`granted` says whether and when they are had.

        Args:
            owner: who asks.
            ttl: seconds for which the lease lasts without a renewal.
            holding: leases that whoever asks holds besides, under another name or in another space.

        Raises:
            LeaseError: no names, or no time; or it would have to wait while the owner holds a lease or waits for one.
        """
        wanted = frozenset(names)
        if not wanted:
            raise LeaseError(f"{owner!r} asks for a lease of no variable.", hint="Name the variables that it will write.")
        if not 0 < ttl < float("inf"):
            raise LeaseError(f"A lease lasts for a positive number of seconds: ttl={ttl!r} is not one.", hint="Try ttl=30.0.")
        self._sweep(now)
        self._refuse_hold_and_wait(owner, wanted, holding)
        ticket = Ticket(owner, wanted, ttl, now)
        self._queue.append(ticket)
        self._grant(now)
        return ticket

    def granted(self, ticket: Ticket) -> Held | None:
        """Return the lease of a request; None while it waits, and when the lease is over."""
        return self._held.get(self._grants.get(ticket, 0))

    def waits(self, ticket: Ticket) -> bool:
        """Say whether a request is still in the queue."""
        return ticket in self._queue

    def behind(self, ticket: Ticket) -> tuple[str, ...]:
        """Return the owners that have to end before a request is granted: of leases, then of earlier requests."""
        earlier = self._queue[: self._queue.index(ticket)] if ticket in self._queue else self._queue
        return self._in_the_way(ticket.names, earlier)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """Take a request back: it leaves the queue, or its lease ends. Idempotent."""
        self._sweep(now)
        if ticket in self._queue:
            self._queue.remove(ticket)
            self._grant(now)
        else:
            self._end(self._grants.pop(ticket, 0), "released", now)

    # ---- holding ---------------------------------------------------------------------------------------------------

    def renew(self, fence: int, now: float) -> Held:
        """Let a lease last for its ``ttl`` from now on.

        Raises:
            LeaseError: it is over.
        """
        self._sweep(now)
        held = self._live(fence)
        self._held[fence] = renewed = replace(held, expires=max(held.expires, now + held.ttl))
        return renewed

    def lease(self, fence: int, now: float) -> Held | None:
        """Return a lease by its number; None where it is over."""
        self._sweep(now)
        return self._held.get(fence)

    def release(self, fence: int, now: float) -> Ended | None:
        """End a lease; return how it ended, None where it was over before."""
        self._sweep(now)
        return self._end(fence, "released", now)

    def break_off(self, name: str, why: str | None, now: float) -> Ended | None:
        """End whatever lease ``name`` is in, because a person wants it; return it, None where there is none."""
        self._sweep(now)
        return self._end(self._holder.get(name, 0), "broken", now, why)

    def check(self, names: Iterable[str], fence: int | None, now: float) -> None:
        """Return if ``names`` may be written now: under the lease ``fence``, or without one where it is None.

        Raises:
            LeaseError: the lease is over, or does not have one of the names; or one is leased and no lease was shown.
        """
        self._sweep(now)
        held = None if fence is None else self._live(fence)
        for name in names:
            holder = self._holder.get(name)
            if held is not None and name not in held.names:
                raise LeaseError(
                    f"Variable {name!r} is not in the lease of {held.owner!r}, which is for {_list(held.names)}.",
                    name=name,
                    holder=self._held[holder].owner if holder is not None else None,
                    hint="Ask for all variables that will be written in one lease.",
                )
            if held is None and holder is not None:
                other = self._held[holder]
                raise LeaseError(
                    f"Variable {name!r} is leased to {other.owner!r} until {_clock(other.expires)}.",
                    name=name,
                    holder=other.owner,
                    hint=f"Wait for it: space.lease({name!r}, owner=...); or end it: space.break_lease({name!r}, why=...).",
                )

    # ---- time ------------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> list[Ended]:
        """End what is over at ``now``; return all leases that ended, in whatever way, since this was last asked."""
        self._sweep(now)
        ended, self._unsaid = self._unsaid, []
        return ended

    def next_expiry(self, now: float) -> float | None:
        """Return when the next lease ends if none is renewed; None where there is none."""
        self._sweep(now)
        return min((held.expires for held in self._held.values()), default=None)

    def status(self, now: float) -> tuple[LeaseStatus, ...]:
        """Return the leases in the order of their grants, then the requests that wait, in theirs."""
        self._sweep(now)
        held = [LeaseStatus(h.owner, h.names, "held", h.since, h.fence, h.expires) for h in self._held.values()]
        waiting = [LeaseStatus(t.owner, tuple(sorted(t.names)), "waiting", t.asked, behind=self.behind(t)) for t in self._queue]
        return (*held, *waiting)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _refuse_hold_and_wait(self, owner: str, wanted: frozenset[str], holding: Collection[Held]) -> None:
        waiting = next((ticket for ticket in self._queue if ticket.owner == owner), None)
        if waiting is not None:
            raise LeaseError(
                f"{owner!r} waits for {_list(waiting.names)} and cannot ask for {_list(wanted)} meanwhile: "
                "who waits holds nothing, so that no two can wait for each other.",
                holder=owner,
                hint="Ask for all variables in one lease; give each optimizer an owner name of its own.",
            )
        held = next((h for h in (*self._held.values(), *holding) if h.owner == owner or h in holding), None)
        others = self._in_the_way(wanted, self._queue)
        if held is not None and others:
            raise LeaseError(
                f"{owner!r} would have to wait for {_list(wanted)} ({', '.join(map(repr, others))} first) while "
                f"{'it' if held.owner == owner else repr(held.owner)} holds {_list(held.names)}: "
                "who holds a lease does not wait, so that no two can wait for each other.",
                holder=others[0],
                hint="Ask for all variables in one lease, or release the first; give each optimizer an owner name of its own.",
            )

    def _in_the_way(self, names: frozenset[str], earlier: Sequence[Ticket]) -> tuple[str, ...]:
        fences = sorted({self._holder[name] for name in names if name in self._holder})
        owners = [self._held[fence].owner for fence in fences]
        owners += [ticket.owner for ticket in earlier if ticket.names & names]
        return tuple(dict.fromkeys(owners))

    def _sweep(self, now: float) -> None:
        if not self._held:
            return
        over = sorted((held.expires, held.fence) for held in self._held.values() if held.expires <= now)
        for when, fence in over:
            self._end(fence, "expired", when, granting=now)

    def _grant(self, now: float) -> None:
        """Grant what can be: in order, and past whoever overlaps with nothing before it."""
        taken = set(self._holder)
        still = []
        for ticket in self._queue:
            if taken.isdisjoint(ticket.names):
                self._fence = fence = max(self._fence, int(now * 1000)) + 1
                names = tuple(sorted(ticket.names))
                self._held[fence] = Held(ticket.owner, names, fence, now, ticket.ttl, now + ticket.ttl, now - ticket.asked)
                self._holder.update(dict.fromkeys(names, fence))
                self._grants[ticket] = fence
            else:
                still.append(ticket)
            taken |= ticket.names
        self._queue = still

    def _end(self, fence: int, how: How, when: float, why: str | None = None, granting: float | None = None) -> Ended | None:
        held = self._held.pop(fence, None)
        if held is None:
            return None
        for name in held.names:
            del self._holder[name]
        self._grants = {ticket: number for ticket, number in self._grants.items() if number != fence}
        ended = self._over[fence] = Ended(held, how, when, why)
        while len(self._over) > _REMEMBERED:
            del self._over[next(iter(self._over))]
        self._unsaid.append(ended)
        self._grant(when if granting is None else granting)
        return ended

    def _live(self, fence: int) -> Held:
        held = self._held.get(fence)
        if held is not None:
            return held
        ended = self._over.get(fence)
        if ended is None:
            raise LeaseError(f"There is no lease with the number {fence}: it ended long ago, or before a restart.")
        now_with = next(iter(self._in_the_way(frozenset(ended.lease.names), ())), None)
        raise LeaseError(
            _over(ended) + (f" {now_with!r} has it now." if now_with is not None else ""),
            holder=now_with,
            hint="Ask for a new lease, and read the variables again.",
        )


def _over(ended: Ended) -> str:
    lease, when = ended.lease, _clock(ended.when)
    start = f"The lease {lease.fence} of {lease.owner!r} on {_list(lease.names)}"
    if ended.how == "expired":
        return f"{start} expired at {when}: it was not renewed for {lease.ttl:g} s. Nothing can be written under it any more."
    if ended.how == "broken":
        return (
            f"{start} was broken at {when}{f' ({ended.why})' if ended.why else ''}. Nothing can be written under it any more."
        )
    return f"{start} was released at {when}. Nothing can be written under it any more."


def _list(names: Iterable[str]) -> str:
    """Return names as people read them, the first five of many."""
    known = sorted(names)
    shown = ", ".join(map(repr, known[:5]))
    return f"{shown} and {len(known) - 5} more" if len(known) > 5 else shown


def _clock(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%H:%M:%S UTC")
