"""A space that another kernel owns, as this kernel sees it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dspex_lab.errors import LeaseError, VariableError
from dspex_lab.variables._entry import Cell, Entry
from dspex_lab.variables._following import follow
from dspex_lab.variables._formula import Formula
from dspex_lab.variables._lease import Lease, foreign, held_here
from dspex_lab.variables._lease_table import Held, LeaseStatus
from dspex_lab.variables._leases import TTL, Asked
from dspex_lab.variables._names import listed
from dspex_lab.variables._protocols import Author, Commit, CommitObserver, Definition, Snapshot
from dspex_lab.variables._remote import Channel, Message
from dspex_lab.variables._remote_calls import Call, Caller
from dspex_lab.variables._remote_follower import Follower
from dspex_lab.variables._remote_wire import author_to_json, commit_from_json, record_from_json
from dspex_lab.variables._show import History
from dspex_lab.variables._variable import Variable
from dspex_lab.variables._watch import Watch
from dspex_lab.variables.domains import Plain, domain_from

log = logging.getLogger("dspex_lab")

#: Leases that are known to be over before their time.
_OVER = 1000

#: Leases that tasks of event loops wait for at once.
_WAITERS = 64


class RemoteSpace:
    """The space of another kernel joined to the same cluster: it is read, watched and asked for changes; the owner decides.

    Whatever the owner refuses is refused here by the same error. Each method waits for the owner, except in an observer's
    unsubscribing. Thread-safe; not to be used on the thread of the channel (the pools' loop).

    Args:
        channel: what carries messages.
        name: the name under which the space is served.
        timeout: seconds without a word from the owner after which it counts as gone.
        every: seconds after which, where nothing was told, the owner is asked whether something was missed.
        clock: seconds since the epoch, for when leases end.
    """

    def __init__(
        self,
        channel: Channel,
        name: str = "default",
        *,
        timeout: float = 10.0,
        every: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not timeout > 0 or not every > 0:
            raise VariableError(f"timeout={timeout!r} and every={every!r} are seconds, more than 0.")
        self.name = name
        self._clock = clock
        self._caller = Caller(channel, name, timeout, self._told)
        self._closed = threading.Event()
        self._domains: dict[str, Any] = {}
        self._follower = Follower(name, self._caller, self._commit_of, every)
        self._waiters = ThreadPoolExecutor(_WAITERS, thread_name_prefix="dspex-remote")
        self._over: deque[int] = deque(maxlen=_OVER)

    def __repr__(self) -> str:
        return f"<RemoteSpace {self.name!r}{', closed' if self._closed.is_set() else ''}>"

    def __enter__(self) -> RemoteSpace:
        return self

    def __exit__(self, *about: Any) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def close(self) -> None:
        """Leave the space alone: it is the owner's. Leases that are held here end in their time. Idempotent."""
        self._closed.set()
        self._caller.close()
        self._waiters.shutdown(wait=False, cancel_futures=True)
        self._follower.close()

    # ---- reading ---------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The present version of the space."""
        return int(self._caller.ask("hello")["version"])

    def definitions(self, *names: str) -> list[Definition]:
        """Return what variables are: those named, or all."""
        return [self._definition(found) for found in self._defined(names)]

    def __iter__(self) -> Iterator[str]:
        return iter([definition.name for definition in self.definitions()])

    def __len__(self) -> int:
        return len(self.definitions())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return any(definition.name == name for definition in self.definitions())

    def __getitem__(self, name: str) -> Variable:
        self.entry(name)
        return Variable(self, name)

    def entry(self, name: str) -> Entry:
        """Return what a variable is.

        Raises:
            VariableError: there is none of that name.
        """
        (found,) = self._defined([name])
        definition, domain = self._definition(found), self._domains[name]
        derive, when = definition.derived, definition.active
        return Entry(
            name,
            domain,
            None if derive else domain.from_json(definition.default),
            derive=Formula(derive, tuple(found["reads"]), _elsewhere) if derive else None,
            when=Formula(when, (), _elsewhere) if when else None,
            pinned=definition.pinned,
            note=definition.note,
        )

    def cell(self, name: str) -> Cell:
        """Return a variable's value, its version, and whether it counts.

        Raises:
            VariableError: there is none of that name.
        """
        found = self._caller.ask("cell", {"name": name})
        return Cell(self._from_json(name, found["value"]), found["version"], found["active"])

    def get(self, name: str) -> Any:
        """Return the value of a variable.

        Raises:
            VariableError: there is none of that name.
        """
        return self.cell(name).value

    def values(self) -> dict[str, Any]:
        """Return the values that count, by name."""
        return {name: self._from_json(name, value) for name, value in self._caller.ask("values").items()}

    def snapshot(self) -> Snapshot:
        """Return the values and their versions, all of one moment."""
        return self._snapshot(None)

    def at(self, version: int) -> Snapshot:
        """Return the values as they were at a version.

        Raises:
            VariableError: there was none.
        """
        return self._snapshot(version)

    def history(self, name: str | None = None, limit: int | None = None) -> History:
        """Return who wrote what, when, why and with which score, the newest first."""
        return History(map(record_from_json, self._caller.ask("history", {"name": name, "limit": limit})))

    # ---- asking for changes ----------------------------------------------------------------------------------------

    def commit(
        self,
        values: Mapping[str, Any],
        *,
        expect: Mapping[str, int] | int | None = None,
        author: Author | None = None,
        lease: Lease | None = None,
    ) -> Commit:
        """Have the owner write values, all together.

        Args:
            expect: versions at which the variables (or the space) were read.
            lease: the one that the variables are in.

        Raises:
            VersionConflict: something was written since ``expect``.
            ConstraintError: the values break a constraint.
            LeaseError: a variable is leased to somebody else, or the lease is over.
            VariableError: a value that its variable cannot take; or the owner does not answer.
        """
        self._mine(lease)
        asked = {
            "values": {name: self._to_json(name, value) for name, value in values.items()},
            "expect": dict(expect) if isinstance(expect, Mapping) else expect,
            "author": author_to_json(author or Author()),
            "fence": None if lease is None else lease.fence,
        }
        return self._commit_of(self._caller.ask("commit", asked, writes=True))

    def rollback(
        self,
        version: int,
        names: str | Iterable[str] | None = None,
        *,
        author: Author | None = None,
        lease: Lease | None = None,
    ) -> Commit:
        """Have the owner bring back the values of a version; raises as :meth:`commit` does."""
        self._mine(lease)
        asked = {
            "version": version,
            "names": None if names is None else list(listed(names)),
            "author": None if author is None else author_to_json(author),
            "fence": None if lease is None else lease.fence,
        }
        return self._commit_of(self._caller.ask("rollback", asked, writes=True))

    def pin(self, *names: str) -> None:
        """Let variables keep their values: whoever writes another one is refused."""
        self._caller.ask("pin", {"names": list(names), "pinned": True}, writes=True)

    def unpin(self, *names: str) -> None:
        """Let variables change again."""
        self._caller.ask("pin", {"names": list(names), "pinned": False}, writes=True)

    # ---- leases ----------------------------------------------------------------------------------------------------

    def lease(self, *names: str, owner: str, ttl: float = TTL, patience: float | None = None) -> Lease:
        """Wait until the owner of the space gives a lease, as ``Space.lease`` does.

        Args:
            owner: who asks; others see it as ``owner@kernel``.

        Raises:
            LeaseError: no patience is left, or the request would have to wait while who asks holds another lease.
        """
        return self._take(self._asked_lease(names, owner, ttl, patience))

    def alease(self, *names: str, owner: str, ttl: float = TTL, patience: float | None = None) -> Asked:
        """Return what can be awaited for the lease, or be used in ``async with``; raises as :meth:`lease` does."""
        return Asked(lambda: self._atake(self._asked_lease(names, owner, ttl, patience)))

    def leases(self) -> tuple[LeaseStatus, ...]:
        """Return who holds and who waits."""
        found = self._caller.ask("leases")
        return tuple(LeaseStatus(o, tuple(n), state, since, f, ends, tuple(b)) for o, n, state, since, f, ends, b in found)

    def break_lease(self, name: str, why: str | None = None) -> None:
        """End the lease that a variable is in, at once.

        Raises:
            LeaseError: nobody has a lease on it.
        """
        self._caller.ask("break", {"name": name, "why": why}, writes=True)

    def renew(self, fence: int) -> Held:
        """Let a lease last for its time from now on; its handle calls this.

        Raises:
            LeaseError: it is over.
            VariableError: the owner does not answer.
        """
        now = self._clock()
        try:
            return self._held(self._caller.ask("renew", {"fence": fence}), now)
        except LeaseError:
            self._over.append(fence)
            raise

    def release(self, fence: int) -> None:
        """End a lease; its handle calls this. Where the owner does not answer, it ends in its time."""
        self._over.append(fence)
        try:
            self._caller.ask("release", {"fence": fence})
        except VariableError as error:
            log.warning("a lease could not be given back, and will end in its time: %s", error)

    async def arelease(self, fence: int) -> None:
        """End a lease without blocking the event loop."""
        await asyncio.shield(asyncio.wrap_future(self._waiters.submit(self.release, fence)))

    def holds(self, held: Held) -> bool:
        """Say whether a lease is not over yet, as far as is known here."""
        return held.fence not in self._over and self._clock() < held.expires

    # ---- watching --------------------------------------------------------------------------------------------------

    def observe(self, observer: CommitObserver | Variable, names: str | Iterable[str] | None = None) -> Callable[[], None]:
        """Have a function told of each commit from now on, once and in order; return what ends that.

        It is called on a thread of this space. One that raises is logged. A variable (of a space here) follows the one in
        ``names``.
        """
        wanted = None if names is None else tuple(listed(names))
        self._follower.start()
        if isinstance(observer, Variable):
            return follow(self, wanted, observer, self._follower.observers.add)
        return self._follower.observers.add(observer, wanted)

    def watch(self, names: str | Iterable[str] | None = None) -> Watch:
        """Return commits from now on, as an async iterator."""
        return Watch(lambda tell: self.observe(tell, names))

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _told(self, message: Message) -> None:
        self._follower.told(message)

    def _mine(self, lease: Lease | None) -> None:
        if lease is not None and not lease.given_by(self):
            raise foreign(lease, self.name)

    def _snapshot(self, version: int | None) -> Snapshot:
        found = self._caller.ask("snapshot", {"version": version})
        values = {name: self._from_json(name, value) for name, value in found["values"].items()}
        return Snapshot(found["version"], values, found["versions"])

    def _commit_of(self, found: Message) -> Commit:
        return commit_from_json(found, self._from_json)

    def _asked_lease(self, names: tuple[str, ...], owner: str, ttl: float, patience: float | None) -> Call:
        if held_here():
            patience = 0  # who holds a lease does not wait
        return self._caller.begin(
            "lease", {"names": list(names), "owner": owner, "ttl": ttl, "patience": patience}, writes=True
        )

    def _take(self, call: Call) -> Lease:
        now = self._clock()
        try:
            found = self._caller.finish(call)
        except LeaseError:
            raise
        except BaseException:
            self._caller.take_back(call)
            raise
        return Lease(self, self._held(found, max(now, self._clock() - found["ttl"])))

    async def _atake(self, call: Call) -> Lease:
        work = self._waiters.submit(self._take, call)
        try:
            return await asyncio.shield(asyncio.wrap_future(work))
        except asyncio.CancelledError:
            work.add_done_callback(_unwanted)
            call.give_up()
            raise

    def _held(self, found: Message, asked: float) -> Held:
        ttl = float(found["ttl"])
        waited = float(found["waited"])
        return Held(found["owner"], tuple(found["names"]), found["fence"], asked, ttl, asked + ttl, waited)

    def _defined(self, names: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._caller.ask("definitions", {"names": list(names) or None})
        for each in found:
            kind = each["domain"].get("kind")
            self._domains[each["name"]] = Plain() if kind == Plain.kind else domain_from(each["domain"])
        return found

    def _definition(self, found: Mapping[str, Any]) -> Definition:
        return Definition(**{key: value for key, value in found.items() if key != "reads"})

    def _from_json(self, name: str, value: Any) -> Any:
        if name not in self._domains:
            self._defined([])
        domain = self._domains.get(name)
        return value if domain is None or value is None else domain.from_json(value)

    def _to_json(self, name: str, value: Any) -> Any:
        if name in self._domains:
            try:
                return self._domains[name].to_json(self._domains[name].cast(value, name))
            except VariableError:
                log.debug("%r cannot take %r as it was defined", name, value)  # it may be defined otherwise by now
        self._defined([name])
        return self._domains[name].to_json(self._domains[name].cast(value, name))


def _elsewhere(values: Mapping[str, Any]) -> Any:
    raise VariableError("What is computed in a space of another kernel is computed there.")


def _unwanted(work: Future[Lease]) -> None:
    """Give back a lease that came when nobody waited for it any more."""
    if not work.cancelled() and work.exception() is None:
        work.result().release()
