"""The kernel's own Dask cluster: scheduler and nannies in the kernel, on the pools' loop; workers from forkservers.

Imported when a pool starts (it loads distributed). One cluster serves all pools of a Lab; its workers differ by pool.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing.util
import shutil
import sys
import tempfile
import weakref
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, Scheduler, SpecCluster
from distributed.deploy.cluster import Cluster as DaskCluster
from distributed.security import Security

from dspex_lab.pools._cluster_fleet import LocalFleet
from dspex_lab.pools._loops import Once
from dspex_lab.pools._nanny import SELDOM, NoHttp, PoolNanny

if TYPE_CHECKING:
    from dspex_lab.pools._dispatch import Dispatcher
    from dspex_lab.pools._spec import PoolSpec

log = logging.getLogger("dspex_lab")

#: Seconds that Dask's client and cluster may each take to close in peace.
PARTING = 10.0

IN_SCHEDULER: dict[str, Any] = {
    **SELDOM,
    "distributed.scheduler.http.routes": [],
    # A task that no worker can take (its worker died) is given up, also where nobody waits for it any more.
    "distributed.scheduler.no-workers-timeout": "60s",
    # A silent worker is the business of its pool's heartbeats, whose patience is the pool's own (PoolSpec.stuck_after).
    "distributed.scheduler.worker-ttl": None,
    # What killed its worker is not sent to another one by Dask; who may be tried again, the dispatcher knows.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.work-stealing": False,
}


class PoolScheduler(NoHttp, Scheduler):
    """Dask's scheduler without its web server; it keeps its files in ``folder``."""

    def __init__(self, *, folder: str, **options: Any) -> None:
        with dask.config.set({**IN_SCHEDULER, "temporary-directory": folder}):
            super().__init__(**options)


class PoolCluster(SpecCluster):
    """Dask's cluster of workers that differ, whose workers come and go one by one.

    Dask's own way brings all of the cluster to what was specified, one bringing after another: a worker of one pool would wait
    for those of another.
    """

    async def add(self, name: str, options: dict[str, Any]) -> None:
        """Start a nanny and its worker, and return when the worker is up."""
        nanny = PoolNanny(self.scheduler.address, name=name, **options)
        self.worker_spec[name] = {"cls": PoolNanny, "options": options}
        self.workers[name] = nanny
        self._created.add(nanny)
        nanny._cluster = weakref.ref(self)
        await nanny

    async def remove(self, name: str, patience: float) -> None:
        """End a worker and its nanny; the worker has ``patience`` seconds to end in order."""
        self.worker_spec.pop(name, None)
        if nanny := self.workers.pop(name, None):
            try:
                await nanny.close(timeout=patience)
            except Exception:
                log.debug("the nanny of worker %s complained at its end", name, exc_info=True)

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster would close the nanny of a worker that is not back after a while (`lost-worker-timeout`), for good and
        # unsaid; here a nanny's failures are told to its fleet, which tries again or gives up aloud.
        DaskCluster._update_worker_status(self, op, msg)


class LocalCluster:
    """A :class:`~dspex_lab.pools._protocols.Cluster` on this machine, with TLS by a certificate of its own, on the loopback."""

    def __init__(self) -> None:
        self.address = ""
        self.security: Any = None
        self.dask: Any = None
        self.client: Any = None
        self._folder = ""
        self._started = Once(self._start)

    async def start(self) -> None:
        """Start the scheduler, once; the workers come with the fleets."""
        await self._started.done()

    async def _start(self) -> None:
        # In multiprocessing's own folder, which goes with the kernel, however that ends (_preload.sweep_when_orphaned).
        self._folder = tempfile.mkdtemp(prefix="cluster-", dir=multiprocessing.util.get_temp_dir())
        self.security = await asyncio.to_thread(Security.temporary)
        options = {
            "host": "127.0.0.1",
            "security": self.security,
            "folder": self._folder,
            "protocol": "tls",
            "port": 0,
            "dashboard": False,
        }
        self.dask = PoolCluster(
            scheduler={"cls": PoolScheduler, "options": options},
            security=self.security,
            asynchronous=True,
            silence_logs=logging.CRITICAL,
            shutdown_on_close=False,
            name="dspex",
        )
        await self.dask
        self.client = await Client(
            self.dask, security=self.security, asynchronous=True, set_as_default=False, direct_to_workers=True
        )
        self.address = self.dask.scheduler_address
        self.forget_path(self._folder)

    @staticmethod
    def forget_path(folder: str) -> None:
        """Undo what Dask's servers, which run in the kernel, did to its ``sys.path``."""
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(folder)]

    def fleet(self, spec: PoolSpec, dispatcher: Dispatcher) -> LocalFleet:
        """Return the workers of a pool, not yet started."""
        return LocalFleet(self, spec, dispatcher)

    async def close(self) -> None:
        """End the scheduler and whatever of its workers is left. Idempotent."""
        await self._started.settled()
        for part in (self.client, self.dask):
            if part is not None:
                try:
                    async with asyncio.timeout(PARTING):
                        await part.close()
                except Exception:
                    log.debug("%r did not close in peace", part, exc_info=True)
        self.client = self.dask = None
        self.address = ""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self.forget_path(self._folder)
