"""What a pool tells of its calls and workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from dspex_lab.events import Event
from dspex_lab.pools._job import Outcome, event_of
from dspex_lab.pools._worker import Attempt

log = logging.getLogger("dspex_lab")


class Notes:
    """Tells a pool's events to whoever listens; one that raises is logged and breaks nothing.

    Args:
        pool: the pool's name.
        emit: who listens.
    """

    def __init__(self, pool: str, emit: Callable[[Event], None] | None) -> None:
        self.pool = pool
        self.emit = emit

    def tell(self, event: Event) -> None:
        """Tell of an event."""
        if self.emit is not None:
            try:
                self.emit(event)
            except Exception:
                log.exception("whoever listens to pool %r raised at %s", self.pool, event.name)

    def of_pool(self, name: str, **data: Any) -> None:
        """Tell of something that befell the pool or one of its workers."""
        if self.emit is not None:
            self.tell(Event(name, time.time(), data={"pool": self.pool, **data}))

    def out(self, attempt: Attempt) -> None:
        """A call has taken its worker."""
        if self.emit is not None:
            where = {"pool": self.pool, "worker": attempt.worker.name}
            self.tell(event_of("pool.checkout", attempt.job, **where, waited=attempt.waited, kind=_kind(attempt)))

    def back(self, attempt: Attempt, outcome: Outcome) -> None:
        """A call has left its worker."""
        if self.emit is not None:
            data = {
                "pool": self.pool,
                "worker": outcome.worker,
                "kind": _kind(attempt),
                "status": outcome.status,
                "seconds": outcome.seconds,
                "waited": outcome.waited,
                "cpu_seconds": outcome.usage.cpu_seconds,
                "peak_memory": outcome.usage.peak_memory,
                "gpu_memory": outcome.usage.gpu_memory,
                "sent_protocol": outcome.sent.protocol,
                "sent_bytes": outcome.sent.size,
                "received_protocol": outcome.received.protocol if outcome.received else None,
                "received_bytes": outcome.received.size if outcome.received else None,
            }
            self.tell(event_of("pool.checkin", attempt.job, **data))

    def refused(self, job: Any, **data: Any) -> None:
        """A call was refused."""
        if self.emit is not None:
            self.tell(event_of("pool.refuse", job, pool=self.pool, **data))


def _kind(attempt: Attempt) -> str:
    return "task" if attempt.job.long else "call"
