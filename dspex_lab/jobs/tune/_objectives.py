"""What is made best: quality, cost, latency; which trials no other beats; and which of them is taken. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dspex_lab.errors import ConfigurationError, JobError, did_you_mean
from dspex_lab.jobs._scoring import ScoredRow

Of = Callable[[Sequence[ScoredRow]], float]
MAXIMIZE, MINIMIZE = "maximize", "minimize"


@dataclass(frozen=True)
class Objective:
    """One number that is made great or small.

    Args:
        name: its own.
        direction: ``"maximize"`` or ``"minimize"``.
        of: gives it from the rows of a trial; None where it is one of those that are known by name.
    """

    name: str
    direction: str
    of: Of | None = None

    def measure(self, rows: Sequence[ScoredRow], failure: float | None = None) -> float:
        """Return the number.

        Args:
            rows: of a trial, the failed ones too.
            failure: what a failed row scores; None leaves it out.

        Raises:
            JobError: nobody can say it, or it is no finite number.
        """
        if self.of is not None:
            value = self.of(rows)
        elif self.name in _QUALITY:
            scores = [row.score for row in rows if row.score is not None]
            value = statistics.fmean(scores + [failure] * (len(rows) - len(scores)) if failure is not None else scores)
        else:
            value = KNOWN[self.name][1](rows)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise JobError(f"The objective {self.name!r} came to {value!r}, which is no number.")
        return float(value)

    def better(self, one: float, other: float) -> bool:
        """Say whether one value is better than another."""
        return one > other if self.direction == MAXIMIZE else one < other

    def told(self, value: float) -> float:
        """Return it such that higher is better."""
        return value if self.direction == MAXIMIZE else -value


def _cost(rows: Sequence[ScoredRow]) -> float:
    costs = [row.cost for row in rows]
    if None in costs:
        raise JobError(
            "The objective 'cost' is not known: the price of a model is not.", hint="dx.set_price says it; or minimize 'calls'."
        )
    return statistics.fmean(cost for cost in costs if cost is not None)


def _nothing(rows: Sequence[ScoredRow]) -> float:
    return 0.0


_QUALITY = ("score", "quality")
#: Objectives by name: which direction they have, and what they are.
KNOWN: dict[str, tuple[str, Of]] = {
    "score": (MAXIMIZE, _nothing),
    "quality": (MAXIMIZE, _nothing),
    "cost": (MINIMIZE, _cost),
    "latency": (MINIMIZE, lambda rows: statistics.fmean(row.seconds for row in rows)),
    "seconds": (MINIMIZE, lambda rows: statistics.fmean(row.seconds for row in rows)),
    "calls": (MINIMIZE, lambda rows: statistics.fmean(row.calls for row in rows)),
    "failed": (MINIMIZE, lambda rows: sum(row.status == "failed" for row in rows) / len(rows)),
}


def objectives_of(given: Any = None) -> tuple[Objective, ...]:
    """Return objectives.

    Args:
        given: None for the metric's score alone; names (``["quality", "cost"]``); or a dict from names to ``"maximize"``,
            ``"minimize"`` or a pair of that and a function of the trial's rows.

    Raises:
        ConfigurationError: it names none that is known, or twice the same; the message says what may be meant.
    """
    if given is None:
        return (Objective("score", MAXIMIZE),)
    items = given.items() if isinstance(given, Mapping) else [(name, None) for name in _listed(given)]
    found = [_objective(name, said) for name, said in items]
    names = [each.name for each in found]
    if not found or len(set(names)) != len(names):
        raise ConfigurationError("Objectives are named once each, and there is one or more.", key="objectives", actual=names)
    return tuple(found)


def _listed(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) else list(given)


def _objective(name: Any, said: Any) -> Objective:
    of = None
    if isinstance(said, tuple) and len(said) == 2 and callable(said[1]):
        said, of = said
    elif name not in KNOWN:
        raise ConfigurationError(
            f"There is no objective {name!r}.{did_you_mean(str(name), KNOWN)}",
            key="objectives",
            expected=sorted(KNOWN),
            actual=name,
            hint="One of your own: {name: ('maximize', function of the rows)}.",
        )
    direction = KNOWN[name][0] if said is None else said
    if direction not in (MAXIMIZE, MINIMIZE):
        near = did_you_mean(str(direction), (MAXIMIZE, MINIMIZE))
        raise ConfigurationError(
            f"The objective {name!r} cannot be {direction!r}.{near}", key="objectives", expected=(MAXIMIZE, MINIMIZE)
        )
    return Objective(str(name), direction, of)


T = TypeVar("T", bound=Any)


def front_of(tried: Sequence[T], objectives: Sequence[Objective]) -> list[T]:
    """Return what no other one beats: none is at least as good in all objectives and better in one. In the order given; of
    several that measured the same the first."""
    return [each for each in tried if not any(_beats(other, each, objectives) for other in tried)]


def _beats(one: Any, other: Any, objectives: Sequence[Objective]) -> bool:
    pairs = [(o, one.scores[o.name], other.scores[o.name]) for o in objectives]
    if any(o.better(b, a) for o, a, b in pairs):
        return False
    return any(o.better(a, b) for o, a, b in pairs) or one.number < other.number


def best_of(tried: Sequence[T], objectives: Sequence[Objective], prefer: Mapping[str, float] | None = None) -> T | None:
    """Return the one to take: of those that no other beats.

    Args:
        prefer: weights by objective: the greatest weighted sum, with each objective stretched to 0 (the worst on the front)
            to 1 (the best). None: the best in the first objective, of equal ones in the second, and so on.
    """
    if not tried:
        return None
    if prefer is None:  # whatever is best in this order is beaten by none
        return max(tried, key=lambda each: (*(o.told(each.scores[o.name]) for o in objectives), -each.number))
    front = front_of(tried, objectives)
    ends = {o.name: [o.told(each.scores[o.name]) for each in front] for o in objectives}

    def worth(each: Any) -> float:
        total = 0.0
        for o in objectives:
            low, high = min(ends[o.name]), max(ends[o.name])
            share = 1.0 if high == low else (o.told(each.scores[o.name]) - low) / (high - low)
            total += prefer.get(o.name, 0.0) * share
        return total

    return max(front, key=lambda each: (worth(each), -each.number))


def check_prefer(prefer: Any, objectives: Sequence[Objective]) -> None:
    """Refuse weights that fit no objective.

    Raises:
        ConfigurationError: one is for what is no objective, or no number from 0 on; or all are 0.
    """
    if prefer is None:
        return
    names = [each.name for each in objectives]
    for name, weight in prefer.items():
        if name not in names:
            raise ConfigurationError(
                f"prefer names {name!r}, which is no objective.{did_you_mean(str(name), names)}", key="prefer", expected=names
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ConfigurationError(f"The weight of {name!r} is {weight!r}.", key="prefer", expected="0 or more")
    if not any(prefer.values()):
        raise ConfigurationError("All weights are 0.", key="prefer", expected="one above 0")
