"""What the page on pools asks of ``pool.*`` events; re-exported by :mod:`dspex_lab.store.views`, whose rules hold here too."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store

#: What is told of a pool and not of a call.
_CHANGED = "('pool.start', 'pool.resize', 'pool.restart', 'pool.recycle', 'pool.stuck', 'pool.refuse')"

#: An event is what its pool told: what cannot be read counts as not told.
_TOLD = f"""
    SELECT name, time AS "at", rowid AS number, coalesce(data->>'pool', '') AS pool, coalesce(data->>'worker', '') AS worker,
           name = 'pool.checkin' AS answered, coalesce(data->>'status', '') AS status,
           coalesce(data->>'reason', '') AS reason, coalesce(data->>'label', '') AS label,
           TRY_CAST(data->>'seconds' AS DOUBLE) AS seconds, TRY_CAST(data->>'waited' AS DOUBLE) AS waited,
           TRY_CAST(data->>'cpu_seconds' AS DOUBLE) AS cpu_seconds,
           TRY_CAST(data->>'peak_memory' AS BIGINT) AS peak_memory, TRY_CAST(data->>'gpu_memory' AS BIGINT) AS gpu_memory,
           data->>'sent_protocol' AS sent_protocol, TRY_CAST(data->>'sent_bytes' AS BIGINT) AS sent_bytes,
           data->>'received_protocol' AS received_protocol, TRY_CAST(data->>'received_bytes' AS BIGINT) AS received_bytes,
           TRY_CAST(data->>'before' AS BIGINT) AS before, TRY_CAST(data->>'workers' AS BIGINT) AS workers
    FROM events
    WHERE (name = 'pool.checkin' OR name IN {_CHANGED}) AND ($since::TIMESTAMP IS NULL OR time >= $since::TIMESTAMP)
"""  # noqa: S608 - texts of this module

_MEASURES = """
    count(*) FILTER (answered) AS calls,
    count(*) FILTER (answered AND status IN ('failed', 'timeout')) AS failed,
    count(*) FILTER (answered AND status = 'cancelled') AS cancelled,
    quantile_cont(seconds, 0.5) FILTER (answered AND status = 'complete') AS p50,
    quantile_cont(seconds, 0.95) FILTER (answered AND status = 'complete') AS p95,
    quantile_cont(waited, 0.5) FILTER (answered) AS waited_p50,
    quantile_cont(waited, 0.95) FILTER (answered) AS waited_p95,
    coalesce(sum(cpu_seconds) FILTER (answered), 0) AS cpu_seconds,
    max(peak_memory) FILTER (answered) AS peak_memory,
    max(gpu_memory) FILTER (answered) AS gpu_memory,
    coalesce(sum(sent_bytes) FILTER (answered), 0)::BIGINT AS sent_bytes,
    coalesce(sum(received_bytes) FILTER (answered), 0)::BIGINT AS received_bytes,
    count(*) FILTER (name = 'pool.restart') AS restarts,
    count(*) FILTER (name = 'pool.recycle') AS recycles,
    count(*) FILTER (name = 'pool.stuck') AS stuck,
    count(*) FILTER (name = 'pool.refuse') AS refusals
"""


def pool_use(store: Store, *, since: datetime | None = None, limit: int = 20) -> pd.DataFrame:
    """Return what each pool did, the busiest first.

    Columns: ``pool``; ``calls`` that left a worker, ``failed`` (their worker died, or time was up) and ``cancelled`` of them;
    ``p50, p95`` (seconds of those that ran to their end, whether they returned or raised), ``waited_p50, waited_p95`` (seconds
    until there was a worker); ``cpu_seconds``, ``peak_memory, gpu_memory`` (bytes; the most of any call), ``sent_bytes,
    received_bytes``; ``restarts, recycles, stuck`` (of workers), ``refusals`` (of calls).
    """
    return store.query(
        f"WITH told AS ({_TOLD}) SELECT pool, {_MEASURES} FROM told GROUP BY pool ORDER BY calls DESC, pool LIMIT $limit",  # noqa: S608 - texts of this module
        {"since": since, "limit": limit},
        flush=False,
    )


def pools_over_time(store: Store, *, since: datetime | None = None, buckets: int = 48, pools: int = 8) -> pd.DataFrame:
    """Return the columns of :func:`pool_use` for each of about ``buckets`` spaces of time in which a pool told something.

    More columns: ``at`` (where the space begins), ``width`` (its whole seconds). Only of the ``pools`` that told most.
    """
    return store.query(
        f"""
        WITH told AS ({_TOLD}),
        often AS (SELECT pool FROM told GROUP BY pool ORDER BY count(*) DESC, pool LIMIT $pools),
        kept AS (SELECT * FROM told WHERE pool IN (FROM often)),
        whole AS (
            SELECT min("at") AS low, greatest(1, ceil(epoch(max("at") - min("at")) / $buckets))::BIGINT AS width FROM kept
        ),
        placed AS (SELECT * REPLACE (time_bucket(to_seconds(width), "at", low) AS "at"), width FROM kept, whole)
        SELECT pool, "at", width, {_MEASURES} FROM placed GROUP BY pool, "at", width ORDER BY "at", pool
        """,  # noqa: S608 - texts of this module
        {"since": since, "buckets": buckets, "pools": pools},
        flush=False,
    )


def pool_traffic(store: Store, *, since: datetime | None = None, limit: int = 40) -> pd.DataFrame:
    """Return by which protocols values went to the workers and came back, the most bytes first.

    Columns: ``pool, direction`` (``sent`` or ``received``), ``protocol, calls, bytes``.
    """
    return store.query(
        f"""
        WITH told AS ({_TOLD}),
        went AS (
            SELECT pool, 'sent' AS direction, sent_protocol AS protocol, sent_bytes AS size FROM told WHERE answered
            UNION ALL
            SELECT pool, 'received', received_protocol, received_bytes FROM told WHERE answered
        )
        SELECT pool, direction, protocol, count(*) AS calls, coalesce(sum(size), 0)::BIGINT AS bytes
        FROM went WHERE protocol IS NOT NULL
        GROUP BY pool, direction, protocol ORDER BY bytes DESC, pool, direction, protocol LIMIT $limit
        """,  # noqa: S608 - texts of this module
        {"since": since, "limit": limit},
        flush=False,
    )


def pool_changes(store: Store, *, since: datetime | None = None, limit: int = 20) -> pd.DataFrame:
    """Return what befell pools and workers last, newest first.

    Columns: ``at, name`` (of the event), ``pool, worker, reason, label`` (of a refused call), ``before, workers`` (how many).
    """
    return store.query(
        f"""
        WITH told AS ({_TOLD})
        SELECT "at", name, pool, worker, reason, label, before, workers FROM told WHERE NOT answered
        ORDER BY "at" DESC, number DESC LIMIT $limit
        """,  # noqa: S608 - texts of this module
        {"since": since, "limit": limit},
        flush=False,
    )
