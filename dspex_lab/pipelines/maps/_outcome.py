"""What came of one row."""

from __future__ import annotations

from typing import Any, NamedTuple

#: The ways a row may end, with the letters that stand for them in a journal; ``lacking`` is partial without every output.
COMPLETE, PARTIAL, LACKING, FAILED = "c", "p", "l", "f"
LETTERS = {"complete": COMPLETE, "partial": PARTIAL, "failed": FAILED}
#: The letters of rows that ``retry_failed`` runs again.
RETRIED = LACKING + FAILED


class Outcome(NamedTuple):
    """What came of the row ``row_index``, counted from 0.

    ``status`` is ``"complete"``, ``"partial"`` or ``"failed"``; ``row`` is the row itself where a file is written.
    """

    row_index: int
    status: str
    outputs: dict[str, Any]
    error: str | None
    run_id: str
    row: dict[str, Any] | None = None


def letter(status: str, outputs: Any, wanted: int) -> str:
    """Return the letter for an outcome that gave ``outputs`` where ``wanted`` fields are the pipeline's."""
    if status == "partial" and len(outputs or ()) < wanted:
        return LACKING
    return LETTERS.get(status, FAILED)
