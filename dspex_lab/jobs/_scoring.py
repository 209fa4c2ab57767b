"""One row of an evaluation: the program's answer, its score, what it took, or why there is none."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from dspex_lab.errors import BudgetExceeded, JobError, PipelineError
from dspex_lab.events import LMCall, Record
from dspex_lab.lms import CONTEXT_KEY, Recorder, current_recorder


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """What came of one row.

    Args:
        index: counts from 0.
        status: ``"complete"``, or ``"failed"``: then ``error`` says why, and there is no score.
        prediction: the fields that the program gave, or what it returned.
        score: what the metric gave; higher is better.
        feedback: what the metric said of it, where it says something.
        where: what failed: ``"program"``, ``"metric"`` or ``"worker"``.
        traceback: of the error.
        seconds: of program and metric.
        cost: US dollars of its calls of models; None where a price is not known. ``calls`` counts those really made.
    """

    index: int
    status: str
    prediction: Any = None
    score: float | None = None
    feedback: str | None = None
    error: str | None = None
    where: str | None = None
    traceback: str | None = None
    seconds: float = 0.0
    cost: float | None = 0.0
    calls: int = 0


class Scorer:
    """Runs a program on rows and scores its answers. Thread-safe; each thread that uses it has an event loop of its own for
    what is async, until :meth:`close`."""

    def __init__(self, program: Any, metric: Callable[..., Any]) -> None:
        self._program, self._metric = program, metric
        self._local = threading.local()

    def row(self, index: int, example: Any, inputs: Mapping[str, Any]) -> ScoredRow:
        """Return what comes of one row.

        Raises:
            BudgetExceeded: a call was refused; nothing came of it.
        """
        began, bill = time.perf_counter(), _Bill()
        made, where, prediction = ScoredRow(index, "failed"), "program", None
        try:
            with bill.open():
                prediction = self._finished(_called(self._program, inputs))
                where = "metric"
                score, feedback = score_of(self._finished(self._metric(example, prediction)))
            made = ScoredRow(index, "complete", plain(prediction), score, feedback)
        except Exception as error:
            if refused := budget_in(error):
                raise refused from error
            said = "".join(traceback.format_exception(error)[-12:])
            made = ScoredRow(index, "failed", plain(prediction), error=_said(error), where=where, traceback=said)
        return replace(made, seconds=time.perf_counter() - began, cost=bill.cost, calls=bill.calls)

    def close(self) -> None:
        """End this thread's event loop."""
        runner = getattr(self._local, "runner", None)
        if runner is not None:
            runner.close()

    def _finished(self, value: Any) -> Any:
        if not inspect.isawaitable(value):
            return value
        if not hasattr(self._local, "runner"):
            self._local.runner = asyncio.Runner()
        return self._local.runner.run(_awaited(value))


def score_of(value: Any) -> tuple[float, str | None]:
    """Return the score and feedback that a metric's value says: a number, a bool, or something with ``score`` (and
    ``feedback``), as GEPA's metrics give.

    Raises:
        JobError: it is no finite number. A score that is not there is never taken for 0.
    """
    feedback = None
    if isinstance(value, Mapping) and "score" in value:
        value, feedback = value["score"], value.get("feedback")
    elif hasattr(value, "score") and not isinstance(value, int | float):
        value, feedback = value.score, getattr(value, "feedback", None)
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if not isinstance(value, bool | int | float):
        raise JobError(f"The metric gave {_short(value)}, which is no score.", hint="It must return a number.")
    if not math.isfinite(value):
        raise JobError(f"The metric gave {value}, which is no score.", hint="Raise an error, or return a number, instead.")
    return float(value), None if feedback is None else str(feedback)


def plain(prediction: Any) -> Any:
    """Return a prediction as a dict of its fields; anything else as it is."""
    to_dict = getattr(prediction, "toDict", None)
    return to_dict() if callable(to_dict) else prediction


def budget_in(error: BaseException | None) -> BudgetExceeded | None:
    """Return the refusal of a budget that an error came of, None where it did not."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BudgetExceeded):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


class _Bill:
    """What the calls of models of one row cost; they are told on to who records the job's."""

    def __init__(self) -> None:
        self.cost: float | None = 0.0
        self.calls = 0

    def open(self) -> AbstractContextManager[Any]:
        """Return the context in which the row's calls are counted."""
        outer = current_recorder()
        if outer is None:
            return nullcontext()
        import dspy

        def emit(record: Record) -> None:
            if isinstance(record, LMCall) and not record.cache_hit:
                self.calls += 1
                known = record.cost is not None and self.cost is not None
                self.cost = (self.cost or 0.0) + (record.cost or 0.0) if known else None
            outer.emit(record)

        recorder = Recorder(emit, outer.run_id, outer.span_id, outer.step, outer.terms, outer.lm, outer.context, outer.once)
        return dspy.context(**{CONTEXT_KEY: recorder, "trace": []})


def _called(program: Any, inputs: Mapping[str, Any]) -> Any:
    """Call a program; a DSPy module that is only async by what it has for that."""
    if _has(program, "aforward") and not _has(program, "forward"):
        return program.acall(**inputs)
    return program(**inputs)


def _has(program: Any, name: str) -> bool:
    # DSPy warns where somebody reads a module's forward.
    return inspect.getattr_static(program, name, None) is not None


async def _awaited(value: Any) -> Any:
    return await value


def _said(error: BaseException) -> str:
    if isinstance(error, JobError):
        return str(error)  # this module's own words
    if isinstance(error, PipelineError) and error.outcomes and error.step and error.__cause__:
        # Without the id of the row's run: by that no two rows would have failed by the same error.
        said = f"{type(error.__cause__).__name__}: {error.__cause__}"
        return said if repr(error.step) in said else f"step {error.step!r} failed: {said}"
    return f"{type(error).__name__}: {error}"


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"
