"""One execution of one step: what stands around the work, and how the work is done."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, TypeVar

from dspex_lab.errors import LMError, PipelineError, PoolError
from dspex_lab.events import Span, new_id
from dspex_lab.lms import current_feedback, is_simulated
from dspex_lab.pipelines._context import RunContext
from dspex_lab.pipelines._fields import Shape, constant_outputs, misfit, split_result
from dspex_lab.pipelines._modules import Facts, facts_of, module_contract
from dspex_lab.pipelines._remote import Errand, RemoteTarget, Reply, active_trace, current_adapter, travelling_lm
from dspex_lab.pipelines._result import StepOutcome, describe
from dspex_lab.pipelines._step import Step, step_shape
from dspex_lab.pipelines._stream import StreamEvent

T = TypeVar("T")

#: Seconds that the fallback of a step has where the run's deadline leaves it less.
_GRACE = 1.0


class StepRun:
    """One execution of one step; the :class:`Work` a kind is given.

    Args:
        name: the step's name, with those of the steps it is in before it.
        parent: the step it is in.
        field: the name of the field that a single value becomes; ``name`` by default.
        path: ``name`` with the index of each item and round in it, unique in the run.
    """

    __slots__ = (
        "attempt",
        "context",
        "data",
        "degraded",
        "field",
        "implementation",
        "item",
        "kept",
        "lm",
        "name",
        "parent_id",
        "parts",
        "path",
        "shape",
        "span_id",
        "worker",
    )

    def __init__(
        self,
        name: str,
        item: Step,
        shape: Shape,
        context: RunContext,
        parent: StepRun | None = None,
        *,
        field: str | None = None,
        path: str | None = None,
        span_id: str | None = None,
    ) -> None:
        self.name, self.item, self.shape, self.context = name, item, shape, context
        self.parent_id = context.span_id if parent is None else parent.span_id
        self.field = name if field is None else field
        self.path = name if path is None else path
        #: The model of its own, else that of the step it is in; None is the one in use.
        self.lm: Any = item.lm if item.lm is not None or parent is None else parent.lm
        self.span_id: str = span_id or new_id()
        self.implementation: str | None = None
        self.worker: str | None = None
        self.degraded: str | None = None
        self.attempt = 1
        self.parts: dict[str, StepOutcome] = {}
        self.kept: dict[str, Any] = {}
        self.data: dict[str, Any] | None = None

    async def run(self, inputs: Mapping[str, Any]) -> StepOutcome:
        """Run the step and tell of it; every failure but cancellation becomes part of the outcome."""
        context, item, started, clock = self.context, self.item, time.time(), time.perf_counter()
        if context.bus.watched:
            context.event("step.start", self.span_id, self.name)
        if context.listen is not None:
            self._listen_start(context.listen, started)
        try:
            if context.checkpoint is not None or item.guarded or context.deadline is not None:
                outputs = await self._guarded(inputs)
            else:
                outputs = await item.how.run(self, item, inputs)
            if not self.shape.outputs.keys() <= outputs.keys():
                raise self._lacking(outputs)
        except BaseException as problem:
            return await self.failed(inputs, problem, started, clock)
        return self._ended("complete" if self.degraded is None else "partial", outputs, None, started, clock)

    async def failed(self, inputs: Mapping[str, Any], problem: BaseException, started: float, clock: float) -> StepOutcome:
        """Return the outcome of a step that raised ``problem``; raise that again where it ends the run.

        Args:
            started: when the step began, in seconds since the epoch; ``clock`` is the same by ``time.perf_counter()``.
        """
        if not _ends_the_run(problem, self.context):
            status, error, outputs = "failed", problem, {f: v for f, v in self.kept.items() if f in self.shape.outputs}
            self._tell_error(problem)
            try:
                if self.item.on_error == "fallback":
                    status, found, error = await self._fall_back(inputs, problem)
                    outputs = found or outputs
                return self._ended(status, outputs, error, started, clock)
            except BaseException as stop:
                problem = stop
        self._tell(started, time.perf_counter() - clock, "cancelled", "cancelled")
        raise problem

    def _lacking(self, outputs: Mapping[str, Any]) -> PipelineError:
        missing = ", ".join(repr(f) for f in self.shape.outputs if f not in outputs)
        return PipelineError(
            f"Step {self.name!r} gave no {missing}.", step=self.name, hint=f"Correct run() of the kind {self.item.kind!r}."
        )

    def _ended(
        self, status: str, outputs: Mapping[str, Any], error: BaseException | None, started: float, clock: float
    ) -> StepOutcome:
        seconds = time.perf_counter() - clock
        self._tell(started, seconds, status, self.degraded if error is None else describe(error))
        if self.context.listen is not None:
            self._listen(self.context.listen, status, seconds, outputs)
        return StepOutcome(
            self.name.rpartition(".")[2],
            status,
            outputs,  # type: ignore[arg-type]
            error,
            seconds,
            self.implementation,
            self.worker,
            self.parts,
            self.degraded,
            self.item.on_error,
        )

    # --- telling ----------------------------------------------------------------------------------------------

    def _tell(self, started: float, seconds: float, status: str, error: str | None) -> None:
        context = self.context
        if self.attempt > 1:
            self.data = {**(self.data or {}), "attempts": self.attempt}
        context.bus.emit(
            Span(
                self.span_id,
                self.parent_id,
                context.run_id,
                "step",
                self.name,
                started,
                seconds,
                status,
                self.implementation,
                self.worker,
                error,
                self.data,
            )
        )
        if error is not None:
            context.event("step.error", self.span_id, self.name, seconds=seconds, error=error, status=status)
        elif context.bus.watched:
            context.event("step.stop", self.span_id, self.name, seconds=seconds)

    def _tell_error(self, problem: BaseException) -> None:
        kinds = ((PoolError, "error.pool"), (LMError, "error.lm"), (PipelineError, "error.pipeline"))
        fallback = "error.native" if self.item.kind == "native" else "error.dspy"
        name = next((n for kind, n in kinds if isinstance(problem, kind)), fallback)
        self.context.event(name, self.span_id, self.name, error=describe(problem))

    def _listen_start(self, listen: Callable[[StreamEvent], None], now: float) -> None:
        data = {"kind": self.item.kind, "outputs": list(self.shape.outputs), "attempt": self.attempt}
        listen(StreamEvent("step.start", self.name, time=now, data=data))

    def _listen(self, listen: Callable[[StreamEvent], None], status: str, seconds: float, outputs: Mapping[str, Any]) -> None:
        now = time.time()
        for field in self.shape.outputs:
            if field in outputs:
                listen(StreamEvent("field", self.name, field, outputs[field], now))
        data = {"status": status, "seconds": seconds, "outputs": dict(outputs)}
        listen(StreamEvent("step.stop", self.name, time=now, data=data))

    def event(self, what: str, /, **data: Any) -> None:
        """Tell of an event of this step that happens now."""
        self.context.event(what, self.span_id, self.name, **data)

    # --- what stands around the work --------------------------------------------------------------------------

    async def _guarded(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        checkpoint = self.context.checkpoint
        if checkpoint is None:
            return await self._cached(inputs)
        entry = checkpoint.entry(self.name, self.path, self.item, inputs, self.shape)
        if entry.kept is not None:
            self.implementation = "checkpoint"
            self.event("checkpoint.load", name=checkpoint.name)
            return entry.kept
        outputs = await self._cached(inputs)
        if self.degraded is None:
            entry.save(outputs)
        return outputs

    async def _cached(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        item, cache, context = self.item, self.context.cache, self.context
        # What an optimizer put into the place of a step is tried out, not looked up.
        if not item.cache or cache is None or any((n + ".").startswith(self.name + ".") for n in context.modules):
            return await self._repeated(inputs)
        model = context.chosen(self.lm) if "dspy" in sys.modules or item.how.asks(item) != (0, 0) else None
        key = cache.key(item, inputs, model, field=self.field, also=tuple(sorted(context.pin.items())))
        if key is None:
            return await self._repeated(inputs)
        found, hit = await cache.through(
            key,
            lambda: self._repeated(inputs),
            ttl=None if item.cache is True else float(item.cache),
            keep=lambda: self.degraded is None,
            block=context.wait is not None,
        )
        if hit:
            self.implementation = "cache"
        self.event("cache.hit" if hit else "cache.miss")
        return found

    async def _repeated(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.item.retries:
            return await self._limited(inputs)

        from dspex_lab.resilience import Retry, retry

        async def one(attempt: int) -> Mapping[str, Any]:
            self.attempt, self.degraded, self.parts, self.kept = attempt, None, {}, {}
            if attempt > 1 and self.context.listen is not None:
                # Whoever watches may throw away what came of the try before.
                self._listen_start(self.context.listen, time.time())
            return await self._limited(inputs)

        def told(attempt: int, wait: float, error: BaseException) -> None:
            self.event("step.retry", attempt=attempt, wait=wait, error=describe(error))

        policy = Retry(attempts=self.item.retries + 1)
        return await retry(one, policy, deadline=self.context.deadline, told=told)

    async def _limited(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
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
        own = self.item.timeout is not None and limit == self.item.timeout
        what = f"Step {self.name!r} did not finish within {'its timeout' if own else 'what was left of the deadline'}"
        return await self._within(limit, what, self._work(inputs))

    async def _within(self, limit: float | None, what: str, work: Awaitable[T]) -> T:
        clock = asyncio.timeout(limit)
        try:
            async with clock:
                return await work
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise PipelineError(
                f"{what} ({limit:.3g} s).",
                step=self.name,
                hint="Give it more time."
                if self.item.kind != "native" or facts_of(self.item.target).awaited or self.item.pool
                else "Give it more time, or make it async or pool= so that it can be stopped.",
            ) from error

    async def _work(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self.item.how.run(self, self.item, inputs)

    async def _fall_back(self, inputs: Mapping[str, Any], problem: BaseException) -> tuple[str, dict[str, Any], BaseException]:
        fallback = self.item.fallback
        left = self.context.remaining(None)
        try:
            if callable(fallback):
                work = self.carry_out("fallback", fallback, None, inputs)
                what = f"The fallback of step {self.name!r} did not finish within what was left of the deadline"
                outputs = await (work if left is None else self._within(max(left, _GRACE), what, work))
            else:
                outputs = constant_outputs(self.name, self.shape, fallback)
            self.implementation = "fallback"
            return "fallback", outputs, problem
        except BaseException as error:
            if _ends_the_run(error, self.context):
                raise
            error.__cause__ = problem
            return "failed", {}, error

    # --- the work ---------------------------------------------------------------------------------------------

    async def carry_out(self, name: str, target: Any, pool: str | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the output fields of a function or DSPy module, checked against what it declares.

        Args:
            name: what the span calls the implementation.
            pool: where it runs; None is the kernel.
        """
        self.implementation = name
        facts = facts_of(target)
        if self.context.bus.watched:
            self.event("dspy.execute" if facts.module else "native.execute", pool=pool)
        if facts.module:
            return await self._module(target, facts, pool, inputs)
        if pool is not None:
            value = await self._on_pool(pool, target, inputs, module=False)
        elif facts.acall and not facts.awaited:
            value = await self._predictor(target, facts, inputs)
            if self.shape.whole is None:
                return self._fields(target, value)
        elif self.item.batch is not None and self.context.batchers is not None:
            value = await self._batched(target, inputs)
        else:
            value = await self.call(target, inputs)
        return checked(self.name, self.shape, split_result(self.field, self.shape, value))

    async def call(self, function: Callable[..., Any], inputs: Mapping[str, Any], *, lm: bool = False) -> Any:
        """Return what ``function(**inputs)`` gives; see :class:`Work`."""
        context, facts = self.context, facts_of(function)
        force = lm or facts.names_dspy
        context.enter(self.span_id, self.name, force, self.lm)
        if facts.awaited:
            return await function(**inputs) if context.wait is None else context.wait(function(**inputs))
        value = await self._in_thread(lambda: function(**inputs))
        if not inspect.isawaitable(value):
            return value
        return await context.finish(_awaited(value))

    async def step(
        self, name: str, item: Step, inputs: Mapping[str, Any], *, gives: str | None = None, index: int | None = None
    ) -> StepOutcome:
        """Run an inner step; see :class:`Work`."""
        shape = step_shape(gives or name, item)
        key = name if index is None else f"{name}[{index}]"
        path = f"{self.path}.{key}"
        work = StepRun(f"{self.name}.{name}", item, shape, self.context, self, field=gives or name, path=path)
        if index is not None:
            work.data = {"index": index}
        try:
            outcome = await work.run({f: inputs[f] for f in shape.inputs if f in inputs})
        except BaseException:
            self.parts[key] = StepOutcome(name, "cancelled", work.kept, parts=work.parts)
            raise
        self.parts[key] = outcome
        return outcome

    async def _batched(self, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        async def together(lists: Mapping[str, Any]) -> Any:
            return await self.call(function, lists)

        context, gives = self.context, tuple(self.shape.outputs)
        assert context.batchers is not None  # noqa: S101 - asked by the caller
        key = function if isinstance(function, Hashable) else id(function)
        return await context.batchers.submit(
            key, self.name, self.item.batch, inputs, together, gives=gives, alone=context.alone()
        )

    async def _module(self, module: Any, facts: Facts, pool: str | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
        contract = module_contract(module)[0]
        if contract is not None:
            contract.validate_inputs({k: v for k, v in inputs.items() if k in contract.inputs})
        if pool is not None:
            value = await self._on_pool(pool, module, inputs, module=True)
        else:
            value = await self._predictor(module, facts, inputs)
        outputs = self._fields(module, value)
        if contract is not None:
            contract.validate_outputs({f: outputs.get(f) for f in contract.outputs})
        return outputs

    async def _predictor(self, target: Any, facts: Facts, inputs: Mapping[str, Any]) -> Any:
        """Call what asks a model: where it may, on the loop."""
        context = self.context
        context.enter(self.span_id, self.name, True, self.lm)
        if not facts.sync:
            return await context.finish(target.acall(**inputs))
        # An engine in this process answers at once: one thread costs less than the three hops of acall.
        if context.wait is None and facts.acall and not is_simulated(context.chosen(self.lm)):
            return await target.acall(**inputs)
        return await self._in_thread(lambda: target(**inputs))

    def _fields(self, target: Any, value: Any) -> dict[str, Any]:
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
        return outputs

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self.context.wait is not None:
            return _called(work)
        surroundings = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.context.executor, surroundings.run, _called, work)

    async def _on_pool(self, name: str, target: Any, inputs: Mapping[str, Any], module: bool) -> Any:
        context = self.context
        trace = active_trace() if module else None
        lm = travelling_lm(context, module, self.lm)
        errand = Errand(
            context.run_id,
            self.span_id,
            self.name,
            lm,
            current_adapter() if lm else None,
            trace is not None,
            context.allowance(),
            current_feedback(),
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


def checked(name: str, shape: Shape, outputs: dict[str, Any]) -> dict[str, Any]:
    """Return a native step's output fields if they are of the types it declares.

    Raises:
        PipelineError: one is not.
    """
    for field, declared in shape.outputs.items():
        why = misfit(declared.type, outputs[field])
        if why is not None:
            raise PipelineError(
                f"Step {name!r} gave a field {field!r} that is not of its declared type: {why}.",
                step=name,
                hint="Correct the function, or the type it declares.",
            )
    return outputs


def _ends_the_run(problem: BaseException, context: RunContext) -> bool:
    """Tell a cancelled run or an interrupt apart from the step's own failure, of whatever kind that is."""
    if isinstance(problem, asyncio.CancelledError):
        # The step's code may await something it cancelled itself.
        task = asyncio.current_task() if context.wait is None else None
        return task is not None and task.cancelling() > 0
    if isinstance(problem, KeyboardInterrupt):
        return context.wait is not None
    return not isinstance(problem, Exception | SystemExit)


def _called(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except StopIteration as error:
        # No future can carry it: whoever waits for that would wait for ever.
        raise RuntimeError("the function raised StopIteration") from error


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
