"""How far a job is, what it has spent, and when it will be done. Pure: the clock is given."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from dspex_lab.events import LMCall
from dspex_lab.lms import Budget

#: Moments that the pace is taken from: more smooth it, fewer follow a change sooner.
_MARKS = 64
#: Parts these are cut into: the pace is the median of theirs, so that one stall or one burst does not sway it.
_PARTS = 8


class Spent(NamedTuple):
    """What a job has spent on models.

    Args:
        cost: US dollars, of the calls whose price is known.
        calls: calls that were really made.
        tokens: tokens of prompts and answers.
        cached: calls that a cache answered, which cost nothing.
        unpriced: how many of the calls have no known price and are not in ``cost``.
    """

    cost: float = 0.0
    calls: int = 0
    tokens: int = 0
    cached: int = 0
    unpriced: int = 0

    def plus(self, call: LMCall) -> Spent:
        """Return it with one more call."""
        if call.cache_hit:
            return self._replace(cached=self.cached + 1)
        return Spent(
            self.cost + (call.cost or 0.0),
            self.calls + 1,
            self.tokens + (call.prompt_tokens or 0) + (call.completion_tokens or 0),
            self.cached,
            self.unpriced + (call.cost is None and call.error is None),
        )


class Left(NamedTuple):
    """What is left: ``iterations`` of the work and, of the budget, ``cost`` (US dollars), ``calls`` and ``tokens``. None: not
    limited, or not known."""

    iterations: float | None = None
    cost: float | None = None
    calls: int | None = None
    tokens: int | None = None


NOTHING, UNKNOWN = Spent(), Left()


@dataclass(frozen=True, slots=True)
class Progress:
    """How a job is at one moment.

    Args:
        done: how many rows, trials or steps.
        total: of how many; None where that is not known.
        note: a word on what it does.
        best: the best score so far.
        spent: on models.
        left: of work and budget.
        eta: seconds until it is done at its present pace; None where that is not known. 0 once it is.
        repeated: how much was done again after a worker or the kernel had died.
    """

    done: float = 0.0
    total: float | None = None
    note: str = ""
    best: float | None = None
    spent: Spent = NOTHING
    left: Left = UNKNOWN
    eta: float | None = None
    repeated: int = 0

    @property
    def fraction(self) -> float | None:
        """How much is done, 0 to 1; None where that is not known."""
        return None if not self.total else min(max(self.done / self.total, 0.0), 1.0)


def left(done: float, total: float | None, spent: Spent, budget: Budget) -> Left:
    """Return what is left of the work and of the budget; never below 0."""

    def of(limit: float | None, used: float) -> float | None:
        return None if limit is None else max(limit - used, 0)

    calls, tokens = of(budget.calls, spent.calls), of(budget.tokens, spent.tokens)
    return Left(
        None if total is None else max(total - done, 0.0),
        of(budget.cost, spent.cost),
        None if calls is None else int(calls),
        None if tokens is None else int(tokens),
    )


def remaining(budget: Budget, spent: Spent) -> Budget:
    """Return the budget of what is left of one."""
    rest = left(0, None, spent, budget)
    return Budget(cost=rest.cost, tokens=rest.tokens, calls=rest.calls)


class Pace:
    """How long one unit of work takes, from when units were done. Not thread-safe.

    The last moments are cut into a few parts; the seconds per unit are the median of the parts', so that a pause (a worker
    that was replaced) or a burst (answers from a cache) is outvoted until it has become the rule.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float]] = deque(maxlen=_MARKS)

    def start(self, now: float, done: float) -> None:
        """Forget the pace: the work begins, or begins anew, with so much done."""
        self._marks.clear()
        self._marks.append((now, done))

    def mark(self, now: float, done: float) -> None:
        """Note that so much is done now."""
        if not self._marks or done > self._marks[-1][1]:
            self._marks.append((now, done))
        elif done < self._marks[-1][1]:  # the work has begun again
            self.start(now, done)

    def seconds_per_unit(self) -> float | None:
        """Return how long a unit takes; None before two moments are known."""
        if len(self._marks) < 2:
            return None
        marks, last = list(self._marks), len(self._marks) - 1
        parts = min(_PARTS, last)
        edges = [round(at * last / parts) for at in range(parts + 1)]
        pairs = [(marks[a], marks[b]) for a, b in itertools.pairwise(edges)]
        return statistics.median((late[0] - early[0]) / (late[1] - early[1]) for early, late in pairs)

    def eta(self, now: float, done: float, total: float | None) -> float | None:
        """Return the seconds until ``total`` is reached; what has passed since the last moment counts, None where not known."""
        if total is None:
            return None
        if done >= total:
            return 0.0
        unit = self.seconds_per_unit()
        if unit is None:
            return None
        return max((total - done) * unit - max(now - self._marks[-1][0], 0.0), 0.0)
