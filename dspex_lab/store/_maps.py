"""What is recorded of a map: to go on with one that was interrupted, under its own id."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.errors import StoreError, did_you_mean
from dspex_lab.store._transaction import all_or_nothing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class RecordedRow(NamedTuple):
    """The outcome of one row of a map; ``outputs`` as the store kept them: JSON, secrets masked, long texts cut."""

    row_index: int
    run_id: str
    status: str
    outputs: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True, slots=True)
class RecordedMap:
    """A map that has ended, whole or not.

    Args:
        status: ``"interrupted"`` where its process ended under it.
        started: when it first began, in seconds since the epoch.
        seconds: how long it ran, all its parts together.
        told: what its ``run.start`` said: how many rows, and what identifies pipeline and data.
        rows: the outcomes of its rows by index, one for each.
        doubled: run ids of further records of the same rows.
        prompt_tokens: what it spent so far, None where nothing is known; likewise the next two (cost in US dollars).
    """

    run_id: str
    name: str
    status: str
    started: float
    seconds: float
    told: dict[str, Any]
    rows: dict[int, RecordedRow]
    doubled: tuple[str, ...]
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None


def last_map(con: DuckDBPyConnection, name: str, statuses: Iterable[str]) -> str | None:
    """Return the run id of the newest map ``name`` that ended with one of ``statuses`` and wrote to no file, or None."""
    found = con.execute(
        """
        SELECT run_id FROM runs r WHERE kind = 'map' AND name = $name AND list_contains($statuses, status) AND NOT EXISTS (
            SELECT 1 FROM events e WHERE e.run_id = r.run_id AND e.name = 'run.start' AND e.data->>'out' IS NOT NULL)
        ORDER BY started DESC, run_id DESC LIMIT 1
        """,
        {"name": name, "statuses": list(statuses)},
    ).fetchone()
    return found[0] if found else None


def recorded_map(con: DuckDBPyConnection, run_id: str, path: str) -> RecordedMap:
    """Return what is recorded of the map ``run_id``.

    Raises:
        StoreError: there is no such map, or it has not ended.
    """
    found = con.execute(
        "SELECT name, status, epoch(started), seconds, prompt_tokens, completion_tokens, cost FROM runs "
        "WHERE run_id = ? AND kind = 'map'",
        [run_id],
    ).fetchone()
    if found is None:
        raise _no_map(con, run_id, path)
    begun = con.execute(
        "SELECT data FROM events WHERE run_id = ? AND name = 'run.start' ORDER BY time LIMIT 1", [run_id]
    ).fetchone()
    rows: dict[int, RecordedRow] = {}
    doubled = []
    recorded = con.execute(
        "SELECT row_index, run_id, status, outputs, error FROM runs WHERE parent_id = ? AND kind = 'row' "
        "AND row_index IS NOT NULL ORDER BY status = 'cancelled', started, run_id",
        [run_id],
    )
    for index, own, status, outputs, error in recorded.fetchall():
        if index in rows:
            doubled.append(own)
        else:
            rows[index] = RecordedRow(index, own, status, json.loads(outputs) if outputs else None, error)
    spent = found[4:]
    if all(s is None for s in spent):  # an interrupted one: its rows know
        spent = con.execute(
            "SELECT sum(prompt_tokens)::BIGINT, sum(completion_tokens)::BIGINT, sum(cost) FROM runs "
            "WHERE parent_id = ? AND kind = 'row'",
            [run_id],
        ).fetchone() or (None, None, None)
    told = json.loads(begun[0]) if begun and begun[0] else {}
    return RecordedMap(run_id, found[0], found[1], found[2], found[3] or 0.0, told, rows, tuple(doubled), *spent)


def reopen_map(con: DuckDBPyConnection, run_id: str, without: Iterable[str]) -> None:
    """Remove the record of how the map ended, and those of its rows whose run ids are in ``without``; all or nothing."""
    with all_or_nothing(con):
        con.execute("DELETE FROM runs WHERE run_id = ? AND kind = 'map'", [run_id])
        con.execute(
            "DELETE FROM runs WHERE parent_id = $run_id AND kind = 'row' AND run_id IN (SELECT unnest($without::VARCHAR[]))",
            {"run_id": run_id, "without": list(without)},
        )


def _no_map(con: DuckDBPyConnection, run_id: str, path: str) -> StoreError:
    other = con.execute("SELECT kind FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if other is not None:
        return StoreError(f"{run_id} is a {other[0]}, not a map.", path=path, hint="Give the run id of a map.")
    if con.execute("SELECT 1 FROM events WHERE run_id = ? AND name = 'run.start'", [run_id]).fetchone():
        return StoreError(f"The map {run_id} has not ended.", path=path, hint="Wait for it, or interrupt it first.")
    known = [r[0] for r in con.execute("SELECT run_id FROM runs WHERE kind = 'map' ORDER BY started DESC LIMIT 20").fetchall()]
    return StoreError(
        f"There is no map {run_id!r} in {path}.{did_you_mean(run_id, known)}",
        path=path,
        hint=f"The latest: {', '.join(known[:3])}." if known else "None was recorded in this store.",
    )
