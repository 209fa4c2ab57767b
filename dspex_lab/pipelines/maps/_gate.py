"""Keeps outcomes flushed while rows run: in the background, and never more of them waiting than one batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from dspex_lab.pipelines.maps._outcome import Outcome


class Keep:
    """Where outcomes are recorded; derive from it.

    Attributes:
        batch: so many outcomes may wait to be flushed.
        linger: seconds after which fewer are flushed too, None where somebody else sees to that.
        rows: whether outcomes are to bring their rows along.
    """

    batch: int = 1
    linger: float | None = None
    rows: bool = False

    def add(self, outcome: Outcome) -> None:
        """Hold an outcome that was made; called on the loop's thread."""
        raise NotImplementedError

    def flush(self, outcomes: Sequence[Outcome]) -> None:
        """Make outcomes last; called in a thread, one call at a time. What it raises ends the map."""
        raise NotImplementedError

    def done(self, index: int) -> bool:
        """Say whether the row of that index has its outcome already."""
        raise NotImplementedError

    def counts(self) -> Counter[str]:
        """Return how many rows ended with which status, in this map and before it was continued."""
        raise NotImplementedError


class Gate:
    """Lets rows begin as long as fewer than a batch of outcomes wait; used on one event loop.

    A flush begins at half a batch, so that rows go on beside it.
    """

    def __init__(self, keep: Keep, executor: Executor) -> None:
        self._keep, self._executor = keep, executor
        self._waiting: list[Outcome] = []
        self._under_way = 0
        self._flushing: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._half = max(keep.batch // 2, 1)
        self.problem: BaseException | None = None

    def add(self, outcome: Outcome) -> None:
        """Take an outcome."""
        self._keep.add(outcome)
        self._waiting.append(outcome)
        if self._flushing is None:
            if len(self._waiting) >= self._half:
                self._flush()
            elif self._timer is None and self._keep.linger is not None:
                self._timer = asyncio.get_running_loop().call_later(self._keep.linger, self._flush)

    @property
    def full(self) -> bool:
        """Whether no row may begin now."""
        return self._under_way + len(self._waiting) >= self._keep.batch or self.problem is not None

    async def room(self) -> bool:
        """Wait until a row may begin and return True, or False where none may any more: :meth:`close` says why."""
        while self.full:
            if self.problem is not None:
                return False
            if self._flushing is None:
                self._flush()
            if self._flushing is not None:
                await asyncio.wait([self._flushing])
        return True

    async def close(self) -> None:
        """Flush what is left and wait for it, unless that happens of itself.

        Raises:
            whatever a flush raised; the outcomes it was given, and those after it, are not recorded.
        """
        while self._keep.linger is not None and self.problem is None and (self._waiting or self._flushing is not None):
            if self._flushing is None:
                self._flush()
            if self._flushing is not None:
                await asyncio.wait([self._flushing])
        if self._timer is not None:
            self._timer.cancel()
        if self.problem is not None:
            raise self.problem

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is not None or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self._under_way = len(batch)
        self._flushing = asyncio.get_running_loop().run_in_executor(self._executor, self._work, batch)
        self._flushing.add_done_callback(self._flushed)

    def _work(self, batch: list[Outcome]) -> None:
        try:
            self._keep.flush(batch)
        except BaseException as error:
            self.problem = error

    def _flushed(self, done: asyncio.Future[Any]) -> None:
        self._flushing, self._under_way = None, 0
        if done.cancelled():
            self.problem = self.problem or asyncio.CancelledError()
        elif len(self._waiting) >= self._half and self.problem is None:
            self._flush()
        elif self._waiting and self._keep.linger is not None and self._timer is None and self.problem is None:
            self._timer = asyncio.get_running_loop().call_later(self._keep.linger, self._flush)
