"""What answers where a pipeline has failed, by the class of the failure; pure, so nothing is run."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError
from web_helpers import offer, same

import dspex_lab as dx
from dspex_lab.errors import (
    BudgetExceeded,
    CircuitOpen,
    LMError,
    PipelineError,
    SandboxTimeout,
    TaskTimeout,
    WorkerKilled,
)
from dspex_lab.testing import scripted_lm
from dspex_lab.web._errors import STATUS
from dspex_lab.web._fallbacks import Fallback, failure_of, fallbacks, told_of


def look(text: str) -> str:
    """Look it up."""
    return text


PLAIN = offer("plain", out=dx.step(same))
ONE = offer("one", out=dspy.Predict("text -> out"))
TWO = offer("two", middle=dspy.Predict("text -> middle"), out=dspy.Predict("middle -> out"))
AGENT = offer("agent", out=dspy.ReAct("text -> out", tools=[look], max_iters=2))
OTHER = offer("other", out=dx.step(lambda number: number))
ALL = [TWO, AGENT, ONE, PLAIN, OTHER]


def fits(each: Any) -> bool:
    """A request of one text: what takes a number cannot start on it."""
    return each is not OTHER


def within(error: BaseException, *around: type[Exception]) -> BaseException:
    """Return an error as the cause of others."""
    for kind in around:
        outer = kind("around")
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (BudgetExceeded("spent"), "budget"),
        (within(BudgetExceeded("spent"), LMError, PipelineError), "budget"),
        (LMError("no answer"), "provider"),
        (within(TimeoutError(), LMError), "provider"),
        (CircuitOpen("open"), "provider"),
        (TimeoutError(), "timeout"),
        (TaskTimeout("too long"), "timeout"),
        (within(TimeoutError(), PipelineError), "timeout"),
        (AdapterParseError("ChatAdapter", dspy.Signature("a -> b"), "?"), "answer"),
        (WorkerKilled("gone"), "worker"),
        (within(WorkerKilled("gone"), PipelineError), "worker"),
        (SandboxTimeout("too long"), "tools"),
        (ValueError("x"), "other"),
        (None, "other"),
    ],
)
def test_a_failure_has_the_class_of_what_lies_under_it(error: BaseException | None, failure: str) -> None:
    assert failure_of(error, ONE) == failure
    assert failure in STATUS


def test_what_fails_in_a_pipeline_with_tools_counts_as_a_tool() -> None:
    assert failure_of(ValueError("x"), AGENT) == "tools"
    assert failure_of(LMError("no answer"), AGENT) == "provider"


def names(failure: Any, of: Any = TWO, **more: Any) -> list[tuple[str, Any]]:
    return [(each.offer.name, each.model) for each in fallbacks(failure, of, ALL, fits, **more)]


@pytest.mark.parametrize(
    ("failure", "of", "expected"),
    [
        ("budget", TWO, ["plain"]),
        ("provider", TWO, ["plain"]),
        ("provider", PLAIN, []),
        ("answer", TWO, ["one", "plain"]),
        ("timeout", TWO, ["one", "plain"]),
        ("worker", ONE, ["plain"]),
        ("tools", AGENT, ["two", "one", "plain"]),
        ("other", AGENT, ["one", "plain"]),
        ("other", PLAIN, []),
    ],
)
def test_what_stands_in_fits_the_failure_and_takes_the_same_inputs(failure: Any, of: Any, expected: list[str]) -> None:
    assert names(failure, of) == [(name, None) for name in expected]


def test_another_model_is_asked_only_where_the_model_was_at_fault() -> None:
    spare = scripted_lm("x", model="spare/one")
    assert names("provider", models=[spare]) == [("two", spare), ("plain", None)]
    assert names("answer", models=[spare])[0] == ("two", spare)
    for failure in ("budget", "timeout", "worker", "tools", "other"):
        assert spare not in [model for _, model in names(failure, models=[spare])]


def test_declared_ones_come_first_whatever_the_failure_and_no_one_comes_twice() -> None:
    declared = {"two": ["plain", "nobody", "other"]}
    for failure in STATUS:
        found = names(failure, declared=declared)
        assert found[0] == ("plain", None)
        assert len(set(found)) == len(found)
        assert "two" not in [name for name, _ in found]
        assert "other" not in [name for name, _ in found]  # takes no text


def test_each_says_why_in_a_sentence() -> None:
    spare = scripted_lm("x", model="spare/one")
    found: list[Fallback] = list(fallbacks("provider", TWO, ALL, fits, models=[spare], declared={"two": ["one"]}))
    assert [each.why for each in found] == [
        "'two' could not ask its model; 'one' is declared as its fallback",
        "'two' could not ask its model; the model 'spare/one' was asked",
        "'two' could not ask its model; 'plain' asks no model",
    ]
    assert {each.failure for each in found} == {"provider"}


def test_of_errors_that_are_not_ours_only_the_kind_is_told() -> None:
    assert told_of(ValueError("/home/me/secret.py")) == "ValueError"
    assert told_of(within(ValueError("/home/me/secret.py"), PipelineError)) == "ValueError"
    assert told_of(LMError("The provider is away.")) == "The provider is away."
    assert told_of(None) == "it gave no answer"


def test_nothing_stands_in_that_answers_another_question() -> None:
    poem = offer("poem", poem=dx.step(lambda text: text))
    everything = [TWO, poem]
    assert list(fallbacks("other", TWO, everything, fits)) == []
    assert [each.offer for each in fallbacks("other", TWO, everything, fits, like={"poem"})] == [poem]
    assert [each.offer for each in fallbacks("other", TWO, everything, fits, declared={"two": ["poem"]})] == [poem]
    assert [each.offer for each in fallbacks("other", TWO, [*everything, PLAIN], fits)] == [PLAIN]
    table, list_of = (offer(name, a=dx.step(same), b=dx.step(lambda text: 1)) for name in ("table", "list"))
    assert [each.offer for each in fallbacks("provider", table, [poem, list_of], fits)] == [list_of]
