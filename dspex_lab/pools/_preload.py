"""What a pool's forkserver does to itself before and after its imports (``_first`` and ``_last`` call it)."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
from multiprocessing import forkserver

from dspex_lab.pools import _shared

#: What limits the threads of native libraries.
THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def limit_threads() -> None:
    """Give every BLAS and OpenMP one thread, in this process's environment; the kernel's is not touched.

    With one thread these libraries start none, and the forkserver, which must not have threads when it forks,
    stays single-threaded.
    """
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))


def leave_the_terminal() -> None:
    """Make this forkserver, and so its workers, a process group of their own.

    Jupyter interrupts a kernel by a signal to its whole group; workers would die of it, and with them work that the
    interrupted cell has nothing to do with. And a kernel that shuts down ends all of its group first, while the pool would
    go on replacing its workers.
    """
    os.setpgrp()


def sweep_when_orphaned() -> None:
    """Have the kernel's multiprocessing folder, in which the pool's files are, removed when this forkserver ends by itself.

    It does so only when its kernel is gone, killed perhaps; a pool that is closed kills its forkserver.
    """
    atexit.register(sweep)


def sweep() -> None:
    """Remove the folder of this forkserver's socket, and the large values that kernels which are gone have left in memory."""
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    if address:
        shutil.rmtree(os.path.dirname(address), ignore_errors=True)
    _shared.sweep()


def freeze() -> None:
    """Move what is loaded out of the garbage collector's sight.

    A collection in a worker would write to the header of every object and so copy the pages that it shares with
    its siblings (https://docs.python.org/3/library/gc.html#gc.freeze).
    """
    gc.collect()
    gc.freeze()
