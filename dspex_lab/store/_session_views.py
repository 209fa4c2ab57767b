"""What is asked of sessions' runs: their history, and the figures that metrics, insights and the dashboard are made of.

Each returns a DataFrame; times are naive UTC. A run belongs to the session that had its ``session`` name when it began.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store

#: Runs and maps of sessions, and the rows of such maps.
_OWN = """
    own AS (
        SELECT n.session_id, r.* FROM runs r JOIN session_names n
        ON r.session = n.name AND (n.since IS NULL OR r.started >= n.since) AND (n.until IS NULL OR r.started < n.until)
        WHERE ($session_id::VARCHAR IS NULL OR n.session_id = $session_id::VARCHAR)
    )
"""

#: They and everything that was started in them; what that asked of models counts too.
_WITHIN = """
    within(session_id, run_id) AS (
        SELECT session_id, run_id FROM own
        UNION SELECT w.session_id, r.run_id FROM runs r JOIN within w ON r.parent_id = w.run_id
    )
"""

#: What a run or map of a session is, and how it ended where that says how it did.
_TOP = "kind IN ('run', 'map')"
_DONE = "status IN ('complete', 'partial')"


def session_runs(store: Store, session_id: str, *, limit: int = 1_000) -> pd.DataFrame:
    """Return the runs and maps of a session, newest first.

    Columns: ``run_id, kind, name, status, started, seconds, error, error_step, lm, simulated, prompt_tokens,
    completion_tokens, cost`` (US dollars), ``tags``.
    """
    return store.query(
        f"""
        WITH {_OWN}
        SELECT run_id, kind, name, status, started, seconds, error, error_step, lm, simulated, prompt_tokens,
               completion_tokens, cost, tags
        FROM own WHERE {_TOP} ORDER BY started DESC, run_id DESC LIMIT $limit
        """,  # noqa: S608 - texts of this module, here and below
        {"session_id": session_id, "limit": limit},
    )


def session_totals(store: Store, session_id: str | None = None, *, flush: bool = True) -> pd.DataFrame:
    """Return a row for each session that has runs, or for one of them.

    Columns: ``session_id, runs`` (and maps), ``complete, partial, failed`` (and interrupted), ``cancelled``; ``p50, p95, mean``
    (seconds of the single runs that gave something; exact), ``prompt_tokens, completion_tokens, cost`` (US dollars, NULL where
    no run has a known price), ``simulated, first, last`` (when the first and the last run began).
    """
    return store.query(
        f"""
        WITH {_OWN}
        SELECT session_id, count(*) AS runs, count(*) FILTER (status = 'complete') AS complete,
               count(*) FILTER (status = 'partial') AS partial,
               count(*) FILTER (status IN ('failed', 'interrupted')) AS failed,
               count(*) FILTER (status = 'cancelled') AS cancelled,
               quantile_cont(seconds, 0.5) FILTER (kind = 'run' AND {_DONE}) AS p50,
               quantile_cont(seconds, 0.95) FILTER (kind = 'run' AND {_DONE}) AS p95,
               avg(seconds) FILTER (kind = 'run' AND {_DONE}) AS mean,
               coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
               coalesce(sum(completion_tokens), 0)::BIGINT AS completion_tokens, sum(cost) AS cost,
               coalesce(bool_or(simulated), false) AS simulated, min(started) AS first, max(started) AS last
        FROM own WHERE {_TOP} GROUP BY session_id ORDER BY session_id
        """,  # noqa: S608
        {"session_id": session_id},
        flush=flush,
    )


def session_durations(store: Store, session_id: str, *, limit: int = 500) -> pd.DataFrame:
    """Return how long the last single runs of a session took that gave something, in the order in which they began.

    Columns: ``run_id, name, started, seconds``.
    """
    return store.query(
        f"""
        WITH {_OWN}
        SELECT * FROM (
            SELECT run_id, name, started, seconds FROM own
            WHERE kind = 'run' AND {_DONE} AND seconds IS NOT NULL ORDER BY started DESC, run_id DESC LIMIT $limit)
        ORDER BY started, run_id
        """,  # noqa: S608
        {"session_id": session_id, "limit": limit},
    )


def session_lm_calls(store: Store, session_id: str) -> pd.DataFrame:
    """Return what the steps of a session's runs asked of models, the dearest first.

    Columns: ``step`` (NULL where a call belongs to none), ``calls, cache_hits, failed, tokens, cost`` (US dollars, NULL where
    no price is known), ``seconds`` (of calls that no cache answered).
    """
    return store.query(
        f"""
        WITH RECURSIVE {_OWN}, {_WITHIN}
        SELECT step, count(*) AS calls, count(*) FILTER (cache_hit) AS cache_hits,
               count(*) FILTER (error IS NOT NULL) AS failed,
               coalesce(sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)), 0)::BIGINT AS tokens,
               sum(cost) AS cost, coalesce(sum(seconds) FILTER (NOT cache_hit), 0) AS seconds
        FROM lm_calls WHERE run_id IN (SELECT run_id FROM within)
        GROUP BY step ORDER BY cost DESC NULLS LAST, tokens DESC, step
        """,  # noqa: S608
        {"session_id": session_id},
    )


def session_steps(store: Store, session_id: str) -> pd.DataFrame:
    """Return where the time of a session's runs went, the longest first: ``step, calls, failed, seconds`` (in all)."""
    return store.query(
        f"""
        WITH RECURSIVE {_OWN}, {_WITHIN}
        SELECT name AS step, count(*) AS calls, count(*) FILTER (status = 'failed') AS failed,
               coalesce(sum(seconds), 0) AS seconds
        FROM spans WHERE kind = 'step' AND status <> 'skipped' AND run_id IN (SELECT run_id FROM within)
        GROUP BY name ORDER BY seconds DESC, step
        """,  # noqa: S608
        {"session_id": session_id},
    )


def session_errors(store: Store, session_id: str, *, limit: int = 5) -> pd.DataFrame:
    """Return the errors of a session's runs and rows, the most frequent first.

    Columns: ``step`` (NULL where none is known), ``error`` (its first line), ``times, last`` (when the last such run began).
    """
    return store.query(
        f"""
        WITH {_OWN}
        SELECT error_step AS step, split_part(error, chr(10), 1) AS error, count(*) AS times, max(started) AS last
        FROM own WHERE error IS NOT NULL AND kind <> 'map' GROUP BY ALL ORDER BY times DESC, last DESC, step LIMIT $limit
        """,  # noqa: S608
        {"session_id": session_id, "limit": limit},
    )


def session_choices(store: Store, session_id: str) -> pd.DataFrame:
    """Return what the router chose in a session's runs, the most frequent first.

    Columns: ``operation, chosen, times, seconds`` (median of the steps it was chosen for).
    """
    return store.query(
        f"""
        WITH RECURSIVE {_OWN}, {_WITHIN}
        SELECT d.operation, d.chosen, count(*) AS times, median(s.seconds) AS seconds
        FROM decisions d LEFT JOIN spans s ON s.span_id = d.span_id AND s.kind = 'step'
        WHERE d.run_id IN (SELECT run_id FROM within)
        GROUP BY d.operation, d.chosen ORDER BY times DESC, d.operation, d.chosen
        """,  # noqa: S608
        {"session_id": session_id},
    )


def session_calls(store: Store, session_id: str) -> pd.DataFrame:
    """Return one row on the calls that ran on the session's worker with its state.

    Columns: ``calls, failed, p50, p95`` (seconds in the worker; exact).
    """
    return store.query(
        """
        WITH calls AS (
            SELECT data->>'status' AS status, (data->>'seconds')::DOUBLE AS seconds FROM events
            WHERE name = 'pool.checkin' AND data->>'session_id' = $session_id
        )
        SELECT count(*) AS calls, count(*) FILTER (status <> 'complete') AS failed,
               quantile_cont(seconds, 0.5) FILTER (status = 'complete') AS p50,
               quantile_cont(seconds, 0.95) FILTER (status = 'complete') AS p95
        FROM calls
        """,
        {"session_id": session_id},
    )


def sessions_overview(store: Store, *, since: datetime | None = None, limit: int = 50) -> pd.DataFrame:
    """Return the sessions that were used since a moment, open ones first, then the one used last first; for the dashboard.

    Columns: ``session_id, name, pool, affinity, ttl, worker, version, calls, moves, created, touched, closed, reason, size``
    (characters of state), ``runs, failed, p50, p95, cost, simulated``.
    """
    return store.query(
        f"""
        WITH {_OWN}, figures AS (
            SELECT session_id, count(*) AS runs, count(*) FILTER (status IN ('failed', 'interrupted')) AS failed,
                   quantile_cont(seconds, 0.5) FILTER (kind = 'run' AND {_DONE}) AS p50,
                   quantile_cont(seconds, 0.95) FILTER (kind = 'run' AND {_DONE}) AS p95, sum(cost) AS cost,
                   coalesce(bool_or(simulated), false) AS simulated, max(started) AS last
            FROM own WHERE {_TOP} GROUP BY session_id
        )
        SELECT s.session_id, s.name, s.pool, s.affinity, s.ttl, s.worker, s.version, s.calls, s.moves, s.created,
               greatest(s.touched, f.last) AS touched, s.closed, s.reason,
               (coalesce(strlen(state::VARCHAR), 0) + coalesce(strlen(optimization::VARCHAR), 0))::BIGINT AS size,
               coalesce(f.runs, 0) AS runs, coalesce(f.failed, 0) AS failed, f.p50, f.p95, f.cost,
               coalesce(f.simulated, false) AS simulated
        FROM sessions s LEFT JOIN figures f USING (session_id)
        WHERE $since::TIMESTAMP IS NULL OR greatest(s.touched, f.last) >= $since::TIMESTAMP
        ORDER BY s.closed IS NOT NULL, touched DESC, s.session_id DESC LIMIT $limit
        """,  # noqa: S608
        {"session_id": None, "since": since, "limit": limit},
        flush=False,
    )


def sessions_over_time(store: Store, *, since: datetime | None = None, sessions: int = 8, limit: int = 2_000) -> pd.DataFrame:
    """Return the single runs of the sessions that ran most, in the order in which they began; for the dashboard.

    Columns: ``session_id, session`` (its name now), ``name, status, started, seconds``.
    """
    return store.query(
        f"""
        WITH {_OWN}, kept AS (
            SELECT * FROM own WHERE kind = 'run' AND ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
        ),
        often AS (SELECT session_id FROM kept GROUP BY session_id ORDER BY count(*) DESC, session_id LIMIT $sessions),
        latest AS (
            SELECT k.session_id, s.name AS session, k.name, k.status, k.started, k.seconds
            FROM kept k JOIN sessions s USING (session_id) WHERE k.session_id IN (FROM often)
            ORDER BY k.started DESC LIMIT $limit
        )
        SELECT * FROM latest ORDER BY started
        """,  # noqa: S608
        {"session_id": None, "since": since, "sessions": sessions, "limit": limit},
        flush=False,
    )


def frame_rows(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a frame as dicts, with None for what is missing."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows
