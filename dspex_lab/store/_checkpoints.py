"""What long runs keep so that they can go on: written at once, by whoever asks, and not redacted but refused."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from dspex_lab.security import Redactor

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Two transactions that write one row at the same time would refuse each other.
_lock = threading.Lock()


def put(con: DuckDBPyConnection, name: str, step: str, key: str, outputs: str) -> str | None:
    """Keep a step's outputs; return why not, or None. What holds a secret is not kept: masked, it would be another value."""
    if Redactor().may_hold(outputs) and Redactor()(outputs) != outputs:
        return "its outputs hold a secret"
    with _lock:
        con.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, make_timestamp(?::BIGINT))",
            [name, step, key, outputs, int(time.time() * 1e6)],
        )
    return None


def kept(con: DuckDBPyConnection, name: str) -> dict[str, tuple[str, str]]:
    """Return what is kept under ``name``: by step, its key and its outputs."""
    rows = con.execute("SELECT step, key, outputs FROM checkpoints WHERE name = ?", [name]).fetchall()
    return {step: (key, outputs) for step, key, outputs in rows}


def drop(con: DuckDBPyConnection, name: str) -> None:
    """Forget what is kept under ``name``."""
    with _lock:
        con.execute("DELETE FROM checkpoints WHERE name = ?", [name])
