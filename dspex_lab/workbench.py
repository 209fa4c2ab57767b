"""The Lab: the one object that owns store, pools, router and models, and through which everything runs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dspex_lab._closing import closed_at_exit, forget
from dspex_lab._loop import LoopThread
from dspex_lab._views import view
from dspex_lab.config import Config, default_store_path
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.events import Bus, LMCall, Record, RunOptions, new_id
from dspex_lab.lms import DirectCalls, LMJudge, Models, make_lm
from dspex_lab.native import use_transport
from dspex_lab.native.metrics import combine, metric, register_metric, wire
from dspex_lab.pipelines import (
    AsyncRunStream,
    CheckReport,
    Hub,
    MapOptions,
    MapPlan,
    MapResult,
    Maps,
    Operation,
    Pipeline,
    Result,
    Runner,
    RunStream,
    Surroundings,
    as_signature,
    current_runner,
    drive,
    single,
)
from dspex_lab.pools import Pools
from dspex_lab.router import Router
from dspex_lab.store import Store

if TYPE_CHECKING:
    import pandas as pd

#: The metrics are those of native/; here, where they are wired to a judge and an embedder, is where users find them.
__all__ = ["Lab", "combine", "lab", "metric", "register_metric"]

#: Threads are made only when none is idle. Many, because a step may itself run a pipeline and wait for it.
_MAX_THREADS = 1024

#: Seconds that closing a Lab waits for runs in other threads.
_PATIENCE = 10.0


class Lab:
    """A workbench: a store, worker pools, a router, a model, and the pipelines and signatures made in it.

    Args:
        path: the DuckDB file of the store, ``":memory:"``, or None for the notebook's own (``.dspex/NOTEBOOK.duckdb``).
        config: settings.

    Raises:
        StoreError: the store cannot be opened, for instance because another process holds it.

    Use it as a context manager, or call :meth:`close`. Methods may be called from any thread.
    """

    def __init__(self, path: str | Path | None = None, config: Config | None = None) -> None:
        self.config = config or Config.from_environment()
        self.id = new_id()
        self.store = Store(path if path is not None else default_store_path(), lab_id=self.id)
        self.bus = Bus()
        self.bus.subscribe(self.store.write if self.config.record_messages else self._keep, live=False)
        self.router = Router()
        self.pools = Pools(emit=self.bus.emit)
        self.pipelines: dict[str, Pipeline] = {}
        self.signatures: dict[str, Any] = {}
        self.last_result: Result | None = None
        self._models = Models(self.id)
        self._loop = LoopThread()
        self._executor = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="dspex-step")
        self._runner = Runner(
            self.id,
            self.bus,
            self._executor,
            self.router,
            self.pools.get,
            self._models.current,
            make_lm,
            self._loop.run,
            self.store,
        )
        self._maps = Maps(self._runner, self._loop.run, self.store)
        self._idle = threading.Condition()
        self._users: dict[int, int] = {}
        self._closers: list[Callable[[], None]] = []
        self.closed = False
        if self.config.lm is not None:
            self.use(self.config.lm)
        closed_at_exit(self)

    def _keep(self, record: Record) -> None:
        if isinstance(record, LMCall):
            record = record._replace(messages=None, outputs=None)
        self.store.write(record)

    # --- models -----------------------------------------------------------------------------------------------

    def use(self, lm: Any, **options: Any) -> Any:
        """Choose the model of this Lab and return it.

        Args:
            lm: a model string (``"openai/gpt-5-mini"``), a ``dspy.LM``, or ``"offline"``; None goes back to what
                ``dspy.configure`` set.
            options: handed to ``dspy.LM`` (``temperature=``, ``api_base=`` …).

        Raises:
            LMError: there is no such model, or its key is missing. Nothing was called.
        """
        return self._models.use(lm, **options)

    @property
    def lm(self) -> Any:
        """Return the model a run would use now.

        In this order: what ``dspy.context`` set around the call, what :meth:`use` chose, what ``dspy.configure`` set,
        the offline engine.
        """
        return self._models.current()

    @contextlib.contextmanager
    def context(self, lm: Any = None) -> Iterator[Any]:
        """Use this Lab's model for plain DSPy code in the block (``dspy.context``); yields the model."""
        import dspy

        chosen = make_lm(lm) if lm is not None else self.lm
        with dspy.context(lm=chosen):
            yield chosen

    # --- running ----------------------------------------------------------------------------------------------

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
        chosen = options or RunOptions()
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
        chosen = options or RunOptions()
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
        return RunStream(*self._streamed(x, {**(inputs or {}), **fields}, options or RunOptions()), self._loop)

    def astream(
        self, x: Any, inputs: Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None, **fields: Any
    ) -> AsyncRunStream:
        """Return the events of a run of ``x``, as :meth:`stream` does, for an ``async for`` loop, whose event loop runs it.

        Raises:
            PipelineError: an input is missing, unknown or of the wrong type; nothing was run.
        """
        pipeline, work = self._streamed(x, {**(inputs or {}), **fields}, options or RunOptions())

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
        here = Surroundings(lambda: self.lm, make_lm, self.pools.names, lambda o: [i.name for i in able(o)], self.store)
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

    def _keep_last(self, result: Result) -> None:
        self.last_result = result

    def _enter(self) -> int:
        """Keep the Lab from being closed by another thread while this one carries out a run of its own; see :meth:`_leave`."""
        me = threading.get_ident()
        with self._idle:
            self._ensure_open()
            self._users[me] = self._users.get(me, 0) + 1
        return me

    def _leave(self, me: int) -> None:
        with self._idle:
            if self._users[me] > 1:
                self._users[me] -= 1
            else:
                del self._users[me]
                self._idle.notify_all()

    def _resolve(self, x: Any, options: RunOptions) -> tuple[Pipeline, Mapping[str, Any]]:
        """Return the pipeline to run, and the modules that stand in for those of its steps.

        Raises:
            ConfigurationError: there is no such pipeline, or a pool or a pinned operation it names does not exist.
        """
        pipeline, modules = self._find(x)
        for pool in pipeline.pools:
            self.pools.get(pool)
        if options.pin:
            self.router.check_pins(options.pin, pipeline.operations)
        return pipeline, modules

    def _find(self, x: Any) -> tuple[Pipeline, Mapping[str, Any]]:
        self._ensure_open()
        if isinstance(x, str):
            if x not in self.pipelines and "->" not in x:
                raise ConfigurationError(
                    f"There is no pipeline {x!r} in this Lab.{did_you_mean(x, self.pipelines)}",
                    key="pipeline",
                    expected=list(self.pipelines),
                    actual=x,
                    hint=f"Known: {', '.join(self.pipelines) or 'none yet; make one with %%dspex pipeline NAME'}.",
                )
            return (self.pipelines[x], {}) if x in self.pipelines else (single(as_signature(x)), {})
        own = getattr(x, "pipeline", None)
        # An optimizer such as KNNFewShot gives the program another forward(): then the program itself is the step.
        if isinstance(own, Pipeline) and hasattr(x, "step_modules") and not getattr(x, "replaced", False):
            return own, x.step_modules()
        return single(x), {}

    # --- many rows --------------------------------------------------------------------------------------------

    @overload
    def map(
        self,
        x: Any,
        data: Any,
        *,
        concurrency: int | None = None,
        out: None = None,
        resume: str | bool | None = None,
        retry_failed: bool = False,
        options: RunOptions | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame: ...
    @overload
    def map(
        self,
        x: Any,
        data: Any,
        *,
        concurrency: int | None = None,
        out: str | Path,
        retry_failed: bool = False,
        overwrite: bool = False,
        options: RunOptions | None = None,
        progress: bool | None = None,
    ) -> MapResult: ...
    def map(self, x: Any, data: Any, *, progress: bool | None = None, **how: Any) -> Any:
        """Run ``x`` on every row, each with one recorded outcome, and return what came of them, in their order.

        Args:
            x: as for :meth:`run`.
            data: a DataFrame, a path to ``.csv``, ``.parquet`` or ``.jsonl``, a query of the store (SELECT, WITH, FROM), or
                dicts in a list or any iterable. The pipeline's inputs are columns; others are kept.
            concurrency: rows under way at once; the Lab's setting by default.
            out: the file to write: ``.jsonl``, ``.parquet`` or ``.csv``. Then rows are read and written some at a time,
                whatever their number. It is there when every row has its outcome. Until then outcomes are kept beside it,
                and the same call goes on where it was interrupted or killed.
            resume: without ``out``: the run id of an interrupted map to go on with, True for the last one of this pipeline.
            retry_failed: run the rows again that failed or lack an output; with ``out``, or with ``resume``.
            overwrite: begin anew where ``out`` is there already.
            options: how to carry it out; deadline and budget are for all rows together.
            progress: show a progress bar with rate and remaining time; by default in a terminal. ``%dspex map`` shows a widget.

        Returns:
            Without ``out`` a DataFrame: the data's columns (``NAME_given`` where an output has the same name; without the
            inputs that a step replaces), then one per output field, then ``status``, ``error`` and ``run_id`` of each row.
            With it, how the rows ended (:class:`MapResult`); the file has these columns, and ``row_index`` before them.

        Raises:
            PipelineError: a column is missing, there are no rows, or ``out`` is another map's; nothing was run. Or the data
                broke off, or the file cannot be written; what was done is kept. A row that fails is a row with an error.
            KeyboardInterrupt: it was interrupted; :attr:`last_map` says how far it came, and how to go on.
        """
        with self.plan_map(x, data, **how) as plan:
            return plan.run(progress)

    def plan_map(
        self,
        x: Any,
        data: Any,
        *,
        concurrency: int | None = None,
        out: str | Path | None = None,
        resume: str | bool | None = None,
        retry_failed: bool = False,
        overwrite: bool = False,
        options: RunOptions | None = None,
    ) -> MapPlan:
        """Do everything that :meth:`map` does before it runs anything, and return what ``run()`` carries out; to be closed.

        Raises:
            PipelineError, ConfigurationError, StoreError: what is wrong; nothing was run.
        """
        chosen = options or RunOptions()
        if chosen.checkpoint is not None:
            raise ConfigurationError(
                "A map needs no checkpoint: each row is recorded as it ends.",
                key="checkpoint",
                actual=chosen.checkpoint,
                hint="Go on with resume=True, or by the same call with the same out=.",
            )
        pipeline, modules = self._resolve(x, chosen)
        width = self.config.concurrency if concurrency is None else concurrency
        return self._maps.plan(pipeline, modules, data, MapOptions(width, out, resume, retry_failed, overwrite), chosen)

    @property
    def last_map(self) -> MapResult | None:
        """Return how the last map of this Lab ended, also one that was interrupted; None before the first."""
        return self._maps.last

    # --- reading ----------------------------------------------------------------------------------------------

    def sql(self, query: str, parameters: Any = None, *, timeout: float | None = None) -> pd.DataFrame:
        """Return what ``query`` reads from the store's tables; ``timeout`` is in seconds.

        Raises:
            StoreError: the query is wrong, would write, or took too long.
        """
        self._ensure_open()
        return self.store.query(query, parameters, timeout=timeout)

    @property
    def name(self) -> str:
        """Return the Lab's name: the store's file name without its ending."""
        path = str(self.store.path)
        return "memory" if path == ":memory:" else Path(path).stem

    def dashboard(self, *, serve: bool = False, port: int = 0, open_browser: bool = False) -> Any:
        """Return the dashboard: something a cell displays, or with ``serve`` a server on the loopback with ``.url``."""
        self._ensure_open()
        views = view("dashboard")
        if not serve:
            page = views.build(self)
            self._closers.append(page.stop)
            return page
        served = views.serve(self, port=port, open=open_browser)
        self._closers.append(served.stop)
        return served

    # --- life -------------------------------------------------------------------------------------------------

    def _ensure_open(self) -> None:
        if self.closed:
            raise ConfigurationError("This Lab is closed.", key="lab", hint="Make another: dx.lab() or dx.Lab(path).")

    def close(self) -> None:
        """End pools, servers and the store; running work is cancelled. Calling it again does nothing."""
        with self._idle:
            if self.closed:
                return
            self.closed = True
            # A run in another thread is let finish: its outcome belongs into the store.
            mine = threading.get_ident()
            self._idle.wait_for(lambda: not [t for t in self._users if t != mine], timeout=_PATIENCE)
        forget(self)
        with contextlib.ExitStack() as stack:
            # Last in, first out; each is closed even where another one raises.
            stack.callback(self.store.close)
            stack.callback(self._executor.shutdown, wait=False, cancel_futures=True)
            stack.callback(self._loop.close)
            stack.callback(self.pools.close)
            for closer in self._closers:
                stack.callback(closer)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Lab:
        return self

    def __repr__(self) -> str:
        return f"Lab({str(self.store.path)!r}{', closed' if self.closed else ''})"


def _embedder(model: str | Path) -> Any:
    """Load an embedding model for the metric ``similarity``; a function of the module, so that metrics travel to workers."""
    from dspex_lab.lms import sentence_embedder

    return sentence_embedder(model)


wire(judge=LMJudge(), embedder=_embedder)
use_transport(DirectCalls())

_current: Lab | None = None
_current_pid = 0
_current_lock = threading.Lock()


def _absolute(path: str | Path) -> str:
    return str(path) if str(path) == ":memory:" else str(Path(path).resolve())


def lab(path: str | Path | None = None) -> Lab:
    """Return the kernel's Lab, made on first use.

    Args:
        path: the store's file; where the kernel's Lab has another one, it is closed and a new one is made.

    Raises:
        StoreError: the store cannot be opened.
    """
    global _current, _current_pid
    with _current_lock:
        wanted = None if path is None else _absolute(path)
        if _current is not None and _current_pid == os.getpid() and not _current.closed:
            if wanted is None or wanted == _absolute(_current.store.path):
                return _current
            _current.close()
        _current, _current_pid = Lab(path), os.getpid()
        return _current


current_runner.append(lab)
