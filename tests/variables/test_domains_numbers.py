"""Numbers as domains: casts, ranges, steps, refusals in words, and how they are searched."""

from __future__ import annotations

import decimal
import math
from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from domain_helpers import refusal

from dspex_lab.errors import VariableError
from dspex_lab.variables import Float, Int

# ---- floats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0.5", 0.5, np.float32(0.5), decimal.Decimal("0.5"), np.array(0.5), " 0.5 "])
def test_a_float_takes_any_number_and_texts_of_one(value: Any) -> None:
    found = Float(0, 2).cast(value, "x")
    assert found == 0.5
    assert type(found) is float


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ("-inf", "finite"),
        (10**400, "float"),
        (True, "a bool is none"),
        (np.True_, "a bool is none"),
        (None, "NoneType"),
        ("warm", "this str is none"),
        ([0.5], "this list is none"),
        (np.array([0.5]), "this ndarray is none"),
        (3, "above its range, 0.0 to 2.0"),
        (-0.1, "below its range, 0.0 to 2.0"),
    ],
)
def test_a_float_refuses_what_is_none_and_says_what_it_may_be(value: Any, said: str) -> None:
    assert said in refusal(Float(0, 2), value)


def test_a_range_without_an_end_says_so() -> None:
    assert "-∞ to 2.0" in refusal(Float(high=2), 3)
    assert "0.0 to ∞" in refusal(Float(low=0), -1)


def test_a_float_with_a_step_puts_what_lies_beside_its_grid_on_it_and_refuses_the_rest() -> None:
    domain = Float(0, 1, step=0.1)
    assert domain.cast(0.1 + 0.2, "x") == 0.3
    assert "Near it: 0.3 and 0.4." in refusal(domain, 0.35)
    assert "above its range" in refusal(domain, 1.15)
    assert "Near it: 0.9." in refusal(Float(0, 1, step=0.9), 0.95)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"low": 2, "high": 1}, "low=2.0 is above high=1.0"),
        ({"low": 0.1, "high": 1, "log": True, "step": 0.1}, "has no step"),
        ({"low": 0, "high": 1, "log": True}, "begins above 0"),
        ({"high": 1, "log": True}, "begins above 0"),
        ({"low": 0, "high": 1, "step": 0}, "above 0"),
        ({"high": 1, "step": 0.1}, "low to count from"),
        ({"low": "nan"}, "finite"),
        ({"low": 0, "high": 1, "log": 1}, "neither True nor False"),
    ],
)
@pytest.mark.parametrize("kind", [Float, Int])
def test_a_range_that_is_none_is_refused(kind: Any, given: dict[str, Any], said: str) -> None:
    if kind is Int and "step" in given and isinstance(given["step"], float):
        given = {**given, "step": 2, "low": 1 if "low" in given else None}
    if kind is Int and said.startswith("low=2"):
        said = "low=2 is above high=1"
    if kind is Int and said == "finite":
        said = "it is an int"
    with pytest.raises(VariableError, match=said.replace("(", r"\(")):
        kind(**given)


def test_optuna_would_refuse_a_logarithmic_step_as_we_do() -> None:
    with pytest.raises(ValueError, match="step"):
        optuna.distributions.FloatDistribution(0.1, 1, log=True, step=0.1)


def test_floats_are_distributions() -> None:
    assert Float(0, 1).distribution() == optuna.distributions.FloatDistribution(0, 1)
    assert Float(1e-5, 1, log=True).distribution() == optuna.distributions.FloatDistribution(1e-5, 1, log=True)
    # Optuna warns of a high end beside the grid; warnings are errors here.
    assert Float(0, 1, step=0.3).distribution() == optuna.distributions.FloatDistribution(0, 0.9, step=0.3)
    with pytest.raises(VariableError, match="cannot be searched as it stands: it has no range"):
        Float(low=0).distribution()


def test_the_first_float_is_the_middle_of_its_range_on_its_scale() -> None:
    assert Float(0, 2).first() == 1
    assert math.isclose(Float(1e-4, 1, log=True).first(), 1e-2)
    assert Float(0, 1, step=0.25).first() == 0.5
    assert Float(low=-1.25, step=0.5).first() == -0.25
    assert (Float().first(), Float(low=3).first(), Float(high=-3).first(), Float(low=-3).first()) == (0, 3, -3, 0)
    assert Float(-1.7e308, 1.7e308).first() == 0


def test_a_float_with_a_step_counts_and_draws_its_grid() -> None:
    domain = Float(0, 1, step=0.25)
    assert (domain.size(), list(domain.every() or ())) == (5, [0, 0.25, 0.5, 0.75, 1])
    assert {domain.draw(Random(seed)) for seed in range(50)} == {0, 0.25, 0.5, 0.75, 1}
    assert domain.corners() == (0, 1)
    assert (Float(3, 3).size(), list(Float(3, 3).every() or ())) == (1, [3])
    assert (Float(0, 1).size(), Float(0, 1).every()) == (None, None)
    assert Float(low=1).corners() == (1,)


def test_a_logarithmic_float_is_drawn_evenly_on_its_scale() -> None:
    drawn = [Float(1e-4, 1, log=True).draw(random) for random in [Random(0)] for _ in range(1000)]
    assert 0.4 < sum(value < 1e-2 for value in drawn) / len(drawn) < 0.6
    with pytest.raises(VariableError, match="no range"):
        Float().draw(Random(0))


# ---- ints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["3", 3, 3.0, np.int64(3), np.float32(3), decimal.Decimal(3), "3.0"])
def test_an_int_takes_whole_numbers_and_texts_of_one(value: Any) -> None:
    found = Int(0, 9).cast(value, "x")
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "a bool is none"),
        (3.5, "Near it are 3 and 4."),
        (float("nan"), "this float is none"),
        ("three", "this str is none"),
        (10, "above its range, 0 to 9"),
        (-1, "below its range, 0 to 9"),
        (2**70, "at most 64 bits"),
        (None, "NoneType"),
    ],
)
def test_an_int_refuses_what_is_none(value: Any, said: str) -> None:
    assert said in refusal(Int(0, 9), value)


def test_ints_go_by_steps() -> None:
    domain = Int(1, 10, step=4)
    assert list(domain.every() or ()) == [1, 5, 9]
    assert "Near it: 1 and 5." in refusal(domain, 3)
    assert "Near it: 9." in refusal(domain, 10)
    assert (domain.first(), domain.size(), domain.corners()) == (5, 3, (1, 9))
    assert domain.distribution() == optuna.distributions.IntDistribution(1, 9, step=4)
    assert {domain.draw(Random(seed)) for seed in range(30)} == {1, 5, 9}


def test_ints_without_bounds_cannot_be_searched() -> None:
    for domain in (Int(), Int(low=1), Int(high=1)):
        with pytest.raises(VariableError, match="no range"):
            domain.distribution()
        assert domain.size() is domain.every() is None
    with pytest.raises(VariableError, match=r"2\*\*53"):
        Int(0, 2**60).distribution()
    assert (Int(low=-7, step=3).first(), Int(low=7, step=3).first(), Int(low=3, step=3).size()) == (-1, 7, None)
    assert (Int(low=3).first(), Int(high=-3).first(), Int(high=3).corners(), Int().first()) == (3, -3, (3,), 0)


def test_a_logarithmic_int_is_drawn_evenly_on_its_scale() -> None:
    domain = Int(1, 10_000, log=True)
    drawn = [domain.draw(random) for random in [Random(0)] for _ in range(1000)]
    assert 0.4 < sum(value < 100 for value in drawn) / len(drawn) < 0.65
    assert domain.first() == 100
    assert domain.distribution() == optuna.distributions.IntDistribution(1, 10_000, log=True)


@pytest.mark.parametrize(
    "domain",
    [
        Float(1e28, None, 3.0),
        Float(-1e300, None, 1e-300),
        Float(1e300, None),
        Float(0.0, 1e300, 1e-300),
        Float(-1e308, 1e308, 1e-5),
    ],
)
def test_a_range_of_very_many_steps_is_one(domain: Float) -> None:
    """More steps than a decimal of the usual precision can count."""
    assert domain.cast(domain.first(), "x") == domain.first()
    if domain.high is not None:
        assert domain.size() > 10**100  # type: ignore[operator]
        assert domain.low <= domain.draw(Random(1)) <= domain.high  # type: ignore[operator]
