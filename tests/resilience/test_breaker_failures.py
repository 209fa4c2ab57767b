"""Which failures count against a target, and what they ask for."""

from __future__ import annotations

import asyncio

import pytest
from breaker_helpers import DOWN, breaker, clock, fail, settings, told
from clocks import Clock

from dspex_lab.errors import BudgetExceeded, ConfigurationError, LMError
from dspex_lab.resilience import Breaker, ailing

__all__ = ["breaker", "clock", "told"]


def asked(status: int | None, seconds: float) -> LMError:
    error = LMError("later", status=status)
    error.retry_after = seconds  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "calls", "failures"),
    [
        (DOWN, 1, 1),
        (TimeoutError(), 1, 1),
        (ConnectionResetError(), 1, 1),
        (LMError("x", status=408), 1, 1),
        (LMError("x", status=429), 0, 0),
        (LMError("x", status=400), 1, 0),
        (LMError("x", status=401), 1, 0),
        (LMError("x", status=409), 1, 0),
        (BudgetExceeded("x"), 0, 0),
        (ConfigurationError("x"), 0, 0),
        (asyncio.CancelledError(), 0, 0),
        (KeyboardInterrupt(), 0, 0),
    ],
    ids=repr,
)
def test_what_counts_against_the_target(breaker: Breaker, error: BaseException, calls: int, failures: int) -> None:
    breaker.admit().failed(error)
    assert (breaker.status().calls, breaker.status().failures) == (calls, failures)


def test_a_status_further_down_counts_too() -> None:
    error = LMError("outer")
    error.__cause__ = LMError("inner", status=429)
    assert not ailing(error)
    error.__cause__ = LMError("inner", status=503)
    assert ailing(error)


def test_the_settings_say_what_counts(clock: Clock) -> None:
    breaker = Breaker("t", settings(on=lambda error: isinstance(error, KeyError)), clock=clock)
    fail(breaker, 5, ValueError("x"))
    assert breaker.state == "closed"
    fail(breaker, 2, KeyError("x"))
    assert breaker.state == "open"


def test_a_judge_that_raises_does_not_keep_the_probes_place(clock: Clock) -> None:
    judges = iter([True, True])
    breaker = Breaker("t", settings(on=lambda error: next(judges)), clock=clock)
    fail(breaker, 2)
    clock.now += 10
    with pytest.raises(StopIteration):
        breaker.admit().failed(DOWN)
    breaker.admit().succeeded()
    assert breaker.state == "closed"


def test_a_failure_that_asks_for_a_longer_pause_gets_it(breaker: Breaker) -> None:
    fail(breaker, 2, asked(503, 60.0))
    assert breaker.refuses_for() == 60.0


def test_a_failure_cannot_ask_for_an_hour(breaker: Breaker) -> None:
    fail(breaker, 2, asked(503, 3_600.0))
    assert breaker.refuses_for() == 300.0
