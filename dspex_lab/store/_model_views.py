"""What the page on models and health asks; re-exported by :mod:`dspex_lab.store.views`, whose rules hold here too."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store

#: How the error of a call begins that was given up, or that another request of the same call overtook: nobody's failure.
GIVEN_UP = "CancelledError"

#: Sums over calls of models. What a cache answered says nothing of the model; what was given up shows nothing.
_MEASURES = """
    count(*) FILTER (asked) AS calls,
    count(*) FILTER (cache_hit) AS cache_hits,
    count(*) FILTER (asked AND error IS NOT NULL) AS failed,
    count(*) FILTER (asked AND error IS NOT NULL AND attempts = 0) AS refused,
    count(*) FILTER (asked AND error IS NOT NULL) / nullif(count(*) FILTER (asked), 0) AS failure_rate,
    quantile_cont(seconds, 0.5) FILTER (asked AND error IS NULL) AS p50,
    quantile_cont(seconds, 0.95) FILTER (asked AND error IS NULL) AS p95,
    quantile_cont(first_token, 0.5) FILTER (asked AND error IS NULL) AS first_token,
    coalesce(sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)), 0)::BIGINT AS tokens,
    sum(cost) AS cost,
    coalesce(bool_or(simulated), false) AS simulated,
    coalesce(sum(greatest(attempts - 1, 0)) FILTER (asked), 0)::BIGINT AS retries,
    count(*) FILTER (asked AND again) AS second_calls,
    count(*) FILTER (instead_of IS NOT NULL AND error IS NULL) AS fallbacks
"""

_CALLS = """
    SELECT *, NOT cache_hit AND NOT starts_with(coalesce(error, ''), $given_up) AS asked FROM lm_calls
    WHERE ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP)
"""


def model_health(store: Store, *, since: datetime | None = None, limit: int = 20) -> pd.DataFrame:
    """Return how each model did, the one asked most first.

    Columns: ``model``; ``calls`` that were asked for and not answered by a cache, ``cache_hits``; ``failed`` (of the calls),
    ``refused`` (of the failed: never made, because a circuit was open or the budget spent), ``failure_rate`` (0 to 1, NULL
    without calls); ``p50, p95`` (seconds of the calls that were answered), ``first_token`` (median seconds, of those that were
    streamed); ``tokens, cost`` (US dollars; NULL where no call has a known price), ``simulated``; ``retries`` (requests beyond
    the first of a call, hedges among them), ``second_calls`` (that asked again in JSON for what could not be read),
    ``fallbacks`` (answers in the place of another model).
    """
    return store.query(
        f"WITH calls AS ({_CALLS}) SELECT model, {_MEASURES} FROM calls GROUP BY model ORDER BY calls DESC, model LIMIT $limit",  # noqa: S608 - texts of this module
        {"since": since, "given_up": GIVEN_UP, "limit": limit},
        flush=False,
    )


def models_over_time(store: Store, *, since: datetime | None = None, buckets: int = 48, models: int = 8) -> pd.DataFrame:
    """Return the columns of :func:`model_health` for each of about ``buckets`` spaces of time in which a model was asked.

    More columns: ``at`` (where the space begins), ``width`` (its whole seconds). Only of the ``models`` that were asked most.
    """
    return store.query(
        f"""
        WITH calls AS ({_CALLS}),
        often AS (SELECT model FROM calls GROUP BY model ORDER BY count(*) DESC, model LIMIT $models),
        kept AS (SELECT * FROM calls WHERE model IN (FROM often)),
        whole AS (
            SELECT min(started) AS low, greatest(1, ceil(epoch(max(started) - min(started)) / $buckets))::BIGINT AS width
            FROM kept
        )
        SELECT model, time_bucket(to_seconds(width), started, low) AS "at", width, {_MEASURES}
        FROM kept, whole GROUP BY model, "at", width ORDER BY "at", model
        """,  # noqa: S608 - texts of this module
        {"since": since, "given_up": GIVEN_UP, "buckets": buckets, "models": models},
        flush=False,
    )


#: A component that is found to be well when it is first looked at has not changed.
_CHANGES = """
    SELECT time AS "at", name, coalesce(data->>'target', '') AS target, coalesce(data->>'before', '') AS before,
           coalesce(data->>'after', '') AS after, coalesce(data->>'reason', '') AS reason,
           data->>'last_error' AS last_error, lab_id, rowid AS number
    FROM events
    WHERE name IN ('breaker.open', 'breaker.half_open', 'breaker.close', 'degradation.change')
       OR (name = 'health.change' AND NOT (data->>'before' = 'unknown' AND data->>'after' = 'healthy'))
"""


def state_changes(store: Store, *, since: datetime | None = None, lab_id: str | None = None, limit: int = 20) -> pd.DataFrame:
    """Return the last changes of state, newest first: of circuits, of the degradation level, of components.

    Columns: ``at, name`` (of the event), ``target, before, after, reason, last_error, lab_id``.

    Args:
        lab_id: only those of that Lab.
    """
    return store.query(
        f"""
        SELECT * EXCLUDE (number) FROM ({_CHANGES})
        WHERE ($since::TIMESTAMP IS NULL OR "at" >= $since::TIMESTAMP)
          AND ($lab_id::VARCHAR IS NULL OR lab_id = $lab_id::VARCHAR)
        ORDER BY "at" DESC, number DESC LIMIT $limit
        """,  # noqa: S608 - texts of this module
        {"since": since, "lab_id": lab_id, "limit": limit},
        flush=False,
    )


def state_spans(store: Store, *, since: datetime | None = None, now: datetime, limit: int = 300) -> pd.DataFrame:
    """Return from when to when each circuit and the degradation level was in which state, from its first change on.

    A state lasts until the next one, or until its Lab ended; of a Lab that was killed, until its last event.

    Columns: ``target, kind`` (``circuit`` or ``level``), ``state, reason, begin, finish``.

    Args:
        now: naive UTC, when the last state of the store's own Lab ends.
        limit: how many at most, the last ones.
    """
    return store.query(
        f"""
        WITH changes AS (
            SELECT *, CASE name WHEN 'degradation.change' THEN 'level' ELSE 'circuit' END AS kind
            FROM ({_CHANGES}) WHERE name <> 'health.change'
        ),
        last AS (SELECT lab_id, max(time) AS "time" FROM events GROUP BY lab_id),
        spans AS (
            SELECT c.target, c.kind, c.after AS state, c.reason, c."at" AS begin,
                   coalesce(lead(c."at") OVER (PARTITION BY c.lab_id, c.kind, c.target ORDER BY c."at", c.number),
                            l.ended, CASE WHEN c.lab_id = $own THEN $now::TIMESTAMP END, last."time") AS finish
            FROM changes c LEFT JOIN labs l ON l.lab_id = c.lab_id LEFT JOIN last ON last.lab_id = c.lab_id
        )
        SELECT target, kind, state, reason, begin, finish FROM spans
        WHERE $since::TIMESTAMP IS NULL OR finish >= $since::TIMESTAMP
        ORDER BY begin DESC LIMIT $limit
        """,  # noqa: S608 - texts of this module
        {"since": since, "own": store.lab_id, "now": now, "limit": limit},
        flush=False,
    )


def opened(store: Store) -> datetime | None:
    """Return when the Lab of this store was opened, in naive UTC."""
    found: Any = store.query("SELECT started FROM labs WHERE lab_id = $own", {"own": store.lab_id}, flush=False)
    return None if found.empty else found["started"].iloc[0].to_pydatetime()
