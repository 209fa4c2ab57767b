"""A forkserver of the pool's own, with the pool's imports already done.

Python has one forkserver for a process, whose list of imports is fixed once it runs; whoever starts it first (a
data loader, another library) would decide for the pool, and it stays after the pool is closed. So a pool has its own,
and its workers do not import the kernel's ``__main__`` a second time: a script needs no ``if __name__`` guard.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from typing import Any

from dspex_lab.pools._birth import Birth

_spawning = threading.Lock()
#: Put before what Python runs in a new process: it leaves the kernel's process group, or takes its environment from a file.
_APART = "import os; os.setpgid(0, 0); "
_ENVIRONMENT = "import os, json; os.environ.update(json.loads(os.pread({fd}, {size}, 0))); os.close({fd}); "


class Launcher:
    """A preloaded server, from which the processes of a pool are forked.

    Args:
        preload: modules that the server imports; each process has them from its start.
        environment: variables of the server, there before its imports, and so of its processes.
    """

    def __init__(self, preload: tuple[str, ...], environment: Mapping[str, str] | None = None) -> None:
        self.preload = ("dspex_lab.pools._first", *preload, "dspex_lab.pools._last")
        self.server = _Server(environment or {})
        self.server.set_forkserver_preload(list(self.preload))

    def start(self) -> None:
        """Start the server, which begins to import; does not wait for it."""
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
            self.server._stop()  # type: ignore[attr-defined]
        except FileNotFoundError:  # its socket's folder is gone already; all else is done before that is seen
            self.server._forkserver_address = None


class _Server(forkserver.ForkServer):
    """Python's forkserver, with variables of its own; they are seen in no list of processes."""

    _forkserver_pid: int | None
    _forkserver_address: str | None

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.environment = dict(environment)

    def ensure_running(self) -> None:
        start_tracker()
        if not self.environment:
            super().ensure_running()
            return
        text = json.dumps(self.environment).encode()
        with tempfile.TemporaryFile() as file:
            file.write(text)
            file.flush()
            with _spawned_after(_ENVIRONMENT.format(fd=file.fileno(), size=len(text)), file.fileno()):
                super().ensure_running()


class Cradle(ForkServerContext):
    """A multiprocessing context whose processes are forked from a launcher's server, each with the same start in life."""

    def __init__(self, launcher: Launcher, birth: Birth) -> None:
        self.launcher, self.birth = launcher, birth

    def Process(self, *args: Any, **kwargs: Any) -> PoolProcess:  # type: ignore[override]  # noqa: N802
        """Return a process of this context, not yet started."""
        process = PoolProcess(*args, **kwargs)
        process.launcher, process.birth = self.launcher, self.birth
        return process


class PoolProcess(ForkServerProcess):
    """A worker's process: it begins with what its :class:`Birth` says."""

    launcher: Launcher | None = None
    birth: Birth = Birth()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "launcher": None}

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _Popen(process_obj)

    def run(self) -> None:
        """Run the worker (in the worker)."""
        # The server ends when no process holds this end; a worker that hangs with the GIL held must not keep it.
        server: Any = forkserver._forkserver
        if server._forkserver_alive_fd is not None:
            os.close(server._forkserver_alive_fd)
            server._forkserver_alive_fd = None
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it at once; Dask would begin to close in order
        self.birth.begin()
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
    with _spawned_after(_APART):
        resource_tracker.ensure_running()


@contextlib.contextmanager
def _spawned_after(code: str, *fds: int) -> Iterator[None]:
    """Have ``code`` run first in the helper processes that multiprocessing starts meanwhile; they inherit ``fds``."""
    with _spawning:
        original = util.spawnv_passfds

        def spawn_after(path: Any, args: Any, passfds: Any) -> int:
            return original(path, [*args[:-1], code + args[-1]], (*passfds, *fds))

        util.spawnv_passfds = spawn_after
        try:
            yield
        finally:
            util.spawnv_passfds = original
