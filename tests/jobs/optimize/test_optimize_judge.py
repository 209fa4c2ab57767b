"""The metric as optimizers are given it."""

from __future__ import annotations

import math
import pickle
from typing import Any

import dspy
import pytest

from dspex_lab.errors import BudgetExceeded
from dspex_lab.jobs.optimize._judge import Judge
from dspex_lab.native.metrics import metric as ours

GOLD = dspy.Example(message="m", code="K7", note="n").with_inputs("message")
PRED = dspy.Prediction(code="K7")


def two(example: Any, prediction: Any) -> bool:
    return bool(example.code == prediction.code)


def five(example: Any, prediction: Any, trace: Any, name: Any, part: Any) -> Any:
    return dspy.Prediction(score=0.5, feedback=f"{name} {len(part)}")


def test_it_gives_a_metric_what_it_takes() -> None:
    seen: list[Any] = []
    Judge(lambda *given: seen.append(len(given)) or 1)(GOLD, PRED)
    Judge(lambda *given: seen.append(len(given)) or 1)(GOLD, PRED, [], "p", [])
    Judge(lambda a, b, trace=None: seen.append(trace) or 1)(GOLD, PRED, ["t"])
    Judge(lambda a, b, trace=None: seen.append(trace) or 1)(GOLD, PRED)
    Judge(lambda a, b, trace=None, program_trace=None: seen.append(program_trace) or 1)(GOLD, PRED, None, program_trace="x")
    assert seen == [2, 5, ["t"], None, "x"]
    assert Judge(two)(GOLD, PRED, []) == 1.0
    assert Judge(max, failure=0.25)(GOLD, PRED) == 0.25  # has no signature, and compares what cannot be


async def late(example: Any, prediction: Any) -> dict[str, Any]:
    return {"score": 0.75, "feedback": "nearly"}


def test_whatever_form_a_score_has() -> None:
    assert Judge(late)(GOLD, PRED) == 0.75
    said = Judge(five)(GOLD, PRED, [], "p", [1])
    assert (said.score, said.feedback) == (0.5, "p 1")
    judge = Judge(ours("exact_match", field="code"))
    assert judge(GOLD, PRED) == 1.0
    assert judge(GOLD, PRED, [], "p", []).feedback


def test_where_it_says_nothing_the_feedback_is_what_was_expected() -> None:
    wrong = Judge(two)(GOLD, dspy.Prediction(code="Q2", note="n"), [], "p", [])
    assert wrong.score == 0.0
    assert wrong.feedback == "This got a score of 0. code should be 'K7', and was 'Q2'. note is right: 'n'."
    assert Judge(lambda a, b: 1)({"code": "K7"}, PRED, [], "p", []).feedback == "This got a score of 1. code is right: 'K7'."
    assert Judge(lambda a, b: 1)(7, PRED, [], "p", []).feedback == "This got a score of 1."


def test_what_it_raises_is_counted_and_said() -> None:
    told: list[Any] = []
    judge = Judge(
        lambda a, b: {"n": math.nan, "x": 1 / 0 if b.code == "x" else 1, "s": "good"}[b.code], lambda *t: told.append(t)
    )
    assert [judge(GOLD, dspy.Prediction(code=c)) for c in "nxs"] == [0.0, 0.0, 0.0]
    assert judge(GOLD, None) == 0.0
    assert (judge.scored, judge.failed) == (4, 4)
    assert judge(GOLD, dspy.Prediction(code="x"), [], "p", []).score == 0.0
    assert (judge.scored, judge.failed, len(told)) == (4, 4, 4), "words on an answer are no second scoring of it"
    assert judge.first == "The metric gave nan, which is no score. Raise an error, or return a number, instead."
    assert [failed for _, _, failed in told] == [True] * 4
    assert "The metric failed: ZeroDivisionError" in judge(GOLD, dspy.Prediction(code="x"), [], "p", []).feedback


def test_a_refused_call_is_no_failure_of_the_metric() -> None:
    def judge(example: Any, prediction: Any) -> float:
        raise ValueError("asking failed") from BudgetExceeded("no money")

    with pytest.raises(BudgetExceeded):
        Judge(judge)(GOLD, PRED)


def test_it_travels_and_counts_for_itself() -> None:
    judge = Judge(two, lambda *told: None, failure=0.1)
    judge(GOLD, PRED)
    again = pickle.loads(pickle.dumps(judge))  # noqa: S301 - our own
    assert (again(GOLD, PRED), again.scored, again.failure) == (1.0, 1, 0.1)
    assert judge.scored == 1
    assert judge.__name__ == "two"
