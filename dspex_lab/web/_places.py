"""How many requests are answered at once, and how many may wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dspex_lab.web._errors import Refused
from dspex_lab.web._metrics import Metrics


class Places:
    """The places of a server. On its event loop only.

    Args:
        most: requests at once.
        waiting: requests that wait beyond these; one more is refused.
        patience: seconds that one waits at most.
    """

    def __init__(self, metrics: Metrics, most: int, waiting: int, patience: float) -> None:
        self._metrics, self._waiting, self._patience = metrics, waiting, patience
        self._free = asyncio.Semaphore(most)
        self._queue = 0

    def check(self) -> None:
        """Refuse what could not even wait.

        Raises:
            Refused: too many wait already.
        """
        if self._free.locked() and self._queue >= self._waiting:
            raise _busy(f"{self._queue} requests wait already.")

    @asynccontextmanager
    async def take(self, *, patient: bool = False) -> AsyncIterator[None]:
        """Have a place for the block.

        Args:
            patient: wait as long as it takes; who asks has called :meth:`check`.

        Raises:
            Refused: too many wait already, or it took too long.
        """
        if not patient:
            self.check()
        self._queue += 1
        self._metrics.waiting.inc()
        try:
            async with asyncio.timeout(None if patient else self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise _busy(f"No place came free in {self._patience:g} s.") from None
        finally:
            self._queue -= 1
            self._metrics.waiting.dec()
        self._metrics.running.inc()
        try:
            yield
        finally:
            self._metrics.running.dec()
            self._free.release()


def _busy(said: str) -> Refused:
    return Refused(503, said, kind="server_error", code="overloaded", headers={"Retry-After": "1"})
