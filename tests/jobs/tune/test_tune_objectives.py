"""What is made best, what no trial beats, and which one is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError, JobError
from dspex_lab.jobs import ScoredRow
from dspex_lab.jobs.tune import Objective, best_of, front_of, objectives_of
from dspex_lab.jobs.tune._objectives import check_prefer

BOTH = (Objective("quality", "maximize"), Objective("cost", "minimize"))


@dataclass
class Point:
    number: int
    scores: dict[str, float]


def points(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(at, {"quality": q, "cost": c}) for at, (q, c) in enumerate(pairs)]


PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30)


@given(PAIRS)
def test_on_the_front_is_exactly_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    every = points(*pairs)
    front = {each.number for each in front_of(every, BOTH)}
    for each in every:
        q, c = each.scores["quality"], each.scores["cost"]
        better = [o for o in every if o.scores["quality"] >= q and o.scores["cost"] <= c and o.scores != each.scores]
        first = min(o.number for o in every if o.scores == each.scores) == each.number
        assert (each.number in front) == (not better and first)


@given(PAIRS, st.none() | st.fixed_dictionaries({"quality": st.floats(0.1, 1), "cost": st.floats(0.1, 1)}))
def test_the_one_that_is_taken_is_on_the_front(pairs: list[tuple[int, int]], prefer: Any) -> None:
    every = points(*pairs)
    best = best_of(every, BOTH, prefer)
    assert (best is None) == (not every)
    if best is not None:
        assert best in front_of(every, BOTH)


def test_the_rule_that_takes_one_is_the_one_that_was_asked_for() -> None:
    every = points((0.9, 10), (0.8, 1), (0.5, 0), (0.9, 9))
    assert best_of(every, BOTH).number == 3  # type: ignore[union-attr]
    assert best_of(every, BOTH, {"quality": 1, "cost": 1}).number == 1  # type: ignore[union-attr]
    assert best_of(every, BOTH, {"cost": 1}).number == 2  # type: ignore[union-attr]
    assert best_of([], BOTH) is None


ROWS = [
    ScoredRow(0, "complete", score=1.0, seconds=2.0, cost=0.1, calls=1),
    ScoredRow(1, "complete", score=0.0, seconds=4.0, cost=0.3, calls=3),
    ScoredRow(2, "failed", seconds=0.0, cost=0.2, calls=2),
]


def test_known_objectives_are_means_over_rows() -> None:
    found = {o.name: o.measure(ROWS) for o in objectives_of(["quality", "cost", "latency", "calls", "failed"])}
    assert found == pytest.approx({"quality": 0.5, "cost": 0.2, "latency": 2.0, "calls": 2.0, "failed": 1 / 3})
    assert objectives_of()[0].measure(ROWS, failure=0.0) == pytest.approx(1 / 3)
    assert [o.direction for o in objectives_of(["score", "seconds"])] == ["maximize", "minimize"]
    assert BOTH[1].told(2.0) == -2.0


def test_an_objective_of_ones_own_is_a_function_of_the_rows() -> None:
    (own,) = objectives_of({"worst": ("maximize", lambda rows: min(r.score or 0.0 for r in rows))})
    assert own.measure(ROWS[:2]) == 0.0
    (broken,) = objectives_of({"nan": ("minimize", lambda rows: float("nan"))})
    with pytest.raises(JobError, match="'nan' came to nan"):
        broken.measure(ROWS)
    assert objectives_of({"cost": "maximize"})[0].direction == "maximize"


def test_a_cost_that_nobody_knows_is_no_zero() -> None:
    with pytest.raises(JobError, match="the price of a model is not"):
        objectives_of("cost")[0].measure([ScoredRow(0, "complete", score=1.0, cost=None)])


def test_what_is_no_objective_is_refused_with_what_may_be_meant() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'latency'"):
        objectives_of(["latancy"])
    with pytest.raises(ConfigurationError, match="Did you mean 'minimize'"):
        objectives_of({"cost": "minimise"})
    with pytest.raises(ConfigurationError, match="once each"):
        objectives_of(["cost", "cost"])
    with pytest.raises(ConfigurationError, match="once each"):
        objectives_of([])


@pytest.mark.parametrize(
    ("prefer", "said"),
    [({"qualty": 1}, "Did you mean 'quality'"), ({"cost": -1}, "'cost' is -1"), ({"cost": 0}, "All weights are 0")],
)
def test_weights_that_fit_no_objective_are_refused(prefer: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_prefer(prefer, BOTH)
