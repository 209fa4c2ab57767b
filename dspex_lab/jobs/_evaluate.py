"""A program on many rows, with a metric, in the background.

``dspy.Evaluate`` is not used for the loop: it hands stragglers in a second time after 120 seconds and cannot be told not to,
prints while it goes, takes a row whose metric raised for a 0 (and ends everything at ``max_errors``), keeps nothing of what was
done when it is stopped, and runs in one process.
"""

from __future__ import annotations

import json
import math
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError, JobError, OutOfMemory, PoisonTask, WorkerKilled
from dspex_lab.jobs._datasets import check_fields
from dspex_lab.jobs._evaluation import Evaluation
from dspex_lab.jobs._fields import inputs_of, named_by
from dspex_lab.jobs._pieces import Begun, Item, evaluate_rows
from dspex_lab.jobs._reading import declared_inputs, rows_of
from dspex_lab.jobs._scoring import ScoredRow
from dspex_lab.jobs._splits import fingerprint
from dspex_lab.jobs._work import Found, Plan, Reporter, Work
from dspex_lab.lms import Budget

#: Rows that one piece has at most: what is handed out at once, and begun again where a worker dies.
LARGEST = 64
#: Times that a row may be under way when its worker dies, the second time alone there; then it has failed.
DEATHS = 2
#: Tokens of an answer, for the estimate.
_ANSWER = 200


@dataclass(frozen=True)
class Evaluate(Work):
    """The evaluation of a program; :func:`evaluate` makes it.

    Args:
        program: a DSPy module, or a function of the inputs; sync or async.
        rows: the data.
        inputs: the fields that the program is given.
        metric: ``metric(example, prediction)``: a number (higher is better), a bool, or something with ``score`` and
            ``feedback``; sync or async.
        concurrency: rows under way at once.
    """

    program: Any
    rows: Sequence[Mapping[str, Any]]
    inputs: tuple[str, ...]
    metric: Callable[..., Any]
    concurrency: int = 16
    kind: str = "evaluate"
    spread: bool = True
    continues: bool = True

    def check(self, budget: Budget) -> Plan:
        """Return what it expects to take.

        Raises:
            ConfigurationError: there are no rows, or one lacks a field that the program or the metric asks for.
        """
        if not self.rows:
            raise ConfigurationError("There are no rows to evaluate.", key="data", expected="one row or more", actual=0)
        check_fields(self.rows, self.inputs)
        check_fields(self.rows, named_by(self.metric, self.rows))
        predictors = getattr(self.program, "predictors", None)
        each = len(predictors()) if callable(predictors) else 0
        calls = each * len(self.rows)
        return Plan(len(self.rows), calls, self._prompt_tokens(each), calls * _ANSWER)

    def run(self, reporter: Reporter) -> Evaluation:
        """Evaluate what is not done yet.

        Raises:
            JobError: not one row has a score.
        """
        course = _Course(self, reporter)
        course.go()
        found = self._evaluation(course.done)
        if found.score is None and not found.left_out:
            raise JobError(
                f"All {len(self.rows):,} rows failed. {found.note}", hint="job.partial has every row with its error."
            )
        if found.score is not None:
            reporter.trial(found.score, number=0, rows=len(found.scores), cost=found.cost, note=found.note or None)
        reporter.progress(len(course.done), len(self.rows), found.note)
        return found

    def partial(self, found: Found) -> Evaluation | None:
        """Return the rows that were done."""
        return self._evaluation(found.state) if found.state else None

    def _evaluation(self, done: Mapping[int, ScoredRow]) -> Evaluation:
        rows = [done[at] for at in sorted(done)]
        given = {row.index: {name: self.rows[row.index].get(name) for name in self.inputs} for row in rows}
        pipeline = getattr(getattr(self.program, "pipeline", None), "name", None)
        name = str(pipeline or getattr(self.program, "__name__", type(self.program).__name__))
        return Evaluation(rows, given, len(self.rows), _keys(self.rows), name)

    def _prompt_tokens(self, predictors: int) -> int:
        """Return about how many tokens are asked: a token for four letters of rows, instructions and demonstrations."""
        letters = sum(len(str(row[name])) for row in self.rows for name in self.inputs) * predictors
        state = getattr(self.program, "dump_state", None)
        around = len(json.dumps(state(), default=str)) if predictors and callable(state) else 0
        return (letters + around * len(self.rows)) // 4


class _Course:
    """One run of an evaluation: pieces are handed out, and what workers left behind when they died is handed out again."""

    def __init__(self, work: Evaluate, reporter: Reporter) -> None:
        self._work, self._reporter = work, reporter
        self.done: dict[int, ScoredRow] = dict(reporter.state or {})
        self._todo = deque(at for at in range(len(work.rows)) if at not in self.done)
        self._again: deque[list[int]] = deque()
        self._deaths: Counter[int] = Counter()
        self._under_way: dict[Future[Any], tuple[list[int], set[int]]] = {}
        self._at_once = max(1, min(reporter.workers, work.concurrency, len(work.rows)))
        self._threads = max(1, math.ceil(work.concurrency / self._at_once))
        self._size = max(self._threads, min(LARGEST, math.ceil(len(self._todo) / (self._at_once * 4))))
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._examples = _examples(work)
        self._lock = threading.Lock()
        scores = [row.score for row in self.done.values() if row.score is not None]
        self._sum, self._scored = math.fsum(scores), len(scores)

    def go(self) -> None:
        """Go through all rows, until none is left or the job is to stop."""
        # While it is written down, rows come in: a copy is taken of what is there.
        self._reporter.keep(lambda: dict(self.done))
        self._tell()
        while True:
            while len(self._under_way) < self._at_once and (self._todo or self._again) and not self._reporter.stopping:
                self._next()
            if not self._under_way:
                return
            self._close(self._ended.get())

    def _next(self) -> None:
        """Hand out a piece."""
        if self._again:
            chosen = self._again.popleft()
        else:
            chosen = [self._todo.popleft() for _ in range(min(self._size, len(self._todo)))]
        begun: set[int] = set()

        def told(value: Any) -> None:
            if isinstance(value, Begun):
                begun.add(value.at)
            elif isinstance(value, ScoredRow):
                begun.discard(value.index)
                self._came(value)

        items = [Item(at, self._examples[at], self._given(at)) for at in chosen]
        work = self._work
        piece = self._reporter.submit(
            evaluate_rows,
            work.program,
            work.metric,
            items,
            self._threads,
            told=told,
            label=f"evaluate rows {chosen[0]}–{chosen[-1]}",
        )
        self._under_way[piece] = (chosen, begun)
        piece.add_done_callback(self._ended.put)

    def _close(self, piece: Future[Any]) -> None:
        chosen, begun = self._under_way.pop(piece)
        error = piece.exception()
        if error is None:
            if piece.result() is not None:
                # Its share of the budget is spent: what is left of it goes to one piece at a time.
                self._at_once = 1
                self._todo.extendleft(at for at in reversed(chosen) if at not in self.done)
            return
        if not isinstance(error, WorkerKilled | OutOfMemory | PoisonTask):
            raise error
        self._sort_out([at for at in chosen if at not in self.done], begun, error)

    def _sort_out(self, left: list[int], begun: set[int], error: BaseException) -> None:
        """Hand out anew what a dead worker left, such that the row which kills, if one does, comes to be alone.

        Rows that are known to have been under way go alone. What a worker told last dies with it, so the others may hold the
        culprit too: where none is known, they go in halves.
        """
        suspects = [at for at in left if at in begun] or (left if len(left) == 1 else [])
        for at in suspects:
            self._deaths[at] += 1
        if len(left) == 1 and self._deaths[left[0]] >= DEATHS:
            self._came(ScoredRow(left[0], "failed", error=f"{type(error).__name__}: {error}", where="worker"))
            return
        # Where it is not known what was under way, as much is counted as can have been.
        self._reporter.again(len(suspects) or min(self._threads, len(left)))
        others = [at for at in left if at not in suspects]
        half = len(others) if suspects else (len(others) + 1) // 2
        self._again.extend([at] for at in suspects)
        self._again.extend(part for part in (others[:half], others[half:]) if part)

    def _given(self, at: int) -> dict[str, Any]:
        return {name: self._work.rows[at][name] for name in self._work.inputs}

    def _came(self, row: ScoredRow) -> None:
        with self._lock:
            self.done[row.index] = row
            if row.score is not None:
                self._sum, self._scored = self._sum + row.score, self._scored + 1
            self._tell()

    def _tell(self) -> None:
        mean = self._sum / self._scored if self._scored else None
        self._reporter.progress(len(self.done), len(self._work.rows), score=mean)


def evaluate(
    program: Any,
    data: Any,
    metric: Callable[..., Any],
    *,
    inputs: Sequence[str] | None = None,
    concurrency: int = 16,
) -> Evaluate:
    """Return the work that evaluates a program; ``jobs.start`` starts it.

    Args:
        data: a DataFrame, a list of dicts, ``dspy.Examples``, a :class:`~dspex_lab.jobs.Dataset`, or the path of a Parquet, CSV
            or JSONL file.
        inputs: the fields that the program is given; by default what the examples or the data set say, or else what the
            program's signatures or parameters ask for and do not make themselves.

    Raises:
        ConfigurationError: the data cannot be read, the metric cannot be called, or nobody says what the inputs are.
    """
    if not callable(metric):
        raise ConfigurationError(
            f"The metric is {metric!r}.", key="metric", expected="a function of example and prediction", actual=metric
        )
    if not callable(program):
        raise ConfigurationError(
            f"The program is a {type(program).__name__}.", key="program", expected="a DSPy module or a function"
        )
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigurationError(
            f"concurrency={concurrency!r}.", key="concurrency", expected="a whole number, 1 or more", actual=concurrency
        )
    rows = rows_of(data)
    said = inputs if inputs is not None else getattr(data, "inputs", None) or declared_inputs(data)
    return Evaluate(program, tuple(rows), tuple(said) if said is not None else inputs_of(program, rows), metric, concurrency)


def _keys(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return what tells the rows; nothing, where one holds what cannot be compared: then only their numbers tell them."""
    try:
        return tuple(fingerprint(row) for row in rows)
    except ConfigurationError:
        return ()


def _examples(work: Evaluate) -> list[Any]:
    import dspy

    return [dspy.Example(**row).with_inputs(*work.inputs) for row in work.rows]
