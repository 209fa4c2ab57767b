"""Sliding windows: outcomes for the breaker, latencies for the bulkhead and for hedging. None is thread-safe alone."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

#: Parts of a window in seconds; what is older than the window leaves it a part at a time.
PARTS = 10


class LastCalls:
    """The outcomes of the last ``size`` calls."""

    __slots__ = ("_failed", "_size", "failures")

    def __init__(self, size: int) -> None:
        self._size = size
        self._failed: deque[bool] = deque()
        self.failures = 0

    def add(self, failed: bool, now: float) -> None:
        """Count one call."""
        if len(self._failed) == self._size:
            self.failures -= self._failed.popleft()
        self._failed.append(failed)
        self.failures += failed

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many calls are in the window, and how many of them failed."""
        return len(self._failed), self.failures


class LastSeconds:
    """The outcomes of the last ``seconds``, in tenths of them, as resilience4j's time-based window keeps them.

    Memory and time do not grow with the number of calls.
    """

    __slots__ = ("_calls", "_failures", "_parts", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / PARTS
        self._parts: deque[list[int]] = deque()  # [number of the part, calls, failures]
        self._calls = self._failures = 0

    def add(self, failed: bool, now: float) -> None:
        """Count one call at ``now``."""
        part = self._forget(now)
        if not self._parts or self._parts[-1][0] < part:
            self._parts.append([part, 0, 0])
        # A clock read before another thread's may come here later: it counts in the newest part.
        self._parts[-1][1] += 1
        self._parts[-1][2] += failed
        self._calls += 1
        self._failures += failed

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many calls are in the window that ends at ``now``, and how many of them failed."""
        self._forget(now)
        return self._calls, self._failures

    def _forget(self, now: float) -> int:
        part = int(now // self._width)
        while self._parts and self._parts[0][0] <= part - PARTS:
            _, calls, failures = self._parts.popleft()
            self._calls -= calls
            self._failures -= failures
        return part


class Latencies:
    """The last ``size`` latencies in seconds, with exact quantiles at the cost of a bisection."""

    __slots__ = ("_ordered", "_size", "_values")

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: deque[float] = deque()
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, seconds: float) -> None:
        """Take one latency in; the oldest leaves where the window is full."""
        if len(self._values) == self._size:
            del self._ordered[bisect_left(self._ordered, self._values.popleft())]
        self._values.append(seconds)
        insort(self._ordered, seconds)

    def quantile(self, share: float) -> float:
        """Return the smallest latency that at least ``share`` of them do not exceed (nearest rank); at least one is needed."""
        rank = -(-len(self._ordered) * share // 1)
        return self._ordered[max(int(rank), 1) - 1]
