"""Time in tests: a clock that is set by hand, and an event loop's that waits for what is to happen before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def stop_until(begun: Callable[[], object]) -> None:
    """Let the running loop's clock stand still until ``begun()`` holds, and be an hour later from then on.

    So a timeout ends what has begun, however slow the machine is.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    loop.time = lambda: now + 3_600 if begun() else now  # type: ignore[method-assign]
