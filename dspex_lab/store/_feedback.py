"""What people said of runs: thumbs and corrections, kept at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import StoreError
from dspex_lab.security import redact
from dspex_lab.store._encode import to_text
from dspex_lab.store._transaction import kept, micros, read, whole

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """What somebody said of a run, or of a step in it; ``time`` is seconds since the epoch.

    ``verdict`` is ``"good"``, ``"bad"`` or None where only a correction was given; ``correction`` has the output fields as they
    should have been; ``who`` is a person's name or ``"metric"`` and its like.
    """

    feedback_id: str
    run_id: str
    verdict: str | None
    time: float
    step: str | None = None
    correction: dict[str, Any] | None = None
    note: str | None = None
    who: str | None = None


class FeedbackTable:
    """Reads and writes what was said of runs. Thread-safe; what is written is on the disk when a call returns.

    Args:
        store: where it is.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, row: FeedbackRow) -> None:
        """Keep it; secrets in it are masked.

        Raises:
            StoreError: there is no such run, or the correction is too large to be kept.
        """
        correction = kept(row.correction, "The correction", self.store.path)[0]
        self.store.flush()

        def work(cursor: DuckDBPyConnection) -> bool:
            if not cursor.execute("SELECT 1 FROM runs WHERE run_id = ? LIMIT 1", [row.run_id]).fetchone():
                return False
            cursor.execute(
                "INSERT INTO feedback VALUES (?, ?, ?, ?, ?::JSON, ?, make_timestamp(?::BIGINT), ?)",
                [
                    *(row.feedback_id, row.run_id, row.step, row.verdict, correction, to_text(row.note, redact)),
                    *(micros(row.time), to_text(row.who, redact)),
                ],
            )
            return True

        if not whole(self.store, work):
            raise StoreError(
                f"There is no run {row.run_id!r} in {self.store.path} that has ended.",
                path=self.store.path,
                hint="result.run_id says the id of a run; feedback is on runs that have ended.",
            )

    def of(self, run_ids: str | Sequence[str]) -> list[FeedbackRow]:
        """Return what was said of runs, in order of time."""
        ids = [run_ids] if isinstance(run_ids, str) else list(run_ids)
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute(
                "SELECT feedback_id, run_id, verdict, epoch(time), step, correction::VARCHAR, note, who FROM feedback "
                "WHERE run_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY time, feedback_id",
                [ids],
            ).fetchall()
        )
        return [
            FeedbackRow(own, run_id, verdict, at, step, read(said), note, who)
            for own, run_id, verdict, at, step, said, note, who in found
        ]
