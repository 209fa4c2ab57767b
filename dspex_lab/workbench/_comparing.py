"""Two programs on the same rows, as one job: both are evaluated, and the difference judged row by row."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from dspex_lab.jobs import Comparison, Evaluate, Evaluation, Found, Plan, Reporter, Sheet, Work
from dspex_lab.lms import Budget

_SIDES = ("first", "second")


@dataclass(frozen=True)
class Compared:
    """Two evaluations on the same rows, and by how much the first is better. A cell shows it in words.

    Args:
        first, second: the evaluations.
        comparison: of the first with the second: a paired bootstrap (:class:`~dspex_lab.jobs.Comparison`).
    """

    first: Evaluation
    second: Evaluation
    comparison: Comparison

    def summary(self) -> dict[str, Any]:
        """Return what is kept of it for people, as plain data."""
        found = self.comparison
        return {
            "score": self.first.score,
            "other": self.second.score,
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "rows": found.rows,
            "verdict": found.verdict,
        }

    def __repr__(self) -> str:
        return f"{self.comparison}\nfirst:  {self.first.interval()}\nsecond: {self.second.interval()}"

    def _repr_html_(self) -> str:
        rows = [(side, str(found.interval())) for side, found in zip(_SIDES, (self.first, self.second), strict=True)]
        return Sheet(str(self.comparison), ("program", "score"), rows)._repr_html_()


@dataclass(frozen=True)
class Compare(Work):
    """The comparison of two programs, each as it would be evaluated.

    Args:
        first, second: their evaluations, on the same rows.
        level: of the confidence interval.
    """

    first: Evaluate
    second: Evaluate
    level: float = 0.95
    kind: str = "compare"
    spread: bool = True
    continues: bool = True

    def check(self, budget: Budget) -> Plan:
        """Return what both expect to take."""
        one, other = self.first.check(budget), self.second.check(budget)
        sums = {
            name: None if None in (a := (getattr(one, name), getattr(other, name))) else a[0] + a[1]
            for name in ("total", "calls", "prompt_tokens", "answer_tokens")
        }
        return Plan(**sums, notes=(*one.notes, *other.notes))

    def run(self, reporter: Reporter) -> Compared | None:
        """Evaluate one after the other; what was done of either is kept."""
        state: dict[str, Any] = {side: (reporter.state or {}).get(side) for side in _SIDES}
        found = [part.run(_Part(reporter, at, state)) for at, part in enumerate((self.first, self.second))]
        if any(each.left_out for each in found):
            return None
        return self._compared(*found)

    def partial(self, found: Found) -> None:
        """Half a comparison is none."""

    def _compared(self, first: Evaluation, second: Evaluation) -> Compared:
        return Compared(first, second, first.compare(second, level=self.level))


class _Part:
    """The reporter that one of the two is given: what it tells is counted with what the other told."""

    def __init__(self, reporter: Reporter, at: int, state: dict[str, Any]) -> None:
        self._reporter, self._at, self._all = reporter, at, state
        self.job_id, self.seed, self.attempt = reporter.job_id, reporter.seed, reporter.attempt
        self.workers, self.folder, self.number = reporter.workers, reporter.folder, reporter.number
        self.known: frozenset[int] | None = None
        self.state = state[_SIDES[at]]

    @property
    def stopping(self) -> bool:
        return self._reporter.stopping

    def progress(self, done: float, total: float | None = None, note: str = "", score: float | None = None) -> None:
        rows = total or 0
        self._reporter.progress(done + self._at * rows, 2 * rows)

    def trial(self, score: float | None = None, **fields: Any) -> int:
        return self._reporter.trial(score, **{**fields, "number": self._at, "note": fields.get("note") or _SIDES[self._at]})

    def best(self, candidate: Any, score: float | None = None) -> None:
        """There is no best of two halves."""

    def keep(self, state: Any) -> None:
        self._all[_SIDES[self._at]] = state
        self._reporter.keep(lambda: {side: kept() if callable(kept) else kept for side, kept in self._all.items()})

    def submit(
        self, function: Callable[..., Any], *args: Any, told: Callable[[Any], None] | None = None, label: str | None = None
    ) -> Future[Any]:
        return self._reporter.submit(function, *args, told=told, label=label)

    def again(self, count: int) -> None:
        self._reporter.again(count)
