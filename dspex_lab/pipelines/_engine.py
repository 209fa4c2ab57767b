"""Walks the graph of a pipeline: a step starts the moment its inputs are there; nothing computed is lost."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dspex_lab.errors import LMError, PipelineError, PoolError
from dspex_lab.events import Decision, Span, new_id
from dspex_lab.lms import is_simulated
from dspex_lab.pipelines._context import Candidate, RunContext
from dspex_lab.pipelines._fields import Shape, constant_outputs, misfit, split_result
from dspex_lab.pipelines._graph import Node, Slot
from dspex_lab.pipelines._remote import Errand, RemoteTarget, Reply, active_trace, current_adapter, travelling_lm
from dspex_lab.pipelines._result import StepOutcome, describe
from dspex_lab.pipelines._step import Operation, Step, has_forward, is_async, is_dspy_module, label, module_contract

if TYPE_CHECKING:
    from dspex_lab.pipelines._pipeline import Pipeline


T = TypeVar("T")


async def execute(pipeline: Pipeline, inputs: Mapping[str, Any], context: RunContext, outcomes: dict[str, StepOutcome]) -> None:
    """Run every step of ``pipeline``.

    Args:
        inputs: the pipeline's inputs, already checked.
        context: the run.
        outcomes: receives the outcome of each step as it ends, also where the run is cancelled.

    Raises:
        asyncio.CancelledError: the run was cancelled.
    """
    await _Walk(pipeline, inputs, context, outcomes).run()


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Carry out a run that never has to wait (``RunContext.wait`` is set) in this very thread."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise RuntimeError("a run in the caller's own thread was about to wait for an event loop")


class _Walk:
    """The state of one execution: the fields known so far and the steps still waited for."""

    def __init__(
        self, pipeline: Pipeline, inputs: Mapping[str, Any], context: RunContext, outcomes: dict[str, StepOutcome]
    ) -> None:
        self.pipeline = pipeline
        self.context = context
        self.values: dict[Slot, Any] = {(field, -1): value for field, value in inputs.items()}
        self.waiting = [len(node.needs) for node in pipeline.structure.nodes]
        self.lost: set[Slot] = set()
        self.outcomes = outcomes

    async def run(self) -> None:
        first = [i for i, count in enumerate(self.waiting) if count == 0]
        if self.pipeline.structure.sequential:
            await self._chain(first[0], None)
        else:
            async with asyncio.TaskGroup() as group:
                for index in first:
                    group.create_task(self._chain(index, group))

    async def _chain(self, index: int, group: asyncio.TaskGroup | None) -> None:
        """Run a step and then, in this same task, the first step it sets free; others get tasks of their own."""
        following: int | None = index
        while following is not None:
            current, following = following, None
            await self._step(self.pipeline.structure.nodes[current])
            for fed in self.pipeline.structure.feeds[current]:
                self.waiting[fed] -= 1
                if self.waiting[fed] == 0:
                    if following is None or group is None:
                        following = fed
                    else:
                        group.create_task(self._chain(fed, group))

    async def _step(self, node: Node) -> None:
        item, shape = self.pipeline.steps[node.name], self.pipeline.shapes[node.name]
        if any(slot in self.lost for slot in node.reads.values()):
            now, context = time.time(), self.context
            context.emit(Span(new_id(), context.span_id, context.run_id, "step", node.name, now, 0.0, "skipped"))
            self._lose(node, shape, item, StepOutcome(node.name, "skipped"))
            return
        # An optional input that nobody gave is left to the function's own default.
        given = {field: self.values[slot] for field, slot in node.reads.items() if slot in self.values}
        outcome = await StepRun(node.name, item, shape, self.context).run(given)
        self.outcomes[node.name] = outcome
        if outcome.error is None or outcome.status == "fallback":
            for field in shape.outputs:
                self.values[field, node.index] = outcome.outputs[field]
        else:
            self._lose(node, shape, item, outcome)

    def _lose(self, node: Node, shape: Shape, item: Step, outcome: StepOutcome) -> None:
        self.outcomes[node.name] = outcome
        for field in shape.outputs:
            if item.on_error == "continue" and outcome.status == "failed":
                self.values[field, node.index] = None
            else:
                self.lost.add((field, node.index))


class StepRun:
    """One execution of one step."""

    def __init__(self, name: str, item: Step, shape: Shape, context: RunContext) -> None:
        self.name, self.item, self.shape, self.context = name, item, shape, context
        self.span_id = new_id()
        self.implementation: str | None = None
        self.worker: str | None = None

    async def run(self, inputs: Mapping[str, Any]) -> StepOutcome:
        """Run the step and tell of it; every failure but cancellation becomes part of the outcome."""
        context, started, clock = self.context, time.time(), time.perf_counter()
        context.event("step.start", self.span_id, self.name)
        error: BaseException | None = None
        outputs: dict[str, Any] = {}
        status = "complete"
        try:
            outputs = await self._limited(inputs)
        except BaseException as problem:
            if _ends_the_run(problem, self.context):
                self._tell(started, time.perf_counter() - clock, "cancelled", "cancelled")
                raise
            error, status = problem, "failed"
            self._tell_error(problem)
            if self.item.on_error == "fallback":
                status, outputs, error = await self._fall_back(inputs, problem)
        seconds = time.perf_counter() - clock
        self._tell(started, seconds, status, describe(error) if error else None)
        return StepOutcome(self.name, status, outputs, error, seconds, self.implementation, self.worker)

    def _tell(self, started: float, seconds: float, status: str, error: str | None) -> None:
        context = self.context
        context.emit(
            Span(
                self.span_id,
                context.span_id,
                context.run_id,
                "step",
                self.name,
                started,
                seconds,
                status,
                self.implementation,
                self.worker,
                error,
            )
        )
        if error is None:
            context.event("step.stop", self.span_id, self.name, seconds=seconds)
        else:
            context.event("step.error", self.span_id, self.name, seconds=seconds, error=error, status=status)

    def _tell_error(self, problem: BaseException) -> None:
        kinds = ((PoolError, "error.pool"), (LMError, "error.lm"), (PipelineError, "error.pipeline"))
        fallback = "error.native" if self.item.kind == "native" else "error.dspy"
        name = next((n for kind, n in kinds if isinstance(problem, kind)), fallback)
        self.context.event(name, self.span_id, self.name, error=describe(problem))

    async def _limited(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        limit = self.context.remaining(self.item.timeout)
        if limit is None:
            return await self._work(inputs)
        if limit <= 0:
            raise PipelineError(
                f"Step {self.name!r} was not begun: the run's deadline had passed.",
                step=self.name,
                hint="Give the run more time.",
            )
        if self.item.pool is not None:
            # The pool ends the worker at the limit; waiting for a worker counts against the deadline all the same.
            limit = self.context.remaining(None)
        clock = asyncio.timeout(limit)
        try:
            async with clock:
                return await self._work(inputs)
        except TimeoutError as error:
            if not clock.expired():
                raise
            own = self.item.timeout is not None and limit == self.item.timeout
            raise PipelineError(
                f"Step {self.name!r} did not finish within {'its timeout' if own else 'what was left of the deadline'} "
                f"({limit:.3g} s).",
                step=self.name,
                hint="Give it more time, or make it async or pool= so that it can be stopped.",
            ) from error

    async def _work(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        target = self.context.modules.get(self.name, self.item.target)
        if isinstance(target, Operation):
            return await self._operation(target, inputs)
        return await self._candidate(Candidate(label(target), lambda: target, self.item.pool), inputs)

    async def _operation(self, operation: Operation, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the router's choice; when it fails, the next implementation."""
        context = self.context
        operation.signature.validate_inputs(dict(inputs))
        pin = context.pin.get(operation.key, context.pin.get(operation.name))
        candidates, strategy, reason = context.decide.decide(operation, inputs, pin)
        names = tuple(c.name for c in candidates)
        last: Exception = PipelineError(f"Step {self.name!r} has no implementation.", step=self.name)
        for candidate in candidates:
            context.decision(
                Decision(
                    new_id(), context.run_id, self.span_id, time.time(), operation.key, candidate.name, names, strategy, reason
                )
            )
            clock = time.perf_counter()
            try:
                outputs = await self._candidate(candidate, inputs)
            except Exception as error:
                context.decide.observe(operation, candidate.name, time.perf_counter() - clock, error)
                if candidate is not candidates[0]:
                    error.add_note(f"before it: {describe(last)}")
                last, reason = error, f"{candidate.name} failed: {describe(error)}"
                continue
            context.decide.observe(operation, candidate.name, time.perf_counter() - clock, None)
            return outputs
        raise last

    async def _candidate(self, candidate: Candidate, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.implementation = candidate.name
        target = candidate.make()
        module = is_dspy_module(target)
        self.context.event("dspy.execute" if module else "native.execute", self.span_id, self.name, pool=candidate.pool)
        contract = module_contract(target)[0] if module else None
        if contract is not None:
            contract.validate_inputs({k: v for k, v in inputs.items() if k in contract.inputs})
        if candidate.pool is not None:
            value = await self._on_pool(candidate.pool, target, inputs, module)
        elif module:
            value = await self._module(target, inputs)
        else:
            value = await self._function(target, inputs)
        if not module:
            return self._checked(split_result(self.name, self.shape, value))
        if not callable(getattr(value, "items", None)):
            raise PipelineError(
                f"Step {self.name!r}: {type(target).__name__} returned {type(value).__name__}, not a dspy.Prediction.",
                step=self.name,
                hint="Return dspy.Prediction(field=…) from forward().",
            )
        outputs = dict(value.items())
        missing = [f for f in self.shape.outputs if f not in outputs]
        if missing:
            raise PipelineError(f"Step {self.name!r} gave no {', '.join(map(repr, missing))}.", step=self.name)
        if contract is not None:
            contract.validate_outputs({f: outputs.get(f) for f in contract.outputs})
        return outputs

    def _checked(self, outputs: dict[str, Any]) -> dict[str, Any]:
        if self.item.kind == "operation":
            self.item.target.signature.validate_outputs(outputs)
            return outputs
        for field, declared in self.shape.outputs.items():
            why = misfit(declared.type, outputs[field])
            if why is not None:
                raise PipelineError(
                    f"Step {self.name!r} gave a field {field!r} that is not of its declared type: {why}.",
                    step=self.name,
                    hint="Correct the function, or the type it declares.",
                )
        return outputs

    async def _function(self, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        context, force = self.context, _names_dspy(function)
        if is_async(function):
            with context.scope(self.span_id, self.name, force):
                return await context.finish(function(**inputs))

        def work() -> Any:
            with context.scope(self.span_id, self.name, force):
                return function(**inputs)

        value = await self._in_thread(work)
        if not inspect.isawaitable(value):
            return value
        with context.scope(self.span_id, self.name, force):
            return await context.finish(_awaited(value))

    async def _module(self, module: Any, inputs: Mapping[str, Any]) -> Any:
        context = self.context
        with context.scope(self.span_id, self.name, force=True):
            if not has_forward(module):
                return await context.finish(module.acall(**inputs))
            # An engine in this process answers at once: one thread costs less than the three hops of acall.
            if context.wait is None and _runs_async(module) and not is_simulated(context.lm()):
                return await module.acall(**inputs)
            return await self._in_thread(lambda: module(**inputs))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self.context.wait is not None:
            return work()
        surroundings = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.context.executor, surroundings.run, work)

    async def _on_pool(self, name: str, target: Any, inputs: Mapping[str, Any], module: bool) -> Any:
        context = self.context
        trace = active_trace() if module else None
        lm = travelling_lm(context, module)
        errand = Errand(
            context.run_id,
            self.span_id,
            self.name,
            lm,
            current_adapter() if lm else None,
            trace is not None,
            context.allowance(),
        )
        tags = {"run_id": context.run_id, "span_id": self.span_id, "step": self.name}
        limit = context.remaining(self.item.timeout)
        work = context.pool(name).call(
            RemoteTarget(target, module), dict(inputs), errand, timeout=limit, label=self.name, tags=tags
        )
        reply: Reply = await context.finish(work)
        self.worker = f"{name}, pid {reply.pid}"
        for record in reply.records:
            context.emit(record)
        if trace is not None:
            own = dict(target.named_predictors())
            trace.extend((own[predictor], given, made) for predictor, given, made in reply.trace if predictor in own)
        if reply.error is not None:
            raise reply.error
        return reply.value

    async def _fall_back(self, inputs: Mapping[str, Any], problem: BaseException) -> tuple[str, dict[str, Any], BaseException]:
        fallback = self.item.fallback
        try:
            if callable(fallback):
                outputs = await self._candidate(Candidate("fallback", lambda: fallback), inputs)
            else:
                outputs = constant_outputs(self.name, self.shape, fallback)
            self.implementation = "fallback"
            return "fallback", outputs, problem
        except (Exception, SystemExit) as error:
            error.__cause__ = problem
            return "failed", {}, error


def _ends_the_run(problem: BaseException, context: RunContext) -> bool:
    """Tell a cancelled run or an interrupt apart from the step's own failure, of whatever kind that is."""
    if isinstance(problem, asyncio.CancelledError):
        # The step's code may await something it cancelled itself.
        task = asyncio.current_task() if context.wait is None else None
        return task is not None and task.cancelling() > 0
    if isinstance(problem, KeyboardInterrupt):
        return context.wait is not None
    return not isinstance(problem, Exception | SystemExit)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _runs_async(module: Any) -> bool:
    """Say whether ``module`` may be run by ``acall``: not where only ``forward`` was overridden below ``aforward``."""
    if "forward" in vars(module):
        return False
    owners: dict[str, int] = {}
    for depth, kind in enumerate(type(module).__mro__):
        for method in ("forward", "aforward"):
            if method in vars(kind):
                owners.setdefault(method, depth)
    return "aforward" in owners and owners["aforward"] <= owners.get("forward", len(type(module).__mro__))


def _names_dspy(function: Callable[..., Any]) -> bool:
    """Say whether a function imports or names DSPy itself, so that its first call finds the model in use as well."""
    return "dspy" not in sys.modules and "dspy" in getattr(getattr(function, "__code__", None), "co_names", ())
