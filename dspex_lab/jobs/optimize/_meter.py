"""What an optimization spends, counted on its way to the job's account."""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from dspex_lab.events import LMCall, Record
from dspex_lab.lms import CONTEXT_KEY, Recorder, current_recorder


@dataclass(frozen=True, slots=True)
class Bill:
    """What was spent until a moment.

    Args:
        calls: really made; ``cached`` is what DSPy's cache answered.
        cost: US dollars; ``unpriced`` counts calls of which it is not known.
    """

    calls: int = 0
    cached: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def since(self, earlier: Bill) -> Bill:
        """Return what was spent since then."""
        return Bill(
            self.calls - earlier.calls,
            self.cached - earlier.cached,
            self.cost - earlier.cost,
            self.unpriced - earlier.unpriced,
        )

    def plus(self, other: Bill) -> Bill:
        """Return both together."""
        return Bill(
            self.calls + other.calls, self.cached + other.cached, self.cost + other.cost, self.unpriced + other.unpriced
        )

    @property
    def known(self) -> float | None:
        """The cost, None where that of a call is not known."""
        return None if self.unpriced else self.cost


class Meter:
    """Counts calls of models. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = Bill()

    def open(self) -> AbstractContextManager[Any]:
        """Return the context in which calls are counted; they are told on to who records the job's."""
        outer = current_recorder()
        if outer is None:
            return contextlib.nullcontext()
        import dspy

        def emit(record: Record) -> None:
            if isinstance(record, LMCall):
                self._count(record)
            outer.emit(record)

        recorder = Recorder(emit, outer.run_id, outer.span_id, outer.step, outer.terms, outer.lm, outer.context, outer.once)
        return dspy.context(**{CONTEXT_KEY: recorder})

    def _count(self, call: LMCall) -> None:
        with self._lock:
            now = self.now
            if call.cache_hit:
                self.now = Bill(now.calls, now.cached + 1, now.cost, now.unpriced)
            elif call.cost is None:
                self.now = Bill(now.calls + 1, now.cached, now.cost, now.unpriced + 1)
            else:
                self.now = Bill(now.calls + 1, now.cached, now.cost + call.cost, now.unpriced)
