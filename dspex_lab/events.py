"""What happened, as frozen records, and the bus that hands them on.

An :class:`Event` is a moment; a :class:`Span` has a duration and a parent. Both are plain tuples of
values that can be pickled, so workers send theirs home unchanged.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

log = logging.getLogger("dspex_lab")

#: Every event name the Lab emits today; a name outside this set is a programming error.
EVENT_NAMES = frozenset(
    {
        "run.start",
        "run.stop",
        "run.error",
        "run.feedback",
        "step.start",
        "step.stop",
        "step.error",
        "step.retry",
        "step.progress",
        "checkpoint.load",
        "checkpoint.skip",
        "router.route",
        "native.execute",
        "dspy.execute",
        "lm.call",
        "lm.retry",
        "lm.second_call",
        "fallback.use",
        "hedge.start",
        "hedge.win",
        "breaker.open",
        "breaker.half_open",
        "breaker.close",
        "bulkhead.limit",
        "bulkhead.reject",
        "bulkhead.pause",
        "budget.cross",
        "budget.refuse",
        "degradation.change",
        "health.change",
        "tape.miss",
        "cache.hit",
        "cache.miss",
        "pool.checkout",
        "pool.checkin",
        "pool.restart",
        "pool.start",
        "pool.resize",
        "pool.recycle",
        "pool.stuck",
        "pool.refuse",
        "session.open",
        "session.close",
        "session.expire",
        "session.move",
        "session.rename",
        "session.checkout",
        "session.checkin",
        "variable.define",
        "variable.commit",
        "variable.rollback",
        "variable.pin",
        "variable.lease",
        "variable.release",
        "variable.expire",
        "job.start",
        "job.progress",
        "job.trial",
        "job.stop",
        "job.resume",
        "job.error",
        "job.adopt",
        "sandbox.run",
        "sandbox.refuse",
        "error.native",
        "error.dspy",
        "error.pipeline",
        "error.pool",
        "error.lm",
    }
)

#: Moments that a span, a decision, an LM call or a run's record tells too. They are for those who watch; the store keeps
#: the other record.
LIVE_EVENTS = frozenset(
    {
        "run.stop",
        "run.error",
        "step.start",
        "step.stop",
        "step.progress",
        "job.progress",
        "router.route",
        "native.execute",
        "dspy.execute",
        "lm.call",
    }
)

#: Ids share a prefix until so many were made.
_IDS = 0xFFFFFF


_ids_lock = threading.Lock()
#: The present prefix and the numbers still to be given under it; one object, so that both are read at once.
_ids: tuple[str, Iterator[int]] = ("", iter(()))


def _renew_ids() -> None:
    global _ids
    _ids = (f"{int(time.time()) & 0xFFFFFFFF:08x}{os.urandom(4).hex()}", iter(range(1, _IDS + 1)))


def _forget_ids() -> None:
    global _ids, _ids_lock
    _ids, _ids_lock = ("", iter(())), threading.Lock()


os.register_at_fork(after_in_child=_forget_ids)


def new_id() -> str:
    """Return a unique id that sorts by time within a process: 8 hex of time, 8 of randomness, 6 of a counter."""
    while True:
        prefix, numbers = _ids
        for number in numbers:
            return f"{prefix}{number:06x}"
        with _ids_lock:
            if _ids[1] is numbers:
                _renew_ids()


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
    ``attempts`` is how often the engine was asked, 0 where a cache answered or the call was refused before; ``again`` says
    that it asks a second time for one answer, because the first could not be read (Chat, then JSON); ``instead_of`` is the
    model in whose place this one was asked; ``first_token`` the seconds until the first piece of a streamed answer came.
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
    attempts: int = 1
    again: bool = False
    instead_of: str | None = None
    first_token: float | None = None


class RunRecord(NamedTuple):
    """The outcome of one run, recorded once, when it ends.

    ``kind`` is ``"run"``, ``"map"`` (a run over many rows) or ``"row"`` (one row of a map, with its
    ``parent_id`` and 0-based ``row_index``) or ``"nested"`` (started in a step of the run ``parent_id``, whose tokens and
    cost include it); ``status`` is ``"complete"``, ``"partial"``, ``"failed"``,
    ``"cancelled"`` or ``"interrupted"`` (its process ended under it; found at the next start).
    ``variables`` says with which values of variables it ran (``{"version": of the space, "values": {name: value}}``).
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
    variables: dict[str, Any] | None = None


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


class VariableRecord(NamedTuple):
    """One variable's part in one commit to a space.

    ``version`` is the space's, which grows by one with each commit; ``parent`` the version at which the variable got the
    value that this one replaces, 0 for none; ``value`` is in the JSON form of its domain; ``who`` is ``"person"``,
    ``"optimizer"``, ``"job"``, ``"adaptation"``, ``"program"`` or ``"derived"`` and ``author`` its name; ``why`` a sentence;
    ``score`` what was measured with it; ``fence`` the number of the lease it was written under.
    """

    space: str
    name: str
    version: int
    parent: int
    time: float
    value: Any
    who: str
    author: str | None = None
    why: str | None = None
    score: float | None = None
    fence: int | None = None


class TrialRecord(NamedTuple):
    """One candidate that a job tried: an optimizer's program, a set of values, a reflective proposal.

    ``number`` counts from 0 within the job; ``parent`` is the candidate it was made from; ``status`` is ``"complete"``,
    ``"pruned"``, ``"failed"``, ``"rejected"`` (proposed, tried on a few rows and not kept) or ``"repeated"`` (done before and
    done again by a resumed job); ``scores`` has the objectives by name and ``score`` the first one; ``values`` the variables
    or ``candidate`` the texts and demonstrations by path; ``cost`` is in US dollars, ``rows`` how many rows it was tried on.
    """

    job_id: str
    number: int
    parent: int | None
    status: str
    started: float
    seconds: float
    score: float | None = None
    scores: dict[str, float] | None = None
    values: dict[str, Any] | None = None
    candidate: dict[str, Any] | None = None
    cost: float | None = None
    calls: int | None = None
    rows: int | None = None
    error: str | None = None
    note: str | None = None


Record: TypeAlias = Event | Span | LMCall | RunRecord | Decision | VariableRecord | TrialRecord
Observer: TypeAlias = Callable[[Record], None]


class Bus:
    """Hands every record to every observer, in the emitting thread.

    An observer that raises is logged once per observer and never breaks the run; it keeps being told.
    Thread-safe: observers may be added and removed at any time.

    Attributes:
        watched: somebody wants the moments of ``LIVE_EVENTS``; whoever emits them may leave it where nobody does.
    """

    def __init__(self) -> None:
        self.watched = False
        self._observers: tuple[tuple[Observer, bool], ...] = ()
        self._all: tuple[Observer, ...] = ()
        self._watchers: tuple[Observer, ...] = ()
        self._lock = threading.Lock()
        self._complained: set[int] = set()

    def subscribe(self, observer: Observer, *, live: bool = True) -> Callable[[], None]:
        """Add an observer and return the function that removes it.

        Args:
            live: it is told of the moments of ``LIVE_EVENTS`` too.
        """
        entry = (observer, live)
        with self._lock:
            self._set((*self._observers, entry))

        def unsubscribe() -> None:
            with self._lock:
                self._set(tuple(o for o in self._observers if o is not entry))

        return unsubscribe

    def _set(self, observers: tuple[tuple[Observer, bool], ...]) -> None:
        self._observers = observers
        self._all = tuple(observer for observer, _ in observers)
        self._watchers = tuple(observer for observer, live in observers if live)
        self.watched = bool(self._watchers)

    def emit(self, record: Record) -> None:
        """Tell every observer that wants the record."""
        live = type(record) is Event and record.name in LIVE_EVENTS
        for observer in self._watchers if live else self._all:
            try:
                observer(record)
            except Exception:
                self._complain(observer)

    def _complain(self, observer: Observer) -> None:
        if id(observer) not in self._complained:
            self._complained.add(id(observer))
            log.exception("an observer of events raised; it will go on being told, and this is said once")


Status: TypeAlias = Literal["complete", "partial", "failed"]
