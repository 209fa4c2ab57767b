"""How a worker's process begins: what it is tied to, told, allowed and limited to, before it has threads."""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools._usage import prepare
from dspex_lab.security import Confinement, confine, confine_thread

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Birth:
    """What a worker's process is given at its start.

    Args:
        preload: modules that it should have been born with; those it lacks are noted in ``missing``.
        environment: variables of this worker only.
        folder: its workspace, made by whoever starts it; temporary files go there.
        data: bytes of private writable memory (``RLIMIT_DATA``); 0 leaves it unlimited.
        writable: folders and files besides ``folder`` that it may write to; None leaves writing free.
        threads: threads of torch's, where torch is loaded.
        server: the process id of its forkserver; without it, it ends at once.
    """

    preload: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    data: int = 0
    writable: tuple[str, ...] | None = None
    threads: int = 1
    server: int | None = None

    #: In a worker: its own birth, what of ``preload`` was not loaded at it, and the level of confinement obtained.
    own: ClassVar[Birth | None] = None
    missing: ClassVar[tuple[str, ...]] = ()
    protection: ClassVar[str] = ""

    def begin(self) -> None:
        """Do all that to this process, which has no threads yet."""
        Birth.missing = tuple(name for name in self.preload if name not in sys.modules)
        die_with_parent(self.server)
        self._settle()
        prepare()
        Birth.protection = self._confine(confine)

    def adopt(self) -> None:
        """Do to this process, which was not born for a pool, what can be done to it now; what it lacks is imported."""
        self._settle()
        if self.folder:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
        Birth.missing = tuple(name for name in self.preload if not _imported(name))

    def confine_thread(self) -> None:
        """Confine the thread that this is called in; what it starts inherits that, the process's other threads do not."""
        Birth.protection = self._confine(confine_thread)

    def _settle(self) -> None:
        Birth.own = self
        os.environ.update(self.environment)
        if self.folder:
            os.environ["TMPDIR"] = self.folder
            tempfile.tempdir = None
        limit_torch(self.threads)

    def _confine(self, how: Callable[[Confinement], str]) -> str:
        if self.writable is None:
            limit_data(self.data)
            return "rlimits"
        folders = (self.folder, dspy_cache(), *self.writable)
        return how(Confinement(self.data, tuple(folder for folder in folders if folder)))


def check_preloads(missing: list[str], pool: str, worker: str, hint: str) -> None:
    """Raise, where there are any, the ConfigurationError for preloads that a worker was born without."""
    if missing:
        raise ConfigurationError(
            f"Pool {pool!r}: {', '.join(missing)} could not be imported by worker {worker}.",
            key=f"pools.{pool}.preload",
            expected="modules that the workers can import",
            actual=missing,
            hint=hint,
        )


def dspy_cache() -> str:
    """Return the folder of DSPy's cache, as DSPy finds it in this process."""
    return os.environ.get("DSPY_CACHEDIR") or os.path.expanduser("~/.dspy_cache")


def _imported(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def die_with_parent(server: int | None = None) -> None:
    """Have the operating system kill this process when its parent, the forkserver, ends (Linux; else nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if server is not None and os.getppid() != server:  # it ended before it could be noticed
        os._exit(1)


def limit_data(size: int) -> None:
    """Set this process's soft ``RLIMIT_DATA`` to ``size`` bytes, so that asking for more is a MemoryError; 0 sets none. No core
    is dumped in either case."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if size:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def limit_torch(threads: int) -> None:
    """Limit torch's threads, where torch is loaded: it read its variables when it was."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
