"""What the page on jobs shows, read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dspex_lab.events import TrialRecord
from dspex_lab.store import JobRow, JobTable, ProgramTable, jobs_overview

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store import Store

#: Jobs that are listed.
_LIMIT = 50


@dataclass(frozen=True)
class JobFacts:
    """The jobs of a window, those whose process has ended under them, and all that is kept of the one that is looked at."""

    overview: pd.DataFrame
    abandoned: frozenset[str]
    chosen: JobRow | None
    trials: Sequence[TrialRecord]
    programs: tuple[tuple[str, int, float | None, bool, str], ...]


def job_facts(store: Store, since: datetime | None, chosen: int | None = None) -> JobFacts:
    """Read it.

    Args:
        since: naive UTC, None for always.
        chosen: the number of the job that is looked at; None is the newest.
    """
    table = JobTable(store)
    overview = jobs_overview(store, since=since, limit=_LIMIT)
    numbers = [int(number) for number in overview["number"]]
    number = chosen if chosen in numbers else next(iter(numbers), None)
    row = next((row for row in table.rows() if row.number == number), None)
    programs = ProgramTable(store)
    kept = [version for name in programs.names() for version in programs.versions(name)]
    return JobFacts(
        overview,
        frozenset(row.job_id for row in table.abandoned()),
        row,
        () if row is None else table.trials(row.job_id),
        tuple((each.name, each.version, each.score, each.in_use, each.reason or "") for each in kept),
    )
