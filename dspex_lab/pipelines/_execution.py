"""One execution of one step: what stands around the work (``_calls.py``), and how it ended."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from dspex_lab.errors import PipelineError
from dspex_lab.lms import lasting, partial_of
from dspex_lab.pipelines._calls import Calls
from dspex_lab.pipelines._context import RunContext
from dspex_lab.pipelines._fields import constant_outputs
from dspex_lab.pipelines._modules import facts_of
from dspex_lab.pipelines._result import StepOutcome, describe
from dspex_lab.pipelines._step import Step, step_shape
from dspex_lab.pipelines._telling import show_end, show_start, tell_end, tell_error, tell_start
from dspex_lab.resilience import Retry, retry, retryable

T = TypeVar("T")

#: Characters of an answer that broke off which the note of its step shows; the error's ``partial`` has all.
_SHOWN = 1_500

#: Seconds that the fallback of a step has where the run's deadline leaves it less.
_GRACE = 1.0


class StepRun(Calls):
    """One execution of one step; the :class:`Work` a kind is given."""

    __slots__ = ()

    async def run(self, inputs: Mapping[str, Any]) -> StepOutcome:
        """Run the step and tell of it; every failure but cancellation becomes part of the outcome."""
        context, item, started, clock = self.context, self.item, time.time(), time.perf_counter()
        if context.bus.watched or context.listen is not None:
            tell_start(self, started)
        try:
            if context.checkpoint is not None or item.guarded or context.deadline is not None:
                outputs = await self._guarded(inputs)
            else:
                outputs = await item.how.run(self, item, inputs)
                if context.notes:
                    self._take_note()
            if not self.shape.outputs.keys() <= outputs.keys():
                raise self._lacking(outputs)
        except BaseException as problem:
            return await self.failed(inputs, problem, started, clock)
        return self.ended("complete" if self.degraded is None else "partial", outputs, None, started, clock)

    async def failed(self, inputs: Mapping[str, Any], problem: BaseException, started: float, clock: float) -> StepOutcome:
        """Return the outcome of a step that raised ``problem``; raise that again where it ends the run.

        Args:
            started: when the step began, in seconds since the epoch; ``clock`` is the same by ``time.perf_counter()``.
        """
        if not _ends_the_run(problem, self.context):
            status, error, outputs = "failed", problem, {f: v for f, v in self.kept.items() if f in self.shape.outputs}
            tell_error(self, problem)
            partial = partial_of(problem)
            if partial is not None and partial.text:
                self.degraded = f"what had come of the answer when it broke off: {_shown(partial.text)}"
            try:
                if self.item.on_error == "fallback":
                    status, found, error = await self._fall_back(inputs, problem)
                    outputs = found or outputs
                return self.ended(status, outputs, error, started, clock)
            except BaseException as stop:
                problem = stop
        tell_end(self, started, time.perf_counter() - clock, "cancelled", "cancelled")
        raise problem

    def _lacking(self, outputs: Mapping[str, Any]) -> PipelineError:
        missing = ", ".join(repr(f) for f in self.shape.outputs if f not in outputs)
        return PipelineError(
            f"Step {self.name!r} gave no {missing}.", step=self.name, hint=f"Correct run() of the kind {self.item.kind!r}."
        )

    def ended(
        self, status: str, outputs: Mapping[str, Any], error: BaseException | None, started: float, clock: float
    ) -> StepOutcome:
        """Tell of the end and return the outcome; ``started`` and ``clock`` as of :meth:`failed`."""
        seconds = time.perf_counter() - clock
        tell_end(self, started, seconds, status, self.degraded if error is None else describe(error))
        if self.context.listen is not None:
            show_end(self, status, seconds, outputs)
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

    # --- inner steps -----------------------------------------------------------------------------------------------------

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

    # --- what stands around the work --------------------------------------------------------------------------------------

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

        async def one(attempt: int) -> Mapping[str, Any]:
            self.attempt, self.degraded, self.parts, self.kept = attempt, None, {}, {}
            if attempt > 1:
                show_start(self, time.time())
            return await self._limited(inputs)

        def told(attempt: int, wait: float, error: BaseException) -> None:
            self.event("step.retry", attempt=attempt, wait=wait, error=describe(error))

        spared = self.item.retries > 1 and not self.context.allows("retries")
        policy = Retry(attempts=2 if spared else self.item.retries + 1, on=_may_pass)
        try:
            return await retry(one, policy, deadline=self.context.deadline, told=told)
        except Exception as error:
            if spared and self.attempt == 2 and _may_pass(error):
                self.degraded = "tried twice, not again at the present load"
            raise

    async def _limited(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        limit = self.context.remaining(self.item.timeout)
        if limit is None:
            return await self._work(inputs)
        if limit <= 0:
            raise PipelineError(
                f"Step {self.name!r} was not begun: the run's deadline had passed.",
                step=self.name,
                hint="Give the run more time.",
            ) from TimeoutError("the run's deadline had passed")  # so that it counts as what it is
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
        outputs = await self.item.how.run(self, self.item, inputs)
        if self.context.notes:
            self._take_note()
        return outputs

    def _take_note(self) -> None:
        """Take over what a model's answer to this step lacked; a step that is tried again begins without."""
        self.degraded = self.degraded or self.context.notes.pop(self.span_id, None)

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


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r} … ({len(text):,} characters)"


def _may_pass(error: BaseException) -> bool:
    """Say whether a step is tried again where it failed so."""
    return retryable(error) and not lasting(error)


def _ends_the_run(problem: BaseException, context: RunContext) -> bool:
    """Tell a cancelled run or an interrupt apart from the step's own failure, of whatever kind that is."""
    if isinstance(problem, asyncio.CancelledError):
        # The step's code may await something it cancelled itself.
        task = asyncio.current_task() if context.wait is None else None
        return task is not None and task.cancelling() > 0
    if isinstance(problem, KeyboardInterrupt):
        return context.wait is not None
    return not isinstance(problem, Exception | SystemExit)
