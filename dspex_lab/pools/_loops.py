"""What asyncio leaves to those who use it: work on other loops and in threads, in the background, and once for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger("dspex_lab")

T = TypeVar("T")

#: Seconds until a task that was cancelled and goes on is cancelled again.
AGAIN = 1.0


def post(loop: asyncio.AbstractEventLoop, act: Callable[..., object], *args: Any) -> bool:
    """Have something done on a loop of another thread; return whether that loop still runs."""
    try:
        loop.call_soon_threadsafe(act, *args)
    except RuntimeError:
        log.debug("a loop was closed before it was told")
        return False
    return True


async def on(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await something on another loop, or on this one."""
    if loop is asyncio.get_running_loop():
        return await work()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Return what a function gives in a thread. Who is cancelled meanwhile waits for its end: nothing could stop it."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def hush(future: asyncio.Future[Any]) -> None:
    """Take note of how something ended that nobody waits for, so that asyncio does not complain."""
    if not future.cancelled():
        future.exception()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and return when it has ended, however.

    It is told again until it has: Python 3.11's ``asyncio.wait_for``, which Dask uses, loses a cancellation that comes
    together with what it waited for (gh-86296).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN)


class Tasks:
    """Work in the background. A loop itself may forget a task that nobody else holds."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin some work; it tells of its failures itself."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Return when there is none, not even such as came meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Cancel all of it."""
        for task in list(self._tasks):
            task.cancel()


class Once:
    """Something that is done once for all who want it; anew for the next one, if it failed.

    Args:
        work: does it. Who waits for it and is cancelled leaves it to the others.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    async def done(self) -> None:
        """Return when it is done, and raise what it raises."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._work())
        task = self._task
        try:
            await asyncio.shield(task)
        except Exception:
            if self._task is task:
                self._task = None
            raise

    async def settled(self) -> None:
        """Return when it is not under way; from then on it may be done anew."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait({task})
            hush(task)

    async def ended(self) -> None:
        """Have it end where it is under way, and return when it has; from then on it may be done anew."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)
            hush(task)
