"""The sessions of a Lab: written at once, by whoever asks, so that they outlive the process.

A session's runs are found by its name: ``session_names`` says from when to when a session had which, so that its history
survives a rename, and a new session of an old name begins with none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex_lab.store._transaction import micros, whole

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as the store has it; times are seconds since the epoch.

    ``unkept`` names what is not in ``state`` and ``optimization`` because it held a secret; ``closed`` is None as long as it is
    open, ``reason`` why it was closed (``"closed"``, ``"expired"``, ``"replaced"``); ``ttl`` is in seconds.
    """

    session_id: str
    name: str
    pool: str
    affinity: str
    ttl: float | None
    created: float
    touched: float
    version: int = 0
    calls: int = 0
    moves: int = 0
    worker: str | None = None
    unkept: tuple[str, ...] = ()
    closed: float | None = None
    reason: str | None = None
    size: int = 0


_FIELDS = """
    session_id, name, pool, affinity, ttl, epoch(created), epoch(touched), version, calls, moves, worker, unkept, epoch(closed),
    reason, (coalesce(strlen(state::VARCHAR), 0) + coalesce(strlen(optimization::VARCHAR), 0))::BIGINT
"""


class SessionTable:
    """Reads and writes the sessions of a store. Thread-safe; what is written is on the disk when a call returns.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def open(self, row: SessionRow, state: str, optimization: str) -> None:
        """Add a new session with its state (JSON). The first one ever of its name takes over the runs that had it before."""

        def work(cursor: DuckDBPyConnection) -> None:
            known = cursor.execute("SELECT 1 FROM session_names WHERE name = ? LIMIT 1", [row.name]).fetchone()
            cursor.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?::BIGINT), "
                "make_timestamp(?::BIGINT), NULL, NULL, ?)",
                [
                    *(row.session_id, row.name, row.pool, row.affinity, row.ttl, state, optimization, list(row.unkept)),
                    *(row.version, row.calls, row.moves, row.worker, micros(row.created), micros(row.touched)),
                    self.store.lab_id,
                ],
            )
            since = micros(row.created) if known else None
            cursor.execute(
                "INSERT INTO session_names VALUES (?, ?, make_timestamp(?::BIGINT), NULL)", [row.session_id, row.name, since]
            )

        whole(self.store, work)

    def save(self, row: SessionRow, before: int, state: str | None, optimization: str | None) -> bool:
        """Write what changed of a session, unless somebody else did since.

        Args:
            row: as it is to be; its version is the new one.
            before: the version it was read with.
            state: the new state (JSON); None leaves it as it is, as for ``optimization``.

        Returns:
            whether it was written; False where its version is another one, or it is closed.
        """

        def work(cursor: DuckDBPyConnection) -> bool:
            found = cursor.execute(
                "UPDATE sessions SET pool = ?, affinity = ?, ttl = ?, state = coalesce(?::JSON, state), "
                "optimization = coalesce(?::JSON, optimization), unkept = ?, version = ?, calls = ?, moves = ?, worker = ?, "
                "touched = make_timestamp(?::BIGINT), lab_id = ? "
                "WHERE session_id = ? AND version = ? AND closed IS NULL RETURNING version",
                [
                    *(row.pool, row.affinity, row.ttl, state, optimization, list(row.unkept), row.version, row.calls),
                    *(row.moves, row.worker, micros(row.touched), self.store.lab_id, row.session_id, before),
                ],
            ).fetchone()
            return found is not None

        return whole(self.store, work)

    def rename(self, session_id: str, name: str, at: float) -> None:
        """Give a session another name from the moment ``at`` on."""

        def work(cursor: DuckDBPyConnection) -> None:
            cursor.execute("UPDATE sessions SET name = ? WHERE session_id = ?", [name, session_id])
            _end_name(cursor, session_id, at)
            cursor.execute(
                "INSERT INTO session_names VALUES (?, ?, make_timestamp(?::BIGINT), NULL)", [session_id, name, micros(at)]
            )

        whole(self.store, work)

    def close(self, session_id: str, at: float, reason: str) -> None:
        """Close a session: its state is forgotten, what is known of it and its runs stays."""

        def work(cursor: DuckDBPyConnection) -> None:
            cursor.execute(
                "UPDATE sessions SET state = NULL, optimization = NULL, closed = make_timestamp(?::BIGINT), reason = ? "
                "WHERE session_id = ? AND closed IS NULL",
                [micros(at), reason, session_id],
            )
            _end_name(cursor, session_id, at)

        whole(self.store, work)

    def forget(self, name: str) -> int:
        """Remove every session that is closed and had ``name`` at its end, with all that is known of it; return how many.

        Its runs are runs like any other and stay.
        """

        def work(cursor: DuckDBPyConnection) -> int:
            gone = cursor.execute("DELETE FROM sessions WHERE name = ? AND closed IS NOT NULL RETURNING session_id", [name])
            ids = [row[0] for row in gone.fetchall()]
            cursor.execute("DELETE FROM session_names WHERE session_id IN (SELECT unnest(?::VARCHAR[]))", [ids])
            return len(ids)

        return whole(self.store, work)

    def rows(self, *, closed: bool = False, name: str | None = None) -> list[SessionRow]:
        """Return the sessions that are open, the one used last first; with ``closed`` those too.

        Args:
            name: only those of that name.
        """
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute(
                f"SELECT {_FIELDS} FROM sessions WHERE (closed IS NULL OR $closed) "  # noqa: S608 - a text of this module
                "AND ($name::VARCHAR IS NULL OR name = $name::VARCHAR) "
                "ORDER BY closed IS NOT NULL, touched DESC, session_id DESC",
                {"closed": closed, "name": name},
            ).fetchall()
        )
        return [_row(each) for each in found]

    def state(self, session_id: str) -> tuple[SessionRow, str, str] | None:
        """Return a session with its state and optimisation state (JSON), or None where there is none."""
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute(
                f"SELECT {_FIELDS}, state::VARCHAR, optimization::VARCHAR FROM sessions WHERE session_id = ?",  # noqa: S608
                [session_id],
            ).fetchone()
        )
        return None if found is None else (_row(found[:-2]), found[-2] or "{}", found[-1] or "{}")


def _end_name(cursor: DuckDBPyConnection, session_id: str, at: float) -> None:
    cursor.execute(
        "UPDATE session_names SET until = make_timestamp(?::BIGINT) WHERE session_id = ? AND until IS NULL",
        [micros(at), session_id],
    )


def _row(found: Sequence[Any]) -> SessionRow:
    names = (
        *("session_id", "name", "pool", "affinity", "ttl", "created", "touched", "version", "calls", "moves", "worker"),
        *("unkept", "closed", "reason", "size"),
    )
    return SessionRow(**{**dict(zip(names, found, strict=True)), "unkept": tuple(found[11] or ())})
