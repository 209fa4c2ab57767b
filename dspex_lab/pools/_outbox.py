"""What a task has told and the kernel has not yet fetched: in order, and never much."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from dspex_lab.pools._wire import Packed, Pulled

#: Chunks, and bytes, that may lie here; then whoever tells waits. One chunk may always lie here, however large.
COUNT = 256
BYTES = 4 * 1024 * 1024


class Outbox:
    """A queue from a task's threads to the loop on which the kernel asks for what there is."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks: deque[Packed] = deque()
        self._bytes = 0
        self._closed = False
        self._waiting: list[Callable[[], None]] = []

    def put(self, chunk: Packed, stop: Callable[[], None]) -> None:
        """Add a chunk, when there is room.

        Args:
            stop: called before each wait and after it; raises to give up.
        """
        with self._changed:
            while True:
                stop()
                if self._add(chunk):
                    return
                self._changed.wait()

    async def aput(self, chunk: Packed, stop: Callable[[], None]) -> None:
        """As :meth:`put`; the loop goes on while there is no room."""
        while True:
            with self._changed:
                stop()
                if self._add(chunk):
                    return
                room = self._await_change()
            await room

    async def pull(self, patience: float) -> Pulled:
        """Return all that is there, waiting ``patience`` seconds for the first of it."""
        with self._changed:
            something = None if self._chunks or self._closed else self._await_change()
        if something is not None:
            await asyncio.wait({something}, timeout=patience)
        with self._changed:
            chunks = list(self._chunks)
            self._chunks.clear()
            self._bytes = 0
            self._tell()
            return Pulled(chunks, self._closed)

    def close(self) -> None:
        """Take no more; what is here can still be fetched."""
        with self._changed:
            self._closed = True
            self._tell()

    def wake(self) -> None:
        """Have those who wait for room look again whether they should."""
        with self._changed:
            self._tell()

    def _add(self, chunk: Packed) -> bool:
        if self._closed:  # whoever called is gone: nobody will ever fetch it
            return True
        if self._chunks and (len(self._chunks) >= COUNT or self._bytes + chunk.size > BYTES):
            return False
        self._chunks.append(chunk)
        self._bytes += chunk.size
        if len(self._chunks) == 1:
            self._tell()
        return True

    def _await_change(self) -> asyncio.Future[None]:
        """Return a future of the running loop that is done at the next change."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            if not future.done():
                future.set_result(None)

        def change() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done)

        self._waiting.append(change)
        return future

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            change()
        self._changed.notify_all()
