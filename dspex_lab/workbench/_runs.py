"""The doors for running something once: at once or as a stream, from any thread or from an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab._options import RunOptions
from dspex_lab.lms import make_lm
from dspex_lab.pipelines import (
    AsyncRunStream,
    CheckReport,
    Hub,
    Operation,
    Pipeline,
    Result,
    RunStream,
    Surroundings,
    as_signature,
    drive,
)
from dspex_lab.workbench._finding import Finding
from dspex_lab.workbench._sessions import InSessions

if TYPE_CHECKING:
    import pandas as pd


class RunDoors(InSessions, Finding):
    """``run``, ``arun``, ``stream``, ``astream``; what can be told before (``check``) and what is kept (checkpoints)."""

    def run(
        self, x: Any, inputs: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None, **fields: Any
    ) -> Result:
        """Run ``x`` once and return its result, whatever its status.

        Args:
            x: a pipeline, its name in this Lab, a step, a function, a DSPy module, a signature or an operation.
            inputs: the input fields, also given as keywords.
            options: how to carry it out.

        Raises:
            PipelineError: an input is missing, unknown or of the wrong type; nothing was run.
        """
        chosen = self._in_session(options)
        pipeline, modules = self._resolve(x, chosen)
        given = pipeline.accept({**(inputs or {}), **fields})
        try:
            return self._carry_out(pipeline, modules, given, chosen)
        except KeyboardInterrupt as stop:
            stop.add_note("The run was stopped; what its steps gave until then is in lab.last_result.")
            raise

    def _carry_out(self, pipeline: Pipeline, modules: Mapping[str, Any], given: dict[str, Any], chosen: RunOptions) -> Result:
        if pipeline.plain and not self._runner.bounded(chosen) and not self._loop.is_current():
            # Nothing could happen at the same time, so the caller's own thread does it: no hop, and an interrupt is at once.
            me = self._enter()
            try:
                return drive(self._runner.run(pipeline, modules, given, chosen, here=True, kept=self._keep_last))
            finally:
                self._leave(me)
        return self._loop.run(self._runner.run(pipeline, modules, given, chosen, kept=self._keep_last))

    async def arun(
        self, x: Any, inputs: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None, **fields: Any
    ) -> Result:
        """Run ``x`` as :meth:`run` does, on the caller's event loop and without blocking it; cancelling it cancels the run."""
        chosen = self._in_session(options)
        pipeline, modules = self._resolve(x, chosen)
        given = pipeline.accept({**(inputs or {}), **fields})
        me = self._enter()
        try:
            return await self._runner.run(pipeline, modules, given, chosen, kept=self._keep_last)
        finally:
            self._leave(me)

    def stream(
        self, x: Any, inputs: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None, **fields: Any
    ) -> RunStream:
        """Return the events of a run of ``x``, for a ``for`` loop: tokens as models write them, and the result at the end.

        The run begins with the first event that is asked for; leaving the loop, or an interrupt, ends it. See
        :class:`~dspex_lab.pipelines.StreamEvent` for what an event says; the arguments are those of :meth:`run`.

        Raises:
            PipelineError: an input is missing, unknown or of the wrong type; nothing was run.
        """
        return RunStream(*self._streamed(x, {**(inputs or {}), **fields}, self._in_session(options)), self._loop)

    def astream(
        self, x: Any, inputs: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None, **fields: Any
    ) -> AsyncRunStream:
        """Return the events of a run of ``x``, as :meth:`stream` does, for an ``async for`` loop, whose event loop runs it.

        Raises:
            PipelineError: an input is missing, unknown or of the wrong type; nothing was run.
        """
        pipeline, work = self._streamed(x, {**(inputs or {}), **fields}, self._in_session(options))

        async def here(hub: Hub) -> Result:
            me = self._enter()
            try:
                return await work(hub)
            finally:
                self._leave(me)

        return AsyncRunStream(pipeline, here)

    def _streamed(
        self, x: Any, inputs: Mapping[str, Any], options: RunOptions
    ) -> tuple[Pipeline, Callable[[Hub], Coroutine[Any, Any, Result]]]:
        pipeline, modules = self._resolve(x, options)
        given = pipeline.accept(inputs)

        def work(hub: Hub) -> Coroutine[Any, Any, Result]:
            return self._runner.run(pipeline, modules, given, options, listen=hub, kept=self._keep_last)

        return pipeline, work

    def pipeline_of(self, x: Any) -> Pipeline:
        """Return the pipeline that running ``x`` would run; one made of a single step where it is no pipeline."""
        return self._find(x)[0]

    def accept(self, x: Any, inputs: Mapping[str, Any]) -> None:
        """Refuse inputs on which ``x`` cannot start, as :meth:`run` would.

        Raises:
            PipelineError, ConfigurationError: what is wrong; nothing was run.
        """
        self._resolve(x, RunOptions())[0].accept(inputs)

    def check(self, x: Any, inputs: Mapping[str, Any] | None = None, *, rows: int = 1) -> CheckReport:
        """Return what can be told of a run of ``x`` before anything is run: the dry run; no model is called.

        Args:
            x: as for :meth:`run`.
            inputs: the inputs it would be given; with them the estimate is closer.
            rows: the number of rows of a map, for the sum over all of them.

        Raises:
            PipelineError, ConfigurationError: there is no such pipeline, or it could not start on ``inputs``.
        """
        pipeline, modules = self._find(x)
        able = self.router.registry.of
        here = Surroundings(self._models.current, make_lm, self.pools.names, lambda o: [i.name for i in able(o)], self.store)
        return (pipeline.with_modules(x) if modules else pipeline).check(inputs, rows=rows, around=here)

    def checkpoints(self) -> pd.DataFrame:
        """Return what interrupted runs kept (``RunOptions(checkpoint=NAME)``), the newest first.

        Columns: ``name, steps`` (how many have their outputs kept), ``bytes, newest`` (UTC).
        """
        self._ensure_open()
        return self.store.checkpoints()

    def forget_checkpoint(self, name: str) -> None:
        """Forget what a run kept under ``name``, so that the next one begins anew.

        Raises:
            ConfigurationError: nothing is kept under that name, or a run that uses it is under way.
        """
        self._ensure_open()
        self.store.forget_checkpoint(name)

    def predict(self, contract: Any, /, *, options: RunOptions | None = None, **fields: Any) -> Result:
        """Answer a signature by the routed operation ``predict``."""
        return self.run(Operation("predict", as_signature(contract, depth=2)), fields, options=options)

    def chain_of_thought(self, contract: Any, /, *, options: RunOptions | None = None, **fields: Any) -> Result:
        """Answer a signature by the routed operation ``chain_of_thought``."""
        return self.run(Operation("chain_of_thought", as_signature(contract, depth=2)), fields, options=options)
