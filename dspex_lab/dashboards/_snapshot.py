"""What the page shows at one moment, read from the store in one go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dspex_lab.dashboards._base import JOBS, MODELS, POOLS, RUNS, SESSIONS, VARIABLES, Source
from dspex_lab.dashboards._jobs_facts import JobFacts, job_facts
from dspex_lab.dashboards._session_facts import SessionFacts, session_facts
from dspex_lab.dashboards._standing import CHANGES, Guarded, Standing, standing
from dspex_lab.dashboards._variables_facts import VariableFacts, variable_facts
from dspex_lab.store import run_tree, running
from dspex_lab.store import views as ask

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store import Store

#: The windows a person may choose, in seconds; None is everything.
WINDOWS: dict[str, int | None] = {
    "last 15 minutes": 900,
    "last hour": 3600,
    "last 24 hours": 86_400,
    "last 7 days": 604_800,
    "all time": None,
}
DEFAULT_WINDOW = 86_400
STATUSES = ("complete", "partial", "failed", "cancelled", "interrupted")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a person asked to see.

    Args:
        name: a part of the run's name, in any case; empty for all.
        status: one status, or None for all.
        window: seconds back from now, or None for everything.
        rows: list the rows of maps instead of runs and maps.
    """

    name: str = ""
    status: str | None = None
    window: int | None = DEFAULT_WINDOW
    rows: bool = False

    @property
    def narrowed(self) -> bool:
        """Whether anything but the default is asked for, so that an empty page may be the filters' doing."""
        return self != Filters()


@dataclass(frozen=True)
class Detail:
    """One run with its spans and its LM calls."""

    run: pd.Series
    spans: pd.DataFrame
    calls: pd.DataFrame


@dataclass(frozen=True)
class Models:
    """What the page on models and health shows of a window that begins at ``since`` (naive UTC; None is always)."""

    since: datetime | None
    models: pd.DataFrame
    over_time: pd.DataFrame
    states: pd.DataFrame
    changes: pd.DataFrame


@dataclass(frozen=True)
class Pools:
    """What the page on pools shows of a window."""

    use: pd.DataFrame
    over_time: pd.DataFrame
    traffic: pd.DataFrame
    changes: pd.DataFrame


@dataclass(frozen=True)
class Snapshot:
    """All that the page shows; frames as the store's typed queries give them, times in naive UTC.

    ``never`` says that nothing has ended yet at any time, under any filter. ``models`` is there where that is the ``page``, and
    ``standing`` too if the Lab's models are guarded; ``pools``, ``sessions`` and ``variables`` where theirs is.
    """

    name: str
    filters: Filters
    taken: datetime
    dropped: int
    totals: pd.Series
    running: pd.DataFrame
    runs: pd.DataFrame
    latency: pd.DataFrame
    timeline: pd.DataFrame
    usage: pd.DataFrame
    errors: pd.DataFrame
    never: bool
    detail: Detail | None = None
    page: str = RUNS
    models: Models | None = None
    standing: Standing | None = None
    pools: Pools | None = None
    sessions: SessionFacts | None = None
    variables: VariableFacts | None = None
    jobs: JobFacts | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing at all to show."""
        return not _any(self.totals) and self.running.empty


def take(
    source: Source,
    filters: Filters,
    selected: str | None = None,
    page: str = RUNS,
    job: int | None = None,
) -> Snapshot:
    """Read a snapshot; blocks for the queries, each bounded by the window and a row limit.

    Args:
        source: the Lab.
        filters: what to see.
        selected: the id of the run whose detail is wanted.
        page: the page that is shown; what the others show beside the runs is not read.
        job: the number of the job that is looked at, None for the newest.

    Raises:
        StoreError: the store is closed, or can no longer be written or read.
    """
    store = source.store
    now = datetime.now(UTC).replace(tzinfo=None)
    since = now - timedelta(seconds=filters.window) if filters.window is not None else None
    name, status = filters.name.strip() or None, filters.status
    totals = ask.run_totals(store, since=since, name=name, status=status).iloc[0]
    return Snapshot(
        name=str(source.name),
        filters=filters,
        taken=now,
        dropped=int(store.dropped),
        totals=totals,
        running=running(store),
        runs=ask.recent_runs(store, since=since, name=name, status=status, rows=filters.rows),
        latency=ask.step_latency(store, since=since, name=name, status=status),
        timeline=ask.runs_over_time(store, since=since, name=name, status=status),
        usage=ask.usage_by_model(store, since=since, name=name, status=status),
        errors=ask.recent_errors(store, since=since, name=name, status=status),
        never=not _any(totals) and not _any(ask.run_totals(store).iloc[0]),
        detail=_detail(store, selected),
        page=page,
        models=_models(store, since, now) if page == MODELS else None,
        standing=standing(source, changes=False) if page == MODELS and isinstance(source, Guarded) else None,
        pools=_pools(store, since) if page == POOLS else None,
        sessions=session_facts(store, since) if page == SESSIONS else None,
        variables=variable_facts(store, since) if page == VARIABLES else None,
        jobs=job_facts(store, since, job) if page == JOBS else None,
    )


def _models(store: Store, since: datetime | None, now: datetime) -> Models:
    return Models(
        since=since,
        models=ask.model_health(store, since=since),
        over_time=ask.models_over_time(store, since=since),
        states=ask.state_spans(store, since=since, now=now),
        changes=ask.state_changes(store, since=since, limit=CHANGES),
    )


def _pools(store: Store, since: datetime | None) -> Pools:
    return Pools(
        use=ask.pool_use(store, since=since),
        over_time=ask.pools_over_time(store, since=since),
        traffic=ask.pool_traffic(store, since=since),
        changes=ask.pool_changes(store, since=since, limit=CHANGES),
    )


def _any(totals: pd.Series) -> bool:
    return bool(int(totals["runs"]) or int(totals["rows"]))


def _detail(store: Store, run_id: str | None) -> Detail | None:
    if run_id is None:
        return None
    found = ask.one_run(store, run_id)
    if found.empty:
        return None
    return Detail(run=found.iloc[0], spans=run_tree(store, run_id), calls=ask.calls_of_run(store, run_id))
