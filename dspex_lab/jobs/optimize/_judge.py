"""The metric as optimizers are given it: what it raises is counted and said, never silent."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.errors import JobError
from dspex_lab.jobs._scoring import budget_in, score_of

#: Arguments that GEPA gives: example, prediction, trace, the predictor's name and its part of the trace.
_MOST = 5


class Judge:
    """A user's metric in the form that every optimizer of DSPy takes.

    It takes two to five arguments, whatever the metric takes; the metric may be async, return a bool, a number, or something
    with ``score`` and ``feedback`` (``dspy.Prediction``, a dict). A row on which it raises, or gives what is no finite number,
    scores 0 and is counted. Asked by GEPA for a predictor (``pred_name``) it gives ``dspy.Prediction(score=…, feedback=…)``;
    where the metric says nothing in words, the feedback is what was expected and what came. That is of an answer that has its
    score already, and is not counted again.

    It can be pickled; the copy counts for itself. Thread-safe.

    Args:
        metric: the user's.
        told: called after each scoring with the score, the example, and whether it failed.
    """

    def __init__(
        self, metric: Callable[..., Any], told: Callable[[float, Any, bool], None] | None = None, failure: float = 0.0
    ) -> None:
        self.metric, self.failure = metric, failure
        self._takes = _arity(metric)
        self._more = _named(metric)
        self._told = told
        self._lock = threading.Lock()
        #: Scorings in all, those that failed, and the first error.
        self.scored = self.failed = 0
        self.first: str | None = None

    @property
    def __name__(self) -> str:
        return str(getattr(self.metric, "__name__", type(self.metric).__name__))

    def __call__(
        self, gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None, **more: Any
    ) -> Any:
        """Return the score.

        Raises:
            BudgetExceeded: a call of a model by the metric was refused.
        """
        given = (gold, pred, trace, pred_name, pred_trace)[: self._takes]
        if trace is None and pred_name is None:
            given = given[:2]
        try:
            if pred is None:
                raise JobError("The program gave nothing.")
            value = self.metric(*given, **{name: v for name, v in more.items() if name in self._more})
            if inspect.isawaitable(value):
                value = asyncio.run(_awaited(value))
            score, feedback = score_of(value)
        except Exception as error:
            if refused := budget_in(error):
                raise refused from error
            wrong: Exception | None = error
            score, feedback = self.failure, f"The metric failed: {_said(error)}"
        else:
            wrong = None
        if pred_name is None:
            self._tell(score, gold, wrong)
            return score
        import dspy

        return dspy.Prediction(score=score, feedback=feedback or _feedback(gold, pred, score))

    def _tell(self, score: float, example: Any, wrong: Exception | None) -> None:
        with self._lock:
            self.scored += 1
            if wrong is not None:
                self.failed += 1
                self.first = self.first or _said(wrong)
        if self._told is not None:
            self._told(score, example, wrong is not None)

    def __getstate__(self) -> dict[str, Any]:
        return {"metric": self.metric, "failure": self.failure}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> Judge:
        # Optimizers copy what they hold; there is one account.
        return self


def _arity(metric: Callable[..., Any]) -> int:
    """Return how many arguments a metric takes in order, 2 to 5."""
    try:
        parameters = inspect.signature(metric).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return 2
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return _MOST
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return max(2, min(count, _MOST))


def _named(metric: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(metric).parameters)
    except (TypeError, ValueError):
        return frozenset()


async def _awaited(value: Any) -> Any:
    return await value


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"


def _feedback(gold: Any, pred: Any, score: float) -> str:
    """Say what was expected and what came, field by field."""
    inputs = getattr(gold, "_input_keys", None) or ()
    wanted = gold.toDict() if hasattr(gold, "toDict") else dict(gold) if isinstance(gold, Mapping) else {}
    said = [f"This got a score of {score:g}."]
    for name, value in wanted.items():
        came = pred.get(name) if hasattr(pred, "get") else getattr(pred, name, None)
        if name in inputs or came is None or str(name).startswith("dspy_"):
            continue
        right = str(came).strip() == str(value).strip()
        said.append(f"{name} is right: {value!r}." if right else f"{name} should be {value!r}, and was {came!r}.")
    return " ".join(said)
