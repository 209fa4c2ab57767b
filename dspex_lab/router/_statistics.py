"""How each implementation has done: counts, failures and latency."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

_WINDOW = 256


@dataclass(slots=True)
class Tally:
    """One implementation's record. ``recent`` holds the seconds of its latest successful executions."""

    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    last_error: str | None = None

    def quantile(self, q: float) -> float | None:
        """Return a quantile of the recent latencies in seconds (nearest rank), None before the first success."""
        if not self.recent:
            return None
        ordered = sorted(self.recent)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


class Statistics:
    """Tallies by operation and implementation. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], Tally] = {}

    def observe(self, operation: str, implementation: str, seconds: float, error: BaseException | None) -> None:
        """Add one execution that took ``seconds``."""
        with self._lock:
            tally = self._tallies.setdefault((operation, implementation), Tally())
            tally.calls += 1
            tally.seconds += seconds
            if error is None:
                tally.recent.append(seconds)
            else:
                tally.errors += 1
                tally.last_error = f"{type(error).__name__}: {error}"

    def rows(self) -> list[dict[str, object]]:
        """Return one row per operation and implementation; seconds are wall time."""
        with self._lock:
            return [
                {
                    "operation": operation,
                    "implementation": implementation,
                    "calls": t.calls,
                    "errors": t.errors,
                    "mean_seconds": t.seconds / t.calls,
                    "p50_seconds": t.quantile(0.5),
                    "p95_seconds": t.quantile(0.95),
                    "last_error": t.last_error,
                }
                for (operation, implementation), t in self._tallies.items()
            ]
