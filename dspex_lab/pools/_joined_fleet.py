"""The workers of one pool on a cluster that was joined."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError, DspexError, PoolError
from dspex_lab.pools._birth import Birth, check_preloads
from dspex_lab.pools._cluster_fleet import MAPPED, TERMINATE
from dspex_lab.pools._endings import UNSEEN
from dspex_lab.pools._joined_fit import check_versions, unfit
from dspex_lab.pools._link import DaskLink, machine_identity
from dspex_lab.pools._loops import Tasks
from dspex_lab.pools._protocols import About
from dspex_lab.pools._shared import SharedFolder

if TYPE_CHECKING:
    from dspex_lab.pools._dispatch import Dispatcher, Worker
    from dspex_lab.pools._joined import JoinedCluster
    from dspex_lab.pools._spec import PoolSpec

log = logging.getLogger("dspex_lab")

#: Seconds until the first worker of the pool must be there.
FIRST = 30.0

#: Seconds between the scheduler's word that a worker is gone and the end of the wait for its nanny's word how: less than those
#: after which a worker counts as lost (_running.LOST).
WORD = 2.5

#: Seconds after which a worker that died and was not replaced is no longer of the pool.
BACK = 10.0

#: Seconds that a nanny gives its worker before it kills it, where it is told to.
NOW = 0.05


class JoinedFleet:
    """A :class:`~dspex_lab.pools._protocols.Fleet` on a :class:`JoinedCluster`.

    A worker's name is the one it was given (``dask worker --name``), else its nanny's address, which a replacement shares.

    Args:
        cluster: where the workers are.
        spec: the pool; its numbers of workers, bytes and threads are the cluster's own, and its preloads are imported when a
            worker is taken.
        dispatcher: who is told what becomes of the workers.
    """

    def __init__(self, cluster: JoinedCluster, spec: PoolSpec, dispatcher: Dispatcher) -> None:
        self.cluster, self.spec, self.dispatcher = cluster, spec, dispatcher
        self._members: dict[str, _Member] = {}
        self._tasks, self._kills = Tasks(), Tasks()
        self._first: asyncio.Future[None] | None = None
        self._limit: int | None = None
        self._closing = False
        self._shared: SharedFolder | None = None

    # ---- start and size ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the cluster's workers for this pool; return when all that are there are ready.

        Raises:
            ConfigurationError: there is no worker for this pool, or one that does not fit.
            PoolError: the cluster cannot be joined.
        """
        await self.cluster.start()
        self._shared = SharedFolder(self.spec.shared_above)
        self._first = asyncio.get_running_loop().create_future()
        self.cluster.fleets.add(self)
        for address, about in self.cluster.workers.items():
            self.arrived(address, about)
        try:
            async with asyncio.timeout(FIRST):
                await asyncio.shield(self._first)
        except TimeoutError:
            raise self._nobody() from None
        await self._tasks.settled()
        self._first.result()

    def _nobody(self) -> ConfigurationError:
        tags = sorted({tag for about in self.cluster.workers.values() for tag in about.get("resources") or {}})
        there = f"{len(self.cluster.workers)} worker(s), with resources {', '.join(tags) or 'of no name'}"
        return ConfigurationError(
            f"No worker of the cluster at {self.cluster.address} is for pool {self.spec.name!r}: {there}.",
            key=f"pools.{self.spec.name}",
            expected=f"a worker with the resource {self.spec.name!r}",
            actual=tags,
            hint=f'Start one: dask worker {self.cluster.address} --nthreads 1 --resources "{self.spec.name}=1" --tls-ca-file …',
        )

    async def resize(self, workers: int) -> None:
        """Use fewer workers than there are, or again as many.

        Raises:
            ConfigurationError: more than the cluster has.
        """
        mine = [address for address, about in self.cluster.workers.items() if self._wanted(about)]
        if workers > len(mine):
            raise ConfigurationError(
                f"Pool {self.spec.name!r} has {len(mine)} worker(s) on the cluster at {self.cluster.address}, not {workers}.",
                key=f"pools.{self.spec.name}.workers",
                expected=f"at most {len(mine)}",
                actual=workers,
                hint="Who started the cluster decides how many there are: start more workers there, with the pool's resource.",
            )
        self._limit = None if workers == len(mine) else workers
        staying = [w for w in self.dispatcher.workers.values() if not w.leaving]
        if len(staying) > workers:
            await asyncio.gather(*(self._leave(w) for w in self.dispatcher.spare(len(staying) - workers)))
        for address in mine:
            self.arrived(address, self.cluster.workers[address])
        await self._tasks.settled()

    async def _leave(self, worker: Worker) -> None:
        await self.dispatcher.vacated(worker)
        for address, member in list(self._members.items()):
            if member.worker is worker:
                self._members.pop(address).link.release()
        self.dispatcher.retired(worker.name)

    # ---- what the cluster tells ----------------------------------------------------------------------------------

    def _wanted(self, about: dict[str, Any]) -> bool:
        return self.spec.name in (about.get("resources") or {})

    def arrived(self, address: str, about: dict[str, Any]) -> None:
        """A worker is there: take it, if it is for this pool and not taken yet."""
        full = self._limit is not None and len(self._members) >= self._limit
        if self._wanted(about) and address not in self._members and not full and not self._closing:
            name = _name(address, about)
            share = self._shared.share if self._shared is not None else None
            link = DaskLink(self.cluster.client, address, self.spec.name, name, share)
            member = self._members[address] = _Member(name, about, link)
            self._tasks.begin(self._take(address, member))

    def left(self, address: str) -> None:
        """The scheduler has lost a worker: its nanny says how it ended, if it still can."""
        if member := self._members.get(address):
            if not member.gone.done():
                member.gone.set_result(None)
            asyncio.get_running_loop().call_later(WORD, self._overdue, address, member)

    def _overdue(self, address: str, member: _Member) -> None:
        """Its nanny said nothing; the worker that has the address by now may be another."""
        if self._members.get(address) is member:
            self.ended(address, UNSEEN)

    def ended(self, address: str, code: int, *, terminated: int = -1) -> None:
        """A worker's process has ended; ``terminated`` is the last one that its nanny ended for its use of memory."""
        member = self._members.pop(address, None)
        if member is None:
            return
        if not member.gone.done():
            member.gone.set_result(None)
        member.link.release()
        if (worker := member.worker) is not None:
            self.dispatcher.died(worker.name, code, memory=worker.pid == terminated)
            asyncio.get_running_loop().call_later(BACK, self._forget, worker)

    def lost(self, error: OSError) -> None:
        """The scheduler does not answer any more."""
        gone = PoolError(
            f"The cluster at {self.cluster.address}, joined by pool {self.spec.name!r}, does not answer any more: {error}.",
            pool=self.spec.name,
            hint="It is joined again when it is back.",
        )
        for address, member in list(self._members.items()):
            self.ended(address, UNSEEN)
            self.dispatcher.given_up(member.name, gone)

    def _forget(self, worker: Worker) -> None:
        if (
            not self._closing
            and self.dispatcher.workers.get(worker.name) is worker
            and worker.name not in self.dispatcher.failures
        ):
            self.dispatcher.retired(worker.name)

    # ---- a worker is taken ---------------------------------------------------------------------------------------

    async def _take(self, address: str, member: _Member) -> None:
        assert self._first is not None  # noqa: S101 - it is made before anybody can arrive
        try:
            await self._install(address, member)
        except Exception as error:
            if member.gone.done() or self._closing:
                return
            self._members.pop(address, None)
            member.link.release()
            refused = error if isinstance(error, DspexError) else unfit(self.spec.name, member.name, error)
            if self._first.done():
                log.error("worker %s is not used by pool %r: %s", member.name, self.spec.name, refused)
                if member.worker is not None:
                    self.dispatcher.given_up(member.name, refused)
            else:
                self._first.set_exception(refused)
            return
        if member.worker is not None and not self._first.done():
            self._first.set_result(None)

    async def _install(self, address: str, member: _Member) -> None:
        if not member.about.get("nanny"):
            raise ConfigurationError(
                f"Worker {member.name} of the cluster at {self.cluster.address} has no nanny.",
                key=f"pools.{self.spec.name}",
                expected="workers that a nanny starts again when a task has ended them",
                hint="Start it without --no-nanny.",
            )
        await check_versions(self.cluster.client, address, self.spec.name, member.name)
        birth = self._birth(member.about)
        described = await member.link.settle(member.threads(self.spec.name), member.gone, birth.folder, birth)
        if described is None:
            return
        check_preloads(described["missing"], self.spec.name, member.name, "Install them where the worker runs.")
        if member.gone.done():
            return
        local = described["machine"] == machine_identity()
        about = About(address, str(member.about.get("host") or ""), local, None, f"{described['protection']} (task threads)")
        member.local = local
        member.worker = self.dispatcher.born(member.name, described["pid"], member.threads(self.spec.name), about)
        self.dispatcher.ready(member.worker, member.link)

    def _birth(self, about: dict[str, Any]) -> Birth:
        memory = int(about.get("memory_limit") or 0)
        return Birth(
            preload=self.spec.preload,
            environment=dict(self.spec.environment),
            folder=os.path.join(str(about["local_directory"]), "dspex"),
            data=max(0, int(memory * TERMINATE) - MAPPED),
            writable=self.spec.writable if self.spec.confine else None,
        )

    # ---- the end -------------------------------------------------------------------------------------------------

    def kill(self, worker: Worker) -> None:
        """End a worker's process at once; its nanny starts another."""
        address, member = next(((a, m) for a, m in self._members.items() if m.worker is worker), ("", None))
        if member is not None and member.local:
            try:
                os.kill(worker.pid, signal.SIGKILL)
            except OSError:
                log.debug("worker %s (pid %d) had ended before it was killed", worker.name, worker.pid)
        elif member is not None:
            self._kills.begin(self._kill_by_nanny(address, member))

    async def _kill_by_nanny(self, address: str, member: _Member) -> None:
        try:
            await self.cluster.client.rpc(member.about["nanny"]).kill(timeout=NOW, reason="dspex-kill")
        except Exception as error:  # the nanny's patience is over in the moment that it kills
            log.debug("the nanny of worker %s: %r", member.name, error)
        if not self._closing:
            await asyncio.wait({member.gone}, timeout=WORD)
        if not self._closing and not member.gone.done():
            log.warning("worker %s of pool %r could not be ended, and is not used any more", member.name, self.spec.name)
            self.ended(address, UNSEEN)

    async def close(self) -> None:
        """Give the workers back. Idempotent."""
        self._closing = True
        self.cluster.fleets.discard(self)
        self._tasks.cancel()
        with contextlib.suppress(TimeoutError):  # what runs on other machines ends too, if their nannies can be reached
            async with asyncio.timeout(WORD):
                await self._kills.settled()
        self._kills.cancel()
        for member in self._members.values():
            member.link.release()
        self._members.clear()
        if self._shared is not None:
            self._shared.close()


class _Member:
    """A worker of the cluster that is, or is being, taken into the pool."""

    def __init__(self, name: str, about: dict[str, Any], link: DaskLink) -> None:
        self.name, self.about, self.link = name, about, link
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.worker: Worker | None = None
        self.local = False

    def threads(self, pool: str) -> int:
        """Calls at once."""
        return max(1, int(self.about["resources"][pool]))


def _name(address: str, about: dict[str, Any]) -> str:
    given = str(about.get("name") or address)
    return given if given != address else str(about.get("nanny") or address).partition("://")[2]
