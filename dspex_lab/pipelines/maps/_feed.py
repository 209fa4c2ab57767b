"""Hands out the rows that are to run, read ahead in another thread a piece at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from dspex_lab.errors import PipelineError

#: The next piece is read when so few rows are left.
_LOW = 200


class Todo(NamedTuple):
    """A row that is to run; ``inputs`` is None where it is no row at all."""

    row_index: int
    row: Any
    inputs: dict[str, Any] | None


class Feed:
    """The rows of a source that have no outcome yet, in order. Used on one event loop.

    Args:
        chunks: the rows; read in a thread of their own.
        take: takes a row's inputs.
        done: says of a row's index that it need not run.

    Attributes:
        read: how many rows were read, also those that need not run.
        problem: why the data broke off, None where it did not.
    """

    def __init__(
        self,
        chunks: Iterator[list[Any]],
        take: Callable[[Mapping[str, Any]], dict[str, Any]],
        done: Callable[[int], bool],
    ) -> None:
        self._chunks, self._take, self._done = chunks, take, done
        # A thread of its own, always the same: Arrow keeps memory for every thread that ever read.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dspex-map-feed")
        self._ready: deque[Todo] = deque()
        self._reading: asyncio.Future[list[Todo]] | None = None
        self._ended = False
        self.read = 0
        self.problem: PipelineError | None = None

    async def get(self) -> Todo | None:
        """Return the next row, None when there is none left."""
        while not self._ready:
            if self._ended and self._reading is None:  # the last piece may still be on its way
                return None
            # Several wait for one piece; where one of them is cancelled, the others still want it. Awaiting it itself would
            # not let the loop go on where it is done and _arrived() has not been called yet.
            await asyncio.wait([self._reading or self._begin()])
        item = self._ready.popleft()
        if len(self._ready) < _LOW and self._reading is None and not self._ended:
            self._begin()
        return item

    def close(self) -> None:
        """Let go of the data, when what is being read of it is read."""
        self._ended = True
        self._executor.submit(self._let_go)
        self._executor.shutdown(wait=False)

    def _let_go(self) -> None:
        getattr(self._chunks, "close", int)()

    def _begin(self) -> asyncio.Future[list[Todo]]:
        self._reading = asyncio.get_running_loop().run_in_executor(self._executor, self._piece)
        self._reading.add_done_callback(self._arrived)
        return self._reading

    def _arrived(self, piece: asyncio.Future[list[Todo]]) -> None:
        self._reading = None
        if not piece.cancelled():
            self._ready.extend(piece.result())

    def _unread(self, error: Exception) -> PipelineError:
        problem = PipelineError(
            f"The data cannot be read beyond row {self.read:,}: {type(error).__name__}: {error}.", hint="Is its disk there?"
        )
        problem.__cause__ = error
        return problem

    def _piece(self) -> list[Todo]:
        found: list[Todo] = []
        while not found and not self._ended:
            try:
                chunk = next(self._chunks, None)
            except Exception as error:
                chunk, self.problem = None, error if isinstance(error, PipelineError) else self._unread(error)
            if chunk is None:
                self._ended = True
                break
            start = self.read
            self.read += len(chunk)
            for index, row in enumerate(chunk, start):
                if not self._done(index):
                    found.append(Todo(index, row, self._take(row) if isinstance(row, dict) else None))
        return found
