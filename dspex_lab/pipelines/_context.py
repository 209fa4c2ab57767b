"""What one run carries with it, and what the engine asks of the rooms above and beside it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dspex_lab.events import Bus, Decision, Event, LMCall, Record
from dspex_lab.lms import CONTEXT_KEY, FEEDBACK_KEY, Recorder, Terms, current_feedback, current_recorder
from dspex_lab.pipelines._step import Operation
from dspex_lab.resilience import is_retrying
from dspex_lab.security.interpreter import chosen_factory

if TYPE_CHECKING:
    from dspex_lab.pipelines._batch import Batchers
    from dspex_lab.pipelines._cache import StepCache
    from dspex_lab.pipelines._checkpoint import Checkpoint
    from dspex_lab.pipelines._stream import StreamEvent


@dataclass(frozen=True, slots=True)
class Candidate:
    """One implementation of an operation: what makes its function or DSPy module, and where it runs (None: the kernel)."""

    name: str
    make: Callable[[], Any]
    pool: str | None = None


class Decide(Protocol):
    """Chooses among the implementations of an operation, and learns how each one did. Thread-safe."""

    def decide(self, operation: Operation, inputs: Mapping[str, Any], pin: str | None) -> tuple[list[Candidate], str, str]:
        """Return the candidates, best first and never empty, the strategy's name and its reason.

        Raises:
            ConfigurationError: no implementation can do it, or ``pin`` names none.
        """
        ...

    def observe(self, operation: Operation, implementation: str, seconds: float, error: BaseException | None) -> None:
        """Take note of one execution; ``seconds`` is its wall time."""
        ...


class Submit(Protocol):
    """A worker pool, as the engine sees it."""

    async def call(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        label: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the worker is killed at it
        idempotent: bool = False,
        identity: str | Callable[[], str] | None = None,
        tags: dict[str, Any] | None = None,
        place: Any = None,
        told: Callable[[Any], None] | None = None,
        on_chunk: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Run ``fn`` on a worker and return its value; raise its own exception, or a PoolError of the pool's. See
        :meth:`dspex_lab.pools.Pool.call`."""
        ...


class Seats(Protocol):
    """The sessions that runs belong to, and the workers these would have them on. Thread-safe."""

    def inside(self, name: str | None) -> AbstractContextManager[Any]:
        """Keep a session in use in the block, which is a run of it. None does nothing."""
        ...

    def placement(self, session: str | None, pool: str) -> Any:
        """Return where a step of the session's is to run (a ``pools.Placement``), None for anywhere.

        Raises:
            SessionError: it may only run on a worker that is not to be had.
        """
        ...

    def placed(self, session: str | None, pool: str, worker: str, pid: int | None) -> None:
        """Take note of where a step of the session's ran."""
        ...


class Usage:
    """What a run has spent; a field is None as long as nothing was told about it. Thread-safe.

    Args:
        outer: what the run that this one happens in has spent; it is added to as well.
    """

    def __init__(self, outer: Usage | None = None) -> None:
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.cost: float | None = None
        self.unknown_cost = False
        self.simulated = False
        self.models: list[str] = []
        self.asked_again = 0
        self._outer = outer
        self._lock = threading.Lock()

    def add(self, call: LMCall) -> None:
        """Add one LM call."""
        with self._lock:
            if call.prompt_tokens is not None:
                self.prompt_tokens = (self.prompt_tokens or 0) + call.prompt_tokens
            if call.completion_tokens is not None:
                self.completion_tokens = (self.completion_tokens or 0) + call.completion_tokens
            if call.cost is not None:
                self.cost = (self.cost or 0.0) + call.cost
            elif call.error is None:
                self.unknown_cost = True
            self.simulated = self.simulated or call.simulated
            self.asked_again += call.again and not call.cache_hit
            if call.model not in self.models:
                self.models.append(call.model)
        if self._outer is not None:
            self._outer.add(call)

    @property
    def known_cost(self) -> float | None:
        """Return the cost in US dollars, None where no call was made or a call's price is unknown."""
        return None if self.unknown_cost else self.cost


@dataclass(slots=True)
class RunContext:
    """One run under way.

    Args:
        owner: the id of the Lab it runs in.
        run_id: the run's id, and that of the span of the whole run (``span_id``).
        bus: takes each record; asked in the thread in which something happens.
        executor: where sync code runs.
        decide: the router.
        pool: gives the pool of a name.
        lm: gives the model in use, made on first need, so that a run without one never imports DSPy.
        modules: DSPy modules that stand in for those of the steps, by step name.
        pin: the implementation to use, by operation.
        deadline: the ``time.monotonic()`` at which the run must have ended.
        terms: on which its LM calls are made.
        outer: the run of the same Lab in whose step this one was started.
        wait: set where the whole run happens in the thread that asked for it: nothing is handed to another thread, and
            this waits for what can only be awaited (a pool, an async function).
        listen: takes the events of a streamed run as they happen.
        cache: where steps with ``cache=`` keep their answers; ``batchers`` puts like requests together.
        checkpoint: where outputs are kept so that a later run can go on from them.
        model: makes the model that a step asked for by name (``lm=``).
        alone: says whether no other run of the Lab is under way.
        session: the session it belongs to; ``seats`` says which workers that one has.
        notes: why the answer of a step is less than was asked for, by its span.
    """

    owner: str
    run_id: str
    span_id: str
    bus: Bus
    executor: Executor
    decide: Decide
    pool: Callable[[str], Submit]
    lm: Callable[[], Any]
    modules: Mapping[str, Any] = field(default_factory=dict)
    pin: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None
    terms: Terms = field(default_factory=Terms)
    wait: Callable[[Coroutine[Any, Any, Any]], Any] | None = None
    usage: Usage = field(default_factory=Usage)
    outer: RunContext | None = None
    listen: Callable[[StreamEvent], None] | None = None
    cache: StepCache | None = None
    batchers: Batchers | None = None
    checkpoint: Checkpoint | None = None
    model: Callable[[Any], Any] | None = None
    alone: Callable[[], bool] = lambda: False
    session: str | None = None
    seats: Seats | None = None
    notes: dict[str, str] = field(default_factory=dict)
    _settings: dict[str, Any] | None = None

    async def finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what ``work`` gives."""
        return await work if self.wait is None else self.wait(work)

    def emit(self, record: Record) -> None:
        """Tell of a record; what LM calls spend is added up on the way."""
        if isinstance(record, LMCall):
            self.usage.add(record)
        self.bus.emit(record)

    def event(self, what: str, span_id: str | None, step: str | None, /, **data: Any) -> None:
        """Tell of an event of this run that happens now."""
        self.bus.emit(Event(what, time.time(), self.run_id, span_id, step, data or None))

    def decision(self, decision: Decision) -> None:
        """Tell of a choice of the router."""
        self.bus.emit(decision)
        if self.bus.watched:
            self.event("router.route", decision.span_id, None, operation=decision.operation, chosen=decision.chosen)

    def remaining(self, timeout: float | None) -> float | None:
        """Return the seconds a step may take: its own timeout or what is left of the deadline, whichever is less."""
        if self.deadline is None:
            return timeout
        left = max(self.deadline - time.monotonic(), 0.0)
        return left if timeout is None else min(timeout, left)

    def degrade(self, span_id: str, why: str) -> None:
        """Take note that a model's answer in the step of that span is less than was asked for."""
        self.notes[span_id] = why

    def allows(self, feature: str) -> bool:
        """Say whether a costly feature is to be had at the present load (``resilience.FEATURES``)."""
        return self.terms.gateway is None or self.terms.gateway.degradation.allows(feature)

    def chosen(self, lm: Any) -> Any:
        """Return the model of a step that asks for ``lm``, the one in use where that is None."""
        return self.lm() if lm is None or self.model is None else self.model(lm)

    def begin(self) -> None:
        """Let what now runs in this thread or task belong to the run, whichever of its steps it is.

        It is enough for steps that run in the task which calls them: ``_current`` says which one. What runs in DSPy's own
        threads belongs to the run then, and to no step.
        """
        if "dspy" in sys.modules:
            self._dspy(_RunRecorder(self.emit, self.run_id, terms=self.terms, context=self), None)

    def enter(self, span_id: str, step: str, force: bool = False, lm: Any = None) -> None:
        """Let what now runs in this thread or task belong to a step.

        Runs started in it belong to this one; DSPy uses the model in use and its calls are recorded. It holds until the
        next step is entered or the run is left (:class:`Surroundings`). Without ``force`` DSPy is left alone as long as it
        is not loaded: a native step that does not use it pays nothing.

        Args:
            lm: the step's own model; None is the one in use.
        """
        _current.set((self, span_id, step))
        if force or "dspy" in sys.modules:
            self._dspy(Recorder(self.emit, self.run_id, span_id, step, self.terms, context=self, once=is_retrying()), lm)

    def _dspy(self, recorder: Recorder, lm: Any) -> None:
        from dspy.dsp.utils.settings import dotdict, thread_local_overrides

        if self._settings is None:
            # Modules that run model-written code and were made without an interpreter get our sandbox.
            around = {"lm": self.lm(), "interpreter_factory": chosen_factory()}
            self._settings = {**thread_local_overrides.get(), **around}
        overrides = dotdict(self._settings)
        if lm is not None:
            overrides["lm"] = self.chosen(lm)
        recorder.lm = overrides["lm"]
        overrides[CONTEXT_KEY] = recorder
        if (feedback := current_feedback()) is not None:
            overrides[FEEDBACK_KEY] = feedback  # for DSPy's own threads
        # What dspy.context() does, without copying all settings for every step and without putting them back.
        thread_local_overrides.set(overrides)


class _RunRecorder(Recorder):
    """A recorder for all steps of a run: which one a call belongs to is asked when it is made."""

    __slots__ = ()

    @property
    def span_id(self) -> str | None:
        """The span of the step that runs here, that of the run where none does."""
        found = _current.get()
        run: RunContext = self.context
        return found[1] if found is not None and found[0] is run else run.span_id

    @span_id.setter
    def span_id(self, value: str | None) -> None:
        """Nothing to set."""

    @property
    def step(self) -> str | None:
        """The step that runs here, None where none does."""
        found = _current.get()
        return found[2] if found is not None and found[0] is self.context else None

    @step.setter
    def step(self, value: str | None) -> None:
        """Nothing to set."""


class Surroundings:
    """The context variables as they were before a run began; to be put back in the same task or thread."""

    __slots__ = ("_dspy", "_token")

    def __init__(self) -> None:
        self._token: Token[Any] = _current.set(_current.get())
        loaded = sys.modules.get("dspy.dsp.utils.settings")
        self._dspy = None if loaded is None else loaded.thread_local_overrides.get()

    def restore(self) -> None:
        """Put them back."""
        try:
            _current.reset(self._token)
        except ValueError:
            return  # the run was given up with its loop, and is closed from elsewhere; what is around there stays
        loaded = sys.modules.get("dspy.dsp.utils.settings")
        if loaded is not None:
            if self._dspy is None:
                self._dspy = loaded.dotdict()
            if loaded.thread_local_overrides.get() is not self._dspy:
                loaded.thread_local_overrides.set(self._dspy)


#: The run, the span and the name of the step that runs in this task or thread.
_current: ContextVar[tuple[RunContext, str, str] | None] = ContextVar("dspex_current_run", default=None)


#: Lets what now runs in this task belong to a step of a run that was begun here (:meth:`RunContext.begin`).
enter_quick = _current.set


def running() -> tuple[RunContext, str, str] | None:
    """Return the run, the span and the name of the step that runs in this task or thread, None where none does."""
    return _current.get()


def enclosing(owner: str) -> tuple[RunContext, str] | None:
    """Return the run of the Lab ``owner`` in whose step the caller is, and that step's span, or None."""
    found = _current.get()
    if found is not None:
        return found[:2] if found[0].owner == owner else None
    # One of DSPy's own threads, which takes DSPy's settings along and nothing else.
    recorder = current_recorder()
    context = None if recorder is None else recorder.context
    return (context, recorder.span_id or "") if recorder and context is not None and context.owner == owner else None
