"""Who waits for a place: a thread, or a task of an event loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Waiter:
    """One call in the queue. Its flags are under the bulkhead's lock: it was given a place; its wait is over."""

    granted = False
    gone = False

    def wake(self) -> bool:
        """Let it look again; False where it cannot, ever."""
        raise NotImplementedError


class ThreadWaiter(Waiter):
    def __init__(self) -> None:
        self._woken = threading.Event()

    def wait(self, seconds: float | None) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> bool:
        self._woken.set()
        return True


class TaskWaiter(Waiter):
    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    async def wait(self, seconds: float | None) -> None:
        timer = None if seconds is None else self._loop.call_later(seconds, self._resolve)
        try:
            await self._woken
        finally:
            if timer is not None:
                timer.cancel()
        self._woken = self._loop.create_future()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:
            return False
        return True

    def _resolve(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)
