"""A run as the events that happen in it, in order, the first token at once.

Whoever watches may be slow. The run never waits for him: a display must not slow a program down, eat up its deadline, or
bring it to a stand (a sync step may hold the very loop that the watcher needs). Nothing is lost either: beyond ``_BACKLOG``
events that nobody has taken yet, a token is joined to the one before it of the same field, so that what waits grows with the
text alone, which the result holds in any case.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from dspex_lab.pipelines._pipeline import Pipeline
    from dspex_lab.pipelines._result import Result

StreamKind: TypeAlias = Literal["step.start", "token", "chunk", "progress", "field", "step.stop", "partial", "result"]

_BACKLOG = 256


class StreamEvent(NamedTuple):
    """One thing that happened in a run.

    Args:
        kind: what happened.
        step: the step's name, dotted inside nested pipelines (``"outer.inner"``); None for the run itself.
        field: the output field that a token or a value belongs to, where that is known.
        value: the token's text, the field's value, what a step told (``chunk``), how much it has done (``progress``); for
            ``partial`` and ``result`` the outputs so far, by field.
        time: when, in seconds since the epoch.
        data: what else is known: ``kind`` and ``outputs`` (its fields' names) of a step that starts; ``status``, ``seconds``
            and ``outputs`` of a step that stopped, or was skipped (it did not start, and its status is ``"skipped"``); of a
            token ``call_id``, ``attempt``, ``model``, ``part``, ``whole``, ``cached`` and ``simulated`` (see ``lms.Token``),
            and ``pieces`` where several were joined because nobody had taken them; of progress ``total`` and ``note``.
        result: the run's result, on the last event only.
    """

    kind: StreamKind
    step: str | None = None
    field: str | None = None
    value: Any = None
    time: float = 0.0
    data: dict[str, Any] | None = None
    result: Result | None = None


class Hub:
    """Where a run's events wait until they are taken; the ``listen`` of its context. Thread-safe.

    It never blocks and never raises, in whatever thread it is told of an event.

    Args:
        pipeline: what is run.

    Attributes:
        wake: called after each event, in the thread in which it happened.
        closed: nobody watches any more.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.closed = False
        self.wake: Callable[[], None] = lambda: None
        self._pipeline = pipeline
        self._waiting: deque[StreamEvent] = deque()
        self._last: dict[Any, int] = {}
        self._taken = 0
        self._given: dict[str, Mapping[str, Any]] = {}
        self._answers: dict[str | None, str] = {}
        self._closers: dict[object, Callable[[], None]] = {}
        self._lock = threading.Lock()
        for name, item in pipeline.steps.items():
            self._learn(name, item.kind, pipeline.shapes[name].outputs)

    def __call__(self, event: Any) -> None:
        """Take an event: a :class:`StreamEvent`, or a ``Token`` of a model."""
        made = event if isinstance(event, StreamEvent) else StreamEvent(*event)
        if not made.time:
            made = made._replace(time=time.time())
        with self._lock:
            if self.closed:
                return
            if made.kind == "step.start" and made.data:
                self._learn(made.step, made.data.get("kind"), made.data.get("outputs"))
            self._add(self._placed(made) if made.kind == "token" else made)
            if made.kind == "step.stop" and made.step in self._pipeline.shapes:
                self._given[made.step] = (made.data or {}).get("outputs") or {}
                self._add(StreamEvent("partial", value=self._snapshot(), time=made.time))
        self.wake()

    def _learn(self, step: str | None, kind: Any, outputs: Any) -> None:
        """Note the field of a step that gives a model's whole answer as its only one."""
        if kind == "lm" and len(outputs or ()) == 1:
            self._answers[step] = next(iter(outputs))

    def _placed(self, token: StreamEvent) -> StreamEvent:
        """Return a token of a prompt without fields as one of the step's only field: the whole answer is its value."""
        field = self._answers.get(token.step)
        spoken = token.field is None and (token.data or {}).get("part") == "text"
        return token._replace(field=field) if spoken and field is not None else token

    def _add(self, event: StreamEvent) -> None:
        if event.kind == "token" and event.data is not None:
            call = event.data.get("call_id")
            at = self._last.get(call, -1) - self._taken
            before = self._waiting[at] if at >= 0 and len(self._waiting) >= _BACKLOG else None
            if before is not None and _alike(before, event):
                self._waiting[at] = _joined(before, event)
                return
            self._last[call] = self._taken + len(self._waiting)
        self._waiting.append(event)

    def _snapshot(self) -> dict[str, Any]:
        """Return the outputs so far as the result will have them."""
        outputs: dict[str, Any] = {}
        for name, shape in self._pipeline.shapes.items():
            if name not in self._given:
                continue
            given = self._given[name]
            for field in shape.outputs:
                if field in given:
                    outputs[field] = given[field]
                else:
                    # Where the last step that gives it failed, an earlier version does not stand in for it.
                    outputs.pop(field, None)
        return outputs

    def take(self) -> StreamEvent | None:
        """Return the next event, None where none waits."""
        with self._lock:
            if not self._waiting:
                return None
            self._taken += 1
            event = self._waiting.popleft()
            if not self._waiting:
                self._last.clear()
            return event

    def on_close(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called when nobody watches any more, at once if that is so; return what takes it back."""
        key = object()

        def take_back() -> None:
            self._closers.pop(key, None)

        with self._lock:
            closed = self.closed
            if not closed:
                self._closers[key] = callback
        if closed:
            callback()
        return take_back

    def close(self, forget: bool = True) -> None:
        """Take no more events: the run has ended, or nobody watches; with ``forget`` drop what waits too."""
        with self._lock:
            self.closed = True
            if forget:
                self._waiting.clear()
            closers = list(self._closers.values())
            self._closers.clear()
        for closer in closers:
            closer()


def _alike(before: StreamEvent, event: StreamEvent) -> bool:
    def key(e: StreamEvent) -> tuple[Any, ...]:
        data = {k: v for k, v in (e.data or {}).items() if k != "pieces"}
        return (e.kind, e.step, e.field, data)

    return key(before) == key(event)


def _joined(before: StreamEvent, event: StreamEvent) -> StreamEvent:
    pieces = (before.data or {}).get("pieces", 1) + 1
    return before._replace(value=before.value + event.value, data={**(before.data or {}), "pieces": pieces})
