"""Alternatives in their order, and why each was left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from dspex_lab.errors import (
    BudgetExceeded,
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    LMError,
    PipelineError,
    SignatureError,
)
from dspex_lab.resilience import Change, Fallback, Left, first_of, first_of_sync, mendable

DOWN = LMError("down", status=503)
Run = Callable[..., Any]


def raising(error: BaseException) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def run_async(attempts: list[Fallback[Any]], **options: Any) -> Any:
    def awaited(work: Callable[[], Any]) -> Callable[[], Any]:
        async def inner() -> Any:
            return work()

        return inner

    return asyncio.run(first_of([Fallback(a.name, a.kind, awaited(a.work)) for a in attempts], **options))


@pytest.fixture(params=[first_of_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Both twins keep every promise."""
    return request.param


def test_the_first_that_answers_is_the_answer(run: Run) -> None:
    told: list[Change] = []
    answer = run(
        [Fallback("a", "lm", lambda: "yes"), Fallback("b", "lm", raising(AssertionError("not asked")))], told=told.append
    )
    assert (answer.value, answer.name, answer.kind, answer.left, answer.degraded) == ("yes", "a", "lm", (), False)
    assert told == []


def test_the_next_is_asked_where_one_fails_and_that_is_told(run: Run) -> None:
    told: list[Change] = []
    answer = run(
        [
            Fallback("a", "lm", raising(DOWN)),
            Fallback("b", "lm", raising(CircuitOpen("open", target="b"))),
            Fallback("c", "cache", lambda: "from before"),
        ],
        told=told.append,
    )
    assert (answer.value, answer.name, answer.degraded) == ("from before", "c", True)
    assert answer.left == (Left("a", "lm", "LMError: down"), Left("b", "lm", "CircuitOpen: open"))
    assert [(each.event, each.before, each.after, each.reason, each.details) for each in told] == [
        ("fallback.use", "a", "b", "LMError: down", {"kind": "lm", "first": "a"}),
        ("fallback.use", "b", "c", "CircuitOpen: open", {"kind": "cache", "first": "a"}),
    ]


@pytest.mark.parametrize(("kind", "degraded"), [("lm", False), ("implementation", False), ("cache", True), ("degraded", True)])
def test_which_answers_are_marked(run: Run, kind: Any, degraded: bool) -> None:
    assert run([Fallback("a", "lm", raising(DOWN)), Fallback("b", kind, lambda: 1)]).degraded is degraded


def test_where_none_answers_the_first_failure_is_raised_and_says_why_each_was_left(run: Run) -> None:
    with pytest.raises(LMError, match="down") as caught:
        run([Fallback("a", "lm", raising(LMError("down", status=503))), Fallback("b", "cache", raising(KeyError("no entry")))])
    assert caught.value.__notes__ == ["a (lm): LMError: down\nb (cache): KeyError: 'no entry'"]


def test_a_single_alternative_that_fails_is_raised_as_it_is(run: Run) -> None:
    error = LMError("down", status=503)
    with pytest.raises(LMError) as caught:
        run([Fallback("a", "lm", raising(error))])
    assert caught.value is error
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize(
    "error",
    [LMError("wrong prompt", status=400), BudgetExceeded("spent"), asyncio.CancelledError(), KeyboardInterrupt()],
    ids=repr,
)
def test_what_no_other_can_mend_is_raised_at_once(run: Run, error: BaseException) -> None:
    asked: list[str] = []
    with pytest.raises(type(error)):
        run([Fallback("a", "lm", raising(error)), Fallback("b", "lm", lambda: asked.append("b"))])
    assert asked == []


def test_what_cannot_be_mended_later_in_the_chain_is_raised_with_what_came_before(run: Run) -> None:
    with pytest.raises(BudgetExceeded, match="spent") as caught:
        run([Fallback("a", "lm", raising(DOWN)), Fallback("b", "lm", raising(BudgetExceeded("spent")))])
    assert "a (lm): LMError: down" in caught.value.__notes__[0]


def test_the_caller_may_say_what_can_be_mended(run: Run) -> None:
    with pytest.raises(LMError, match="down"):
        run([Fallback("a", "lm", raising(DOWN)), Fallback("b", "lm", lambda: 1)], mends=lambda error: False)


def test_after_the_deadline_only_what_costs_no_time_is_asked(run: Run) -> None:
    chain = [
        Fallback("a", "lm", raising(DOWN)),
        Fallback("b", "implementation", lambda: "late"),
        Fallback("c", "degraded", lambda: "sorry"),
    ]
    answer = run(chain, deadline=time.monotonic() - 1)
    assert (answer.value, answer.left[1]) == (
        "sorry",
        Left("b", "implementation", "the deadline passed before it was asked"),
    )
    assert run(chain, deadline=time.monotonic() + 3_600).value == "late"
    with pytest.raises(LMError, match="down"):
        run(chain[:2], deadline=time.monotonic() - 1)


def test_a_chain_without_links_and_an_unknown_kind_are_refused(run: Run) -> None:
    with pytest.raises(ConfigurationError, match="no alternative"):
        run([])
    with pytest.raises(ConfigurationError, match=r"kind='model'"):
        Fallback("a", "model", lambda: 1)  # type: ignore[arg-type]


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (DOWN, True),
        (LMError("x", status=429), True),
        (LMError("wrong key", status=401), True),
        (LMError("no such model", status=404), True),
        (LMError("too long", status=413), True),
        (CircuitOpen("x"), True),
        (BulkheadFull("x"), True),
        (TimeoutError(), True),
        (ValueError("its own bug"), True),
        (caused(PipelineError("x"), DOWN), True),
        (LMError("x", status=422), False),
        (caused(PipelineError("x"), LMError("y", status=400)), False),
        (caused(PipelineError("x"), BudgetExceeded("y")), False),
        (caused(LMError("x"), asyncio.CancelledError()), False),
        (ConfigurationError("x"), False),
        (SignatureError("x"), False),
        (SystemExit(), False),
    ],
    ids=repr,
)
def test_what_another_alternative_can_mend(error: BaseException, is_it: bool) -> None:
    assert mendable(error) is is_it
