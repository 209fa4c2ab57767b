"""What a start finds after a process that did not end well, and what is done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening a store found.

    Args:
        run_ids: the runs and maps that had begun and not ended; they are now rows of ``runs`` with status ``interrupted``.
        names: their names, in the same order.
        damaged_wal: where a write-ahead log was set aside that was damaged or not of this file, None where none was.
        salvaged: what stood in that log before the damage was read and is in the store.
    """

    run_ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    damaged_wal: str | None = None
    salvaged: bool = False

    def __str__(self) -> str:
        said = []
        if self.run_ids:
            shown = ", ".join(f"{name} ({run_id})" for name, run_id in zip(self.names[:3], self.run_ids[:3], strict=True))
            more = f" and {len(self.run_ids) - 3} more" if len(self.run_ids) > 3 else ""
            what = "1 run was" if len(self.run_ids) == 1 else f"{len(self.run_ids)} runs were"
            kept = "It is" if len(self.run_ids) == 1 else "They are"
            said.append(f"{what} interrupted when the process ended: {shown}{more}. {kept} kept with status 'interrupted'.")
        if self.damaged_wal:
            where = " past its damage" if self.salvaged else ""
            lost = "what it held from there on" if self.salvaged else "what it held"
            said.append(
                f"The write-ahead log could not be read{where}: {lost}, at most the last records before the end, is not in "
                f"the store. It was set aside as {self.damaged_wal}."
            )
        return " ".join(said)


def interrupt_unfinished(con: DuckDBPyConnection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write a row of ``runs`` for every run that started and has none; return their ids and names.

    Only for a file that no living lab has open. A run's seconds reach to the last thing known of it: an event, the end
    of a span or of a call, the end of a row of the map.
    """
    rows = con.execute(_INTERRUPT).fetchall()
    rows.sort(key=_first)
    return tuple(r[0] for r in rows), tuple(r[1] or "unnamed" for r in rows)


def _first(row: Sequence[str]) -> str:
    return row[0]


_INTERRUPT = """
    INSERT INTO runs (run_id, lab_id, kind, name, status, started, seconds, tags, error)
    WITH unfinished AS (
        SELECT run_id, any_value(lab_id) AS lab_id, min(time) AS started,
               any_value(data->>'kind') AS kind, any_value(data->>'name') AS name,
               any_value(try_cast(data->'tags' AS VARCHAR[])) AS tags
        FROM events
        WHERE name = 'run.start' AND run_id IS NOT NULL AND run_id NOT IN (SELECT run_id FROM runs WHERE run_id IS NOT NULL)
        GROUP BY run_id
    ), known AS (
        SELECT run_id, max(time) AS until FROM events WHERE run_id IN (SELECT run_id FROM unfinished) GROUP BY run_id
        UNION ALL
        SELECT run_id, max(started + to_microseconds(coalesce(seconds * 1e6, 0)::BIGINT))
        FROM spans WHERE run_id IN (SELECT run_id FROM unfinished) GROUP BY run_id
        UNION ALL
        SELECT run_id, max(started + to_microseconds(coalesce(seconds * 1e6, 0)::BIGINT))
        FROM lm_calls WHERE run_id IN (SELECT run_id FROM unfinished) GROUP BY run_id
        UNION ALL
        SELECT parent_id, max(started + to_microseconds(coalesce(seconds * 1e6, 0)::BIGINT))
        FROM runs WHERE parent_id IN (SELECT run_id FROM unfinished) GROUP BY parent_id
    ), last AS (SELECT run_id, max(until) AS until FROM known GROUP BY run_id)
    SELECT u.run_id, u.lab_id, coalesce(u.kind, 'run'), coalesce(u.name, 'unnamed'), 'interrupted', u.started,
           greatest(epoch(l.until - u.started), 0), u.tags,
           'The process that ran it' || coalesce(' (pid ' || labs.pid || ')', '') || ' ended before the run did.'
    FROM unfinished u LEFT JOIN last l USING (run_id) LEFT JOIN labs ON labs.lab_id = u.lab_id
    RETURNING run_id, name
"""
