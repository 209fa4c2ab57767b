"""Who is told what the sandbox did: one function for the whole process, set by the room that knows of runs and spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from dspex_lab.errors import (
    SandboxDied,
    SandboxError,
    SandboxOutOfMemory,
    SandboxOutputLimit,
    SandboxTimeout,
    SandboxUnavailable,
    SandboxViolation,
)

#: Takes the name of an event (``sandbox.run``, ``sandbox.refuse``) and its data, in the thread that ran the code.
Tell: TypeAlias = Callable[[str, dict[str, Any]], None]

_tell: Tell | None = None


def watch_sandbox(tell: Tell | None) -> Tell | None:
    """Let ``tell`` hear of every execution in this process, in the place of whoever heard before, and return that one; None:
    nobody.

    It is called with ``"sandbox.run"`` and ``level, seconds, outcome, code`` (characters), ``printed`` (characters), ``tools``
    (calls) and, where the code failed, ``error``; or with ``"sandbox.refuse"`` and ``level, error`` where nothing was run.
    """
    global _tell
    before, _tell = _tell, tell
    return before


def tell(what: str, data: dict[str, Any]) -> None:
    """Tell of an event."""
    if _tell is not None:
        _tell(what, data)


_OUTCOMES: dict[type[SandboxError], str] = {
    SandboxTimeout: "timeout",
    SandboxOutOfMemory: "out of memory",
    SandboxOutputLimit: "output limit",
    SandboxViolation: "violation",
    SandboxDied: "died",
    SandboxUnavailable: "refused",
}


def outcome_of(error: BaseException) -> str:
    """Return in a word what an execution that ended with ``error`` came to; ``"failed"`` where the code itself did."""
    return next((word for kind, word in _OUTCOMES.items() if isinstance(error, kind)), "failed")
