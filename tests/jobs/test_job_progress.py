"""How far a job is, what it spent, and when it will be done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.events import LMCall
from dspex_lab.jobs import Left, Progress, Spent
from dspex_lab.jobs._progress import Pace, left, remaining
from dspex_lab.lms import Budget


def call(cost: float | None = 0.1, hit: bool = False, error: str | None = None) -> LMCall:
    return LMCall("c", None, None, None, "m", 0.0, 1.0, 3, 2, cost, hit, False, error)


def test_what_is_spent_counts_cached_and_unpriced_calls_apart() -> None:
    spent = Spent()
    for each in (call(), call(), call(hit=True), call(cost=None), call(cost=None, error="it failed")):
        spent = spent.plus(each)
    assert spent == Spent(pytest.approx(0.2), 4, 20, cached=1, unpriced=1)


def test_what_is_left_is_never_below_nothing() -> None:
    spent = Spent(3.0, 10, 500)
    assert left(4, 10, spent, Budget(cost=2.0, tokens=600, calls=11)) == Left(6.0, 0.0, 1, 100)
    assert left(4, None, spent, Budget()) == Left()
    assert remaining(Budget(cost=5.0, calls=4), spent) == Budget(cost=2.0, calls=0)


def test_the_share_that_is_done() -> None:
    assert Progress(3, 12).fraction == 0.25
    assert Progress(3).fraction is None
    assert Progress(13, 12).fraction == 1.0


def test_no_pace_is_known_before_two_moments() -> None:
    pace = Pace()
    pace.start(0.0, 0.0)
    assert pace.eta(1.0, 0.0, 10) is None
    assert pace.eta(1.0, 0.0, None) is None
    assert pace.eta(1.0, 10.0, 10) == 0.0


def test_one_stall_does_not_sway_the_time_that_is_left() -> None:
    pace, now = Pace(), 0.0
    pace.start(now, 0)
    for done in range(1, 41):
        now += 600.0 if done == 20 else 1.0  # a worker was replaced
        pace.mark(now, done)
    assert pace.eta(now, 40, 100) == pytest.approx(60.0)


def test_a_burst_from_a_cache_does_not_either() -> None:
    pace, now = Pace(), 0.0
    pace.start(now, 0)
    for done in range(1, 61):
        now += 0.0 if 10 < done < 15 else 2.0
        pace.mark(now, done)
    assert pace.eta(now, 60, 100) == pytest.approx(80.0)


def test_what_has_passed_since_the_last_row_counts() -> None:
    pace = Pace()
    pace.start(0.0, 0)
    for done in range(1, 11):
        pace.mark(10.0 * done, done)
    assert pace.eta(100.0, 10, 12) == pytest.approx(20.0)
    assert pace.eta(106.0, 10, 12) == pytest.approx(14.0)
    assert pace.eta(500.0, 10, 12) == 0.0


def test_work_that_begins_again_begins_with_a_new_pace() -> None:
    pace = Pace()
    pace.start(0.0, 0)
    pace.mark(100.0, 1)
    pace.mark(200.0, 0)  # begun anew
    assert pace.seconds_per_unit() is None
    pace.mark(201.0, 1)
    pace.mark(201.0, 1)  # nothing new
    assert pace.seconds_per_unit() == 1.0


@given(st.lists(st.floats(0.01, 100.0), min_size=2, max_size=200))
def test_the_pace_lies_between_the_slowest_and_the_quickest_unit(gaps: list[float]) -> None:
    pace, now = Pace(), 0.0
    pace.start(now, 0)
    for done, gap in enumerate(gaps, start=1):
        now += gap
        pace.mark(now, done)
    unit = pace.seconds_per_unit()
    assert unit is not None
    assert min(gaps) * 0.999 <= unit <= max(gaps) * 1.001
