"""Pipelines where there is no Lab: in production, and as the programs of jobs, in the kernel and on workers."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

from dspex_lab._closing import closed_at_exit
from dspex_lab._loop import LoopThread
from dspex_lab._options import RunOptions
from dspex_lab.errors import ConfigurationError, PipelineError
from dspex_lab.events import Bus, LMCall, Record
from dspex_lab.lms import Recorder, current_recorder, make_lm
from dspex_lab.pipelines._context import Candidate, Decide
from dspex_lab.pipelines._engine import drive
from dspex_lab.pipelines._module import current_runner, module_of
from dspex_lab.pipelines._pipeline import Pipeline, single
from dspex_lab.pipelines._result import Result
from dspex_lab.pipelines._runner import Runner
from dspex_lab.pipelines._step import Operation, Step, as_step

#: Threads are made only when none is idle; a step may itself run a pipeline and wait for it.
_THREADS = 256


class Alone:
    """Runs pipelines without a Lab: no store, no sessions; nobody is told of anything but the calls of models.

    The model is DSPy's (``dspy.configure``, ``dspy.context``). Inside a job its calls are the job's: recorded as its own, and
    paid from its account. Without ``pool`` a step that asks for one runs in place. It pickles as nothing: where it arrives it
    has what that process has.

    ::

        program = dx.load_pipeline("support.yaml").as_module()      # where no Lab is open, this is what runs it
        program(message="My card never came")

    Args:
        router: chooses among the implementations of operations; by default DSPy's own modules answer.
        pool: gives the pool of a name.
    """

    #: It goes along where a program that it runs is sent.
    travels = True

    def __init__(self, router: Decide | None = None, pool: Callable[[str], Any] | None = None) -> None:
        self._router: Decide = router or _Plain()
        self._pool = pool

    def __reduce__(self) -> tuple[Any, ...]:
        return (Alone, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> Alone:
        return self

    def run(self, x: Any, inputs: Mapping[str, Any] | None = None, /, **fields: Any) -> Result:
        """Run ``x`` once and return its result, whatever its status.

        Args:
            x: a pipeline, a program made from one, a step, a function, a DSPy module or a signature.
            inputs: the input fields, also given as keywords.

        Raises:
            PipelineError: an input is missing, unknown or of the wrong type; nothing was run.
        """
        pipeline, given, work = self._prepared(x, {**(inputs or {}), **fields})
        loop = _shared().loop
        if pipeline.plain and not loop.is_current():
            return drive(work(given, here=True))
        return loop.run(work(given))

    async def arun(self, x: Any, inputs: Mapping[str, Any] | None = None, /, **fields: Any) -> Result:
        """Run ``x`` as :meth:`run` does, without blocking the event loop."""
        _, given, work = self._prepared(x, {**(inputs or {}), **fields})
        return await work(given)

    def _prepared(self, x: Any, inputs: Mapping[str, Any]) -> tuple[Pipeline, dict[str, Any], Callable[..., Any]]:
        own = getattr(x, "pipeline", None)
        whole = isinstance(own, Pipeline) and hasattr(x, "step_modules")
        pipeline, modules = (cast(Pipeline, own), x.step_modules()) if whole else (single(x), {})
        if self._pool is None and pipeline.pools:
            pipeline = in_place(pipeline)
        outer = current_recorder()
        options = RunOptions(fresh=outer is not None and outer.terms.fresh)
        runner = self._runner(outer)

        def work(given: Mapping[str, Any], **how: Any) -> Any:
            return runner.run(pipeline, modules, given, options, **how)

        return pipeline, pipeline.accept(inputs), work

    def _runner(self, outer: Recorder | None) -> Runner:
        made, bus = copy.copy(_shared().runner), Bus()
        if outer is not None:
            bus.subscribe(functools.partial(_tell, outer), live=False)
            made.gateway, made.ledger = outer.terms.gateway, outer.terms.ledger
        made.bus, made.decide, made.pool = bus, self._router, self._pool or _no_pool
        return made


class _Shared:
    """What all runs without a Lab have in common in this process."""

    def __init__(self) -> None:
        self.loop = LoopThread("dspex-alone")
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="dspex-alone-step")
        nothing = cast(Any, None)  # no run here has a checkpoint
        # Copied for each run, with what is that one's own.
        self.runner = Runner("alone", Bus(), self._executor, _Plain(), _no_pool, _model, make_lm, self.loop.run, nothing)
        closed_at_exit(self)

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self.loop.close()


_making = threading.Lock()


def _shared() -> _Shared:
    with _making:  # of several first runs at once, each would make one
        return _made()


@functools.cache
def _made() -> _Shared:
    return _Shared()


class _Plain:
    """Has DSPy's own modules answer operations."""

    def decide(self, operation: Operation, inputs: Mapping[str, Any], pin: str | None) -> tuple[list[Candidate], str, str]:
        """Return DSPy's module for the operation.

        Raises:
            ConfigurationError: DSPy has none.
        """

        def made() -> Any:
            return module_of(as_step(operation))

        if operation.name not in ("predict", "chain_of_thought"):
            raise ConfigurationError(
                f"Only a Lab's router knows who answers the operation {operation.key!r}.",
                key=operation.name,
                hint="Open one: dx.lab().",
            )
        return [Candidate("dspy", made, None)], "fixed", "there is no Lab"

    def observe(self, operation: Operation, implementation: str, seconds: float, error: BaseException | None) -> None:
        """Nothing is learned."""


def in_place(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline none of whose steps asks for a pool."""
    return pipeline.with_steps({name: _in_place(step) for name, step in pipeline.steps.items()})


def _in_place(step: Step) -> Step:
    parts = step.how.parts(step)
    if parts:
        step = replace(step, target=step.how.with_parts(step, {name: _in_place(part) for name, part in parts.items()}))
    return step if step.pool is None else replace(step, pool=None)


def _tell(outer: Recorder, record: Record) -> None:
    """Tell of a call as one of what this run is part of."""
    if isinstance(record, LMCall):
        outer.emit(record._replace(run_id=outer.run_id, span_id=outer.span_id))


def _model() -> Any:
    import dspy

    return dspy.settings.lm


def _no_pool(name: str) -> Any:
    raise PipelineError(f"There is no pool {name!r} without a Lab.", hint="Open one: dx.lab().")


current_runner.insert(0, Alone)
