"""A trial under way, and what is told of one that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import JobError
from dspex_lab.jobs._scoring import ScoredRow
from dspex_lab.jobs._work import Reporter
from dspex_lab.jobs.tune._tried import Tried
from dspex_lab.security import one_line
from dspex_lab.variables import Snapshot, value_words

if TYPE_CHECKING:
    from dspex_lab.jobs.tune._work import Tune


@dataclass
class Going:
    """A trial under way.

    Args:
        snapshot: the values it runs with.
        others: the versions of the variables that this job does not move.
        asked: the rows of the piece that is under way; of these, ``begun`` were under way at some moment.
        suspects: rows that were under way when a worker died; they go alone, so that only the culprit is lost.
        edge: rows up to which it is done; ``reported`` up to which Optuna was told.
    """

    trial: Any
    values: dict[str, Any]
    snapshot: Snapshot
    others: dict[str, int]
    origin: str
    program: Any
    began: float
    rows: dict[int, ScoredRow] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    begun: set[int] = field(default_factory=set)
    suspects: list[int] = field(default_factory=list)
    edge: int = 0
    reported: int = 0
    deaths: int = 0


def tell_of(reporter: Reporter, tried: Tried, work: Tune) -> None:
    """Tell of a trial."""
    status = "failed" if tried.status == "unfinished" else tried.status
    notes = [tried.note] if tried.note else []
    notes += [] if tried.origin == "sampler" else [f"From: {tried.origin}."]
    notes += [f"With version {tried.version} of the space."]
    score = next(iter(tried.scores.values()), None)
    reporter.trial(
        None if score is None else work.objectives[0].told(score),
        number=tried.number,
        status=status,
        seconds=tried.seconds,
        scores=dict(tried.scores) or None,
        values=work.search.as_json(tried.values),
        cost=tried.cost,
        calls=tried.calls,
        rows=tried.rows,
        error=tried.error or (tried.note if tried.status == "unfinished" else None),
        note=" ".join(notes),
    )


def known_as(reporter: Reporter) -> str:
    """Return what people call the job: its number, where that is known."""
    return str(reporter.number or reporter.job_id)


def shown(values: Mapping[str, Any]) -> str:
    """Return values as one short line."""
    return one_line(", ".join(f"{name} = {_brief(value)}" for name, value in values.items()), 120)


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return repr(value) if isinstance(value, str) else value_words(value)


def said_of(error: Exception) -> str:
    """Return why nothing can be said of a trial."""
    return str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"
