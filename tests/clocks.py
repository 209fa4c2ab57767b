"""Time in tests: a clock that is set by hand, an event loop's that waits for what is to happen before it, and waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def eventually(probe: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for what another thread or process does, and fail after a time in which it must have happened.

    Returns:
        What was found.
    """
    until = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < until, "it did not happen"
        threading.Event().wait(0.01)
    return found


def stop_until(begun: Callable[[], object]) -> None:
    """Let the running loop's clock stand still until ``begun()`` holds, and be an hour later from then on.

    So a timeout ends what has begun, however slow the machine is.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    loop.time = lambda: now + 3_600 if begun() else now  # type: ignore[method-assign]
