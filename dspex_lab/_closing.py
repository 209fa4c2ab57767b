"""Closes what is still open when the process or the notebook's kernel ends."""

from __future__ import annotations

import atexit
import sys
import weakref
from multiprocessing import resource_tracker
from typing import Any, Protocol


class Closable(Protocol):
    """Whatever is to be closed; closing it twice does no harm."""

    def close(self) -> None:
        """Close it."""
        ...


_open: weakref.WeakSet[Any] = weakref.WeakSet()


def closed_at_exit(thing: Closable) -> None:
    """Have ``thing`` closed at the end of the process or kernel, unless it is gone or forgotten by then."""
    _open.add(thing)
    _with_the_kernel()


def forget(thing: Closable) -> None:
    """Leave ``thing`` alone: it is closed."""
    _open.discard(thing)


@atexit.register
def close_all() -> None:
    """Close everything that is open."""
    for thing in list(_open):
        thing.close()


def _with_the_kernel() -> None:
    """Close everything when this kernel is shut down or restarted.

    ipykernel ends the kernel's child processes before Python's own exit handlers run. A pool would replace its workers
    as fast as they are ended, and multiprocessing's resource tracker ignores the signal: the kernel would wait for it
    until it is killed, with the store left open.
    """
    ipython = sys.modules.get("IPython")
    kernel = getattr(ipython.get_ipython(), "kernel", None) if ipython else None
    if kernel is None or "do_shutdown" in vars(kernel):
        return
    original = kernel.do_shutdown

    def do_shutdown(restart: bool) -> Any:
        close_all()
        stop = getattr(resource_tracker._resource_tracker, "_stop", None)
        if stop is not None:
            stop()
        return original(restart)

    kernel.do_shutdown = do_shutdown
