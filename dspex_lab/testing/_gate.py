"""Holds the pieces of streams, and whole answers, until a test lets them through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class Gate:
    """Holds pieces until the test lets them through. Thread-safe, for threads and event loops alike."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed: float = 0
        self._asked = 0
        self._passed = 0
        self._waiters: list[Callable[[], object]] = []

    def open(self, pieces: int | None = None) -> None:
        """Let so many more pieces through; None: all that come."""
        with self._changed:
            self._allowed = float("inf") if pieces is None else self._allowed + pieces
            self._changed.notify_all()
            waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def reached(self, piece: int, timeout: float = 30.0) -> bool:
        """Wait until an engine stands before the piece of that number, counted from 1 over all streams."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asked >= piece, timeout)

    def _ask(self) -> None:
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def _free(self) -> bool:
        if self._passed >= self._allowed:
            return False
        self._passed += 1
        return True

    def wait(self) -> None:
        """Wait for leave to hand out one more piece."""
        self._ask()
        with self._changed:
            self._changed.wait_for(self._free)

    async def await_(self) -> None:
        """Wait for leave to hand out one more piece; can be cancelled."""
        self._ask()
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        while True:
            event.clear()
            with self._changed:
                if self._free():
                    return
                self._waiters.append(wake)
            await event.wait()
