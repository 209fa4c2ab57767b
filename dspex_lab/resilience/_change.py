"""One record for all that changes in this room, and how it is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("dspex_lab")

#: Letters of a failure's text that are kept: the whole of it is in the failure itself, and this is shown in tables.
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed: a circuit opened, a limit fell, a hedge won.

    Attributes:
        event: its name: ``breaker.open | half_open | close``, ``bulkhead.limit | reject | pause``, ``hedge.start | win``,
            ``retry``, ``fallback.use``, ``degradation.change``, ``health.change``.
        target: what it is about: a target, a provider, a component.
        before: the state, limit, level or name before.
        after: the same, after.
        reason: why, as a clause for people. Where it quotes a failure it may hold what the other side wrote: who stores
            or shows it redacts it first.
        time: seconds since the epoch.
        details: more of it; values that JSON knows.
    """

    event: str
    target: str
    before: str
    after: str
    reason: str
    time: float = field(default_factory=time.time)
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return it as the data of an event: JSON-able, without the event's name and time, which the event has."""
        return {
            "target": self.target,
            "before": self.before,
            "after": self.after,
            "reason": self.reason,
            **self.details,
        }


#: Told of each change, outside all locks, in the thread and context where it came about.
Observer = Callable[[Change], None]


def tell(told: Observer | None, change: Change) -> None:
    """Hand ``change`` to ``told``; an observer that raises is logged and breaks nothing."""
    if told is None:
        return
    try:
        told(change)
    except Exception:
        log.exception("an observer of %s raised; the work goes on", change.event)


def describe(error: BaseException) -> str:
    """Return a failure as one short line: its class and its own words.

    Nothing of the exception itself is kept: its traceback would keep the frames of a call alive.
    """
    try:
        words = " ".join(str(error).split())
    except Exception as broken:
        words = f"(its text cannot be had: {type(broken).__name__})"
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
