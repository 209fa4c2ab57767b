"""Maps: what is to run over which rows is made sure of first, then it runs, and goes on where an earlier one stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from dspex_lab._options import RunOptions
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import type_name
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._runner import Runner
from dspex_lab.pipelines.maps._compose import compose, declared_types
from dspex_lab.pipelines.maps._driver import Before, MapRun
from dspex_lab.pipelines.maps._feed import Feed
from dspex_lab.pipelines.maps._files import SUFFIXES
from dspex_lab.pipelines.maps._frames import FILE_COLUMNS, check_columns, join_rows, no_rows, read_rows
from dspex_lab.pipelines.maps._gate import Keep
from dspex_lab.pipelines.maps._journal import Journal, differences, out_file, refused
from dspex_lab.pipelines.maps._keeps import InFile, InStore, Records, spooled
from dspex_lab.pipelines.maps._outcome import RETRIED, Outcome, letter
from dspex_lab.pipelines.maps._plan import MapOptions, MapPlan
from dspex_lab.pipelines.maps._restore import Restorer
from dspex_lab.pipelines.maps._result import MapResult
from dspex_lab.pipelines.maps._sources import FrameSource, ParquetSource, Source, inputs_from, open_source

log = logging.getLogger("dspex_lab")

_QUERY = re.compile(r"\s*(?:--[^\n]*\n\s*)*(?:SELECT|WITH|FROM)\b", re.IGNORECASE)
#: Seconds to wait for rows that still run in threads since their map was interrupted.
_PATIENCE = 10.0


def is_query(data: Any) -> bool:
    """Say whether ``data`` is the text of a query, and not the path of a file."""
    return isinstance(data, str) and _QUERY.match(data) is not None and Path(data).suffix.lower() not in SUFFIXES


class Maps:
    """Plans and runs maps in one Lab.

    Args:
        runner: runs rows.
        wait: runs a coroutine on the Lab's loop and waits for it.
        records: the Lab's store.

    Attributes:
        last: how the last map ended, also one that was interrupted; None before the first.
    """

    def __init__(self, runner: Runner, wait: Callable[[Coroutine[Any, Any, Any]], Any], records: Records) -> None:
        self._runner, self._wait, self._records = runner, wait, records
        self._left: dict[str, set[Future[Any]]] = {}
        self.last: MapResult | None = None

    def plan(self, pipeline: Pipeline, modules: Mapping[str, Any], data: Any, how: MapOptions, options: RunOptions) -> MapPlan:
        """Make sure that ``pipeline`` can run over ``data`` as asked, and find out what is left to run.

        Raises:
            PipelineError, ConfigurationError, StoreError: what is wrong; nothing was run.
        """
        how.check()
        to_frame = how.out is None
        return (self._in_store if to_frame else self._in_file)(pipeline, modules, data, how, options)

    # --- into a DataFrame ---------------------------------------------------------------------------------------------

    def _in_store(
        self, pipeline: Pipeline, modules: Mapping[str, Any], data: Any, how: MapOptions, options: RunOptions
    ) -> MapPlan:
        frame = self._records.query(data) if is_query(data) else read_rows(data, text=text_inputs(pipeline))
        source = FrameSource(frame, only=check_columns(pipeline, frame))
        said: dict[str, Any] = {"pipeline": known_by(pipeline), "data": source.identity, "total": source.total}
        before, restored = self._continued(pipeline, said, how) if how.resume else (None, {})
        keep = InStore(self._records, restored)
        run = self._map_run(pipeline, modules, source, keep, how, options, said, before)

        def end() -> Any:
            self.last = self._result(run, keep, source.total)
            return join_rows(frame, pipeline, keep.outcomes)

        return MapPlan(pipeline, run, source.total, len(restored), self._carry_out, end)

    def _continued(self, pipeline: Pipeline, said: dict[str, Any], how: MapOptions) -> tuple[Before, dict[int, Outcome]]:
        """Return the map that is to go on, and the outcomes of its rows that count; its end is taken back.

        A resumed map keeps its run id, and its rows their parent. Its record, which says that it was interrupted, goes, and
        comes again when it ends; so do the records of its cancelled rows, and of those that are tried again.
        """
        run_id = how.resume if isinstance(how.resume, str) else self._last(pipeline, how.retry_failed)
        self._await_threads(run_id)
        found = self._records.recorded_map(run_id)
        self._same(pipeline, found, said)
        restorer = Restorer(pipeline.outputs)
        outcomes: dict[int, Outcome] = {}
        without = list(found.doubled)
        for index, row in found.rows.items():
            mark = letter(row.status, row.outputs, len(pipeline.outputs))
            if row.status not in ("complete", "partial", "failed") or (how.retry_failed and mark in RETRIED):
                without.append(row.run_id)
            else:
                outcomes[index] = Outcome(index, row.status, restorer.outputs(row.outputs), row.error, row.run_id)
        self._records.reopen_map(run_id, without)
        log.warning("continuing the map %s: %s of %s rows are done", run_id, f"{len(outcomes):,}", f"{said['total']:,}")
        if (lost := restorer.said()) is not None:
            log.warning("%s", lost)
        said["continued"] = len(outcomes)
        spent = (found.prompt_tokens, found.completion_tokens, found.cost)
        return Before(run_id, found.started, found.seconds, *spent), outcomes

    def _last(self, pipeline: Pipeline, retry: bool) -> str:
        statuses = ("interrupted", "cancelled", *(("partial", "failed") if retry else ()))
        found = self._records.last_map(pipeline.name, statuses)
        if found is None:
            raise PipelineError(
                f"No map of {pipeline.name!r} was interrupted in this store.",
                hint="lab.sql(\"SELECT run_id, name, status FROM runs WHERE kind = 'map'\") lists the maps; resume=RUN_ID.",
            )
        return found

    def _await_threads(self, run_id: str) -> None:
        """Wait for the rows of an interrupted map that could not be stopped: they have their outcome when they end."""
        left = wait(list(self._left.pop(run_id, ())), timeout=_PATIENCE).not_done
        if left:
            self._left[run_id] = set(left)
            raise PipelineError(
                f"{len(left)} rows of the map {run_id} still run in threads, which cannot be stopped.",
                hint="Wait until they have ended, then resume it.",
            )

    def _same(self, pipeline: Pipeline, found: Any, said: dict[str, Any]) -> None:
        if (out := found.told.get("out")) is not None:
            raise PipelineError(f"The map {found.run_id} wrote {out}.", hint=f"Go on with the same data and out={out!r}.")
        differs = [] if found.name == pipeline.name else [f"its pipeline was {found.name!r}"]
        for what in ("pipeline", "data"):
            if what in found.told:
                differs += differences(what, found.told[what], said[what])
        if differs:
            raise PipelineError(
                f"The map {found.run_id} is another one: {'; '.join(differs)}.",
                hint="Resume it with the pipeline and the data it began with, or leave resume= out.",
            )

    # --- into a file --------------------------------------------------------------------------------------------------

    def _in_file(
        self, pipeline: Pipeline, modules: Mapping[str, Any], data: Any, how: MapOptions, options: RunOptions
    ) -> MapPlan:
        out = out_file(how.out or "")
        if isinstance(data, str | Path) and not is_query(data) and os.path.exists(data) and _one_file(out, Path(data)):
            raise PipelineError(f"out={str(how.out)!r} is the file of the data itself.", hint="Name another file.")
        with contextlib.ExitStack() as stack:
            # Whether the data is there is told before anything is made beside the file.
            source = None if is_query(data) else open_source(data, text=text_inputs(pipeline))
            if source is not None:
                _check(pipeline, source)
            journal = Journal(out, len(pipeline.outputs))
            stack.callback(journal.close)
            identity = {"kind": "query", "text": data.strip()} if source is None else source.identity
            total = None if source is None else source.total
            journal.begin(known_by(pipeline), identity, total, how.overwrite)
            plan = self._file_plan(pipeline, modules, data, how, options, journal, source)
            plan.closers.append(journal)
            stack.pop_all()
            return plan

    def _file_plan(
        self,
        pipeline: Pipeline,
        modules: Mapping[str, Any],
        data: Any,
        how: MapOptions,
        options: RunOptions,
        journal: Journal,
        source: Source | None,
    ) -> MapPlan:
        again = journal.again() if how.retry_failed else 0
        keep = InFile(journal, pipeline, how.retry_failed)
        if journal.ended and not again:
            log.warning("%s", _nothing_left(journal, how.retry_failed))
            rows = sum(journal.counts().values())
            return MapPlan(pipeline, None, rows, rows, self._carry_out, lambda: self._finished(pipeline, journal, None))
        if journal.ended and journal.altered():
            raise PipelineError(
                f"{journal.out} was changed since its map wrote it, and would be replaced.",
                hint="Move it away or restore it; overwrite=True begins anew.",
            )
        source = source or self._spooled(journal, data)
        _check(pipeline, source)
        done = len(journal.ledger) - again
        if done:
            of = "" if source.total is None else f" of {source.total:,}"
            log.warning("continuing: %s%s rows are done (%s)", f"{done:,}", of, journal.out)
        said: dict[str, Any] = {"total": source.total, "out": str(journal.out), "continued": done or None}
        run = self._map_run(pipeline, modules, source, keep, how, options, said, None)

        def end() -> Any:
            return self._finished(pipeline, journal, (run, keep, source))

        return MapPlan(pipeline, run, source.total, done, self._carry_out, end)

    def _spooled(self, journal: Journal, query: str) -> Source:
        if not journal.spool.exists():
            with self._records.stream(query) as batches:
                spooled(journal, batches, batches.schema)
        return ParquetSource(journal.spool)

    def _finished(self, pipeline: Pipeline, journal: Journal, ran: tuple[MapRun, InFile, Source] | None) -> MapResult:
        """Write the file, where rows were run, and return how it stands."""
        if ran is None:
            self.last = MapResult(
                pipeline.name,
                journal.state,
                journal.counts(),
                journal.out,
                total=sum(journal.counts().values()),
                text=_texts(pipeline),
            )
            return self.last
        run, keep, source = ran
        types = {**source.types, **declared_types({n: f.type for n, f in pipeline.outputs.items()})}
        journal.finish(run.status, compose(journal, keep.tail, types))
        self.last = self._result(run, keep, run.feed.read, journal, _failed_hint(journal))
        return self.last

    # --- both ---------------------------------------------------------------------------------------------------------

    def _map_run(
        self,
        pipeline: Pipeline,
        modules: Mapping[str, Any],
        source: Source,
        keep: Keep,
        how: MapOptions,
        options: RunOptions,
        said: dict[str, Any],
        before: Before | None,
    ) -> MapRun:
        feed = Feed(source.chunks(), inputs_from(pipeline), keep.done)
        width = how.concurrency if source.total is None else max(min(how.concurrency, source.total), 1)
        return MapRun(self._runner, pipeline, modules, options, width, feed, keep, int, said, before)

    def _carry_out(self, plan: MapPlan, run: MapRun, progress: bool | None) -> None:
        from tqdm import tqdm

        keep: Any = run.keep
        run.said["rows"] = plan.left
        journal = keep.journal if isinstance(keep, InFile) else None
        if journal is not None:
            journal.save(state="running")
        shown = sys.stderr.isatty() if progress is None else progress
        bar = tqdm(total=plan.total, initial=plan.done, unit="row", desc=plan.pipeline.name, disable=not shown)
        with bar:
            run.told = bar.update
            try:
                self._wait(run.run())
            except BaseException as error:
                self._stopped(plan, run, journal, error)
                if journal is not None and isinstance(error, OSError):
                    raise refused(journal.out, error, kept=len(journal.ledger)) from error
                raise
        if run.feed.problem is not None:
            problem = run.feed.problem
            if journal is not None:
                problem.hint = f"{problem.hint or ''} {self._stopped(plan, run, journal, problem)}".strip()
            raise problem

    def _stopped(self, plan: MapPlan, run: MapRun, journal: Journal | None, error: BaseException) -> str:
        """Note how far a map came that did not come to its end, and return how to go on."""
        broke = run.feed.problem is not None
        if run.left:
            self._left[run.run_id] = run.left
        if journal is not None:
            hint = f"The outcomes of {len(journal.ledger):,} rows are kept; call again with the same out= to go on."
            with contextlib.suppress(PipelineError, OSError):
                journal.save(state="broken" if broke else "cancelled")
        else:
            hint = f"The rows that ended are in the store; go on with resume={run.run_id!r}."
        self.last = self._result(run, run.keep, plan.total, journal, hint)
        if not isinstance(error, PipelineError | OSError):  # these are raised and say it themselves
            log.warning("the map of %r did not end: %s. %s", plan.pipeline.name, type(error).__name__, hint)
        return hint

    def _result(self, run: MapRun, keep: Any, total: int | None, journal: Journal | None = None, hint: str = "") -> MapResult:
        status = run.status
        return MapResult(
            run.pipeline.name,
            status,
            {s: keep.counts()[s] for s in ("complete", "partial", "failed")},
            journal.out if journal is not None else None,
            run.run_id,
            run.seconds,
            run.rows,
            total,
            hint,
            _texts(run.pipeline),
        )


def text_inputs(pipeline: Pipeline) -> list[str]:
    """Return the inputs that are text, so that a file's columns of these names are read as such."""
    return [n for n, f in pipeline.inputs.items() if f.type is str]


def known_by(pipeline: Pipeline) -> dict[str, Any]:
    """Return what the same pipeline is known by: its fields and the names of its steps, not their code."""
    return {
        "kind": "pipeline",
        "name": pipeline.name,
        "inputs": [f"{n}: {type_name(f.type)}" for n, f in pipeline.inputs.items()],
        "outputs": [f"{n}: {type_name(f.type)}" for n, f in pipeline.outputs.items()],
        "steps": list(pipeline.steps),
    }


def _check(pipeline: Pipeline, source: Source) -> None:
    columns = source.columns
    if source.total == 0 or (not columns and source.total is None):
        raise no_rows()
    check_columns(pipeline, columns, FILE_COLUMNS)


def _texts(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the columns of a CSV file that hold text."""
    fields = {**pipeline.inputs, **pipeline.outputs}
    return (*(n for n, f in fields.items() if f.type is str), "status", "error", "run_id")


def _one_file(a: Path, b: Path) -> bool:
    return (a.exists() and a.samefile(b)) or a == Path(b).expanduser().absolute()


def _nothing_left(journal: Journal, retry: bool) -> str:
    counts = journal.counts()
    failed = int(journal.manifest.get("again", 0))
    again = "" if retry or not failed else f"; {failed:,} failed or lack an output: retry_failed=True runs them again"
    return f"all {sum(counts.values()):,} rows are done ({journal.out}){again}"


def _failed_hint(journal: Journal) -> str:
    again = journal.again()
    return f"{again:,} rows failed or lack an output: the same call with retry_failed=True runs them again." if again else ""
