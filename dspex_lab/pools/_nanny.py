"""The parts of Dask that start a worker and watch it, as our local cluster uses them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dask
import distributed.nanny
import distributed.process
from distributed import Nanny
from distributed import Worker as DaskWorker
from distributed.core import Status

from dspex_lab.pools._forkserver import Cradle

if TYPE_CHECKING:
    from dspex_lab.pools._cluster_fleet import LocalFleet

#: The part of a worker's memory at which its nanny ends it.
TERMINATE = 0.95

#: Seconds between two looks of a nanny at whether its new worker is up (Dask's own is 0.05).
LOOK = 0.005

#: Dask wakes every one of its servers fifty times a second, to see whether its loop still runs; a pool that idles would cost
#: 2 % of a core a worker, in both processes.
SELDOM = {"distributed.admin.tick.interval": "1s"}

IN_WORKERS = {
    **SELDOM,
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": TERMINATE,
}

#: What Dask leaves in the kernel's environment when it starts a worker, for the title of the process.
TITLE = "__DASK_PARENT_PID"
#: What it was before any pool: taken when one starts, another one's start could be mistaken for it.
_TITLE_BEFORE = os.environ.get(TITLE)

_cradle: contextvars.ContextVar[Cradle | None] = contextvars.ContextVar("dspex_cradle", default=None)


def _with_cradle(original: Callable[[], Any]) -> Callable[[], Any]:
    def get_mp_context() -> Any:
        """The cradle of the worker whose nanny asks; for everybody else, Dask's own choice."""
        return _cradle.get() or original()

    return get_mp_context


# Dask takes the way to start a worker from one setting for the whole process; this lets a pool have its own and leaves
# other clusters in the kernel as they are.
for _module in (distributed.nanny, distributed.process):
    _module.get_mp_context = _with_cradle(_module.get_mp_context)


class NoHttp:
    """Neither a dashboard nor any other web server: with no routes it would still hold a port open."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        return None


class PoolWorker(NoHttp, DaskWorker):
    """Dask's worker without its web server."""


class PoolNanny(Nanny):
    """Dask's nanny, which tells the fleet when a worker is up, down or cannot be started.

    Args:
        fleet: whom to tell.
        folder: the worker's own; emptied before each of its processes begins.
    """

    process: Any

    def __init__(self, *args: Any, fleet: LocalFleet, folder: str, **options: Any) -> None:
        with dask.config.set(SELDOM):
            super().__init__(*args, config=IN_WORKERS, worker_class=PoolWorker, local_directory=folder, **options)
        self._fleet = fleet
        self._folder = folder
        self._worker_pid: int | None = None
        # These would be written into the kernel's environment at every start; the forkserver has them (_preload).
        self.pre_spawn_env: dict[str, str] = {}
        self.env: dict[str, str] = {}

    async def instantiate(self) -> Status:
        """Start the worker, from the pool's forkserver."""
        if self.process is not None:
            self.process._init_msg_interval = LOOK
        if self._worker_pid is not None:  # what its last process left, however much that is
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        token = _cradle.set(self._fleet.cradle(str(self.name), self._folder))
        try:
            status = await super().instantiate()
        except Exception as error:
            if self.process is not None and self.process.pid is None:
                self.process = None  # never came to be: to close it would fail
            self._fleet.failed(str(self.name), error)
            raise
        finally:
            _cradle.reset(token)
            restore_environment()
        if status == Status.running and self.pid not in (None, self._worker_pid):
            self._worker_pid = self.pid
            self._fleet.up(str(self.name), self.pid, self.worker_address)
        return status

    def close_gracefully(self, reason: str = "") -> None:
        """Do not heed it: a worker says so that ends in order although nobody wanted it to (an error in its loop), and Dask's
        nanny would then end as well, unsaid. It is replaced as any that dies."""

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        memory = self.memory_manager._last_terminated_pid == self._worker_pid
        self._fleet.down(str(self.name), exitcode, memory=memory)
        super()._on_worker_exit_sync(exitcode)


def restore_environment() -> None:
    """Undo what starting a worker did to the kernel's environment."""
    if _TITLE_BEFORE is None:
        os.environ.pop(TITLE, None)
    else:
        os.environ[TITLE] = _TITLE_BEFORE
