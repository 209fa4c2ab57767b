"""What is asked of variables and of the runs that ran with them. Each returns a DataFrame; times are naive UTC."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store


def variables_overview(store: Store, *, since: datetime | None = None, limit: int = 500) -> pd.DataFrame:
    """Return the variables, the one that changed last first; for the dashboard.

    Columns: ``space, name, kind`` (of its domain), ``value`` (JSON text), ``version, who, author, why, score, changed, domain``
    (JSON text), ``derived, active, pinned, note, commits`` (in the window).
    """
    return store.query(
        """
        WITH counted AS (
            SELECT space, name, count(*) AS commits FROM variable_history
            WHERE $since::TIMESTAMP IS NULL OR time >= $since::TIMESTAMP GROUP BY space, name
        )
        SELECT v.space, v.name, v.domain->>'kind' AS kind, v.value::VARCHAR AS value, v.version, v.who, v.author, v.why,
               v.score, v.changed, v.domain::VARCHAR AS domain, v.derived, v.active, v.pinned, v.note,
               coalesce(c.commits, 0) AS commits
        FROM variables v LEFT JOIN counted c ON c.space = v.space AND c.name = v.name
        ORDER BY v.changed DESC NULLS LAST, v.position, v.name LIMIT $limit
        """,
        {"since": since, "limit": limit},
        flush=False,
    )


def variable_changes(store: Store, *, since: datetime | None = None, limit: int = 200) -> pd.DataFrame:
    """Return the commits, the newest first, one row for each variable in them.

    Columns: ``space, name, version, parent, time, value, before`` (JSON texts), ``who, author, why, score, fence``.
    """
    return store.query(
        """
        SELECT h.space, h.name, h.version, h.parent, h.time, h.value::VARCHAR AS value, p.value::VARCHAR AS before, h.who,
               h.author, h.why, h.score, h.fence
        FROM variable_history h
        LEFT JOIN variable_history p ON p.space = h.space AND p.name = h.name AND p.version = h.parent
        WHERE $since::TIMESTAMP IS NULL OR h.time >= $since::TIMESTAMP
        ORDER BY h.version DESC, h.time DESC, h.name LIMIT $limit
        """,
        {"since": since, "limit": limit},
        flush=False,
    )


def variables_over_time(store: Store, *, since: datetime | None = None, variables: int = 8, limit: int = 2_000) -> pd.DataFrame:
    """Return the numbers that the variables had which changed most often, in the order of their versions.

    Columns: ``space, name, version, time, value, who``.
    """
    return store.query(
        """
        WITH numbers AS (
            SELECT space, name, version, time, try_cast(value->>'$' AS DOUBLE) AS value, who FROM variable_history
            WHERE ($since::TIMESTAMP IS NULL OR time >= $since::TIMESTAMP)
              AND json_type(value) IN ('BIGINT', 'UBIGINT', 'DOUBLE')
        ),
        often AS (
            SELECT space, name FROM numbers GROUP BY space, name ORDER BY count(*) DESC, space, name LIMIT $variables
        ),
        latest AS (
            SELECT n.* FROM numbers n JOIN often o ON o.space = n.space AND o.name = n.name
            ORDER BY n.version DESC, n.time DESC LIMIT $limit
        )
        SELECT * FROM latest ORDER BY time, version, name
        """,
        {"since": since, "variables": variables, "limit": limit},
        flush=False,
    )


def runs_by_variables(store: Store, *, since: datetime | None = None, name: str | None = None, limit: int = 50) -> pd.DataFrame:
    """Return how runs did by the values of variables they ran with, the values used last first.

    Columns: ``name`` (of the runs), ``values`` (JSON text), ``version`` (of the space, the last one with these values), ``runs,
    complete, failed, p50`` (seconds), ``cost`` (US dollars), ``last`` (when the last one began).

    Args:
        name: only runs of that name. Runs that no exposed program was in are left out.
    """
    return store.query(
        """
        SELECT name, (variables->'values')::VARCHAR AS "values", max((variables->>'version')::BIGINT) AS version,
               count(*) AS runs, count(*) FILTER (status = 'complete') AS complete,
               count(*) FILTER (status IN ('failed', 'interrupted')) AS failed,
               quantile_cont(seconds, 0.5) AS p50, sum(cost) AS cost, max(started) AS last
        FROM runs
        WHERE json_array_length(json_keys(variables, '$.values')::JSON) > 0 AND kind <> 'row'
          AND ($since::TIMESTAMP IS NULL OR started >= $since::TIMESTAMP) AND ($name::VARCHAR IS NULL OR name = $name::VARCHAR)
        GROUP BY 1, 2 ORDER BY last DESC, name LIMIT $limit
        """,
        {"since": since, "name": name, "limit": limit},
        flush=False,
    )


def variables_of_run(store: Store, run_id: str) -> dict[str, Any] | None:
    """Return with which values of variables a run ran (``{"version": …, "values": {…}}``), None where it knew none.

    A row of a map, and a run that was started in another, ran with those of the one it belongs to, where it has none itself.
    """
    found: Any = store.query(
        """
        WITH RECURSIVE above(run_id, parent_id, variables, depth) AS (
            SELECT run_id, parent_id, variables, 0 FROM runs WHERE run_id = $run_id
            UNION ALL
            SELECT r.run_id, r.parent_id, r.variables, a.depth + 1 FROM runs r JOIN above a ON r.run_id = a.parent_id
            WHERE a.variables IS NULL AND a.depth < 20
        )
        SELECT variables::VARCHAR AS variables FROM above WHERE variables IS NOT NULL ORDER BY depth LIMIT 1
        """,
        {"run_id": run_id},
    )
    if found.empty:
        return None
    kept: dict[str, Any] = json.loads(found["variables"][0])
    return kept


def leases_held(store: Store) -> pd.DataFrame:
    """Return which variables are leased now in this store's Lab, the oldest lease first.

    Columns: ``space, name, owner, fence, since``.
    """
    return store.query(
        """
        WITH told AS (
            SELECT name AS what, time, data->>'space' AS space, data->>'owner' AS owner, (data->>'fence')::BIGINT AS fence,
                   (data->'names')::VARCHAR[] AS names
            FROM events WHERE name IN ('variable.lease', 'variable.release', 'variable.expire') AND lab_id = $lab_id
        )
        SELECT space, unnest(names) AS name, owner, fence, time AS since FROM told t
        WHERE what = 'variable.lease' AND NOT EXISTS (
            SELECT 1 FROM told o WHERE o.space = t.space AND o.fence = t.fence AND o.what <> 'variable.lease')
        ORDER BY time, fence, name
        """,
        {"lab_id": store.lab_id},
        flush=False,
    )
