"""What an evaluation found: every row, the failed ones too, and what can be said of the score."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import JobError
from dspex_lab.jobs._card import Sheet
from dspex_lab.jobs._compare import Comparison, Interval, compare_scores, interval_of
from dspex_lab.jobs._scoring import ScoredRow
from dspex_lab.security import one_line

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation. A cell shows it as a table.

    Args:
        rows: what came of each row, by index; of a stopped evaluation those that were done.
        inputs: what the program was given, by index.
        total: how many rows the data set has.
        keys: what tells each row's content, by index: comparisons are made row by row.
        name: what was evaluated.
    """

    rows: Sequence[ScoredRow]
    inputs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    total: int = 0
    keys: Sequence[str] = field(default=(), repr=False)
    name: str = ""

    @cached_property
    def scores(self) -> dict[int, float]:
        """The scores by index, of the rows that have one."""
        return {row.index: row.score for row in self.rows if row.score is not None}

    @property
    def score(self) -> float | None:
        """The mean of the rows that have a score; None where none has. Rows that failed are not taken for 0: see ``failed``,
        and :meth:`score_with` to count them."""
        return statistics.fmean(self.scores.values()) if self.scores else None

    @cached_property
    def failures(self) -> list[ScoredRow]:
        """The rows that failed."""
        return [row for row in self.rows if row.status == "failed"]

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return len(self.failures)

    @property
    def left_out(self) -> int:
        """How many rows were not begun, because it was stopped or its budget spent."""
        return self.total - len(self.rows)

    @property
    def errors(self) -> dict[str, int]:
        """How often each error came, the most frequent first."""
        return dict(Counter(row.error or "" for row in self.failures).most_common())

    @property
    def cost(self) -> float | None:
        """US dollars of all rows; None where a price is not known."""
        costs = [row.cost for row in self.rows]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def score_with(self, failure: float) -> float | None:
        """Return the mean score, with a failed row counted as ``failure`` (DSPy counts it as 0)."""
        values = [*self.scores.values(), *[failure] * self.failed]
        return statistics.fmean(values) if values else None

    def interval(self, level: float = 0.95, *, seed: int = 0) -> Interval:
        """Return the mean score with its confidence interval (:func:`~dspex_lab.jobs.interval_of`).

        Raises:
            JobError: no row has a score.
        """
        if not self.scores:
            raise JobError("No row has a score.", hint="evaluation.errors says why.")
        return interval_of(list(self.scores.values()), level, seed=seed)

    def compare(self, other: Evaluation, *, level: float = 0.95, seed: int = 0) -> Comparison:
        """Return by how much this is better than ``other`` on the rows that have a score in both, and whether that is more than
        chance (:func:`~dspex_lab.jobs.compare_scores`).

        Raises:
            JobError: they are not of the same rows, or have no scored row in common.
        """
        if self.keys and other.keys and list(self.keys) != list(other.keys):
            raise JobError(
                "These are evaluations of different rows, which cannot be compared row by row.",
                hint="Evaluate both programs on the same data.",
            )
        both = sorted(self.scores.keys() & other.scores.keys())
        if not both:
            raise JobError("No row has a score in both evaluations.", hint="evaluation.errors says why.")
        left_out = len(self.scores.keys() | other.scores.keys()) - len(both)
        mine, theirs = [self.scores[i] for i in both], [other.scores[i] for i in both]
        return compare_scores(mine, theirs, level, seed=seed, left_out=left_out)

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame: ``index, inputs, prediction, score, status, error, feedback, seconds, cost, calls``."""
        import pandas as pd

        columns = ("index", "inputs", "prediction", "score", "status", "error", "feedback", "seconds", "cost", "calls")
        rows = [
            [row.index, dict(self.inputs.get(row.index, {})), *[getattr(row, name) for name in columns[2:]]]
            for row in self.rows
        ]
        return pd.DataFrame(rows, columns=list(columns))

    @property
    def note(self) -> str:
        """What is to be said beside the score; empty where all rows have one."""
        parts = []
        if self.failed:
            error, count = next(iter(self.errors.items()))
            most = "" if len(self.errors) == 1 else f", most often ({count:,} times)" if count > 1 else ", for instance"
            are = "1 of {:,} rows" if self.failed == 1 else f"{self.failed:,} of {{:,}} rows"
            parts.append(f"{are.format(self.total)} failed{most}: {error}")
        if self.left_out:
            parts.append(f"{self.left_out:,} of {self.total:,} rows were not evaluated")
        return "; ".join(parts)

    def summary(self) -> dict[str, Any]:
        """Return what is kept of it for people, as plain data."""
        told = {"score": self.score, "rows": len(self.rows), "total": self.total, "failed": self.failed, "cost": self.cost}
        if len(self.scores) > 1:
            told |= {"low": self.interval().low, "high": self.interval().high}
        return told | ({"errors": dict(list(self.errors.items())[:5])} if self.failed else {})

    def sheet(self) -> Sheet:
        """Return it as a table: the score, then the first failures and the worst rows."""
        said = "no score" if self.score is None else str(self.interval())
        worst = sorted((row for row in self.rows if row.score is not None), key=lambda row: (row.score, row.index))
        rows = [
            (
                str(row.index),
                row.status,
                "–" if row.score is None else f"{row.score:.4g}",
                one_line(row.error or row.feedback or row.prediction, 100),
            )
            for row in [*self.failures[:5], *worst[:5]]
        ]
        note = f". {one_line(self.note, 300)}" if self.note else ""
        return Sheet(f"{one_line(self.name or 'Evaluation', 60)}: {said}{note}", ("row", "status", "score", "said"), rows, said)

    def __repr__(self) -> str:
        return repr(self.sheet())

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()
