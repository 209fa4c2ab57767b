"""How a map is to be carried out, and a map that was found fit to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dspex_lab.errors import ConfigurationError
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.maps._driver import MapRun


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How a map is to be carried out.

    Args:
        concurrency: rows under way at once.
        out: the file to write, or None for a DataFrame.
        resume: the run id of the map in the store to go on with, True for the pipeline's last one that was interrupted.
        retry_failed: run the rows again that failed or lack an output; their new outcome replaces the old one.
        overwrite: begin anew where ``out`` is there already.
    """

    concurrency: int = 16
    out: str | Path | None = None
    resume: str | bool | None = None
    retry_failed: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            ConfigurationError: which option.
        """
        if self.concurrency < 1:
            raise ConfigurationError(
                f"concurrency={self.concurrency} is not 1 or more.",
                key="concurrency",
                expected="≥ 1",
                actual=self.concurrency,
            )
        if self.out is not None and self.resume:
            raise ConfigurationError(
                "resume= is for maps without a file.", key="resume", hint="With the same out= a map goes on by itself."
            )
        if self.out is None and self.overwrite:
            raise ConfigurationError("overwrite= is for maps with out=.", key="overwrite", hint="Leave it out.")
        if self.out is None and self.retry_failed and not self.resume:
            raise ConfigurationError(
                "retry_failed= needs the map whose rows it is about.", key="retry_failed", hint="Add resume=RUN_ID, or out=."
            )


class _Closable(Protocol):
    def close(self) -> None: ...


class MapPlan:
    """A map that was found fit to run; run it once, then close it (or use it as a context manager).

    Args:
        run: the map, None where no row is left to run.
        carry_out: runs it.
        end: makes what a map gives back.

    Attributes:
        pipeline: what runs.
        total: how many rows there are, None where only reading them tells.
        done: how many of them have an outcome already.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        run: MapRun | None,
        total: int | None,
        done: int,
        carry_out: Callable[[MapPlan, MapRun, bool | None], None],
        end: Callable[[], Any],
    ) -> None:
        self.pipeline, self._run, self.total, self.done = pipeline, run, total, done
        self._carry_out, self._end = carry_out, end
        self.closers: list[_Closable] = []

    @property
    def left(self) -> int | None:
        """Return how many rows will run, None where that is not known."""
        return 0 if self._run is None else None if self.total is None else self.total - self.done

    def run(self, progress: bool | None = None) -> Any:
        """Run it and return what a map gives back; show a bar with rate and remaining time, by default in a terminal.

        Raises:
            PipelineError: the data broke off, or the outcomes cannot be written; the rows that ended are kept.
        """
        try:
            if self._run is not None:
                self._carry_out(self, self._run, progress)
            return self._end()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the files. May be repeated."""
        while self.closers:
            self.closers.pop().close()

    def __enter__(self) -> MapPlan:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
