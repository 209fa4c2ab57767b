"""What is told of a step: its span and events for the bus, its beginning and end for whoever watches a stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import LMError, PipelineError, PoolError
from dspex_lab.events import Span, new_id
from dspex_lab.pipelines._result import describe
from dspex_lab.pipelines._stream import StreamEvent

if TYPE_CHECKING:
    from dspex_lab.pipelines._calls import Calls
    from dspex_lab.pipelines._context import RunContext


def tell_start(work: Calls, now: float) -> None:
    """Tell those who watch that a step begins, at ``now`` in seconds since the epoch."""
    context = work.context
    if context.bus.watched:
        context.event("step.start", work.span_id, work.name)
    if context.listen is not None:
        show_start(work, now)


def show_start(work: Calls, now: float) -> None:
    """Tell whoever watches the stream that a step begins, or begins again: what came of the try before may be thrown away."""
    listen = work.context.listen
    if listen is not None:
        data = {"kind": work.item.kind, "outputs": list(work.shape.outputs), "attempt": work.attempt}
        listen(StreamEvent("step.start", work.name, time=now, data=data))


def tell_end(work: Calls, started: float, seconds: float, status: str, error: str | None) -> None:
    """Tell of the span of a step.

    Args:
        started: seconds since the epoch; ``seconds`` is how long it took.
        error: what went wrong, or was less than wanted.
    """
    context = work.context
    if work.attempt > 1:
        work.data = {**(work.data or {}), "attempts": work.attempt}
    context.bus.emit(
        Span(
            work.span_id,
            work.parent_id,
            context.run_id,
            "step",
            work.name,
            started,
            seconds,
            status,
            work.implementation,
            work.worker,
            error,
            work.data,
        )
    )
    if error is not None:
        context.event("step.error", work.span_id, work.name, seconds=seconds, error=error, status=status)
    elif context.bus.watched:
        context.event("step.stop", work.span_id, work.name, seconds=seconds)


def show_end(work: Calls, status: str, seconds: float, outputs: Mapping[str, Any]) -> None:
    """Tell whoever watches the stream what a step gave, field by field, and how it ended."""
    listen = work.context.listen
    if listen is None:
        return
    now = time.time()
    for field in work.shape.outputs:
        if field in outputs:
            listen(StreamEvent("field", work.name, field, outputs[field], now))
    data = {"status": status, "seconds": seconds, "outputs": dict(outputs)}
    listen(StreamEvent("step.stop", work.name, time=now, data=data))


def tell_error(work: Calls, problem: BaseException) -> None:
    """Tell of what a step raised."""
    kinds = ((PoolError, "error.pool"), (LMError, "error.lm"), (PipelineError, "error.pipeline"))
    fallback = "error.native" if work.item.kind == "native" else "error.dspy"
    name = next((n for kind, n in kinds if isinstance(problem, kind)), fallback)
    work.event(name, error=describe(problem))


def tell_skipped(context: RunContext, around: str, name: str) -> None:
    """Tell of a step that is not begun, because something it needs was lost.

    Args:
        around: the span of what it is in.
        name: its name, with those of the steps it is in before it.
    """
    now = time.time()
    context.emit(Span(new_id(), around, context.run_id, "step", name, now, 0.0, "skipped"))
    if context.listen is not None:
        data = {"status": "skipped", "seconds": 0.0, "outputs": {}}
        context.listen(StreamEvent("step.stop", name, time=now, data=data))
