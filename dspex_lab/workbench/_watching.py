"""Whether an adopted program still does as well as when it was adopted: a sequential test on what is scored live. Pure.

Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting" (JRSS B 86): with scores in 0..1
whose mean is at least ``m``, the wealth of who bets against that, the product of ``1 + b (m - score)``, is a supermartingale
for every stake ``b`` in ``[0, 1 / (1 - m)]``, and so is the mean over several stakes. By Ville's inequality it ever reaches
``1 / alpha`` with a probability of at most ``alpha``, however often one looks: the test may be asked after each run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Shares of the largest stake: small ones find a small fall, large ones a large one soon.
_STAKES = (0.05, 0.1, 0.25, 0.5, 0.75)
#: How likely a false alarm is, ever.
ALPHA = 0.05


@dataclass(frozen=True)
class Evidence:
    """What is known of the live scores.

    Args:
        baseline: what is asked of them in the mean: the lower end of what was measured at adoption.
        scores: how many there are.
        mean: theirs; None where there are none.
        wealth: of who bets that they are lower; ``1 / alpha`` says so.
        alpha: how likely a false alarm is, ever.
    """

    baseline: float
    scores: int
    mean: float | None
    wealth: float
    alpha: float = ALPHA

    @property
    def fallen(self) -> bool:
        """Whether the mean has fallen below the baseline."""
        return self.wealth >= 1 / self.alpha

    def __str__(self) -> str:
        if self.mean is None:
            return f"no live score yet (asked for: {self.baseline:.3g})"
        said = "fallen" if self.fallen else "no fall shown"
        return (
            f"{said}: {self.mean:.3g} over {self.scores:,} live score{'' if self.scores == 1 else 's'}, at adoption at least "
            f"{self.baseline:.3g} (evidence {self.wealth:.3g} of {1 / self.alpha:.3g})"
        )


def evidence(scores: Sequence[float], baseline: float, alpha: float = ALPHA) -> Evidence:
    """Return what live scores in 0..1, in their order, say against a mean of at least ``baseline``.

    A wealth once reached counts: scores that come after it do not take an alarm back.
    """
    mean = math.fsum(scores) / len(scores) if scores else None
    # At a baseline of 1 a single lower score would be proof, and at 0 nothing can fall.
    asked = min(max(baseline, 0.0), 0.995)
    logs = [0.0] * len(_STAKES)
    most = 1.0
    for score in scores:
        for at, share in enumerate(_STAKES):
            logs[at] += math.log1p(share / (1 - asked) * (asked - min(max(score, 0.0), 1.0)))
        most = max(most, math.fsum(math.exp(min(each, 700.0)) for each in logs) / len(logs))
    return Evidence(baseline, len(scores), mean, most, alpha)
