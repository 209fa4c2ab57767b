"""The Dask cluster behind a pool: scheduler and nannies in the kernel, on the pool's own loop; workers from a forkserver.

Imported when a pool starts (it loads distributed), and in the forkserver.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import multiprocessing.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import dask
import distributed.nanny
import distributed.process
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed import Worker as DaskWorker
from distributed.core import Status
from distributed.protocol import to_serialize
from distributed.security import Security

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools._carry import Code, Reply
from dspex_lab.pools._dispatch import Dispatcher, Worker
from dspex_lab.pools._forkserver import Launcher
from dspex_lab.pools._host import Host
from dspex_lab.pools._spec import MB, PoolSpec

log = logging.getLogger("dspex_lab")

#: The part of a worker's memory at which its nanny ends it, and bytes of it that RLIMIT_DATA does not count (files mapped
#: into memory): what a task asks for beyond the difference is a MemoryError, before the nanny has to act.
TERMINATE = 0.95
MAPPED = 32 * MB

#: Bytes from which arguments travel in frames of their own.
LARGE = 64 * 1024

#: Seconds until another attempt to replace a worker that could not be started.
PATIENCE = (0.2, 1.0, 3.0)

#: Seconds that Dask's client and cluster may each take to close in peace.
PARTING = 10.0

IN_WORKERS = {
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": TERMINATE,
}
IN_SCHEDULER = {
    "distributed.scheduler.http.routes": [],
    "distributed.scheduler.no-workers-timeout": "60s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.work-stealing": False,
}
LOST_WORKER = {"distributed.deploy.lost-worker-timeout": "180s"}

#: What Dask leaves in the kernel's environment when it starts a worker, for the title of the process.
TITLE = "__DASK_PARENT_PID"
#: What it was before any pool: taken when one starts, another one's start could be mistaken for it.
_TITLE_BEFORE = os.environ.get(TITLE)

_launcher: contextvars.ContextVar[Launcher | None] = contextvars.ContextVar("dspex_launcher", default=None)


def _with_launcher(original: Callable[[], Any]) -> Callable[[], Any]:
    def get_mp_context() -> Any:
        """The launcher of the pool whose nanny asks; for everybody else, Dask's own choice."""
        return _launcher.get() or original()

    return get_mp_context


# Dask takes the way to start a worker from one setting for the whole process; this lets a pool have its own and leaves
# other clusters in the kernel as they are.
for _module in (distributed.nanny, distributed.process):
    _module.get_mp_context = _with_launcher(_module.get_mp_context)


class _NoHttp:
    """Neither a dashboard nor any other web server: with no routes it would still hold a port open."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        return None


class PoolWorker(_NoHttp, DaskWorker):
    """Dask's worker without its web server."""


class PoolScheduler(_NoHttp, Scheduler):
    """Dask's scheduler without its web server; it keeps its files in ``folder``."""

    def __init__(self, *, folder: str, **options: Any) -> None:
        with dask.config.set({**IN_SCHEDULER, "temporary-directory": folder}):
            super().__init__(**options)


class PoolNanny(Nanny):
    """Dask's nanny, which tells the fleet when a worker is up, down or cannot be started."""

    process: Any

    def __init__(self, *args: Any, fleet: Fleet, **options: Any) -> None:
        super().__init__(*args, config=IN_WORKERS, worker_class=PoolWorker, **options)
        self._fleet = fleet
        self._worker_pid: int | None = None
        # These would be written into the kernel's environment at every start; the forkserver has them (_preload).
        self.pre_spawn_env: dict[str, str] = {}
        self.env: dict[str, str] = dict(fleet.spec.environment)

    async def instantiate(self) -> Status:
        """Start the worker, from the pool's forkserver."""
        token = _launcher.set(self._fleet.launcher)
        try:
            status = await super().instantiate()
        except Exception as error:
            if self.process is not None and self.process.pid is None:
                self.process = None  # never came to be: to close it would fail
            self._fleet.failed(str(self.name), error)
            raise
        finally:
            _launcher.reset(token)
            self._fleet.restore_environment()
        if status == Status.running and self.pid not in (None, self._worker_pid):
            self._worker_pid = self.pid
            self._fleet.up(str(self.name), self.pid, self.worker_address)
        return status

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        memory = self.memory_manager._last_terminated_pid == self._worker_pid
        self._fleet.dispatcher.died(str(self.name), exitcode, memory=memory)
        super()._on_worker_exit_sync(exitcode)


class PoolCluster(SpecCluster):
    """Dask's cluster, patient with workers that are slow to come back."""

    def _update_worker_status(self, op: str, msg: Any) -> None:
        with dask.config.set(LOST_WORKER):
            super()._update_worker_status(op, msg)


def _look(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.debug("a worker did not come up", exc_info=task.exception())


def _frame(packed: bytes) -> Any:
    return packed if len(packed) < LARGE else to_serialize(packed)


class Fleet:
    """The workers of one pool. All methods belong to the pool's loop.

    Args:
        spec: what to start.
        dispatcher: who is told what becomes of the workers.
    """

    def __init__(self, spec: PoolSpec, dispatcher: Dispatcher) -> None:
        self.spec = spec
        self.dispatcher = dispatcher
        preload = ("dspex_lab.pools._cluster", *spec.preload)
        self.launcher = Launcher(preload, int(spec.memory * TERMINATE) - MAPPED)
        # In multiprocessing's own folder, which goes with the kernel, however that ends (_preload.sweep_when_orphaned).
        self._folder = tempfile.mkdtemp(prefix=f"{spec.name}-", dir=multiprocessing.util.get_temp_dir())
        self._cluster: Any = None
        self._client: Any = None
        self._actors: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._attempts: dict[str, int] = {}
        self._closing = False

    async def start(self) -> None:
        """Start scheduler, nannies, workers and their hosts; return when all are ready.

        Raises:
            ConfigurationError: a preload that is not there.
        """
        self.launcher.start()
        security = Security.temporary()
        common = {"host": "127.0.0.1", "security": security}
        scheduler = {
            **common,
            "folder": self._folder,
            "protocol": "tls",
            "port": 0,
            "dashboard": False,
            "allowed_failures": 0,
            "worker_ttl": 30,
        }
        worker = {
            **common,
            "fleet": self,
            "nthreads": self.spec.threads,
            "memory_limit": self.spec.memory,
            "resources": {self.spec.name: self.spec.threads},
            "local_directory": self._folder,
            "env": dict(self.spec.environment),
            "silence_logs": logging.CRITICAL,
            "death_timeout": 60,
        }
        self._cluster = PoolCluster(
            scheduler={"cls": PoolScheduler, "options": scheduler},
            security=security,
            asynchronous=True,
            silence_logs=logging.CRITICAL,
            shutdown_on_close=False,
            name=f"dspex-{self.spec.name}",
        )
        await self._cluster
        self._client = await Client(
            self._cluster, security=security, asynchronous=True, set_as_default=False, direct_to_workers=True
        )
        for number in range(self.spec.workers):
            self._cluster.worker_spec[f"{self.spec.name}-{number}"] = {"cls": PoolNanny, "options": worker}
        await self._cluster._correct_state()
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(self._folder)]
        while self._tasks:
            await asyncio.gather(*self._tasks)
        self._started = True

    def up(self, name: str, pid: int, address: str) -> None:
        """A worker's process runs: give it a host."""
        self._later(self._adopt(self.dispatcher.born(name, pid, self.spec.threads), address))

    async def _adopt(self, worker: Worker, address: str) -> None:
        try:
            await self._install(worker, address)
        except Exception as error:
            if not self._started:
                raise
            if not worker.death.done():
                self.failed(worker.name, error)

    async def _install(self, worker: Worker, address: str) -> None:
        future = self._client.submit(
            Host, self.spec.threads, actor=True, workers=[address], key=f"dspex-host-{worker.name}-{worker.pid}"
        )
        if old := self._actors.pop(worker.name, None):
            old.release()
        self._actors[worker.name] = future
        rpc, key = self._client.rpc(address), future.key

        async def link(digest: str, function: Code | None, arguments: bytes) -> Reply:
            # Not through the Actor's own methods: they send a call again when its worker is lost.
            code = (_frame(function[0]), function[1]) if function else None
            answer = await rpc.actor_execute(actor=key, function="run", args=[digest, code, _frame(arguments)])
            if answer["status"] != "OK":
                raise OSError(f"the host of worker {worker.name} failed: {answer['exception']!r}")
            kind, payload = answer["result"]
            return kind, payload

        made = asyncio.ensure_future(future.result())
        await asyncio.wait({made, worker.death}, return_when=asyncio.FIRST_COMPLETED)
        if not made.done():
            made.cancel()
            return
        made.result()
        answer = await rpc.actor_execute(actor=key, function="missing")
        if answer["result"]:
            raise ConfigurationError(
                f"Pool {self.spec.name!r}: {', '.join(answer['result'])} could not be preloaded.",
                key=f"pools.{self.spec.name}.preload",
                expected="modules that a fresh Python can import",
                actual=answer["result"],
                hint="Install them, or put their folder into PYTHONPATH before the kernel starts.",
            )
        self._attempts.pop(worker.name, None)
        self.dispatcher.ready(worker, link)

    def failed(self, name: str, error: Exception) -> None:
        """A worker could not be started: try again, with another nanny, a few times."""
        attempt = self._attempts.get(name, 0)
        if self._closing or not self._started:
            return
        self._attempts[name] = attempt + 1
        if attempt < len(PATIENCE):
            self._later(self._respawn(name, PATIENCE[attempt]))
        else:
            log.error("worker %s of pool %r could not be replaced: %s", name, self.spec.name, error)
            self.dispatcher.given_up(name, error)
            self._later(self._retire(name))

    async def _retire(self, name: str) -> None:
        if nanny := self._cluster.workers.pop(name, None):
            try:
                await nanny.close()
            except Exception:
                log.debug("the nanny of worker %s, which never came up, complained at its end", name, exc_info=True)

    async def _respawn(self, name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._retire(name)
        correcting = asyncio.ensure_future(self._cluster._correct_state())
        correcting.add_done_callback(_look)  # if the worker does not come up, its nanny tells `failed`
        await asyncio.wait({correcting})

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def restore_environment(self) -> None:
        """Undo what starting a worker did to the kernel's environment."""
        if _TITLE_BEFORE is None:
            os.environ.pop(TITLE, None)
        else:
            os.environ[TITLE] = _TITLE_BEFORE

    async def close(self) -> None:
        """End everything that was started. Idempotent."""
        self._closing = True
        self.dispatcher.close()
        for task in list(self._tasks):
            task.cancel()
        for part in (self._client, self._cluster):
            if part is not None:
                try:
                    await asyncio.wait_for(part.close(), PARTING)
                except Exception:
                    log.debug("%r of pool %r did not close in peace", part, self.spec.name, exc_info=True)
        self.launcher.stop()  # and with it whatever worker is left
        shutil.rmtree(self._folder, ignore_errors=True)
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(self._folder)]
