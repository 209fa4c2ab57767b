"""Additive increase and multiplicative decrease, as arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import CircuitOpen, ConfigurationError, LMError
from dspex_lab.resilience import BulkheadSettings, overloaded
from dspex_lab.resilience._limit import LATELY, AdaptiveLimit


def limit(**changed: Any) -> AdaptiveLimit:
    return AdaptiveLimit(BulkheadSettings(**{"limit": 10, "least": 2, "most": 12, "decrease": 0.5, **changed}))


def asking(status: int | None) -> LMError:
    error = LMError("later", status=status)
    error.retry_after = 2.0  # type: ignore[attr-defined]
    return error


def test_one_round_trip_of_a_full_limit_adds_one() -> None:
    aimd = limit(tolerance=None)
    for _ in range(10):
        assert aimd.allowed == 10
        aimd.answered(0.0, 1.0, 10)
    # 1/10 + 1/10.1 + ... is a little less than 1, so one more call makes it whole.
    assert aimd.answered(0.0, 1.0, 10) == "calls succeed while the limit is in use"
    assert aimd.allowed == 11


def test_a_limit_that_is_not_in_use_does_not_grow() -> None:
    aimd = limit(tolerance=None)
    for _ in range(100):
        aimd.answered(0.0, 1.0, 4)
    assert aimd.allowed == 10


def test_it_grows_and_falls_within_its_bounds() -> None:
    aimd = limit(tolerance=None)
    for n in range(1_000):
        aimd.answered(n, n + 1.0, 10)
    assert aimd.allowed == 12
    for n in range(1_000, 1_010):
        aimd.refused(n, n + 0.5)
    assert aimd.allowed == 2


def test_it_falls_once_in_a_round_trip() -> None:
    aimd = limit()
    assert aimd.refused(0.0, 5.0) == "the provider has too much to do"
    # These were under way when it fell.
    assert [aimd.refused(started, 6.0) for started in (0.0, 4.9)] == [None, None]
    assert aimd.allowed == 5
    aimd.refused(5.0, 7.0)
    assert aimd.allowed == 2


def test_it_falls_where_answers_get_slow_and_needs_new_evidence_to_fall_again() -> None:
    aimd = limit()
    now, reasons = 0.0, []
    for seconds in [1.0] * 40 + [3.0] * 11:
        reasons.append(aimd.answered(now, now + seconds, 1))
        now += seconds
    assert reasons[:-1] == [None] * 50
    assert reasons[-1] == "answers take 3 s lately, usually 1 s"
    assert aimd.allowed == 5
    for n in range(LATELY - 1):
        assert aimd.answered(now, now + 9.0, 1) is None, n
        now += 9.0
    assert aimd.answered(now, now + 9.0, 1) is not None


def test_latency_is_not_looked_at_where_that_is_said() -> None:
    aimd = limit(tolerance=None)
    for seconds in [1.0] * 60 + [30.0] * 60:
        aimd.answered(0.0, seconds, 1)
    assert aimd.allowed == 10


def test_a_limit_that_is_not_adaptive_stays() -> None:
    aimd = limit(adaptive=False)
    for n in range(100):
        assert aimd.answered(n, n + 1.0, 10) is None
        assert aimd.refused(n, n + 1.0) is None
    assert aimd.allowed == 10


@given(
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.floats(0, 10), st.integers(1, 40)), max_size=200),
    decrease=st.floats(0.01, 0.99),
    increase=st.floats(0.01, 50),
)
def test_it_never_leaves_its_bounds(steps: list[tuple[bool, float, float, int]], decrease: float, increase: float) -> None:
    aimd = AdaptiveLimit(BulkheadSettings(limit=8, least=3, most=30, decrease=decrease, increase=increase))
    now = 0.0
    for answered, gap, seconds, in_use in steps:
        now += gap
        before = aimd.allowed
        why = aimd.answered(now - seconds, now, in_use) if answered else aimd.refused(now - seconds, now)
        assert 3 <= aimd.allowed <= 30
        assert (why is None) == (before == aimd.allowed)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (LMError("x", status=429), True),
        (LMError("x", status=529), True),
        (LMError("x", status=503), False),
        (asking(503), True),
        (asking(500), False),
        (TimeoutError(), False),
        (CircuitOpen("x"), False),
    ],
    ids=repr,
)
def test_what_says_that_a_provider_has_too_much_to_do(error: BaseException, is_it: bool) -> None:
    assert overloaded(error) is is_it


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 300},
        {"limit": 2.5},
        {"least": 0},
        {"most": 0},
        {"queue": -1},
        {"increase": 0},
        {"decrease": 0},
        {"decrease": 1.5},
        {"tolerance": 1.0},
        {"tolerance": math.nan},
        {"longest_pause": -1},
        {"on": "429"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        BulkheadSettings(**wrong)
