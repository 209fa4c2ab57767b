"""A forkserver of the pool's own, with the pool's imports already done.

Python has one forkserver for a process, whose list of imports is fixed once it runs; whoever starts it first (a
data loader, another library) would decide for the pool, and it stays after the pool is closed. So a pool has its own,
and its workers do not import the kernel's ``__main__`` a second time: a script needs no ``if __name__`` guard.
"""

from __future__ import annotations

import ctypes
import io
import os
import resource
import signal
import sys
import threading
from multiprocessing import forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from typing import Any

_PR_SET_PDEATHSIG = 1
_tracker_lock = threading.Lock()


class Launcher(ForkServerContext):
    """A multiprocessing context whose processes are forked from a preloaded server.

    Args:
        preload: modules that the server imports; each process has them from its start.
        data_limit: bytes of private writable memory (``RLIMIT_DATA``) of each process.
    """

    def __init__(self, preload: tuple[str, ...], data_limit: int) -> None:
        self.preload = ("dspex_lab.pools._first", *preload, "dspex_lab.pools._last")
        self.data_limit = data_limit
        self.server: Any = forkserver.ForkServer()
        self.server.set_forkserver_preload(list(self.preload))

    def start(self) -> None:
        """Start the server, which begins to import; does not wait for it."""
        start_tracker()
        self.server.ensure_running()

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it is not running."""
        return self.server._forkserver_pid

    def stop(self) -> None:
        """End the server at once, and with it whatever process of its is left. Idempotent."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)  # else it would take this for the kernel's death, and sweep
        try:
            self.server._stop()
        except FileNotFoundError:  # its socket's folder is gone already; all else is done before that is seen
            self.server._forkserver_address = None

    def Process(self, *args: Any, **kwargs: Any) -> PoolProcess:  # type: ignore[override]  # noqa: N802
        """Return a process of this context, not yet started."""
        process = PoolProcess(*args, **kwargs)
        process.launcher, process.preload, process.data_limit = self, self.preload, self.data_limit
        return process


class PoolProcess(ForkServerProcess):
    """A worker's process: it dies with its parent, is limited in memory, and notes which imports it was born with."""

    launcher: Launcher | None = None
    preload: tuple[str, ...] = ()
    data_limit: int = 0
    #: In a worker: those of the preloads that were not loaded when it started.
    missing: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "launcher": None}

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _Popen(process_obj)

    def run(self) -> None:
        """Run the worker (in the worker)."""
        PoolProcess.missing = tuple(name for name in self.preload if name not in sys.modules)
        # The server ends when no process holds this end; a worker that hangs with the GIL held must not keep it.
        server: Any = forkserver._forkserver
        if server._forkserver_alive_fd is not None:
            os.close(server._forkserver_alive_fd)
            server._forkserver_alive_fd = None
        die_with_parent()
        limit_data(self.data_limit)
        super().run()


class _Popen(popen_forkserver.Popen):
    """As the standard one, on the process's own server and without the kernel's ``__main__``."""

    _fds: list[int]

    def _launch(self, process_obj: Any) -> None:
        prepared = spawn.get_preparation_data(process_obj._name)
        for key in ("init_main_from_name", "init_main_from_path"):
            prepared.pop(key, None)
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(prepared, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, write = process_obj.launcher.server.connect_to_new_process(self._fds)
        parent_write = os.dup(write)
        self.finalizer = util.Finalize(self, util.close_fds, (parent_write, self.sentinel))  # type: ignore[attr-defined]
        with open(write, "wb", closefd=True) as pipe:
            pipe.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def start_tracker() -> None:
    """Start Python's resource tracker, which forkservers need, in a process group of its own.

    It ignores SIGTERM, and a Jupyter kernel that is told to shut down waits until all of its group are gone, so long that it
    is killed before it has ended in order. One that runs already stays as it is.
    """
    with _tracker_lock:
        spawn_original = util.spawnv_passfds

        def spawn_apart(path: Any, args: Any, passfds: Any) -> int:
            return spawn_original(path, [*args[:-1], f"import os; os.setpgid(0, 0); {args[-1]}"], passfds)

        util.spawnv_passfds = spawn_apart
        try:
            resource_tracker.ensure_running()
        finally:
            util.spawnv_passfds = spawn_original


def die_with_parent() -> None:
    """Have the operating system kill this process when its parent, the forkserver, ends (Linux; else nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_data(size: int) -> None:
    """Set this process's soft ``RLIMIT_DATA`` to ``size`` bytes, so that asking for more is a MemoryError."""
    if size:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
