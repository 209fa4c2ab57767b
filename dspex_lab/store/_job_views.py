"""What is asked of jobs, of what they tried, and of runs that examples are made of. Times are naive UTC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store


def jobs_overview(store: Store, *, since: datetime | None = None, limit: int = 50) -> pd.DataFrame:
    """Return the jobs, the newest first; for the dashboard.

    Columns: those of ``jobs`` (``settings`` as JSON text), ``trials, failed, rejected`` (of its trials), ``seconds`` (so far).
    """
    return store.query(
        """
        WITH counted AS (
            SELECT job_id, count(DISTINCT number) AS trials,
                   count(DISTINCT number) FILTER (status = 'failed') AS failed,
                   count(DISTINCT number) FILTER (status = 'rejected') AS rejected
            FROM trials GROUP BY job_id
        )
        SELECT j.* REPLACE (settings::VARCHAR AS settings), coalesce(c.trials, 0) AS trials, coalesce(c.failed, 0) AS failed,
               coalesce(c.rejected, 0) AS rejected, epoch(coalesce(j.ended, now()::TIMESTAMP) - j.started) AS seconds
        FROM jobs j LEFT JOIN counted c USING (job_id)
        WHERE $since::TIMESTAMP IS NULL OR coalesce(j.ended, now()::TIMESTAMP) >= $since::TIMESTAMP
        ORDER BY j.number DESC LIMIT $limit
        """,
        {"since": since, "limit": limit},
        flush=False,
    )


def trials_of(store: Store, job_id: str, *, limit: int = 2_000) -> pd.DataFrame:
    """Return what a job tried, by number; of one that was tried again, the last time.

    Columns: ``number, parent, status, started, seconds, score, best`` (the best score until then), ``scores, values,
    candidate`` (JSON texts), ``cost`` (US dollars), ``calls, rows, error, note``.
    """
    return store.query(
        """
        WITH last AS (
            SELECT * FROM trials WHERE job_id = $job_id
            QUALIFY row_number() OVER (PARTITION BY number ORDER BY rowid DESC) = 1
        )
        SELECT number, parent, status, started, seconds, score,
               max(score) FILTER (status IN ('complete', 'repeated')) OVER (ORDER BY number) AS best,
               scores::VARCHAR AS scores, last."values"::VARCHAR AS "values", candidate::VARCHAR AS candidate, cost, calls,
               last."rows" AS "rows", error, note
        FROM last ORDER BY number LIMIT $limit
        """,
        {"job_id": job_id, "limit": limit},
        flush=False,
    )


def feedback_overview(store: Store, *, name: str | None = None, limit: int = 50) -> pd.DataFrame:
    """Return what was said of runs, the newest first.

    Columns: ``time, run_id, name`` (of the pipeline), ``inputs, outputs`` (of the run) and ``correction`` (JSON texts), ``step,
    verdict, note, who``.

    Args:
        name: only of runs of that pipeline.
    """
    return store.query(
        """
        SELECT f.time, f.run_id, r.name, r.inputs::VARCHAR AS inputs, r.outputs::VARCHAR AS outputs, f.step, f.verdict,
               f.correction::VARCHAR AS correction, f.note, f.who
        FROM feedback f JOIN runs r USING (run_id)
        WHERE $name::VARCHAR IS NULL OR r.name = $name
        ORDER BY f.time DESC, f.feedback_id DESC LIMIT $limit
        """,
        {"name": name, "limit": limit},
    )


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as examples are made of it; JSON, secrets masked, long texts cut; ``started`` is naive UTC.

    ``verdict``, ``correction`` and ``note`` are of each the last that was said: a note takes no thumb back. ``step`` is what
    the last word was on, None for the whole run.
    """

    run_id: str
    name: str
    status: str
    started: datetime
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    verdict: str | None = None
    correction: dict[str, Any] | None = None
    step: str | None = None
    note: str | None = None


def recorded_runs(
    store: Store,
    name: str | None = None,
    *,
    run_id: str | None = None,
    status: Sequence[str] | None = None,
    since: float | None = None,
    session: str | None = None,
    tags: Sequence[str] = (),
    where: str | None = None,
    unended: bool = False,
    newest: bool = False,
    limit: int = 10_000,
) -> list[RecordedRun]:
    """Return runs of ``name`` (single ones, rows of maps and nested ones) in the order in which they began.

    Args:
        name: None for those of any name.
        run_id: only that one.
        status: only those that ended with one of these.
        since: only those that began then or later, seconds since the epoch.
        session, tags: only those of that session, and with all of these tags.
        where: a condition in SQL over the columns of ``runs``, and ``verdict``, ``note`` and ``correction``, of each the last
            that was said: ``"status = 'complete' AND verdict IS DISTINCT FROM 'bad'"``.
        unended: also those whose process ended before them; nothing is known of their inputs.
        newest: where there are more than ``limit``, the last of them rather than the first.

    Raises:
        StoreError: the condition is wrong.
    """
    condition = f"AND (\n{where}\n)" if where else ""
    order = "DESC" if newest else "ASC"
    found: Any = store.query(
        f"""
        WITH said AS (
            SELECT run_id, last(step ORDER BY time, feedback_id) AS step,
                   last(verdict ORDER BY time, feedback_id) FILTER (verdict IS NOT NULL) AS verdict,
                   last(correction ORDER BY time, feedback_id) FILTER (correction IS NOT NULL) AS correction,
                   last(note ORDER BY time, feedback_id) FILTER (note IS NOT NULL) AS note
            FROM feedback GROUP BY run_id
        ),
        known AS (
            SELECT r.*, s.step, s.verdict, s.correction, s.note FROM runs r LEFT JOIN said s USING (run_id)
            WHERE ($name::VARCHAR IS NULL OR r.name = $name) AND r.kind <> 'map'
              AND ($run_id::VARCHAR IS NULL OR r.run_id = $run_id)
              AND ($status::VARCHAR[] IS NULL OR list_contains($status, r.status))
              AND ($since::DOUBLE IS NULL OR epoch(r.started) >= $since)
              AND ($session::VARCHAR IS NULL OR r.session = $session)
              AND list_has_all(coalesce(r.tags, []), $tags::VARCHAR[])
        )
        SELECT run_id, name, status, started, inputs::VARCHAR AS inputs, outputs::VARCHAR AS outputs, verdict,
               correction::VARCHAR AS correction, step, note
        FROM known WHERE ($unended OR inputs IS NOT NULL) {condition}
        ORDER BY started {order}, row_index {order}, run_id {order} LIMIT $limit
        """,  # noqa: S608 - the condition is the user's own, and the query can only read
        {
            "name": name,
            "run_id": run_id,
            "status": None if status is None else list(status),
            "since": since,
            "session": session,
            "tags": list(tags),
            "unended": unended,
            "limit": limit,
        },
    )
    rows = found.astype(object).where(found.notna(), None).to_dict("records")
    made = [
        RecordedRun(
            **{
                **row,
                "started": row["started"].to_pydatetime(),
                "inputs": json.loads(row["inputs"] or "{}"),
                "outputs": json.loads(row["outputs"] or "{}"),
                "correction": json.loads(row["correction"]) if row["correction"] else None,
            }
        )
        for row in rows
    ]
    return made[::-1] if newest else made
