"""What happened, as frozen records, and the bus that hands them on.

An :class:`Event` is a moment; a :class:`Span` has a duration and a parent. Both are plain tuples of
values that can be pickled, so workers send theirs home unchanged.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from dspex_lab.errors import ConfigurationError

log = logging.getLogger("dspex_lab")

#: Every event name the Lab emits today; a name outside this set is a programming error.
EVENT_NAMES = frozenset(
    {
        "run.start",
        "run.stop",
        "run.error",
        "step.start",
        "step.stop",
        "step.error",
        "router.route",
        "native.execute",
        "dspy.execute",
        "lm.call",
        "cache.hit",
        "cache.miss",
        "pool.checkout",
        "pool.checkin",
        "pool.restart",
        "error.native",
        "error.dspy",
        "error.pipeline",
        "error.pool",
        "error.lm",
    }
)

_counter_lock = threading.Lock()
_counter = 0
_prefix = ""
_prefix_pid = 0


def new_id() -> str:
    """Return a unique id that sorts by time within a process: 8 hex of time, 8 of randomness, 6 of a counter."""
    global _counter, _prefix, _prefix_pid
    with _counter_lock:
        if _prefix_pid != os.getpid() or _counter >= 0xFFFFFF:
            _prefix = f"{int(time.time()) & 0xFFFFFFFF:08x}{os.urandom(4).hex()}"
            _prefix_pid, _counter = os.getpid(), 0
        _counter += 1
        return f"{_prefix}{_counter:06x}"


class Event(NamedTuple):
    """One thing that happened.

    ``time`` is seconds since the epoch; ``data`` must be JSON-able.
    """

    name: str
    time: float
    run_id: str | None = None
    span_id: str | None = None
    step: str | None = None
    data: dict[str, Any] | None = None


class Span(NamedTuple):
    """A piece of work with a duration.

    ``kind`` is ``"run"``, ``"step"`` or ``"lm"``; ``started`` is seconds since the epoch and ``seconds`` the
    duration; ``status`` is ``"complete"``, ``"partial"`` (of a run), ``"failed"``, ``"fallback"``, ``"skipped"`` or
    ``"cancelled"``.
    """

    span_id: str
    parent_id: str | None
    run_id: str
    kind: str
    name: str
    started: float
    seconds: float
    status: str
    implementation: str | None = None
    worker: str | None = None
    error: str | None = None
    data: dict[str, Any] | None = None


class LMCall(NamedTuple):
    """One call of a language model.

    ``cost`` is in US dollars and None where no price is known; ``seconds`` is the latency as the program
    saw it; ``simulated`` says that the engine only imitates a provider (the offline engine, test engines).
    """

    call_id: str
    span_id: str | None
    run_id: str | None
    step: str | None
    model: str
    started: float
    seconds: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    cache_hit: bool
    simulated: bool
    error: str | None = None
    messages: Any = None
    outputs: Any = None


class RunRecord(NamedTuple):
    """The outcome of one run, recorded once, when it ends.

    ``kind`` is ``"run"``, ``"map"`` (a run over many rows) or ``"row"`` (one row of a map, with its
    ``parent_id`` and 0-based ``row_index``) or ``"nested"`` (started in a step of the run ``parent_id``, whose tokens and
    cost include it); ``status`` is ``"complete"``, ``"partial"``, ``"failed"``,
    ``"cancelled"`` or ``"interrupted"`` (its process ended under it; found at the next start).
    ``inputs`` and ``outputs`` are JSON-able; ``cost`` is in US dollars; ``simulated`` says that an engine that
    only imitates a provider answered.
    """

    run_id: str
    parent_id: str | None
    kind: str
    name: str
    status: str
    started: float
    seconds: float
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    error: str | None = None
    error_step: str | None = None
    lm: str | None = None
    simulated: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    row_index: int | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()


class Decision(NamedTuple):
    """One choice of the router: which implementation of an operation, among which, by which strategy and why."""

    decision_id: str
    run_id: str | None
    span_id: str | None
    time: float
    operation: str
    chosen: str
    candidates: tuple[str, ...]
    strategy: str
    reason: str


Record: TypeAlias = Event | Span | LMCall | RunRecord | Decision
Observer: TypeAlias = Callable[[Record], None]


class Bus:
    """Hands every record to every observer, in the emitting thread.

    An observer that raises is logged once per observer and never breaks the run; it keeps being told.
    Thread-safe: observers may be added and removed at any time.
    """

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()
        self._lock = threading.Lock()
        self._complained: set[int] = set()

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Add an observer and return the function that removes it."""
        with self._lock:
            self._observers = (*self._observers, observer)

        def unsubscribe() -> None:
            with self._lock:
                self._observers = tuple(o for o in self._observers if o is not observer)

        return unsubscribe

    def emit(self, record: Record) -> None:
        """Tell every observer."""
        for observer in self._observers:
            try:
                observer(record)
            except Exception:
                if id(observer) not in self._complained:
                    self._complained.add(id(observer))
                    log.exception("an observer of events raised; it will go on being told, and this is said once")


Status: TypeAlias = Literal["complete", "partial", "failed"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run is to be carried out.

    Args:
        session: the session the run belongs to; kept with the run, to find its runs together.
        deadline: seconds the whole run may take; what is left of it is handed down to its steps.
        budget: US dollars the run may spend.
        pin: the implementation to use, by operation (``{"predict": "dspy"}``), instead of the router's choice.
        seed: varies sampling and separates cache entries of otherwise equal calls.
        tags: kept with the run, to find it again.
    """

    session: str | None = None
    deadline: float | None = None
    budget: float | None = None
    pin: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.deadline is not None and not self.deadline > 0:
            raise ConfigurationError(
                f"deadline={self.deadline!r} is no time to run.",
                key="deadline",
                expected="seconds above 0",
                actual=self.deadline,
            )
        if self.budget is not None and not self.budget >= 0:
            raise ConfigurationError(
                f"budget={self.budget!r} is no sum.", key="budget", expected="US dollars, 0 or more", actual=self.budget
            )
