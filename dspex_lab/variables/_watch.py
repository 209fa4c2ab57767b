"""Commits as an async queue."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dspex_lab.variables._protocols import Commit, CommitObserver


class Watch:
    """Commits from now on, one after another, until it is closed: ``async for commit in space.watch(): …``.

    Any thread may commit, and any event loop may take; each commit is given to one of those who take. Nothing is lost in
    between: what is not taken waits. One that nobody has any more, as after a ``break`` in its loop, is told nothing.
    """

    def __init__(self, subscribe: Callable[[CommitObserver], Callable[[], None]]) -> None:
        self._commits: deque[Commit] = deque()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()
        self._closed = False
        put = weakref.WeakMethod(self._put)

        def tell(commit: Commit) -> None:
            if (found := put()) is not None:
                found(commit)

        self._unsubscribe = subscribe(tell)
        weakref.finalize(self, self._unsubscribe).atexit = False

    def __len__(self) -> int:
        return len(self._commits)

    def _put(self, commit: Commit) -> None:
        with self._lock:
            self._commits.append(commit)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for loop, event in waiters:
            with suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(event.set)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Commit:
        while True:
            event = asyncio.Event()
            with self._lock:
                if self._commits:
                    return self._commits.popleft()
                if self._closed:
                    raise StopAsyncIteration
                waiter = (asyncio.get_running_loop(), event)
                self._waiters.append(waiter)
            try:
                await event.wait()
            finally:  # who waits no more, as under a time limit, is not kept
                with self._lock:
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)

    async def get(self) -> Commit:
        """Return the next commit.

        Raises:
            StopAsyncIteration: it was closed, and all was taken.
        """
        return await self.__anext__()

    def close(self) -> None:
        """End it; what came before can still be taken. Idempotent."""
        with self._lock:
            self._closed = True
        self._unsubscribe()
        self._wake()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *about: Any) -> None:
        self.close()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *about: Any) -> None:
        self.close()
