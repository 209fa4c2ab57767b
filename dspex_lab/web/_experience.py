"""What people said of earlier answers, as the router learns from it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from dspex_lab.store import Store, recorded_runs
from dspex_lab.web._ask import READ
from dspex_lab.web._routing import Experience

#: Judged requests that the router looks at, the newest.
MOST = 500
#: Seconds that what was read is used before it is read again; a thumb given here counts at once.
FRESH = 30.0


class Memory:
    """The judged requests of a store. Thread-safe.

    Args:
        store: where feedback is kept.
        clock: seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._read: tuple[Experience, ...] = ()
        self._at = -math.inf

    def experience(self) -> Sequence[Experience]:
        """Return the judged requests."""
        with self._lock:
            if self._clock() - self._at >= FRESH:
                self._read = tuple(self._judged())
                self._at = self._clock()
            return self._read

    def forget(self) -> None:
        """Read anew the next time: something was said."""
        with self._lock:
            self._at = -math.inf

    def _judged(self) -> list[Experience]:
        found = recorded_runs(self._store, tags=["web"], where="verdict IS NOT NULL", newest=True, limit=MOST)
        return [Experience(_text(run.inputs), run.name, run.verdict == "good") for run in found]


def _text(inputs: dict[str, Any]) -> str:
    return " ".join(value for value in inputs.values() if isinstance(value, str))[:READ]
