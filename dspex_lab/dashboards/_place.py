"""Where a page is shown, and how another thread may change it there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

#: How long a change waits for a kernel that is busy with a cell before it is made from its own thread, in seconds.
PATIENCE = 0.25


class Place:
    """One document of Panel's: a served session, or the output of a cell.

    Args:
        doc: the document.
        comm: the connection of a cell's output; None for a served session.
    """

    def __init__(self, doc: Any, comm: Any) -> None:
        self._doc = doc
        self._comm = comm
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    @property
    def ready(self) -> bool:
        """Whether a browser shows it: a cell's output takes changes once its connection is open, and loses earlier ones."""
        if self._comm is None:
            return True
        try:
            return self._comm.comm is not None
        except ValueError:  # what pyviz_comms says of a connection that is not open
            return False

    def do(self, act: Callable[[], None]) -> None:
        """Do ``act``: under the lock of a served document, or in the kernel's loop.

        A kernel that is busy with a cell does not come round to its loop, and that is just when a person watches. Its
        messages may be sent from any thread, so after a moment ``act`` is done in this one.
        """
        if self._comm is None and self._doc.session_context is not None:
            # A document that was destroyed meanwhile takes no callbacks, and there is nobody to show anything to.
            with contextlib.suppress(RuntimeError, AttributeError):
                self._doc.add_next_tick_callback(act)
        elif self._loop is None:
            act()
        else:
            _do_in(self._loop, act)


def _do_in(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Do ``act`` in the loop's thread, or here when the loop does not come round in time; never in both."""
    claim = threading.Lock()
    done = threading.Event()

    def once() -> None:
        if claim.acquire(blocking=False):
            try:
                act()
            finally:
                done.set()

    with contextlib.suppress(RuntimeError):  # the loop is closed: there is no need to wait for it
        loop.call_soon_threadsafe(once)
        done.wait(PATIENCE)
    once()
    done.wait()
