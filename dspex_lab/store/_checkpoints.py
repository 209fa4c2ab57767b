"""What long runs keep so that they can go on: written at once, by whoever asks, and not redacted but refused."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.security import Redactor

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store

#: Two transactions that write one row at the same time would refuse each other.
_lock = threading.Lock()
#: The checkpoints that runs under way use: the id of the open database, and the name.
_held: set[tuple[int, str]] = set()


def hold(database: object, name: str) -> None:
    """Keep other runs from using a checkpoint.

    Raises:
        ConfigurationError: one under way uses it.
    """
    with _lock:
        if (id(database), name) in _held:
            raise ConfigurationError(
                f"A run that is under way uses the checkpoint {name!r}.",
                key="checkpoint",
                actual=name,
                hint="Wait for it, or give this one another name.",
            )
        _held.add((id(database), name))


def release(database: object, name: str) -> None:
    """Let other runs use a checkpoint."""
    with _lock:
        _held.discard((id(database), name))


def put(con: DuckDBPyConnection, name: str, step: str, key: str, outputs: str) -> str | None:
    """Keep a step's outputs; return why not, or None. What holds a secret is not kept: masked, it would be another value."""
    if Redactor().may_hold(outputs) and Redactor()(outputs) != outputs:
        return "its outputs hold a secret"
    import duckdb

    with _lock:
        try:
            con.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, make_timestamp(?::BIGINT))",
                [name, step, key, outputs, int(time.time() * 1e6)],
            )
        except duckdb.OutOfMemoryException:
            return f"its outputs, {len(outputs) >> 20:,} million characters, are more than the store has memory for"
    return None


def kept(con: DuckDBPyConnection, name: str) -> dict[str, tuple[str, str]]:
    """Return what is kept under ``name``: by step, its key and its outputs."""
    rows = con.execute("SELECT step, key, outputs FROM checkpoints WHERE name = ?", [name]).fetchall()
    return {step: (key, outputs) for step, key, outputs in rows}


def drop(con: DuckDBPyConnection, name: str) -> None:
    """Forget what is kept under ``name``."""
    with _lock:
        con.execute("DELETE FROM checkpoints WHERE name = ?", [name])


def listed(store: Store) -> pd.DataFrame:
    """Return what is kept, the newest first: ``name, steps, bytes, newest`` (UTC)."""
    return store.query(
        """
        SELECT name, count(*) AS steps, sum(strlen(outputs))::BIGINT AS bytes, max(time) AS newest
        FROM checkpoints GROUP BY name ORDER BY newest DESC, name
        """,
        flush=False,
    )


def refuse_unknown(con: DuckDBPyConnection, name: str) -> None:
    """Refuse a name under which nothing is kept.

    Raises:
        ConfigurationError: it is one.
    """
    names = [n for (n,) in con.execute("SELECT DISTINCT name FROM checkpoints ORDER BY name").fetchall()]
    if name not in names:
        raise ConfigurationError(
            f"Nothing is kept under the checkpoint {name!r}.{did_you_mean(name, names)}",
            key="checkpoint",
            expected=names,
            actual=name,
            hint=f"Kept: {', '.join(names) or 'nothing'}.",
        )
