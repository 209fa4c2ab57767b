"""What the dashboard asks: questions with filters, each bounded by a time window and a row limit.

Each returns a DataFrame; times are naive UTC. ``since`` is the earliest start, ``name`` a part of the run's name in any
case, ``status`` a run's status; None leaves a filter out. They read what is committed and do not wait for the writer:
the dashboard asks again after each commit.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dspex_lab.store._model_views import model_health, models_over_time, opened, state_changes, state_spans
from dspex_lab.store._pool_views import pool_changes, pool_traffic, pool_use, pools_over_time

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store

__all__ = [
    "call",
    "calls_before",
    "calls_of_run",
    "model_health",
    "models_over_time",
    "one_run",
    "opened",
    "pool_changes",
    "pool_traffic",
    "pool_use",
    "pools_over_time",
    "recent_errors",
    "recent_runs",
    "run_totals",
    "runs_over_time",
    "state_changes",
    "state_spans",
    "step_latency",
    "usage_by_model",
]


def run_totals(
    store: Store, *, since: datetime | None = None, name: str | None = None, status: str | None = None
) -> pd.DataFrame:
    """Return one row: sums over runs and maps, and the numbers of their rows.

    Columns: ``runs, failed, partial, rows, rows_failed`` (rows not complete), ``tokens, cost`` (US dollars; NULL where no run
    has a known price), ``simulated`` (of any).
    """
    return store.query(
        """
        SELECT count(*) FILTER (kind IN ('run', 'map')) AS runs,
               count(*) FILTER (kind IN ('run', 'map') AND status IN ('failed', 'interrupted')) AS failed,
               count(*) FILTER (kind IN ('run', 'map') AND status = 'partial') AS partial,
               count(*) FILTER (kind = 'row') AS rows,
               count(*) FILTER (kind = 'row' AND status <> 'complete') AS rows_failed,
               coalesce(sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0))
                   FILTER (kind IN ('run', 'map')), 0)::BIGINT
                   AS tokens,
               sum(cost) FILTER (kind IN ('run', 'map')) AS cost,
               coalesce(bool_or(simulated), false) AS simulated
        FROM runs
        WHERE ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
          AND ($name::VARCHAR IS NULL OR contains(lower(name), lower($name::VARCHAR)))
          AND ($status::VARCHAR IS NULL OR status = $status::VARCHAR)
        """,
        {"since": since, "name": name, "status": status},
        flush=False,
    )


def recent_runs(
    store: Store,
    *,
    since: datetime | None = None,
    name: str | None = None,
    status: str | None = None,
    rows: bool = False,
    limit: int = 200,
) -> pd.DataFrame:
    """Return the latest runs and maps, or with ``rows`` the latest rows of maps, newest first.

    Columns: ``run_id, kind, name, row_index, status, started, seconds, error, error_step, tokens, cost`` (US dollars).
    """
    return store.query(
        """
        SELECT run_id, kind, name, row_index, status, started, seconds, error, error_step,
               coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0) AS tokens, cost
        FROM runs
        WHERE (kind = 'row') = $rows::BOOLEAN AND kind <> 'nested'
          AND ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
          AND ($name::VARCHAR IS NULL OR contains(lower(name), lower($name::VARCHAR)))
          AND ($status::VARCHAR IS NULL OR status = $status::VARCHAR)
        ORDER BY started DESC, run_id DESC LIMIT $limit
        """,
        {"since": since, "name": name, "status": status, "rows": rows, "limit": limit},
        flush=False,
    )


def one_run(store: Store, run_id: str) -> pd.DataFrame:
    """Return the run with this id, or no row.

    Columns: those of ``runs``, ``tokens``, ``inputs_text, outputs_text, variables_text`` (JSON; a row of a map ran with the
    variables of its map), ``rows, rows_failed`` (of a map: recorded rows, and those not complete).
    """
    return store.query(
        """
        SELECT r.*, coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0) AS tokens,
               inputs::VARCHAR AS inputs_text, outputs::VARCHAR AS outputs_text,
               coalesce(variables, (SELECT p.variables FROM runs p WHERE p.run_id = r.parent_id LIMIT 1))::VARCHAR
                   AS variables_text,
               (SELECT count(*) FROM runs c WHERE c.parent_id = $run_id AND c.kind = 'row') AS rows,
               (SELECT count(*) FROM runs c WHERE c.parent_id = $run_id AND c.kind = 'row' AND c.status <> 'complete')
                   AS rows_failed
        FROM runs r WHERE run_id = $run_id LIMIT 1
        """,
        {"run_id": run_id},
        flush=False,
    )


def step_latency(
    store: Store,
    *,
    since: datetime | None = None,
    name: str | None = None,
    status: str | None = None,
    limit: int = 15,
) -> pd.DataFrame:
    """Return the steps that take longest, the slowest by p95 first; skipped executions are not counted.

    Columns: ``step, calls, p50, p95`` (seconds; exact quantiles), ``errors`` (executions that failed).
    """
    return store.query(
        """
        SELECT name AS step, count(*) AS calls, quantile_cont(seconds, 0.5) AS p50, quantile_cont(seconds, 0.95) AS p95,
               count(*) FILTER (status = 'failed') AS errors
        FROM spans
        WHERE kind = 'step' AND status <> 'skipped'
          AND ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
          AND (($name::VARCHAR IS NULL AND $status::VARCHAR IS NULL) OR run_id IN (
              SELECT run_id FROM runs
              WHERE ($name::VARCHAR IS NULL OR contains(lower(name), lower($name::VARCHAR)))
                AND ($status::VARCHAR IS NULL OR status = $status::VARCHAR)))
        GROUP BY name ORDER BY p95 DESC NULLS LAST, step LIMIT $limit
        """,
        {"since": since, "name": name, "status": status, "limit": limit},
        flush=False,
    )


def runs_over_time(
    store: Store,
    *,
    since: datetime | None = None,
    name: str | None = None,
    status: str | None = None,
    buckets: int = 48,
) -> pd.DataFrame:
    """Return how many single runs and rows of maps began in each of about ``buckets`` spaces of time, none of them empty.

    Columns: ``at`` (where the space begins), ``width`` (its whole seconds), ``status, runs``.
    """
    return store.query(
        """
        WITH kept AS (
            SELECT started, status FROM runs
            WHERE kind IN ('run', 'row')
              AND ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
              AND ($name::VARCHAR IS NULL OR contains(lower(name), lower($name::VARCHAR)))
              AND ($status::VARCHAR IS NULL OR status = $status::VARCHAR)
        ),
        whole AS (
            SELECT min(started) AS low, greatest(1, ceil(epoch(max(started) - min(started)) / $buckets))::BIGINT AS width
            FROM kept
        )
        SELECT time_bucket(to_seconds(width), started, low) AS "at", width, status, count(*) AS runs
        FROM kept, whole GROUP BY ALL ORDER BY 1, status
        """,
        {"since": since, "name": name, "status": status, "buckets": buckets},
        flush=False,
    )


def usage_by_model(
    store: Store,
    *,
    since: datetime | None = None,
    name: str | None = None,
    status: str | None = None,
    limit: int = 10,
) -> pd.DataFrame:
    """Return what each model was asked and what it cost, the most tokens first.

    Columns: ``model, calls, cache_hits, prompt_tokens, completion_tokens, cost`` (US dollars; NULL where no call has a known
    price), ``simulated`` (of any call).
    """
    return store.query(
        """
        SELECT model, count(*) AS calls, count(*) FILTER (cache_hit) AS cache_hits,
               coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
               coalesce(sum(completion_tokens), 0)::BIGINT AS completion_tokens,
               sum(cost) AS cost, coalesce(bool_or(simulated), false) AS simulated
        FROM lm_calls
        WHERE ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
          AND (($name::VARCHAR IS NULL AND $status::VARCHAR IS NULL) OR run_id IN (
              SELECT run_id FROM runs
              WHERE ($name::VARCHAR IS NULL OR contains(lower(name), lower($name::VARCHAR)))
                AND ($status::VARCHAR IS NULL OR status = $status::VARCHAR)))
        GROUP BY model
        ORDER BY sum(coalesce(lm_calls.prompt_tokens, 0) + coalesce(lm_calls.completion_tokens, 0)) DESC, calls DESC, model
        LIMIT $limit
        """,
        {"since": since, "name": name, "status": status, "limit": limit},
        flush=False,
    )


def recent_errors(
    store: Store,
    *,
    since: datetime | None = None,
    name: str | None = None,
    status: str | None = None,
    limit: int = 100,
) -> pd.DataFrame:
    """Return the latest errors, newest first: failed steps, failed model calls, and runs that failed without such a step.

    Columns: ``at`` (when it ended), ``source`` (``run``, ``step`` or ``lm``), ``run_id, name, row_index`` (of the run),
    ``step, error``.
    """
    return store.query(
        """
        WITH found AS (
            SELECT started, seconds, 'step' AS source, run_id, name AS step, coalesce(error, 'failed') AS error
            FROM spans WHERE kind = 'step' AND (error IS NOT NULL OR status = 'failed')
            UNION ALL
            SELECT started, seconds, 'lm', run_id, step, concat(model, ': ', error) FROM lm_calls WHERE error IS NOT NULL
            UNION ALL
            SELECT started, seconds, 'run', run_id, error_step, error FROM runs r
            WHERE error IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM spans s WHERE s.run_id = r.run_id AND s.kind = 'step' AND s.error IS NOT NULL)
        )
        SELECT f.started + to_microseconds((coalesce(f.seconds, 0) * 1e6)::BIGINT) AS "at", f.source, f.run_id, r.name,
               r.row_index, f.step, f.error
        FROM found f LEFT JOIN runs r ON r.run_id = f.run_id
        WHERE ($since::TIMESTAMP IS NULL OR f.started >= $since::TIMESTAMP)
          AND ($name::VARCHAR IS NULL OR contains(lower(r.name), lower($name::VARCHAR)))
          AND ($status::VARCHAR IS NULL OR r.status = $status::VARCHAR)
        ORDER BY 1 DESC, f.run_id DESC, f.source DESC LIMIT $limit
        """,
        {"since": since, "name": name, "status": status, "limit": limit},
        flush=False,
    )


def calls_of_run(store: Store, run_id: str, *, limit: int = 50) -> pd.DataFrame:
    """Return the first model calls of a run in the order they began.

    Columns: those of ``lm_calls`` without ``span_id`` and ``run_id``; ``messages`` and ``outputs`` are JSON text.
    """
    return store.query(
        """
        SELECT call_id, step, model, started, seconds, prompt_tokens, completion_tokens, cost, cache_hit, simulated, error,
               messages::VARCHAR AS messages, outputs::VARCHAR AS outputs
        FROM lm_calls WHERE run_id = $run_id ORDER BY started, call_id LIMIT $limit
        """,
        {"run_id": run_id, "limit": limit},
        flush=False,
    )


def calls_before(store: Store, moment: datetime, *, limit: int = 2_000) -> list[dict[str, Any]]:
    """Return the last model calls that began before ``moment`` (naive UTC), without what was said in them."""
    found: Any = store.query(
        """
        SELECT model, started, seconds, error, cache_hit, cost, prompt_tokens, completion_tokens
        FROM lm_calls WHERE started < $moment::TIMESTAMP ORDER BY started DESC LIMIT $limit
        """,
        {"moment": moment, "limit": limit},
        flush=False,
    )
    rows: list[dict[str, Any]] = found.to_dict("records")
    return rows


def call(store: Store, call_id: str | None = None) -> dict[str, Any] | None:
    """Return the recorded model call of an id, the newest one for None, with its messages and outputs; None without one."""
    found: Any = store.query(
        """
        SELECT * REPLACE (messages::VARCHAR AS messages, outputs::VARCHAR AS outputs)
        FROM lm_calls WHERE $call_id::VARCHAR IS NULL OR call_id = $call_id::VARCHAR ORDER BY started DESC, call_id DESC LIMIT 1
        """,
        {"call_id": call_id},
    )
    if found.empty:
        return None
    row: dict[str, Any] = found.astype(object).where(found.notna(), None).iloc[0].to_dict()
    return {**row, "messages": json.loads(row["messages"] or "null"), "outputs": json.loads(row["outputs"] or "null")}
