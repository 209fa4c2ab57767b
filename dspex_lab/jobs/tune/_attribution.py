"""What each of two changes gained, and both together: four programs on the same rows, compared row by row."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspex_lab.errors import JobError, OutOfMemory, PoisonTask, WorkerKilled
from dspex_lab.jobs._card import Sheet
from dspex_lab.jobs._compare import Interval, interval_of
from dspex_lab.jobs._pieces import Item, evaluate_rows
from dspex_lab.jobs._scoring import ScoredRow
from dspex_lab.jobs._work import Reporter

CELLS = ("neither", "first", "second", "both")


@dataclass(frozen=True)
class Attribution:
    """The score with neither change, with each alone, and with both; on the same rows.

    Args:
        scores: of each row that has a score in all four, by cell.
        names: what the two changes are called.
        rows: how many rows were tried; those that failed in one cell count in none.
    """

    scores: Mapping[str, Sequence[float]]
    names: tuple[str, str] = ("first", "second")
    rows: int = 0

    @property
    def means(self) -> dict[str, float]:
        """The mean score of each cell."""
        return {cell: statistics.fmean(self.scores[cell]) for cell in CELLS}

    def _differences(self, plus: Sequence[str], minus: Sequence[str]) -> list[float]:
        s = self.scores
        return [sum(s[c][at] for c in plus) - sum(s[c][at] for c in minus) for at in range(len(s["both"]))]

    def gain(self, cell: str, level: float = 0.95) -> Interval:
        """Return by how much ``"first"``, ``"second"`` or ``"both"`` is better than neither, with its interval (paired
        bootstrap)."""
        return interval_of(self._differences([cell], ["neither"]), level)

    def share(self, cell: str) -> float:
        """Return the part of the whole gain that is one side's: the mean of what it gains alone and what it gains on top of the
        other (Shapley's value). The two shares sum to the gain of both."""
        other = "second" if cell == "first" else "first"
        m = self.means
        return ((m[cell] - m["neither"]) + (m["both"] - m[other])) / 2

    def interaction(self, level: float = 0.95) -> Interval:
        """Return what both gain beyond the sum of what each gains alone; below 0 where they are in each other's way."""
        return interval_of(self._differences(["both", "neither"], ["first", "second"]), level)

    def sheet(self) -> Sheet:
        """Return it as a table."""
        names = {"neither": "neither", "first": self.names[0], "second": self.names[1], "both": "both"}
        rows = [(names["neither"], f"{self.means['neither']:.4g}", "", "")]
        for cell in CELLS[1:]:
            share = f"{self.share(cell):+.4g}" if cell != "both" else f"{self.means['both'] - self.means['neither']:+.4g}"
            rows.append((names[cell], f"{self.means[cell]:.4g}", str(self.gain(cell)), share))
        rows.append(("interaction", "", str(self.interaction()), ""))
        return Sheet(
            f"What gained what, on {len(self.scores['both'])} rows", ("with", "score", "gain alone", "share"), rows, ""
        )

    def __repr__(self) -> str:
        return repr(self.sheet())

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()


def measure(
    reporter: Reporter,
    program: Any,
    metric: Callable[..., Any],
    items: Sequence[Item],
    *,
    threads: int,
    label: str,
) -> dict[int, ScoredRow]:
    """Return what came of each row, evaluated on a worker; of those that a stop or the budget left out nothing."""
    rows: dict[int, ScoredRow] = {}

    def told(value: Any) -> None:
        if isinstance(value, ScoredRow):
            rows[value.index] = replace(value, prediction=None, traceback=None)

    for last in (False, True):
        todo = [item for item in items if item.at not in rows]
        piece = reporter.submit(evaluate_rows, program, metric, todo, threads, told=told, label=label)
        try:
            piece.result()
            return rows
        except (WorkerKilled, OutOfMemory, PoisonTask):
            if last:
                raise
            reporter.again(1)
    return rows


def attributed(cells: Mapping[str, Mapping[int, ScoredRow]], names: tuple[str, str], rows: int) -> Attribution:
    """Return the attribution of what four programs scored.

    Raises:
        JobError: no row has a score in all of them.
    """
    scores = {cell: {at: row.score for at, row in cells[cell].items() if row.score is not None} for cell in CELLS}
    both = sorted(set.intersection(*(set(each) for each in scores.values())))
    if not both:
        raise JobError("No row has a score in all four programs: nobody can say what gained what.")
    return Attribution({cell: [scores[cell][at] for at in both] for cell in CELLS}, names, rows)
