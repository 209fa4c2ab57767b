"""Runs the rows of a map on the Lab's loop: so many at once, each with its outcome, and the map's own record at the end."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_lab._options import RunOptions
from dspex_lab.errors import DspexError, PipelineError
from dspex_lab.events import RunRecord, Span, new_id
from dspex_lab.lms import is_simulated
from dspex_lab.pipelines._context import RunContext, enclosing
from dspex_lab.pipelines._engine import drive
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._result import describe, total
from dspex_lab.pipelines._runner import Runner
from dspex_lab.pipelines.maps._feed import Feed, Todo
from dspex_lab.pipelines.maps._gate import Gate, Keep
from dspex_lab.pipelines.maps._outcome import Outcome


@dataclass(frozen=True, slots=True)
class Before:
    """The part of a map that ran before this one, under the same run id; times in seconds, cost in US dollars."""

    run_id: str
    started: float
    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


@dataclass(slots=True)
class MapRun:
    """One map under way.

    Args:
        told: called after each row, on the loop's thread.
        said: what its ``run.start`` tells beside its name.
        before: the map that this one goes on with.
        left: receives the rows that still ran in a thread when the map was cancelled.
    """

    runner: Runner
    pipeline: Pipeline
    modules: Mapping[str, Any]
    options: RunOptions
    width: int
    feed: Feed
    keep: Keep
    told: Callable[[], object]
    said: dict[str, Any] = field(default_factory=dict)
    before: Before | None = None
    left: set[Future[Any]] = field(default_factory=set)
    run_id: str = ""
    status: str = "cancelled"
    seconds: float = 0.0
    rows: int = 0
    variables: dict[str, Any] | None = None

    async def run(self) -> None:
        """Run every row that has no outcome; the rows that ended before are kept also where this is cancelled.

        Raises:
            asyncio.CancelledError: it was cancelled.
            OSError: the outcomes cannot be written.
        """
        with self.runner.bound(self.pipeline, self.modules) as bound:
            self.pipeline, self.modules, self.variables = bound
            await self._run()

    async def _run(self) -> None:
        runner, found = self.runner, enclosing(self.runner.owner)
        context = runner._context(self.modules, self.options, found[0] if found else None)
        if self.before is not None:
            context.run_id = self.before.run_id
        self.run_id = context.run_id
        started, clock = time.time(), time.perf_counter()
        context.event("run.start", context.span_id, None, kind="map", name=self.pipeline.name, **self.said)
        gate = Gate(self.keep, runner.executor)
        error: str | None = None
        try:
            try:
                await self._all(context, gate)
            finally:
                self.feed.close()
                await gate.close()
            self.status = self._ended()
        except Exception as problem:
            error, self.status = describe(problem), "partial"
            raise
        finally:
            self.seconds = time.perf_counter() - clock
            self._close(context, started, error or describe(self.feed.problem) or None)

    async def _all(self, context: RunContext, gate: Gate) -> None:
        pipeline = self.pipeline
        # What bounds the map bounds all its rows together.
        of_row = replace(self.options, deadline=None, budget=None)
        here = pipeline.plain and context.deadline is None and (not pipeline.uses_lm or is_simulated(context.lm()))
        row = self._row_here if here else self._row

        async def worker() -> None:
            while (item := await self.feed.get()) is not None:
                if gate.full and not await gate.room():
                    return
                outcome = await row(item, context, of_row)
                self.rows += 1
                gate.add(outcome)
                self.told()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.width):
                    group.create_task(worker())
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several.exceptions[0].__cause__

    async def _row(self, item: Todo, context: RunContext, options: RunOptions) -> Outcome:
        given = self._accepted(item, context)
        if isinstance(given, Outcome):
            return given
        result = await self.runner.run(
            self.pipeline, self.modules, given, options, kind="row", outer=(context, context.span_id), row_index=item.row_index
        )
        return self._outcome(item, result)

    async def _row_here(self, item: Todo, context: RunContext, options: RunOptions) -> Outcome:
        """Run the row in one hop into a thread instead of one for each of its steps."""
        given = self._accepted(item, context)
        if isinstance(given, Outcome):
            return given
        outer = (context, context.span_id)
        work = self.runner.run(
            self.pipeline, self.modules, given, options, kind="row", outer=outer, row_index=item.row_index, here=True
        )
        future = self.runner.executor.submit(contextvars.copy_context().run, drive, work)
        try:
            result = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancelled():
                work.close()
            else:
                self.left.add(future)  # a thread cannot be stopped: the row ends when its code does
                future.add_done_callback(self.left.discard)
            raise
        return self._outcome(item, result)

    def _accepted(self, item: Todo, context: RunContext) -> dict[str, Any] | Outcome:
        """Return the row's inputs, or its outcome where the pipeline cannot start on them."""
        try:
            if item.inputs is None:
                raise PipelineError(f"Row {item.row_index} of the data is {type(item.row).__name__}, not a dict.")
            return self.pipeline.accept(item.inputs)
        except DspexError as error:
            refused = RunRecord(
                run_id=new_id(),
                parent_id=context.run_id,
                kind="row",
                name=self.pipeline.name,
                status="failed",
                started=time.time(),
                seconds=0.0,
                inputs=item.inputs,
                error=str(error),
                row_index=item.row_index,
            )
            self.runner.bus.emit(refused)
            return Outcome(item.row_index, "failed", {}, str(error), refused.run_id, self._brought(item))

    def _outcome(self, item: Todo, result: Any) -> Outcome:
        error = None if result.status == "complete" else describe(result.error) or None
        return Outcome(item.row_index, result.status, result.outputs, error, result.run_id, self._brought(item))

    def _brought(self, item: Todo) -> dict[str, Any] | None:
        return item.row if self.keep.rows and isinstance(item.row, dict) else None

    def _ended(self) -> str:
        states = [status for status, count in self.keep.counts().items() if count]
        return states[0] if len(states) == 1 and self.feed.problem is None else "partial"

    def _close(self, context: RunContext, started: float, error: str | None) -> None:
        counts, before = self.keep.counts(), self.before
        known = {s: counts[s] for s in ("complete", "partial", "failed")}
        rows = self.said.get("total") or self.feed.read
        summary = {"rows": rows, "done": counts.total(), **known}
        summary |= {k: self.said[k] for k in ("out", "continued") if self.said.get(k)}
        ended = self.status in ("complete", "partial")
        context.event("run.stop" if ended else "run.error", context.span_id, None, status=self.status, **summary)
        usage, emit = context.usage, self.runner.bus.emit
        emit(Span(context.span_id, None, self.run_id, "run", self.pipeline.name, started, self.seconds, self.status))
        cost = usage.known_cost
        if before is not None and not usage.unknown_cost:
            cost = cost if before.cost is None else before.cost + (cost or 0.0)
        emit(
            RunRecord(
                run_id=self.run_id,
                parent_id=None,
                kind="map",
                name=self.pipeline.name,
                status=self.status,
                started=before.started if before else started,
                seconds=self.seconds + (before.seconds if before else 0.0),
                outputs=summary,
                error=error,
                lm=", ".join(usage.models) or None,
                simulated=usage.simulated,
                prompt_tokens=total(usage.prompt_tokens, before.prompt_tokens if before else None),
                completion_tokens=total(usage.completion_tokens, before.completion_tokens if before else None),
                cost=cost,
                session=self.options.session,
                tags=self.options.tags,
                variables=self.variables,
            )
        )
