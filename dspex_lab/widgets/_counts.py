"""What is counted for a step, and what its language model calls cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dspex_lab.events import LMCall, Span

__all__ = ["KNOWN", "Step", "Tokens"]

_ERROR_LENGTH = 2000  # characters of an error that are kept
_ERROR_KINDS = 20  # different errors that are kept per step
_ERRORS_SHOWN = 3
#: How a step can end.
KNOWN = frozenset({"complete", "partial", "fallback", "failed", "cancelled", "skipped"})


class Tokens:
    """What language models cost, for a step or for the whole."""

    __slots__ = ("cached", "calls", "completion", "cost", "prompt", "requests", "unpriced")

    def __init__(self) -> None:
        self.calls = self.cached = self.prompt = self.completion = self.unpriced = self.requests = 0
        self.cost: float | None = None

    def add(self, call: LMCall) -> None:
        """Count one more call."""
        self.calls += 1
        self.prompt += call.prompt_tokens or 0
        self.completion += call.completion_tokens or 0
        if call.cost is not None:
            self.cost = (self.cost or 0.0) + call.cost
        elif not call.cache_hit and not call.simulated:
            self.unpriced += 1
        if call.cache_hit:
            self.cached += 1
        else:
            self.requests += call.attempts

    def spent(self) -> dict[str, float]:
        """Return what a budget counts: dollars, tokens, and requests that were really made."""
        return {"cost": self.cost or 0.0, "tokens": self.prompt + self.completion, "calls": self.requests}

    def shown(self) -> dict[str, Any]:
        """Return the counts as they are shown."""
        return {
            "calls": self.calls,
            "cached": self.cached,
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "cost": self.cost,
            "unpriced": self.unpriced,
        }


class Step:
    """One step: in a run its state, in a map what became of it in all rows so far.

    An inner step may be done many times in one run (for each item of a list), so it is counted as in a map.
    """

    __slots__ = (
        "complete",
        "errors",
        "failed",
        "implementation",
        "nested",
        "partial",
        "running",
        "seconds",
        "skipped",
        "started",
        "status",
        "tokens",
        "worker",
    )

    def __init__(self, nested: bool = False) -> None:
        self.nested = nested
        self.status = "waiting"
        self.running = self.complete = self.partial = self.failed = self.skipped = 0
        self.started: float | None = None
        self.seconds = 0.0
        self.tokens = Tokens()
        self.implementation: str | None = None
        self.worker: str | None = None
        self.errors: Counter[str] = Counter()

    @property
    def worked(self) -> int:
        """How often it was begun and has ended."""
        return self.complete + self.partial + self.failed

    @property
    def ended(self) -> int:
        """How often it has ended, also without having begun."""
        return self.worked + self.skipped

    @property
    def joint(self) -> str:
        """The one status of all the times it has ended."""
        if self.failed:
            return "partial" if self.complete or self.partial else "failed"
        return "partial" if self.partial else "complete" if self.complete else "skipped"

    def add(self, span: Span) -> None:
        """Count one more end."""
        self.running = max(self.running - 1, 0)
        self.seconds += span.seconds
        self.status = span.status if span.status in KNOWN else "failed" if span.error else "complete"
        self.implementation = span.implementation or self.implementation
        self.worker = span.worker or self.worker
        if self.status == "failed":
            self.failed += 1
        elif self.status == "partial":
            self.partial += 1
        elif self.status in ("skipped", "cancelled"):
            self.skipped += 1
        else:
            self.complete += 1
        if self.status in ("failed", "partial", "fallback") and (span.error or self.status == "failed"):
            self.add_error(span.error)

    def again(self) -> None:
        """Forget how it ended: only its last end counts."""
        self.complete = self.partial = self.failed = self.skipped = self.running = 0
        self.seconds = 0.0
        self.errors.clear()

    def add_error(self, text: str | None) -> None:
        """Count an error."""
        key = (text or "failed")[:_ERROR_LENGTH]
        if key in self.errors or len(self.errors) < _ERROR_KINDS:
            self.errors[key] += 1

    def shown(self, status: str, seconds: float | None) -> dict[str, Any]:
        """Return the state as it is shown."""
        return {
            "status": status,
            "seconds": seconds,
            "running": self.running,
            "complete": self.complete,
            "partial": self.partial,
            "failed": self.failed,
            "skipped": self.skipped,
            "times": self.worked if self.nested else 0,
            "implementation": self.implementation,
            "worker": self.worker,
            "errors": [{"text": t, "count": n} for t, n in self.errors.most_common(_ERRORS_SHOWN)],
            **self.tokens.shown(),
        }
