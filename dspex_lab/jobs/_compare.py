"""Whether one score is really better than another: intervals and tests on the same rows. Pure; numpy is loaded when needed.

Sources: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapters 13 (percentile interval) and 15 (tests by
resampling); Phipson & Smyth 2010 (a resampled p value is never 0: the observed sample counts as one); Wilson 1927 (interval of
a share); McNemar 1947, in its exact form, for answers that are right or wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

from dspex_lab.errors import ConfigurationError

#: Resamples: the p value of what is at the edge (0.05) then has a standard error of 0.002.
RESAMPLES = 10_000
#: Rows times resamples that are drawn at once.
_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval, of ``rows`` rows; ``method`` is ``"wilson"`` or ``"bootstrap"``."""

    value: float
    low: float
    high: float
    level: float
    rows: int
    method: str

    def __str__(self) -> str:
        of = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        return f"{self.value:.4g} ({self.level:.4g} interval {self.low:.4g} to {self.high:.4g}, {of})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """By how much one is better than another, on the same rows.

    Args:
        difference: of the mean scores; above 0, the first is better.
        low, high: the confidence interval of the difference, by paired bootstrap.
        p: how likely a difference as large, in either direction, is where there is none: by the sign-flipped resamples of the
            paired differences, or exactly by McNemar where all scores are 0 or 1 (``method``).
        wins, losses, ties: rows on which the first is better, worse, as good.
        left_out: rows that have a score in one of both only.
    """

    difference: float
    low: float
    high: float
    p: float
    level: float
    rows: int
    wins: int
    losses: int
    ties: int
    method: str
    left_out: int = 0

    @property
    def significant(self) -> bool:
        """Whether a difference as large is too unlikely by chance, at this level."""
        return self.p < 1 - self.level

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"``, or ``"no difference shown"``."""
        return ("better" if self.difference > 0 else "worse") if self.significant else "no difference shown"

    @property
    def figures(self) -> str:
        """The difference with its interval, and what else there is to be known of it, in one line."""
        left_out = f", {self.left_out:,} rows left out that failed in one of both" if self.left_out else ""
        return (
            f"{self.difference:+.4g} ({self.level:.4g} interval {self.low:+.4g} to {self.high:+.4g}, "
            f"p = {self.p:.3g}, {self.method}; {self.rows:,} rows: {self.wins:,} better, {self.losses:,} worse{left_out})"
        )

    def __str__(self) -> str:
        return f"{self.verdict}: {self.figures}"


def interval_of(scores: Sequence[float], level: float = 0.95, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of scores with its confidence interval: Wilson's where all are 0 or 1, else the percentile bootstrap's.

    Raises:
        ConfigurationError: there are no scores, one is not finite, or the level is not between 0 and 1.
    """
    _check(scores, level)
    rows, mean = len(scores), fmean(scores)
    if _binary(scores):
        low, high = wilson(round(mean * rows), rows, level)
        return Interval(mean, low, high, level, rows, "wilson")
    low, high = _edges(_means(scores, seed, resamples), level)
    # Rounding in the resamples must not put the mean outside of its own interval.
    return Interval(mean, min(low, mean), max(high, mean), level, rows, "bootstrap")


def compare_scores(
    ours: Sequence[float],
    theirs: Sequence[float],
    level: float = 0.95,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    left_out: int = 0,
) -> Comparison:
    """Return by how much ``ours`` are better than ``theirs``, row by row.

    Raises:
        ConfigurationError: they are not as many, there are none, one is not finite, or the level is not between 0 and 1.
    """
    if len(ours) != len(theirs):
        raise ConfigurationError(
            f"Scores of {len(ours):,} rows cannot be compared row by row with those of {len(theirs):,}.",
            key="scores",
            expected=len(ours),
            actual=len(theirs),
        )
    _check([*ours, *theirs], level)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    mean = fmean(differences)
    low, high = _edges(_means(differences, seed, resamples), level)
    binary = _binary(ours) and _binary(theirs)
    return Comparison(
        mean,
        min(low, mean),
        max(high, mean),
        mcnemar(wins, losses) if binary else _flipped(differences, seed, resamples),
        level,
        len(differences),
        wins,
        losses,
        len(differences) - wins - losses,
        "McNemar's exact test" if binary else "paired sign flips",
        left_out,
    )


def wilson(successes: float, rows: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share: right also for few rows, and for none or all of them. Of a mean of scores
    between 0 and 1 (``successes`` is their sum) it is an upper limit: shares vary most."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (
        0.0 if successes == 0 else max(middle - half, 0.0),
        1.0 if successes == rows else min(middle + half, 1.0),
    )


def mcnemar(wins: int, losses: int) -> float:
    """Return the two-sided exact p value of so many rows that only one, or only the other, got right: each is a toss of a fair
    coin where there is no difference."""
    tosses, ways, tail = wins + losses, 1, 0
    for heads in range(min(wins, losses) + 1):
        tail += ways
        ways = ways * (tosses - heads) // (heads + 1)
    # Integers, because the ways to toss a thousand coins are more than a float can count.
    return min(2 * tail / 2**tosses, 1.0)


def _flipped(differences: Sequence[float], seed: int, resamples: int) -> float:
    """Return the two-sided p value of a mean difference: how often it is as large where the sign of each row's is tossed."""
    import numpy as np

    values = np.asarray([d for d in differences if d != 0], dtype=float)
    if not len(values):
        return 1.0
    observed, random, as_large, left = abs(values.sum()), np.random.default_rng(seed), 0, resamples
    while left:
        some = min(left, max(_AT_ONCE // len(values), 1))
        signs = random.integers(0, 2, size=(some, len(values)), dtype=np.int8) * 2 - 1
        # A hair's breadth for sums of the same terms in another order.
        as_large += int((np.abs(signs @ values) >= observed * (1 - 1e-12)).sum())
        left -= some
    return (as_large + 1) / (resamples + 1)


def _means(values: Sequence[float], seed: int, resamples: int) -> Any:
    """Return the means of samples of as many rows, drawn with replacement."""
    import numpy as np

    given, random = np.asarray(values, dtype=float), np.random.default_rng(seed)
    made, left = [], resamples
    while left:
        some = min(left, max(_AT_ONCE // len(given), 1))
        made.append(given[random.integers(0, len(given), size=(some, len(given)))].mean(axis=1))
        left -= some
    return np.concatenate(made)


def _edges(means: Any, level: float) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _binary(scores: Sequence[float]) -> bool:
    return all(score in (0, 1) for score in scores)


def _check(scores: Sequence[float], level: float) -> None:
    if not scores:
        raise ConfigurationError("There are no scores.", key="scores", expected="one or more", actual=0)
    for at, score in enumerate(scores):
        if not math.isfinite(score):
            raise ConfigurationError(f"Score {at} is {score}.", key=f"scores[{at}]", expected="a number", actual=score)
    if not 0 < level < 1:
        raise ConfigurationError(f"level={level!r} is no level.", key="level", expected="above 0, below 1", actual=level)
