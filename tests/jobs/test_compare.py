"""Intervals and tests, against what they should be by hand."""

from __future__ import annotations

import itertools
import math
import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs import compare_scores, interval_of
from dspex_lab.jobs._compare import mcnemar, wilson


def test_wilson_is_what_the_books_say() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, rows, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(hits, rows) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(20, 20)[1] == 1.0


@given(st.integers(1, 300), st.data(), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_stays_within_0_and_1(rows: int, data: st.DataObject, level: float) -> None:
    hits = data.draw(st.integers(0, rows))
    low, high = wilson(hits, rows, level)
    assert 0 <= low <= hits / rows <= high <= 1
    wider = wilson(hits, rows, (1 + level) / 2)
    assert wider[0] <= low
    assert wider[1] >= high
    swapped = wilson(rows - hits, rows, level)
    assert (1 - swapped[1], 1 - swapped[0]) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def tail_by_hand(wins: int, losses: int) -> float:
    """The two-sided binomial test, every outcome summed whose chance is not above that of what was seen."""
    n = wins + losses
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]
    return min(sum(c for c in chances if c <= chances[wins] * (1 + 1e-9)), 1.0)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test_of_the_rows_on_which_they_differ(wins: int, losses: int) -> None:
    assert mcnemar(wins, losses) == pytest.approx(tail_by_hand(wins, losses))
    assert mcnemar(wins, losses) == mcnemar(losses, wins)


def test_mcnemar_takes_as_many_rows_as_there_are() -> None:
    assert mcnemar(3000, 3000) == 1.0
    assert 0 < mcnemar(3200, 2800) < 1e-6


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=10))
def test_sign_flips_are_close_to_all_of_them(differences: list[float]) -> None:
    """With ten rows all 1,024 ways to toss the signs can be counted."""
    ours = [d + 0.5 for d in differences]
    theirs = [0.5] * len(differences)
    exact = [a - b for a, b in zip(ours, theirs, strict=True)]
    nonzero = [d for d in exact if d]
    seen = abs(math.fsum(nonzero))
    ways = [
        abs(math.fsum(s * d for s, d in zip(signs, nonzero, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(nonzero))
    ]
    p = sum(way >= seen - 1e-9 for way in ways) / len(ways)
    assert compare_scores(ours, theirs, resamples=4000, seed=3).p == pytest.approx(p, abs=0.05)


def test_a_p_value_is_never_nothing() -> None:
    assert compare_scores([1.5] * 200, [0.2] * 200, resamples=1000).p == pytest.approx(1 / 1001)


def test_nothing_differs_from_itself() -> None:
    same = compare_scores([0.3, 0.7, 0.1], [0.3, 0.7, 0.1])
    assert (same.difference, same.low, same.high, same.p, same.ties) == (0, 0, 0, 1.0, 3)
    assert same.verdict == "no difference shown"
    assert not same.significant


def test_the_bootstrap_interval_is_as_wide_as_theory_has_it() -> None:
    drawn = random.Random(7)
    values = [drawn.gauss(3.0, 2.0) for _ in range(400)]
    mean = fmean(values)
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)) / math.sqrt(len(values))
    found = interval_of(values, 0.95, seed=1)
    assert found.method == "bootstrap"
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)
    assert interval_of(values, 0.5).high < found.high


def test_the_interval_of_a_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    drawn = random.Random(11)
    hits = 0
    for _ in range(200):
        sample = [drawn.expovariate(1.0) for _ in range(60)]
        found = interval_of(sample, 0.9, seed=drawn.randrange(1000), resamples=400)
        hits += found.low <= 1.0 <= found.high
    assert 0.82 <= hits / 200 <= 0.97


def test_without_a_difference_a_test_errs_as_often_as_it_may() -> None:
    drawn = random.Random(5)
    wrong = sum(
        compare_scores([drawn.gauss(0, 1) for _ in range(25)], [drawn.gauss(0, 1) for _ in range(25)], resamples=400).p < 0.05
        for _ in range(300)
    )
    assert wrong <= 28  # 15 expected; 28 is more than three standard deviations above


def test_the_same_seed_gives_the_same_and_another_nearly_so() -> None:
    ours, theirs = [0.1, 0.9, 0.55, 0.7, 0.2], [0.2, 0.6, 0.35, 0.4, 0.3]
    one, again, other = (compare_scores(ours, theirs, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert other.p == pytest.approx(one.p, abs=0.03)


def test_scores_of_right_and_wrong_are_compared_exactly() -> None:
    ours, theirs = [1.0] * 18 + [0.0] * 12, [1.0] * 8 + [0.0] * 10 + [1.0] * 2 + [0.0] * 10
    found = compare_scores(ours, theirs)
    assert (found.wins, found.losses, found.ties) == (10, 2, 18)
    assert found.p == pytest.approx(tail_by_hand(10, 2))
    assert found.method == "McNemar's exact test"
    assert found.verdict == "better"
    assert compare_scores(theirs, ours).verdict == "worse"
    assert str(found).startswith("better: +0.2667 (0.95 interval +0.06667 to +0.4667")


def test_a_single_row_shows_nothing() -> None:
    found = compare_scores([0.9], [0.1])
    assert found.p == 1.0
    assert found.low == found.high == pytest.approx(0.8)
    assert str(interval_of([1.0])).startswith("1 (0.95 interval 0.2065 to 1, 1 row)")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: interval_of([]), "There are no scores"),
        (lambda: interval_of([0.1, math.nan]), "Score 1 is nan"),
        (lambda: interval_of([0.5], 1.0), "level=1.0"),
        (lambda: compare_scores([1.0], [1.0, 0.0]), "1 rows cannot be compared row by row with those of 2"),
        (lambda: compare_scores([1.0], [math.inf]), "is inf"),
    ],
)
def test_what_makes_no_sense_is_refused(call: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        call()  # type: ignore[operator]
