"""What a step tells while it is under way, beside what its models write: how far it is, and values of its own."""

from __future__ import annotations

import time
from typing import Any

from dspex_lab.events import Event
from dspex_lab.pipelines._context import RunContext, running
from dspex_lab.pipelines._stream import StreamEvent
from dspex_lab.pools import Progress, current_task


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Tell how far the step that runs here is, in the kernel or on a pool. Does nothing outside a step or task.

    Whoever streams the run gets a ``progress`` event with ``value=done`` and ``data={"total", "note"}``.

    Args:
        done: what is done, in units of your own.
        total: all there is to do; None where that is not known.
        note: a word on what it does.
    """
    found = running()
    if found is None:
        current_task().progress(done, total, note)
    else:
        show(*found, Progress(done, total, note))


def tell(value: Any) -> None:
    """Give a value to whoever streams the run, while the step that runs here goes on: a ``chunk`` event with that value.

    On a pool the step waits while too much of it is not taken. Does nothing outside a step or task, or where nobody watches.

    Raises:
        Unserialisable: on a pool, a part of the value cannot travel.
    """
    found = running()
    if found is None:
        current_task().tell(value)
    else:
        show(*found, value)


def show(context: RunContext, span_id: str, step: str, told: Any) -> None:
    """Tell whoever watches a run what one of its steps told: a value, a :class:`Progress`, or a :class:`Written`."""
    listen, now = context.listen, time.time()
    if isinstance(told, Written):
        if listen is not None:
            listen(StreamEvent(*told.event))
    elif isinstance(told, Progress):
        data = {"total": told.total, "note": told.note}
        if listen is not None:
            listen(StreamEvent("progress", step, value=told.done, time=now, data=data))
        if context.bus.watched:
            context.bus.emit(Event("step.progress", now, context.run_id, span_id, step, {"done": told.done, **data}))
    elif listen is not None:
        listen(StreamEvent("chunk", step, value=told, time=now))


class Written:
    """A piece of what a model writes in a worker, on its way to whoever streams the run."""

    __slots__ = ("event",)

    def __init__(self, event: tuple[Any, ...]) -> None:
        self.event = event
