"""The workers of one pool on the kernel's own cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import multiprocessing.util
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.pools._birth import Birth, check_preloads
from dspex_lab.pools._defaults import say_what_computes
from dspex_lab.pools._devices import device_of, environment_of
from dspex_lab.pools._forkserver import Cradle, Launcher
from dspex_lab.pools._link import DaskLink
from dspex_lab.pools._loops import Tasks, in_thread
from dspex_lab.pools._nanny import TERMINATE
from dspex_lab.pools._protocols import About
from dspex_lab.pools._shared import SharedFolder
from dspex_lab.pools._spec import MB

if TYPE_CHECKING:
    from dspex_lab.pools._cluster import LocalCluster
    from dspex_lab.pools._dispatch import Dispatcher, Worker
    from dspex_lab.pools._spec import PoolSpec

log = logging.getLogger("dspex_lab")

#: Bytes of a worker that RLIMIT_DATA does not count (files mapped into memory): what a task asks for beyond the difference
#: is a MemoryError, before the nanny has to act.
MAPPED = 32 * MB

#: Seconds until another attempt to replace a worker that could not be started.
PATIENCE = (0.2, 1.0, 3.0)

#: Seconds that a worker has to be up: what it loads first (torch, transformers) takes over a minute on a busy machine.
_BIRTH = 300

#: Seconds that a worker which is wanted no more has to end in order.
LEAVE = 2.0


class LocalFleet:
    """A :class:`~dspex_lab.pools._protocols.Fleet` on a :class:`LocalCluster`.

    Args:
        cluster: where the workers are.
        spec: what to start.
        dispatcher: who is told what becomes of the workers.
    """

    def __init__(self, cluster: LocalCluster, spec: PoolSpec, dispatcher: Dispatcher) -> None:
        self.cluster, self.spec, self.dispatcher = cluster, spec, dispatcher
        self.launcher = Launcher(("dspex_lab.pools._nanny", "dspex_lab.pools._link", *spec.preload), spec.environment)
        self._folder = ""
        self._shared: SharedFolder | None = None
        self._links: dict[str, DaskLink] = {}
        self._tasks = Tasks()
        self._unfit: Exception | None = None
        self._attempts: dict[str, int] = {}
        self._started = False
        self._closing = False
        self._resizing = asyncio.Lock()

    # ---- start and size ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers and their hosts; return when all are ready.

        Raises:
            ConfigurationError: a preload that is not there.
        """
        # In multiprocessing's own folder, which goes with the kernel, however that ends (_preload.sweep_when_orphaned).
        self._folder = tempfile.mkdtemp(prefix=f"{self.spec.name}-", dir=multiprocessing.util.get_temp_dir())
        self._shared = SharedFolder(self.spec.shared_above)
        await in_thread(self.launcher.start)  # it imports, while the scheduler starts
        await self.cluster.start()
        await self._all(self._add(self._name(index)) for index in range(self.spec.workers))
        await self._tasks.settled()
        if self._unfit is not None:
            raise self._unfit
        self._started = True
        say_what_computes(self.spec)

    async def resize(self, workers: int) -> None:
        """Bring the number of workers to ``workers``; the idle ones go first, busy ones when they are free."""
        async with self._resizing:
            if self.dispatcher.failures:
                await self._tasks.settled()  # their nannies leave
            for name in list(self.dispatcher.failures):
                self.dispatcher.retired(name)
            names = {*self._names(), *self._attempts}
            if len(names) > workers:
                await self._all(self._leave(worker) for worker in self.dispatcher.spare(len(names) - workers))
                return
            taken = {self._index(name) for name in names}
            free = [index for index in range(workers) if index not in taken]
            await self._all(self._add(self._name(index)) for index in free[: workers - len(names)])
            await self._tasks.settled()

    def _name(self, index: int) -> str:
        return f"{self.spec.name}-{index}"

    def _index(self, name: str) -> int:
        return int(name.removeprefix(f"{self.spec.name}-"))

    def _names(self) -> list[str]:
        """The workers there are, whatever their state."""
        if self.cluster.dask is None:
            return []
        return [name for name, nanny in self.cluster.dask.workers.items() if nanny._fleet is self]

    async def _all(self, works: Any) -> None:
        """Do it all at once; raise the first error when all is done."""
        for result in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _add(self, name: str) -> None:
        options = {
            "fleet": self,
            "folder": str(Path(self._folder, name)),
            "host": "127.0.0.1",
            "security": self.cluster.security,
            "nthreads": self.spec.threads,
            "memory_limit": self.spec.memory,
            "resources": {self.spec.name: self.spec.threads},
            "silence_logs": logging.CRITICAL,
            "death_timeout": _BIRTH,
        }
        await self.cluster.dask.add(name, options)
        self.cluster.forget_path(self._folder)

    async def _leave(self, worker: Worker) -> None:
        """Let a worker finish what it runs, and end it."""
        await self.dispatcher.vacated(worker)
        await self._end(worker.name)
        self.dispatcher.retired(worker.name)

    async def _end(self, name: str) -> None:
        if link := self._links.pop(name, None):
            link.release()
        if self.cluster.dask is not None:
            await self.cluster.dask.remove(name, LEAVE)
        self._attempts.pop(name, None)
        if self._folder:
            shutil.rmtree(Path(self._folder, name), ignore_errors=True)

    # ---- what a worker is born with ------------------------------------------------------------------------------

    def cradle(self, name: str, folder: str) -> Cradle:
        """Return what starts the process of a worker."""
        spec, device = self.spec, self._device(name)
        shared = () if self._shared is None else (self._shared.folder,)
        environment = (environment_of(device) if spec.gpus else {}) | dict(spec.environment)
        birth = Birth(
            preload=self.launcher.preload,
            environment=environment,
            folder=folder,
            data=int(spec.memory * TERMINATE) - MAPPED,
            writable=(*spec.writable, *shared) if spec.confine else None,
            threads=int(environment.get("OMP_NUM_THREADS", 1)),
            server=self.launcher.pid,
        )
        return Cradle(self.launcher, birth)

    def _device(self, name: str) -> str | None:
        return device_of(self._index(name), self.spec.gpus, self.spec.workers_per_gpu)

    # ---- what the nannies tell -----------------------------------------------------------------------------------

    def up(self, name: str, pid: int, address: str) -> None:
        """A worker's process runs: give it a host."""
        self._tasks.begin(self._adopt(name, pid, address))

    def down(self, name: str, code: int, *, memory: bool) -> None:
        """A worker's process has ended."""
        self.dispatcher.died(name, code, memory=memory)

    async def _adopt(self, name: str, pid: int, address: str) -> None:
        about = About(address=address, device=self._device(name))
        worker = self.dispatcher.born(name, pid, self.spec.threads, about)
        try:
            await self._install(worker, address)
        except Exception as error:
            if not worker.death.done():
                self.failed(worker.name, error)

    async def _install(self, worker: Worker, address: str) -> None:
        if old := self._links.pop(worker.name, None):
            old.release()
        share = self._shared.share if self._shared is not None else None
        link = self._links[worker.name] = DaskLink(self.cluster.client, address, self.spec.name, worker.name, share)
        described = await link.settle(self.spec.threads, worker.death, str(Path(self._folder, worker.name)))
        if described is None:
            return
        hint = "Install them, or put their folder into PYTHONPATH before the kernel starts."
        check_preloads(described["missing"], self.spec.name, worker.name, hint)
        self._attempts.pop(worker.name, None)
        worker.about = dataclasses.replace(worker.about, protection=described["protection"])
        self.dispatcher.ready(worker, link)

    def failed(self, name: str, error: Exception) -> None:
        """A worker could not be started: try again, with another nanny, a few times; not at the pool's start, which fails."""
        attempt = self._attempts.get(name, 0)
        if not self._started:
            self._unfit = self._unfit or error
        if self._closing or not self._started:
            return
        self._attempts[name] = attempt + 1
        if attempt < len(PATIENCE):
            self._tasks.begin(self._respawn(name, PATIENCE[attempt]))
        else:
            log.error("worker %s of pool %r could not be replaced: %s", name, self.spec.name, error)
            self.dispatcher.given_up(name, error)
            self._tasks.begin(self._end(name))

    async def _respawn(self, name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        if name not in self._attempts:
            return  # the pool was made smaller meanwhile
        await self.cluster.dask.remove(name, LEAVE)
        try:
            await self._add(name)
        except Exception:  # its nanny has told `failed`
            log.debug("worker %s did not come up", name, exc_info=True)

    # ---- the end -------------------------------------------------------------------------------------------------

    def kill(self, worker: Worker) -> None:
        """End a worker's process at once; its nanny starts another."""
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            log.debug("worker %s (pid %d) had ended before it was killed", worker.name, worker.pid)

    async def close(self) -> None:
        """End the workers and their forkserver, and remove their files. Idempotent."""
        self._closing = True
        self._tasks.cancel()
        await asyncio.gather(*(self._end(name) for name in self._names()), return_exceptions=True)
        self.launcher.stop()  # and with it whatever worker is left
        if self._shared is not None:
            self._shared.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)  # not in a thread: at the interpreter's end there are no new ones
            self.cluster.forget_path(self._folder)
