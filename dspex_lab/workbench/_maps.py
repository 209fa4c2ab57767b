"""The doors for running something on many rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dspex_lab._options import RunOptions
from dspex_lab.errors import ConfigurationError
from dspex_lab.pipelines import MapOptions, MapPlan, MapResult
from dspex_lab.workbench._finding import Finding
from dspex_lab.workbench._sessions import InSessions

if TYPE_CHECKING:
    import pandas as pd


class MapDoors(InSessions, Finding):
    """``map``, ``plan_map`` and ``last_map``."""

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
        chosen = self._in_session(options)
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
