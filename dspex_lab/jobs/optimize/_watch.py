"""Looks on while an optimizer works: each evaluation becomes a trial, and where it is to stop, it is stopped."""

from __future__ import annotations

import copy
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils import callback_context
from dspy.utils.callback import BaseCallback

from dspex_lab.jobs.optimize._meter import Bill, Meter


class Halt(BaseException):
    """Ends an optimizer from within: no ``except Exception`` of it, or of DSPy's threads, takes this for a row that failed.

    Args:
        error: why, where it is a failure; None where the job was to stop.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(str(error or "to stop"))
        self.error = error


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a candidate that has come to its end.

    Args:
        program: the candidate; optimizers may go on changing it.
        examples: the rows.
        scores: theirs.
        failed: of how many there was none, because the program raised.
        tallied: nobody said that it was one: so many rows were scored in turn.
    """

    program: Any
    examples: Sequence[Any]
    scores: Sequence[float]
    failed: int
    seconds: float
    bill: Bill
    tallied: bool = False


@dataclass
class _Under:
    program: Any
    examples: Sequence[Any]
    began: float
    before: Bill


#: The key of ``dspy.context`` under which the watch of a job is.
KEY = "dspex_lab_job_watch"


class Watch(BaseCallback):
    """DSPy's callback for one run of an optimizer. Thread-safe.

    A callback in ``dspy.context`` is asked at every module, model and adapter, and costs 0.3 ms a call. So this one is told of
    evaluations by :class:`Evaluations` and hangs on their program while they last. Only where an optimizer does without
    ``dspy.Evaluate`` (``sizes``) it is to be in ``dspy.context(callbacks=…)``; it is never configured.

    Args:
        evaluated: takes each evaluation, in the optimizer's thread.
        stopping: says whether it is to stop; given True, as of this moment, else as of a moment ago.
        meter: what is spent.
        sizes: numbers of rows that make an evaluation where an optimizer calls program and metric itself.
    """

    def __init__(
        self, evaluated: Callable[[Evaluated], None], stopping: Callable[[bool], bool], meter: Meter, sizes: frozenset[int]
    ) -> None:
        super().__init__()
        self._evaluated, self._stopping, self._meter, self._sizes = evaluated, stopping, meter, sizes
        self._under: dict[str, _Under] = {}
        #: Calls within which a module that is called is the program, and not a part of it.
        self._roots: set[str | None] = {None, callback_context.ACTIVE_CALL_ID.get()}
        self._lock = threading.Lock()
        self._local = threading.local()
        self._tallies: weakref.WeakKeyDictionary[Any, _Tally] = weakref.WeakKeyDictionary()
        #: The first error of a program.
        self.first: str | None = None

    # ---- whole evaluations -------------------------------------------------------------------------------------------

    @property
    def evaluating(self) -> bool:
        """Whether an evaluation is under way."""
        return bool(self._under)

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """An optimizer, or one that it uses, begins."""
        self._roots.add(call_id)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """``dspy.Evaluate`` begins."""
        asked = inputs.get("devset")
        rows: Sequence[Any] = instance.devset if asked is None else asked
        self._roots.add(call_id)
        if not self._sizes:
            self._hang(inputs.get("program"))
        self._under[call_id] = _Under(inputs.get("program"), rows, time.monotonic(), self._meter.now)

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """``dspy.Evaluate`` ends.

        Raises:
            Halt: the job is to stop.
        """
        under = self._under.pop(call_id)
        if isinstance(exception, Halt):
            # DSPy leaves the rows that have not begun in the queue of its threads: each is refused when its turn comes.
            return
        self._roots.discard(call_id)
        if not self._sizes and under.program not in [each.program for each in self._under.values()]:
            self._take_off(under.program)
        if exception is not None or outputs is None:
            return
        scores = [number(score) for _, _, score in outputs.results]
        failed = sum(empty(prediction) for _, prediction, _ in outputs.results)
        stopping = self._stopping(True)
        # While it is stopped, rows fail because their calls are refused: that is no score of the candidate.
        if not (stopping and failed):
            spent = self._meter.now.since(under.before)
            seconds = time.monotonic() - under.began
            self._evaluated(Evaluated(under.program, under.examples, scores, failed, seconds, spent))
        if stopping:
            raise Halt

    # ---- calls of the program ----------------------------------------------------------------------------------------

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """The program is called.

        Raises:
            Halt: the job is to stop; a program is not begun any more.
        """
        if callback_context.ACTIVE_CALL_ID.get() not in self._roots:
            return
        if self._stopping(False):
            raise Halt
        self._local.root, self._local.call = weakref.ref(instance), call_id

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """It has answered."""
        if exception is not None and getattr(self._local, "call", None) == call_id and isinstance(exception, Exception):
            self.first = self.first or f"{type(exception).__name__}: {exception}"

    def scored(self, score: float, example: Any) -> None:
        """Note that the metric has scored the program that was called last in this thread: optimizers that do without
        ``dspy.Evaluate`` (SIMBA, and third parties') are followed by that."""
        if self._under or not self._sizes:
            return
        root = getattr(self._local, "root", None)
        program = None if root is None else root()
        if program is None:
            return
        with self._lock:
            tally = self._tallies.setdefault(program, _Tally(time.monotonic(), self._meter.now))
            tally.scores.append(score)
            tally.examples.append(example)
            if len(tally.scores) not in self._sizes:
                return
            made = Evaluated(
                program,
                list(tally.examples),
                list(tally.scores),
                0,
                time.monotonic() - tally.began,
                self._meter.now.since(tally.before),
                tallied=True,
            )
        self._evaluated(made)

    def released(self, program: Any) -> Any:
        """Return a program as it can be used when all is over: one whose evaluation was halted has the watch on it still."""
        if self not in getattr(program, "callbacks", ()):
            return program
        made = copy.copy(program)
        self._take_off(made)
        return made

    def _hang(self, program: Any) -> None:
        if isinstance(program, dspy.Module) and self not in program.callbacks:
            program.callbacks = [*program.callbacks, self]

    def _take_off(self, program: Any) -> None:
        if isinstance(program, dspy.Module):
            program.callbacks = [each for each in program.callbacks if each is not self]

    def __deepcopy__(self, memo: dict[int, Any]) -> Watch:
        return self  # DSPy copies its settings


class Evaluations(BaseCallback):
    """Hangs on ``dspy.Evaluate`` itself, and tells the watch of the job that an evaluation belongs to; of others it does
    nothing."""

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """``dspy.Evaluate`` begins."""
        if watch := dspy.settings.get(KEY):
            watch.on_evaluate_start(call_id, instance, inputs)

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """``dspy.Evaluate`` ends."""
        if watch := dspy.settings.get(KEY):
            watch.on_evaluate_end(call_id, outputs, exception)


def install() -> None:
    """Hang it there, once for a process."""
    known = list(getattr(dspy.Evaluate, "callbacks", ()))
    if not any(isinstance(each, Evaluations) for each in known):
        dspy.Evaluate.callbacks = [*known, Evaluations()]


@dataclass
class _Tally:
    began: float
    before: Bill
    scores: list[float] = field(default_factory=list)
    examples: list[Any] = field(default_factory=list)


def number(score: Any) -> float:
    """Return a score as a number."""
    return float(getattr(score, "score", score))


def empty(prediction: Any) -> bool:
    """Say whether it is what ``dspy.Evaluate`` puts where a program raised."""
    return isinstance(prediction, dspy.Prediction) and not prediction.keys()
