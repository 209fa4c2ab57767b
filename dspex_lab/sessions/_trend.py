"""Whether a series of durations rises or falls, by how much, and since when. No assumption on how they are distributed.

Mann-Kendall's test (Mann 1945, Kendall 1975) with the correction for ties, one-step continuity, and the normal approximation;
of several pipelines in one session the sums of each are added, as Hirsch, Slack and Smith (1982) do for seasons, so that a slow
pipeline that came later is no trend. The slope is Theil's and Sen's: the median of the slopes between all pairs. Since when:
Pettitt's test (1979) for one change point.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

#: Values below which nothing is said of a trend, and the probability below which it is called one.
FEWEST, LEVEL = 8, 0.05


@dataclass(frozen=True, slots=True)
class Trend:
    """How durations change.

    Attributes:
        direction: ``"slower"``, ``"faster"``, ``"steady"`` (nothing that could not be chance) or ``"unknown"`` (too few runs).
        slope: seconds per run, Theil-Sen; None where unknown.
        p: the probability that chance alone gives so strong a trend (Mann-Kendall, two-sided); None where unknown.
        runs: how many it is of.
    """

    direction: Literal["slower", "faster", "steady", "unknown"]
    slope: float | None
    p: float | None
    runs: int

    @property
    def significant(self) -> bool:
        """Whether it is a trend and not chance, at the 5 % level."""
        return self.direction in ("slower", "faster")

    def __str__(self) -> str:
        if self.p is None or self.slope is None:
            return f"unknown: {self.runs} comparable run{'' if self.runs == 1 else 's'}, {FEWEST} are needed"
        return (
            f"{self.direction} ({self.slope * 1000:+.3g} ms a run, p = {self.p:.3g}, {self.runs} runs; Mann-Kendall, Theil-Sen)"
        )


def trend(series: Mapping[str, Sequence[float]]) -> Trend:
    """Return the trend of durations (seconds), in the order of their runs, by pipeline."""
    kept = {name: values for name, values in series.items() if len(values) >= FEWEST}
    count = sum(map(len, kept.values()))
    if not kept:
        return Trend("unknown", None, None, max(map(len, series.values()), default=0))
    total, variance = 0, 0.0
    slopes: list[float] = []
    for values in kept.values():
        score, spread = _mann_kendall(values)
        total, variance = total + score, variance + spread
        slopes += [(b - a) / (j - i) for i, a in enumerate(values) for j, b in enumerate(values[i + 1 :], i + 1)]
    p = 1.0
    if variance > 0 and total:
        p = math.erfc((abs(total) - 1) / math.sqrt(variance) / math.sqrt(2))
    sure = p < LEVEL
    return Trend(("slower" if total > 0 else "faster") if sure else "steady", median(slopes), p, count)


def _mann_kendall(values: Sequence[float]) -> tuple[int, float]:
    """Return S and its variance."""
    n = len(values)
    score = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values())
    return score, (n * (n - 1) * (2 * n + 5) - ties) / 18


@dataclass(frozen=True, slots=True)
class Change:
    """Where a series changed: ``index`` is the first value of its second part; the medians are those of both parts."""

    index: int
    before: float
    after: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether it is no chance, at the 5 % level."""
        return self.p < LEVEL


def change_point(values: Sequence[float]) -> Change | None:
    """Return the likeliest single change of level (Pettitt), None for fewer than :data:`FEWEST` values."""
    n = len(values)
    if n < FEWEST:
        return None
    best, at, running = 0, 1, 0
    for t in range(n - 1):
        running += sum((values[t] > other) - (values[t] < other) for other in values)
        if abs(running) > best:
            best, at = abs(running), t + 1
    p = min(1.0, 2 * math.exp(-6 * best**2 / (n**3 + n**2)))
    return Change(at, median(values[:at]), median(values[at:]), p)
