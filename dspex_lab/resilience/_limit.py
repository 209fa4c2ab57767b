"""A concurrency limit that finds its own size: additive increase, multiplicative decrease. Arithmetic only, no locks.

AIMD is Chiu & Jain's (Analysis of the Increase and Decrease Algorithms for Congestion Avoidance, 1989): of the linear rules
the one that is both efficient and fair. What counts as "in use" (half of the limit) and a latency that rises as a sign of
its own are those of Netflix's concurrency-limits (AIMDLimit, Gradient2Limit). One decrease per round trip is TCP's rule
(RFC 5681, section 3.1): the calls that were under way when the limit fell say nothing about the new limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dspex_lab.errors import ConfigurationError
from dspex_lab.resilience._breaker import first_status
from dspex_lab.resilience._checks import number, whole
from dspex_lab.resilience._retryable import retry_after
from dspex_lab.resilience._windows import Latencies

#: How many latencies "lately" and "usually" are the medians of. The shorter is long enough that calls of very unequal
#: length (answers of a few and of a thousand tokens) rarely look like congestion by chance.
LATELY, USUALLY = 20, 400


def overloaded(error: BaseException) -> bool:
    """Say whether ``error`` is a provider that has too much to do: HTTP 429 or 529, or 503 with a Retry-After."""
    status = first_status(error)
    return status in (429, 529) or (status == 503 and retry_after(error) is not None)


@dataclass(frozen=True)
class BulkheadSettings:
    """How many calls a provider gets at once.

    Attributes:
        limit: calls at once, to begin with.
        least: what the limit does not fall below.
        most: what it does not rise above.
        queue: calls that may wait for a place; 0 is no queue.
        adaptive: the limit changes; otherwise it stays.
        increase: by how much it rises in one round trip of as many calls as it allows, while half of it or more is in use.
        decrease: what it is multiplied with, at most once in a round trip, where the provider has too much to do.
        tolerance: the limit falls too where the median latency of the last 20 answers is more than so many times that of
            the last 400; None looks at no latency.
        longest_pause: seconds that a Retry-After may keep the whole provider waiting.
        on: which failures say that the provider has too much to do; None is `overloaded`.
    """

    limit: int = 16
    least: int = 1
    most: int = 256
    queue: int = 1024
    adaptive: bool = True
    increase: float = 1.0
    decrease: float = 0.7
    tolerance: float | None = 2.0
    longest_pause: float = 60.0
    on: Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        name = "BulkheadSettings"
        whole(name, "least", self.least, 1)
        whole(name, "most", self.most, self.least)
        whole(name, "limit", self.limit, self.least, self.most)
        whole(name, "queue", self.queue, 0)
        number(name, "increase", self.increase, 0, above=True)
        number(name, "decrease", self.decrease, 0, 1, above=True)
        if self.tolerance is not None:
            number(name, "tolerance", self.tolerance, 1, above=True)
        number(name, "longest_pause", self.longest_pause, 0)
        if self.on is not None and not callable(self.on):
            raise ConfigurationError(f"{name}(on={self.on!r}): it is a function of an exception.", key="on")


class AdaptiveLimit:
    """The limit and what it has learned."""

    __slots__ = ("_exact", "_fell_at", "_lately", "_settings", "_usually", "allowed")

    def __init__(self, settings: BulkheadSettings) -> None:
        self._settings = settings
        self._exact = float(settings.limit)
        #: Calls allowed at once.
        self.allowed = settings.limit
        self._fell_at = -math.inf
        self._lately = Latencies(LATELY)
        self._usually = Latencies(USUALLY)

    def answered(self, started: float, now: float, in_use: int) -> str | None:
        """Learn from a call that succeeded, while ``in_use`` (it included) were under way; return why the limit changed."""
        settings = self._settings
        if not settings.adaptive:
            return None
        if settings.tolerance is not None:
            seconds = now - started
            self._lately.add(seconds)
            self._usually.add(seconds)
            if len(self._lately) == LATELY and len(self._usually) >= 2 * LATELY:
                lately, usual = self._lately.quantile(0.5), self._usually.quantile(0.5)
                if lately > settings.tolerance * usual:
                    return self._fall(started, now, f"answers take {lately:.3g} s lately, usually {usual:.3g} s")
        if 2 * in_use < self._exact:
            return None
        return self._become(self._exact + settings.increase / self._exact, "calls succeed while the limit is in use")

    def refused(self, started: float, now: float) -> str | None:
        """Learn from a call that the provider had no room for; return why the limit changed, or None."""
        return self._fall(started, now, "the provider has too much to do") if self._settings.adaptive else None

    def _fall(self, started: float, now: float, reason: str) -> str | None:
        if started < self._fell_at:
            return None
        self._fell_at = now
        self._lately = Latencies(LATELY)
        return self._become(self._exact * self._settings.decrease, reason)

    def _become(self, exact: float, reason: str) -> str | None:
        self._exact = min(max(exact, float(self._settings.least)), float(self._settings.most))
        before, self.allowed = self.allowed, int(self._exact)
        return None if before == self.allowed else reason
