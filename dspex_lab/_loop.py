"""A private event loop in a thread of its own, so that runs never fight with the notebook's loop."""

from __future__ import annotations

import asyncio
import contextvars
import select
import selectors
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from dspex_lab.errors import ConfigurationError

T = TypeVar("T")


if sys.platform == "linux":

    class _FineSelector(selectors.EpollSelector):
        """Waits to the microsecond; epoll alone rounds up to the next millisecond, which nearly doubles a wait of one.

        The epoll object can itself be waited for, by ``select()``, whose time limit is finer.
        """

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """Return what is ready, after ``timeout`` seconds at most."""
            if timeout is not None and 0 < timeout < 0.05 and (number := self.fileno()) < _MOST_FILES:
                select.select((number,), (), (), timeout)
                timeout = 0
            return super().select(timeout)


#: The first number of a file that select() cannot wait for.
_MOST_FILES = 1024


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "linux":
        return asyncio.SelectorEventLoop(_FineSelector())
    return asyncio.new_event_loop()


class LoopThread:
    """An asyncio loop that runs until :meth:`close`. Thread-safe."""

    def __init__(self, name: str = "dspex-lab") -> None:
        self.loop = _new_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue  # of a task that a step made; who awaits it is told
            return

    def submit(self, work: Coroutine[Any, Any, T], into: Future[T] | None = None) -> Future[T]:
        """Start ``work`` on the loop, in the caller's context variables; cancelling the future cancels the work.

        Args:
            into: the future to use, where the caller must have it before the work begins.

        Raises:
            RuntimeError: the loop is closed.
        """
        future: Future[T] = Future() if into is None else into
        surroundings = contextvars.copy_context()

        def start() -> None:
            task = self.loop.create_task(work, context=surroundings)
            task.add_done_callback(lambda done: _hand_over(done, future))
            future.add_done_callback(lambda f: self.loop.call_soon_threadsafe(task.cancel) if f.cancelled() else None)

        try:
            self.loop.call_soon_threadsafe(start)
        except RuntimeError:
            work.close()
            raise
        return future

    def is_current(self) -> bool:
        """Say whether the caller is on the loop's own thread."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` and return its value; KeyboardInterrupt cancels it.

        Raises:
            RuntimeError: called on the loop's own thread, which would wait for itself.
        """
        if self.is_current():
            work.close()
            raise RuntimeError(
                "a run was started and waited for on the Lab's own loop; use 'await lab.arun(...)' in async steps"
            )
        done = threading.Event()
        future: Future[T] = Future()
        try:
            return _result(self.submit(_signalled(work, done), future))
        except asyncio.CancelledError as error:
            raise ConfigurationError(
                "The Lab was closed while this ran.", key="lab", hint="Close it after its runs: use 'with dx.Lab(...)'."
            ) from error
        except KeyboardInterrupt:
            future.cancel()
            done.wait(timeout=5)
            raise

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        if self.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result(timeout=10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
        self.loop.close()


def _result(future: Future[T]) -> T:
    """Wait for a future's result, and look up each second.

    A signal that comes just before a thread begins to wait, or to another thread, does not end that wait: Ctrl-C would be lost.
    """
    while True:
        try:
            return future.result(timeout=1.0)
        except TimeoutError:
            if future.done():
                return future.result()


def _hand_over(task: asyncio.Task[T], future: Future[T]) -> None:
    if future.cancelled() or not future.set_running_or_notify_cancel():
        return
    if task.cancelled():
        future.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


async def _signalled(work: Coroutine[Any, Any, T], done: threading.Event) -> T:
    try:
        return await work
    finally:
        done.set()


async def _cancel_all() -> None:
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
