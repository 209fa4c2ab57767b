"""How a call that runs is stopped: a coroutine is cancelled, a function is struck by an exception at its next line of
Python."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_lab.pools._task import Task, TaskCancelled

_STANDARD = os.path.dirname(os.__file__) + os.sep
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


class Run:
    """One call under way in a thread of its own, which can be stopped from others.

    The thread is struck once at most, and only while it runs this call: what was sent and has not hit when the call ends hits
    before the next one begins (:func:`_meet`).
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._over = self._struck = False
        self._stop: Callable[[], object] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self.task._cancelled

    def guard(self, work: Callable[[], Any], failed: Callable[[BaseException], Any]) -> Any:
        """Return what ``work`` gives, or what ``failed`` makes of an exception, the one of a strike included."""
        try:
            try:
                self._begin()
                return work()
            finally:
                self._end()
        except BaseException as error:
            return failed(error)

    def cancel(self) -> bool:
        """Ask the call to stop; return whether that needs no second try, because it was struck, will see it by itself or is
        over."""
        with self._lock:
            if self._over or self._struck:
                return True
            first = not self.task._cancelled
            self.task._cancel()
            if self._stop is not None:
                if first:
                    self._stop()
                return True
            if self._thread is None or self.task._looks:
                return True
            if not _may_strike(self._thread):
                return False
            self._struck = True
            _raise_in(self._thread, TaskCancelled)
            return True

    def spare(self) -> None:
        """Meet a strike that has not hit yet, and allow none from here on: what comes is a loop, which it would break."""
        with self._lock:
            if self._struck:
                _meet()
            self._stop = _nothing

    async def finish(self, awaitable: Awaitable[Any]) -> Any:
        """Await something on this call's loop, such that to cancel the call is to cancel this; after :meth:`spare`."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - this is one
        with self._lock:
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            if self.task._cancelled and inspect.iscoroutine(awaitable):
                awaitable.close()
            self.task._stop()
            return await awaitable
        except asyncio.CancelledError as error:
            if self.task._cancelled:
                raise TaskCancelled("the coroutine was cancelled") from error
            raise
        finally:
            with self._lock:
                self._stop = _nothing

    def _begin(self) -> None:
        with self._lock:
            self.task._stop()
            self._thread = threading.get_ident()

    def _end(self) -> None:
        with self._lock:
            self._over = True
            if self._struck:
                _meet()


def _nothing() -> None:
    """What a call is cancelled by that is about to end."""


def _may_strike(thread: int) -> bool:
    """Whether a thread is at a place where an exception does no harm: in a function of the user's or of a library.

    The standard library's own Python code keeps locks by hand (``threading.Condition.__enter__``, logging, imports), and so
    does this package: an exception there could leave one locked for ever. While this thread looks, the other one stands
    still, and an exception hits it where it stands.
    """
    frame = sys._current_frames().get(thread)
    if frame is None:
        return False
    file = frame.f_code.co_filename
    if file.startswith((_PACKAGE, "<frozen ")):
        return False
    return "site-packages" in file or not file.startswith(_STANDARD)


def _meet() -> None:
    """Have a strike hit here that may still be on its way to this thread: another takes its place, and this waits for it.

    To take one back (``PyThreadState_SetAsyncExc`` with no exception) leaves CPython's flag for it set for good, before
    3.13: all that the interpreter runs is slower from then on, and under a tracer (coverage, a debugger) stands still.
    """
    try:
        _raise_in(threading.get_ident(), TaskCancelled)
        while True:
            pass
    except TaskCancelled:
        return


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    """Have an exception raised in a thread at its next line."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))
