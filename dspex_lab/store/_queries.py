"""The questions that dashboards, the command line and the magics ask. Each returns a DataFrame; times are UTC."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store

#: A moment: seconds since the epoch, a datetime (taken as UTC where it has no zone), or a length of time before now.
Since = float | dt.datetime | dt.timedelta | None


def runs(store: Store, limit: int = 50) -> pd.DataFrame:
    """Return the latest runs and maps, newest first; the rows of a map are counted in it, not listed.

    Columns: ``run_id, lab_id, kind, name, status, started, seconds, error, error_step, lm, simulated, prompt_tokens,
    completion_tokens, cost`` (US dollars), ``session, tags, rows, rows_failed`` (of a map: recorded rows, and those neither
    complete nor partial).
    """
    return store.query(
        """
        WITH latest AS (SELECT * FROM runs WHERE kind IN ('run', 'map') ORDER BY started DESC, run_id DESC LIMIT $limit),
        parts AS (
            SELECT parent_id, count(*) AS rows, count(*) FILTER (status NOT IN ('complete', 'partial')) AS rows_failed
            FROM runs WHERE kind = 'row' AND parent_id IN (SELECT run_id FROM latest) GROUP BY parent_id
        )
        SELECT l.run_id, l.lab_id, l.kind, l.name, l.status, l.started, l.seconds, l.error, l.error_step, l.lm, l.simulated,
               l.prompt_tokens, l.completion_tokens, l.cost, l.session, l.tags,
               coalesce(p.rows, 0) AS rows, coalesce(p.rows_failed, 0) AS rows_failed
        FROM latest l LEFT JOIN parts p ON p.parent_id = l.run_id ORDER BY l.started DESC, l.run_id DESC
        """,
        {"limit": limit},
    )


def latency_by_step(store: Store, since: Since = None) -> pd.DataFrame:
    """Return how long each step takes, the slowest by p95 first; skipped executions are not counted.

    Columns: ``step, count, p50, p95, max`` (seconds; exact quantiles), ``errors`` (executions that failed).
    """
    return store.query(
        """
        SELECT name AS step, count(*) AS count, quantile_cont(seconds, 0.5) AS p50, quantile_cont(seconds, 0.95) AS p95,
               max(seconds) AS max, count(*) FILTER (status = 'failed') AS errors
        FROM spans
        WHERE kind = 'step' AND status <> 'skipped' AND ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
        GROUP BY name ORDER BY p95 DESC NULLS LAST, step
        """,
        {"since": _moment(since)},
    )


def costs(store: Store, since: Since = None) -> pd.DataFrame:
    """Return what each model was asked and what it cost, the dearest first.

    Columns: ``model, simulated, calls, prompt_tokens, completion_tokens, cost`` (US dollars; NULL where no call has a known
    price), ``cache_hits, errors``.
    """
    return store.query(
        """
        SELECT model, coalesce(simulated, false) AS simulated, count(*) AS calls,
               coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
               coalesce(sum(completion_tokens), 0)::BIGINT AS completion_tokens,
               sum(cost) AS cost, count(*) FILTER (cache_hit) AS cache_hits, count(*) FILTER (error IS NOT NULL) AS errors
        FROM lm_calls WHERE $since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP
        GROUP BY ALL ORDER BY cost DESC NULLS LAST, calls DESC, model
        """,
        {"since": _moment(since)},
    )


def errors(store: Store, limit: int = 50) -> pd.DataFrame:
    """Return the latest errors, newest first: failed steps and model calls, and runs that failed without such a step.

    Columns: ``at`` (when it ended), ``source`` (``run``, ``step`` or ``lm``), ``run_id, name`` (of the run, step or model),
    ``step, error``.
    """
    return store.query(
        """
        WITH found AS (
            SELECT started + to_microseconds((coalesce(seconds, 0) * 1e6)::BIGINT) AS "at", 'step' AS source, run_id, name,
                   name AS step, error
            FROM spans WHERE kind = 'step' AND (error IS NOT NULL OR status = 'failed')
            UNION ALL
            SELECT started + to_microseconds((coalesce(seconds, 0) * 1e6)::BIGINT), 'lm', run_id, model, step, error
            FROM lm_calls WHERE error IS NOT NULL
            UNION ALL
            SELECT started + to_microseconds((coalesce(seconds, 0) * 1e6)::BIGINT), 'run', run_id, name, error_step, error
            FROM runs r WHERE error IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM spans s WHERE s.run_id = r.run_id AND s.kind = 'step' AND s.error IS NOT NULL)
        )
        SELECT * FROM found ORDER BY found."at" DESC, source LIMIT $limit
        """,
        {"limit": limit},
    )


def run_tree(store: Store, run_id: str) -> pd.DataFrame:
    """Return the spans of one run in the order of a tree: each parent before its children, siblings by their start.

    A span whose parent is not of this run stands at the top. Columns: ``depth`` (0 at the top), ``span_id, parent_id, kind,
    name, status, started, seconds, implementation, worker, error, model, calls, prompt_tokens, completion_tokens, cost,
    cache_hits`` (of the model calls made directly in the span).
    """
    spans = store.query(
        """
        WITH calls AS (
            SELECT span_id, any_value(model) AS model, count(*) AS calls, sum(prompt_tokens)::BIGINT AS prompt_tokens,
                   sum(completion_tokens)::BIGINT AS completion_tokens, sum(cost) AS cost,
                   count(*) FILTER (cache_hit) AS cache_hits
            FROM lm_calls WHERE run_id = $run_id GROUP BY span_id
        )
        SELECT 0::BIGINT AS depth, s.span_id, s.parent_id, s.kind, s.name, s.status, s.started, s.seconds, s.implementation,
               s.worker, s.error, c.model, coalesce(c.calls, 0) AS calls, c.prompt_tokens, c.completion_tokens, c.cost,
               coalesce(c.cache_hits, 0) AS cache_hits
        FROM spans s LEFT JOIN calls c USING (span_id) WHERE s.run_id = $run_id ORDER BY s.started, s.span_id
        """,
        {"run_id": run_id},
    )
    order, depths = _tree(list(spans["span_id"]), [p if isinstance(p, str) else None for p in spans["parent_id"]])
    tree = spans.iloc[order].reset_index(drop=True)
    tree["depth"] = depths
    return tree


def running(store: Store) -> pd.DataFrame:
    """Return the runs and maps of this store's lab that have begun and not ended, oldest first.

    Columns: ``run_id, kind, name, started, seconds`` (so far), ``rows`` (of a map: recorded so far).
    """
    return store.query(
        """
        WITH begun AS (
            SELECT run_id, coalesce(data->>'kind', 'run') AS kind, coalesce(data->>'name', 'unnamed') AS name, time AS started
            FROM events
            WHERE events.name = 'run.start' AND lab_id = $lab_id AND run_id IS NOT NULL
              AND run_id NOT IN (SELECT run_id FROM runs WHERE run_id IS NOT NULL)
        )
        SELECT run_id, kind, name, started, greatest(epoch(now()::TIMESTAMP - started), 0) AS seconds,
               (SELECT count(*) FROM runs r WHERE r.parent_id = begun.run_id AND r.kind = 'row') AS rows
        FROM begun ORDER BY started, run_id
        """,
        {"lab_id": store.lab_id},
    )


def _moment(since: Since) -> dt.datetime | None:
    if since is None:
        return None
    if isinstance(since, dt.timedelta):
        since = dt.datetime.now(dt.UTC) - since
    if not isinstance(since, dt.datetime):
        since = dt.datetime.fromtimestamp(since, dt.UTC)
    # DuckDB takes a naive datetime for a TIMESTAMP, which here is UTC.
    return since.astimezone(dt.UTC).replace(tzinfo=None) if since.tzinfo else since


def _tree(ids: list[str], parents: list[str | None]) -> tuple[list[int], list[int]]:
    """Return positions in depth-first order and their depths; spans in a circle of parents come at the top, once."""
    known = set(ids)
    children: dict[str | None, list[int]] = {}
    for position, parent in enumerate(parents):
        children.setdefault(parent if parent in known else None, []).append(position)
    order: list[int] = []
    depths: list[int] = []
    seen: set[int] = set()
    for root in [*children.get(None, []), *range(len(ids))]:
        stack = [(root, 0)]
        while stack:
            position, depth = stack.pop()
            if position in seen:
                continue
            seen.add(position)
            order.append(position)
            depths.append(depth)
            stack.extend((child, depth + 1) for child in reversed(children.get(ids[position], [])))
    return order, depths
