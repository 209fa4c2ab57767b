"""What tests of sessions call on a worker."""

from __future__ import annotations

import threading
from typing import Any

#: What functions that run in the pool's threads wait for: they are pickled by reference, and share this.
GATE, STARTED = threading.Event(), threading.Event()


def count(state: dict[str, Any], by: int = 1) -> int:
    state["n"] = state.get("n", 0) + by
    return state["n"]


def hold(state: dict[str, Any]) -> int:
    """Count, once the gate is open."""
    STARTED.set()
    assert GATE.wait(60)
    return count(state)
