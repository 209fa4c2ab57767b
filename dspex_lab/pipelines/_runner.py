"""Carries out runs and maps: gives each its context, and records how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from dspex_lab._options import RunOptions
from dspex_lab.events import Bus, Event, RunRecord, Span, new_id
from dspex_lab.lms import Gateway, Ledger, Notice, Terms, install
from dspex_lab.pipelines._batch import Batchers
from dspex_lab.pipelines._cache import StepCache
from dspex_lab.pipelines._checkpoint import Checkpoint, Shelf
from dspex_lab.pipelines._context import Decide, RunContext, Seats, Submit, Surroundings, Usage, enclosing
from dspex_lab.pipelines._engine import execute
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._result import Result, StepOutcome, collect, describe, status_of
from dspex_lab.pipelines._stream import StreamEvent

_NOTHING = nullcontext()


class Bound(NamedTuple):
    """What is run, with the values that its variables have until the run ends.

    Args:
        pipeline: what to run; another one than was asked for where values are not put into that one.
        modules: those that stand in for the modules of its steps.
        variables: see ``RunRecord.variables``.
    """

    pipeline: Pipeline
    modules: Mapping[str, Any]
    variables: dict[str, Any] | None = None


#: Stands around each run: given what is to be run, it brings the variables of that up to date.
Bind = Callable[[Pipeline, Mapping[str, Any]], AbstractContextManager[Bound]]


def _as_it_is(pipeline: Pipeline, modules: Mapping[str, Any]) -> AbstractContextManager[Bound]:
    return nullcontext(Bound(pipeline, modules))


#: Of a step that a cancelled run did not come to.
_NEVER = StepOutcome("", "skipped")


class Runner:
    """Runs pipelines on the event loop it is called on.

    Args:
        owner: the Lab's id.
        bus: takes each record; told on the loop's thread and, for LM calls, in the thread that made the call.
        executor: where sync code runs.
        decide: the router.
        pool: gives the pool of a name.
        lm: gives the model in use; ``model`` makes the one a step asks for.
        wait: runs a coroutine on the Lab's loop and waits for it; called from other threads.
        shelf: where checkpoints are kept.
        gateway: what LM calls pass on their way to an engine.
        ledger: the account of the Lab.
        seats: the workers of sessions.

    Attributes:
        bind: stands around runs; see :data:`Bind`. None as long as there are no variables.
    """

    def __init__(
        self,
        owner: str,
        bus: Bus,
        executor: Executor,
        decide: Decide,
        pool: Callable[[str], Submit],
        lm: Callable[[], Any],
        model: Callable[[Any], Any],
        wait: Callable[[Coroutine[Any, Any, Any]], Any],
        shelf: Shelf,
        gateway: Gateway | None = None,
        ledger: Ledger | None = None,
        seats: Seats | None = None,
    ) -> None:
        self.seats = seats
        self.bind: Bind | None = None
        self.gateway, self.ledger = gateway, ledger
        self.shelf = shelf
        self.cache = StepCache()
        self.batchers = Batchers()
        self.under_way = 0
        self.owner = owner
        self.bus = bus
        self.model = model
        self.executor = executor
        self.decide = decide
        self.pool = pool
        self.lm = lm
        self.wait = wait

    def bounded(self, options: RunOptions) -> bool:
        """Say whether a run begun here would have a deadline, its own or that of the run it is started in."""
        outer = enclosing(self.owner)
        return options.deadline is not None or (outer is not None and outer[0].deadline is not None)

    async def run(
        self,
        pipeline: Pipeline,
        modules: Mapping[str, Any],
        inputs: Mapping[str, Any],
        options: RunOptions,
        *,
        kind: str = "run",
        outer: tuple[RunContext, str] | None = None,
        row_index: int | None = None,
        here: bool = False,
        listen: Callable[[StreamEvent], None] | None = None,
        kept: Callable[[Result], object] | None = None,
    ) -> Result:
        """Run ``pipeline`` once; with ``here`` in this very thread (see :func:`drive`), else on this event loop.

        Args:
            listen: takes the events of a streamed run.
            kept: takes the result, also that of a run that was cancelled.

        Raises:
            VariableError: its variables cannot be brought up to date; nothing was run.
        """
        # The rows of a map run with what the map began with.
        with self.bound(pipeline, modules) if kind != "row" else _as_it_is(pipeline, modules) as bound:
            return await self._run(
                bound,
                inputs,
                options,
                kind=kind,
                outer=outer,
                row_index=row_index,
                here=here,
                listen=listen,
                kept=kept,
            )

    async def _run(
        self,
        bound: Bound,
        inputs: Mapping[str, Any],
        options: RunOptions,
        *,
        kind: str,
        outer: tuple[RunContext, str] | None,
        row_index: int | None,
        here: bool,
        listen: Callable[[StreamEvent], None] | None,
        kept: Callable[[Result], object] | None,
    ) -> Result:
        pipeline, modules = bound.pipeline, bound.modules
        started, clock = time.time(), time.perf_counter()
        if outer is None and (outer := enclosing(self.owner)) is not None:
            kind = "nested"
        context = self._context(modules, options, outer[0] if outer else None, pipeline.name)
        if kind == "row" and outer is not None:
            context.lm, context.model = outer[0].lm, outer[0].model  # all rows of a map ask the same one
        context.wait = self.wait if here else None
        context.listen = listen
        given = snapshot(inputs)
        outcomes: dict[str, StepOutcome] = {}
        status = "cancelled"
        if options.checkpoint is not None:
            context.checkpoint = self._checkpoint(options.checkpoint, context)
        if kind == "run":
            tags = {"tags": list(options.tags)} if options.tags else {}
            context.event("run.start", context.span_id, None, kind=kind, name=pipeline.name, **tags)
        surroundings = Surroundings()
        self.under_way += 1
        try:
            context.begin()
            with self._session(options.session):
                await execute(pipeline, inputs, context, outcomes)
            status = status_of(outcomes)
            if context.checkpoint is not None and status == "complete":
                context.checkpoint.end()
        finally:
            self.under_way -= 1
            if context.checkpoint is not None:
                context.checkpoint.close()
            surroundings.restore()
            seconds = time.perf_counter() - clock
            result = self._result(pipeline, context, outcomes, status, seconds)
            result.variables = bound.variables
            self._close_run(result, status, context, given, started, options, (kind, outer, row_index))
            if kept is not None:
                kept(result)
        return result

    def bound(self, pipeline: Pipeline, modules: Mapping[str, Any]) -> AbstractContextManager[Bound]:
        """Return what stands around a run, and gives what to run: the pipeline with the present values of its variables."""
        return _as_it_is(pipeline, modules) if self.bind is None else self.bind(pipeline, modules)

    def _session(self, name: str | None) -> AbstractContextManager[Any]:
        return _NOTHING if name is None or self.seats is None else self.seats.inside(name)

    def _checkpoint(self, name: str, context: RunContext) -> Checkpoint:
        def told(step: str, why: str) -> None:
            context.event("checkpoint.skip", context.span_id, step, name=name, why=why)

        return Checkpoint(name, self.shelf, told, context.chosen, context.modules)

    def _model(self, options: RunOptions) -> Callable[[Any], Any]:
        made: dict[Any, Any] = {}

        def model(wanted: Any) -> Any:
            key = wanted if isinstance(wanted, str) else id(wanted)
            if key not in made:
                install()
                chosen = self.model(wanted)
                made[key] = chosen if options.seed is None else chosen.copy(rollout_id=options.seed)
            return made[key]

        return model

    def _terms(self, options: RunOptions, outer: RunContext | None, deadline: float | None, name: str) -> Terms:
        around = self.ledger if outer is None else outer.terms.ledger
        if options.budget is not None:
            around = Ledger(options.budget, f"the run {name!r}", around, self._told)
        fresh = options.fresh or (outer is not None and outer.terms.fresh)
        return Terms(self.gateway, around, deadline, fresh)

    def _told(self, notice: Notice) -> None:
        name = "budget.refuse" if notice.kind == "refused" else "budget.cross"
        self.bus.emit(Event(name, time.time(), data={"target": notice.model, **notice.to_dict()}))

    def _context(
        self, modules: Mapping[str, Any], options: RunOptions, outer: RunContext | None = None, name: str = ""
    ) -> RunContext:
        deadline = None if options.deadline is None else time.monotonic() + options.deadline
        if outer is not None and outer.deadline is not None:
            deadline = outer.deadline if deadline is None else min(deadline, outer.deadline)
        lms: list[Any] = []

        def lm() -> Any:
            if not lms:
                install()
                chosen = self.lm()
                lms.append(chosen if options.seed is None else chosen.copy(rollout_id=options.seed))
            return lms[0]

        run_id = new_id()
        return RunContext(
            owner=self.owner,
            run_id=run_id,
            span_id=run_id,
            bus=self.bus,
            model=self._model(options),
            cache=self.cache,
            batchers=self.batchers,
            alone=lambda: self.under_way <= 1,
            executor=self.executor,
            decide=self.decide,
            pool=self.pool,
            lm=lm,
            modules=modules,
            pin=options.pin,
            deadline=deadline,
            terms=self._terms(options, outer, deadline, name),
            usage=Usage(outer.usage if outer else None),
            outer=outer,
            session=options.session or (None if outer is None else outer.session),
            seats=self.seats,
        )

    def _result(self, pipeline: Pipeline, context: RunContext, outcomes: dict[str, Any], status: str, seconds: float) -> Result:
        usage = context.usage
        return Result(
            status=status_of({**dict.fromkeys(pipeline.steps, _NEVER), **outcomes}) if status == "cancelled" else status,  # type: ignore[arg-type]
            cancelled=status == "cancelled",
            outputs=collect(pipeline, outcomes),
            steps={n: outcomes[n] for n in pipeline.steps if n in outcomes},
            run_id=context.run_id,
            seconds=seconds,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=usage.known_cost,
            lm=", ".join(usage.models) or None,
            simulated=usage.simulated,
            name=pipeline.name,
            asked_again=usage.asked_again,
        )

    def _close_run(
        self,
        result: Result,
        status: str,
        context: RunContext,
        inputs: Mapping[str, Any],
        started: float,
        options: RunOptions,
        place: tuple[str, tuple[RunContext, str] | None, int | None],
    ) -> None:
        kind, outer, row_index = place
        parent_id, parent_span = (outer[0].run_id, outer[1]) if outer else (None, None)
        failed = None if status == "complete" else next((s for s in result._by_gravity() if s.error is not None), None)
        error = describe(failed.error) if failed else None
        emit = self.bus.emit
        if kind != "row" or self.bus.watched:
            # A row's own span would say what its record says; its steps' parent is its run id either way.
            span = Span(context.span_id, parent_span, result.run_id, "run", result.name, started, result.seconds, status)
            emit(span if error is None else span._replace(error=error))
        if kind == "run" and self.bus.watched:
            name = "run.stop" if status in ("complete", "partial") else "run.error"
            context.event(name, context.span_id, None, status=status, seconds=result.seconds)
        emit(
            RunRecord(
                run_id=result.run_id,
                parent_id=parent_id,
                kind=kind,
                name=result.name,
                status=status,
                started=started,
                seconds=result.seconds,
                inputs=dict(inputs),
                outputs=result.outputs,
                error=error,
                error_step=failed.name if failed else None,
                lm=result.lm,
                simulated=result.simulated,
                prompt_tokens=result.prompt_tokens,
                completion_tokens=result.completion_tokens,
                cost=result.cost,
                row_index=row_index,
                session=options.session,
                tags=options.tags,
                variables=result.variables,
            )
        )


def snapshot(value: Any) -> Any:
    """Return ``value`` with its dicts and lists copied, so that a step that changes its inputs does not change the record."""
    if isinstance(value, Mapping):
        return {k: snapshot(v) for k, v in value.items()}
    return [snapshot(v) for v in value] if isinstance(value, list) else value
