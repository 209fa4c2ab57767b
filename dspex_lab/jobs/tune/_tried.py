"""One trial as it is kept in the study, for whoever goes on or reads it later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dspex_lab.jobs._scoring import ScoredRow
from dspex_lab.jobs.tune._search import Search

#: Why a trial is not one of those that were asked for: it is there besides.
BESIDES = ("rescored",)


@dataclass(frozen=True)
class Tried:
    """What came of some values.

    Args:
        number: the trial's, in the study too.
        status: ``"complete"``, ``"pruned"``, ``"failed"``, or ``"unfinished"`` (it was stopped, its budget was spent, or its
            process died).
        values: of the variables that were moved and counted.
        scores: by objective; of a pruned one on the rows that were tried.
        rows: how many it was tried on, ``failed`` how many of these failed.
        cost: US dollars; None where a price is not known.
        version: of the space, when it began.
        others: the versions of the other variables that it ran with.
        origin: where the values came from: ``"sampler"``, ``"present"``, ``"history"``, ``"earlier study"``, ``"repeated"``,
            ``"rescored"`` (the best so far, again, because another job had committed), ``"known"`` (they had been tried).
        row_scores: by row, of those that have one.
        error: why it failed.
    """

    number: int
    status: str
    values: Mapping[str, Any]
    scores: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    failed: int = 0
    seconds: float = 0.0
    cost: float | None = 0.0
    calls: int = 0
    version: int = 0
    others: Mapping[str, int] = field(default_factory=dict)
    origin: str = "sampler"
    row_scores: Mapping[int, float] = field(default_factory=dict, repr=False)
    error: str | None = None
    note: str | None = None

    @property
    def counted(self) -> bool:
        """Whether it is one of the trials that were asked for."""
        return self.status != "unfinished" and self.origin not in BESIDES

    def as_json(self, search: Search) -> dict[str, Any]:
        """Return it as JSON."""
        told = {name: value for name, value in asdict(self).items() if name not in ("values", "row_scores")}
        rows = {str(at): score for at, score in self.row_scores.items()}
        return {**told, "values": search.as_json(self.values), "row_scores": rows}

    @classmethod
    def from_json(cls, told: Mapping[str, Any], search: Search) -> Tried:
        """Return what :meth:`as_json` gave; what it does not know is left out."""
        known = {each.name for each in fields(cls)}
        kept = {name: value for name, value in told.items() if name in known}
        kept["values"] = search.from_json(told["values"])
        kept["row_scores"] = {int(at): score for at, score in told.get("row_scores", {}).items()}
        return cls(**kept)


def sums(rows: Sequence[ScoredRow]) -> dict[str, Any]:
    """Return what the rows of a trial come to: the fields of :class:`Tried` that are sums."""
    costs = [row.cost for row in rows]
    return {
        "rows": len(rows),
        "failed": sum(row.status == "failed" for row in rows),
        "cost": None if None in costs else sum(cost for cost in costs if cost is not None),
        "calls": sum(row.calls for row in rows),
        "row_scores": {row.index: row.score for row in rows if row.score is not None},
    }
