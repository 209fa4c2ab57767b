"""What one run carries with it, and what the engine asks of the rooms above and beside it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex_lab.errors import BudgetExceeded
from dspex_lab.events import Decision, Event, LMCall, Record
from dspex_lab.lms import CONTEXT_KEY, Recorder
from dspex_lab.pipelines._step import Operation


@dataclass(frozen=True, slots=True)
class Candidate:
    """One implementation of an operation, ready to run: a function or DSPy module, in the kernel or on a pool."""

    name: str
    target: Any
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
        timeout: float | None = None,  # noqa: ASYNC109 - the worker is killed at it
        tags: dict[str, Any] | None = None,
    ) -> Any:
        """Run ``fn`` on a worker and return its value; raise its own exception, or a PoolError of the pool's."""
        ...


@dataclass(slots=True)
class Usage:
    """What a run has spent; a field is None as long as nothing was told about it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    unknown_cost: bool = False
    simulated: bool = False

    def add(self, call: LMCall) -> None:
        """Add one LM call."""
        if call.prompt_tokens is not None:
            self.prompt_tokens = (self.prompt_tokens or 0) + call.prompt_tokens
        if call.completion_tokens is not None:
            self.completion_tokens = (self.completion_tokens or 0) + call.completion_tokens
        if call.cost is None:
            self.unknown_cost = True
        else:
            self.cost = (self.cost or 0.0) + call.cost
        self.simulated = self.simulated or call.simulated


@dataclass(slots=True)
class RunContext:
    """One run under way.

    Args:
        run_id: the run's id; ``span_id`` is the span of the whole run.
        tell: takes each record (the Lab's bus).
        executor: where sync code runs.
        decide: the router.
        pool: gives the pool of a name.
        lm: gives the model in use, made on first need, so that a run without one never imports DSPy.
        modules: DSPy modules that stand in for those of the steps, by step name.
        pin: the implementation to use, by operation.
        deadline: the ``time.monotonic()`` at which the run must have ended.
        budget: US dollars the run may spend.
        wait: set where the whole run happens in the thread that asked for it: nothing is handed to another thread, and
            this waits for what can only be awaited (a pool, an async function).
    """

    run_id: str
    span_id: str
    tell: Callable[[Record], None]
    executor: Executor
    decide: Decide
    pool: Callable[[str], Submit]
    lm: Callable[[], Any]
    modules: Mapping[str, Any] = field(default_factory=dict)
    pin: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None
    budget: float | None = None
    wait: Callable[[Coroutine[Any, Any, Any]], Any] | None = None
    usage: Usage = field(default_factory=Usage)

    async def finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what ``work`` gives."""
        return await work if self.wait is None else self.wait(work)

    def emit(self, record: Record) -> None:
        """Tell of a record; what LM calls spend is added up on the way."""
        if isinstance(record, LMCall):
            self.usage.add(record)
        self.tell(record)

    def event(self, what: str, span_id: str | None, step: str | None, /, **data: Any) -> None:
        """Tell of an event of this run that happens now."""
        self.tell(Event(what, time.time(), self.run_id, span_id, step, data or None))

    def decision(self, decision: Decision) -> None:
        """Tell of a choice of the router."""
        self.tell(decision)
        self.event("router.route", decision.span_id, None, operation=decision.operation, chosen=decision.chosen)

    def remaining(self, timeout: float | None) -> float | None:
        """Return the seconds a step may take: its own timeout or what is left of the deadline, whichever is less."""
        if self.deadline is None:
            return timeout
        left = max(self.deadline - time.monotonic(), 0.0)
        return left if timeout is None else min(timeout, left)

    def guard(self) -> None:
        """Refuse an LM call once the budget is spent.

        Raises:
            BudgetExceeded: what the run has spent has reached its budget, or cannot be known.
        """
        if self.budget is None:
            return
        spent = self.usage.cost or 0.0
        if spent >= self.budget or self.usage.unknown_cost:
            known = "an unknown sum (the model has no known price)" if self.usage.unknown_cost else f"${spent:.4f}"
            raise BudgetExceeded(
                f"The run's budget of ${self.budget:.4f} does not allow another LM call: {known} is spent.",
                hint="Raise RunOptions(budget=...), or take a cheaper model.",
            )

    def scope(self, span_id: str, step: str, force: bool = False) -> AbstractContextManager[Any]:
        """Return the DSPy settings a step runs under: the model in use and a recorder of its calls.

        Without ``force`` nothing is entered as long as DSPy is not loaded: a native step that does not use it pays nothing.
        """
        if not force and "dspy" not in sys.modules:
            return nullcontext()
        import dspy

        recorder = Recorder(self.emit, self.run_id, span_id, step, self.guard if self.budget is not None else None)
        settings: dict[str, Any] = {"lm": self.lm(), CONTEXT_KEY: recorder}
        context: AbstractContextManager[Any] = dspy.context(**settings)
        return context
