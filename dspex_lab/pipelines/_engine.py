"""Walks the graph of a pipeline: a step starts the moment its inputs are there; nothing computed is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dspex_lab.events import Span, new_id
from dspex_lab.pipelines._context import RunContext, enter_quick
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import checked, split_result
from dspex_lab.pipelines._result import StepOutcome
from dspex_lab.pipelines._telling import tell_skipped

if TYPE_CHECKING:
    from dspex_lab.pipelines._pipeline import Pipeline


T = TypeVar("T")

#: What stands in the place of a value: of an optional input that nobody gave, and of a field whose step failed.
ABSENT, LOST = object(), object()


async def execute(
    pipeline: Pipeline,
    inputs: Mapping[str, Any],
    context: RunContext,
    outcomes: dict[str, StepOutcome],
    *,
    parent: StepRun | None = None,
) -> None:
    """Run every step of ``pipeline``.

    Args:
        inputs: the pipeline's inputs, already checked.
        context: the run.
        outcomes: receives the outcome of each step as it ends, also where the run is cancelled.
        parent: the step that these are in.

    Raises:
        asyncio.CancelledError: the run was cancelled.
    """
    await _Walk(pipeline, inputs, context, outcomes, parent).run()


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
    """The state of one execution: the values known so far and how many steps each step still waits for."""

    __slots__ = (
        "alive",
        "context",
        "emit",
        "ended",
        "halted",
        "home",
        "loop",
        "mixed",
        "nodes",
        "outcomes",
        "parent",
        "problem",
        "quick",
        "structure",
        "task",
        "tasks",
        "values",
        "waiting",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        context: RunContext,
        outcomes: dict[str, StepOutcome],
        parent: StepRun | None,
    ) -> None:
        self.context, self.outcomes, self.parent, self.emit = context, outcomes, parent, context.bus.emit
        self.nodes, self.structure = pipeline.nodes, pipeline.structure
        self.values: list[Any] = [ABSENT] * len(self.structure.slots)
        for field, slot in self.structure.given:
            if field in inputs:
                self.values[slot] = inputs[field]
        self.waiting = list(self.structure.counts)
        watched = context.bus.watched or context.listen or context.checkpoint or context.wait or context.deadline is not None
        short = parent is None and not watched
        self.quick = pipeline.quick if short else (False,) * len(self.nodes)
        self.mixed = short and pipeline.mixed
        self.tasks: list[asyncio.Task[None]] = []
        self.alive = 0
        self.halted = False
        self.ended: asyncio.Future[None] | None = None
        self.problem: BaseException | None = None

    async def run(self) -> None:
        structure = self.structure
        if structure.sequential:
            for index in structure.order:
                await (self._quick(index) if self.quick[index] else self._step(index))
            return
        loop = self.loop = asyncio.get_running_loop()
        self.home = asyncio.current_task()
        # What create_task() does where nobody wants tasks of another kind, without what it does besides.
        self.task = asyncio.Task if loop.get_task_factory() is None else lambda work, loop: loop.create_task(work)
        first, *others = structure.first
        for index in others:
            self._branch(index)
        self.alive += 1
        try:
            await self._chain(first)
            if self.alive and self.problem is None:
                self.ended = self.loop.create_future()
                await self.ended
            if self.problem is not None:
                raise self.problem
        except GeneratorExit:
            raise  # given up with its loop, which stands still
        except BaseException:
            # Seldom more than a cancelled run; nothing of it may be left running, nor begin.
            self.waiting[:] = [-1] * len(self.waiting)
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            if self.halted and self.home is not None and self.problem is not None:
                self.home.uncancel()
                raise self.problem from None
            raise

    def _branch(self, index: int) -> None:
        """Begin a chain in a task of its own; lighter than a TaskGroup, as only a cancelled run ends one early."""
        self.alive += 1
        self.tasks.append(self.task(self._chain(index), loop=self.loop))

    async def _chain(self, index: int) -> None:
        """Run a step and then, in this same task, the first step it sets free; others get tasks of their own."""
        waiting, feeds, quick = self.waiting, self.structure.feeds, self.quick
        following: int | None = index
        try:
            while following is not None:
                current, following = following, None
                await (self._quick(current) if quick[current] else self._step(current))
                for fed in feeds[current]:
                    waiting[fed] -= 1
                    if waiting[fed] == 0:
                        if following is None:
                            following = fed
                        else:
                            self._branch(fed)
        except GeneratorExit:
            raise
        except BaseException as problem:
            if self.problem is None:
                self.problem = problem
                if self.ended is None and self.home is not None and asyncio.current_task() is not self.home:
                    self.halted = self.home.cancel()
            raise
        finally:
            self.alive -= 1
            if self.ended is not None and not self.ended.done() and (not self.alive or self.problem is not None):
                self.ended.set_result(None)

    async def _quick(self, index: int) -> None:
        """Run an async function with nothing around it: :meth:`_step`, :class:`StepRun` and its kind in one."""
        name, item, shape = self.nodes[index]
        values, structure = self.values, self.structure
        given: dict[str, Any] = {}
        for field, slot in structure.reads[index]:
            value = values[slot]
            if value is LOST:
                self._skip(index)
                return
            if value is not ABSENT:
                given[field] = value
        context, span_id, started, clock = self.context, new_id(), time.time(), time.perf_counter()
        enter_quick((context, span_id, name))
        try:
            value = await item.target(**given)
            kind = shape.single
            if kind is Any or type(value) is kind:
                outputs = {shape.whole or name: value}
            else:
                outputs = checked(name, shape, split_result(name, shape, value))
        except BaseException as problem:
            work = StepRun(name, item, shape, context, span_id=span_id)
            work.implementation = shape.label
            try:
                outcome = await work.failed(given, problem, started, clock)
            except BaseException:
                self.outcomes[name] = StepOutcome(name, "cancelled")
                raise
            context.begin()  # a fallback was entered as a step of its own
            self._keep(index, outcome)
            return
        if context.notes and (note := context.notes.pop(span_id, None)) is not None:
            work = StepRun(name, item, shape, context, span_id=span_id)
            work.implementation, work.degraded = shape.label, note
            self._keep(index, work.ended("partial", outputs, None, started, clock))
            return
        seconds = time.perf_counter() - clock
        # A Span, made without its own __new__, which costs more than the tuple.
        run, label = context.run_id, shape.label
        told = (span_id, context.span_id, run, "step", name, started, seconds, "complete", label, None, None, None)
        self.emit(tuple.__new__(Span, told))
        self.outcomes[name] = StepOutcome(name, "complete", outputs, None, seconds, label)
        for field, slot in structure.writes[index]:
            values[slot] = outputs[field]

    def _given(self, index: int) -> dict[str, Any] | None:
        """Return a step's inputs; None where one is lost: the step is skipped then."""
        values = self.values
        given: dict[str, Any] = {}
        for field, slot in self.structure.reads[index]:
            value = values[slot]
            if value is LOST:
                self._skip(index)
                return None
            # An optional input that nobody gave is left to the function's own default.
            if value is not ABSENT:
                given[field] = value
        return given

    async def _step(self, index: int) -> None:
        name, item, shape = self.nodes[index]
        given = self._given(index)
        if given is None:
            return
        parent = self.parent
        if parent is None:
            work = StepRun(name, item, shape, self.context)
        else:
            inner, path = f"{parent.name}.{name}", f"{parent.path}.{name}"
            work = StepRun(inner, item, shape, self.context, parent, field=name, path=path)
        try:
            outcome = await work.run(given)
        except BaseException:
            self.outcomes[name] = StepOutcome(name, "cancelled", work.kept, parts=work.parts)
            raise
        if self.mixed:
            self.context.begin()  # for the quick ones that follow in this task
        self._keep(index, outcome)

    def _keep(self, index: int, outcome: StepOutcome) -> None:
        self.outcomes[self.nodes[index][0]] = outcome
        outputs, goes_on = outcome.outputs, outcome.status == "failed" and outcome.on_error == "continue"
        for field, slot in self.structure.writes[index]:
            if field in outputs:
                self.values[slot] = outputs[field]
            else:
                self.values[slot] = None if goes_on else LOST

    def _skip(self, index: int) -> None:
        name, context = self.nodes[index][0], self.context
        around = context.span_id if self.parent is None else self.parent.span_id
        full = name if self.parent is None else f"{self.parent.name}.{name}"
        tell_skipped(context, around, full)
        self.outcomes[name] = StepOutcome(name, "skipped")
        for _, slot in self.structure.writes[index]:
            self.values[slot] = LOST
