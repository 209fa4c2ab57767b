"""The handle of a lease, and the heartbeat that keeps it while its block is open."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from dspex_lab.errors import DspexError, LeaseError
from dspex_lab.variables._lease_table import Held
from dspex_lab.variables._protocols import Author, Commit, Who

log = logging.getLogger("dspex_lab")

#: Renewals in the time that a lease lasts: two may fail, or come late, before it ends.
_BEATS = 3

_open: weakref.WeakSet[Lease] = weakref.WeakSet()

#: Held while it is changed or gone through, which a WeakSet does not allow at once.
_opening = threading.Lock()


class Grantor(Protocol):
    """Who gives leases: the leases of a space here, or the far end of one. Thread-safe."""

    def renew(self, fence: int) -> Held:
        """Let a lease last for its time from now on.

        Raises:
            LeaseError: it is over.
        """
        ...

    def release(self, fence: int) -> None:
        """End a lease; one that is over is left alone."""
        ...

    async def arelease(self, fence: int) -> None:
        """End a lease without blocking the event loop."""
        ...

    def holds(self, held: Held) -> bool:
        """Say whether a lease is not over yet."""
        ...

    def commit(self, values: Mapping[str, Any], *, expect: Any, author: Author, lease: Lease) -> Commit:
        """Write under a lease."""
        ...


class Lease:
    """The right to write some variables, until it is released or its time is over.

    In a block (``with`` or ``async with``) a heartbeat renews it and it is released at the end. Without a block, whoever has it
    calls :meth:`renew` more often than every ``ttl`` seconds. Thread-safe.

    Args:
        grantor: who gave it.
        held: what was given.
    """

    def __init__(self, grantor: Grantor, held: Held) -> None:
        self._grantor = grantor
        self._held = held
        self._heart: Heart | None = None
        self._opened_by: weakref.ref[Any] | None = None

    def __repr__(self) -> str:
        names = ", ".join(self.names)
        return f"<Lease {self.fence} of {self.owner!r} on {names}{'' if self.alive else ', over'}>"

    @property
    def held(self) -> Held:
        """What is held, as it was at the last renewal."""
        return self._held

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that may be written under it, in order."""
        return self._held.names

    @property
    def owner(self) -> str:
        """Who has it."""
        return self._held.owner

    @property
    def fence(self) -> int:
        """Its number, which is greater than that of each lease before it."""
        return self._held.fence

    @property
    def ttl(self) -> float:
        """Seconds for which it lasts from its grant or last renewal."""
        return self._held.ttl

    @property
    def expires(self) -> float:
        """When it ends if it is not renewed; seconds since the epoch."""
        return self._held.expires

    def given_by(self, grantor: Grantor) -> bool:
        """Say whether it is one of ``grantor``'s: that of another space has numbers of its own."""
        return self._grantor is grantor

    @property
    def alive(self) -> bool:
        """Whether it is not over yet."""
        return self._grantor.holds(self._held)

    def renew(self) -> Lease:
        """Let it last for ``ttl`` seconds from now on.

        Raises:
            LeaseError: it is over.
        """
        self._held = self._grantor.renew(self.fence)
        return self

    def release(self) -> None:
        """Give it back. Idempotent; one that is over is left alone."""
        self._close()
        self._grantor.release(self.fence)

    def commit(
        self,
        values: Mapping[str, Any],
        *,
        expect: Mapping[str, int] | int | None = None,
        why: str | None = None,
        score: float | None = None,
        who: Who = "optimizer",
    ) -> Commit:
        """Write variables of the lease, all together; the owner of the lease is the author.

        Args:
            expect: versions at which the variables (or the space) were read.
            why: a sentence.
            score: what was measured with the values.
            who: what the owner is.

        Raises:
            LeaseError: the lease is over, or does not have one of the variables.
            VersionConflict: something was written since ``expect``.
            VariableError: a value that its variable cannot take.
        """
        author = Author(who, self.owner, why, score)
        return self._grantor.commit(values, expect=expect, author=author, lease=self)

    # ---- the block -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Lease:
        if self._heart is not None:
            raise LeaseError(f"The lease of {self.owner!r} is in a block already.", holder=self.owner)
        self._opened_by = weakref.ref(_here())
        with _opening:
            _open.add(self)
        self._heart = Heart(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.release()

    async def __aenter__(self) -> Lease:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._close()
        await self._grantor.arelease(self.fence)

    def _close(self) -> None:
        with _opening:
            _open.discard(self)
        self._opened_by = None
        if self._heart is not None:
            self._heart.stop()


def foreign(lease: Lease, space: str) -> LeaseError:
    """Return the error for a lease that another space has given."""
    return LeaseError(
        f"The lease {lease.fence} of {lease.owner!r} is none of the space {space!r}: another one has given it.",
        holder=lease.owner,
        hint="Ask this space for one: space.lease(name, owner=...).",
    )


def held_here() -> list[Held]:
    """Return the leases whose blocks this thread, or this task of an event loop, has open: it must not wait for another one."""
    here = _here()
    with _opening:
        every = list(_open)
    return [lease.held for lease in every if lease._opened_by is not None and lease._opened_by() is here and lease.alive]


def _here() -> Any:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.current_thread()


class Heart:
    """Renews a lease from a thread of its own until it is stopped, or the lease is over or nobody has its handle any more.

    A renewal that fails because the owner of the space cannot be reached is tried again at the next beat.
    """

    def __init__(self, lease: Lease) -> None:
        self._stopped = threading.Event()
        # It must not keep alive what it keeps: of a handle that was lost in a block nobody else would end the lease.
        arguments = (weakref.ref(lease), lease.ttl / _BEATS, self._stopped)
        self._thread = threading.Thread(target=_beat, args=arguments, name=f"dspex-lease-{lease.fence}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; it renews nothing after this, but for what is under way."""
        self._stopped.set()


def _beat(lease: Callable[[], Lease | None], every: float, stopped: threading.Event) -> None:
    while not stopped.wait(every):
        if not _renew(lease(), stopped):
            return


def _renew(lease: Lease | None, stopped: threading.Event) -> bool:
    if lease is None:
        return False
    try:
        lease.renew()
    except LeaseError as error:
        if not stopped.is_set():
            log.warning("a lease was lost while its block is open: %s", error)
        return False
    except DspexError as error:
        log.warning("the lease of %r could not be renewed, and is tried again: %s", lease.owner, error)
    return True
