"""Numbers in texts, equal within a tolerance."""

from __future__ import annotations

import decimal
import fractions
import math
from decimal import Decimal

import numpy as np
import pytest
from dspy.datasets.gsm8k import gsm8k_metric
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics import NumericMatch
from dspex_lab.native.metrics._numeric import number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", "42"),
        ("The answer is 42.", "42"),
        ("first 1, then 2", "2"),
        ("1,234,567.5 dollars", "1234567.5"),
        ("$1,000", "1000"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("x=-3", "-3"),
        ("−3 °C", "-3"),
        ("50%", "50"),
        (".5", "0.5"),
        ("1e-3", "0.001"),
        ("2.5E3 m", "2500"),
        ("12kg", "12"),
        ("about 3/4 of it", "0.75"),
        ("from 10-20", "20"),
        ("- 7 apples", "7"),
        ("1,2,3", "3"),
        ("20/5=<<20/5=4>>4", "4"),
        # GSM8K's answer line, as extract_answer in grade_school_math/dataset.py reads it
        ("Weng earns 12/60 = $<<12/60=0.2>>0.2 a minute.\n#### 10", "10"),
        ("#### -1,000.50\nThat was 7 steps.", "-1000.50"),
        ("#### 3\n#### 4", "3"),
        # MATH's box
        (r"so \boxed{6}, no: \boxed{8} because of 9", "8"),
        (Decimal("1.50"), "1.5"),
        (fractions.Fraction(1, 8), "0.125"),
        (np.float64(1.5), "1.5"),
        (np.int32(7), "7"),
        (2**100, str(2**100)),
        ("٤٢", "42"),
    ],
)
def test_the_number_of_a_text(text: object, expected: str) -> None:
    assert number(text) == Decimal(expected)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "none at all",
        "v2 of 1.2.3",
        True,
        math.nan,
        math.inf,
        Decimal("nan"),
        "1e9999",
        "9" * 500,
        "5/0",
        [],
        2**9999,
        "7 steps\n#### unknown",
    ],
)
def test_what_is_no_number(value: object) -> None:
    assert number(value) is None


def test_numbers_beyond_all_bounds_are_none_and_harm_nobody() -> None:
    assert number(10**5000) is None
    assert number(Decimal("1e999")) is None
    assert NumericMatch().score(10**5000, 10**5000) == 1
    assert "found none in 0x" in NumericMatch().explain(10**5000, 7)


def test_the_first_number_where_asked_for() -> None:
    assert number("3 of 5", "first") == 3
    assert NumericMatch(which="first").score("3 of 5", 3) == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "options", "score"),
    [
        ("18", "#### 18", {}, 1),
        ("18.0 dollars", 18, {}, 1),
        ("19", 18, {}, 0),
        ("19", 18, {"absolute": 1}, 1),
        ("19.01", 18, {"absolute": 1}, 0),
        ("99", 100, {"relative": 0.01}, 1),
        ("98.9", 100, {"relative": 0.01}, 0),
        (0.1 + 0.2, 0.3, {}, 1),
        (0.1 + 0.2, 0.3, {"relative": 0}, 0),
        ("0.3", 0.3, {"relative": 0}, 1),
        (2**80 + 1, 2**80, {"relative": 0}, 0),
        (2**80, 2**80, {"relative": 0}, 1),
        ("no number", 3, {}, 0),
        (None, 3, {}, 0),
        (math.nan, 3, {}, 0),
        ("The unknown", "unknown", {}, 1),
        ("5", "unknown", {}, 0),
        (None, None, {}, 1),
        (math.nan, math.nan, {}, 1),
        ("4", ["3", "4"], {}, 1),
    ],
)
def test_numeric_match(prediction: object, reference: object, options: dict[str, float], score: float) -> None:
    assert NumericMatch(**options).score(prediction, reference) == score  # type: ignore[arg-type]


@given(
    st.floats(-1e12, 1e12, allow_nan=False),
    st.floats(-1e12, 1e12, allow_nan=False),
    st.floats(0, 2),
    st.floats(0, 1e6),
)
def test_the_tolerance_is_that_of_math_isclose(a: float, b: float, relative: float, absolute: float) -> None:
    edge = abs(abs(a - b) - max(relative * max(abs(a), abs(b)), absolute))
    if edge > 1e-6 * max(abs(a), abs(b), absolute, 1e-300):  # there binary rounding decides, not the rule
        made = NumericMatch(relative=relative, absolute=absolute).score(a, b)
        assert made == math.isclose(a, b, rel_tol=relative, abs_tol=absolute)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_whole_answers_agree_with_dspys_metric_of_gsm8k(made: int, hoped: int) -> None:
    import dspy

    theirs = gsm8k_metric(dspy.Example(answer=f"{hoped:,}"), dspy.Prediction(answer=f"It is {made:,}"))
    assert bool(NumericMatch(relative=0).score(f"It is {made:,}", f"{hoped:,}")) == theirs


def test_the_callers_decimal_context_changes_nothing() -> None:
    with decimal.localcontext(prec=2):
        assert NumericMatch(relative=0).score("12345", "12346") == 0


def test_the_explanation_names_both_numbers() -> None:
    assert NumericMatch().explain("It is 7.", 8) == "numeric 0.00: expected 8 (tolerance: relative 1e-09), found 7."
    loose = NumericMatch(absolute=0.5, relative=0.01)
    assert loose.explain("It is 7.", 8) == "numeric 0.00: expected 8 (tolerance: absolute 0.5, relative 0.01), found 7."
    assert NumericMatch(relative=0).explain("7", 8) == "numeric 0.00: expected 8 exactly, found 7."
    assert NumericMatch().explain("It is 8.", 8) == "numeric 1.00: expected 8, found 8."
    assert NumericMatch().explain("unsure", 8) == "numeric 0.00: expected the number 8, found none in 'unsure'."
    assert "expected 0.333333, found" in NumericMatch().explain("1/3", "1/3")
    assert NumericMatch().explain("x", "y") == "numeric 0.00: expected 'y', found 'x'."


def test_a_long_hostile_text_is_read_once() -> None:
    assert number("1/" * 100_000 + "x") == 1
    assert number("-" * 200_000 + "4") == -4
    assert number("\\boxed{" * 50_000 + "3") == 3
    assert number("9" * 300_000) is None


@pytest.mark.parametrize("options", [{"absolute": -1}, {"relative": math.nan}, {"which": "middle"}, {"absolute": "1"}])
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        NumericMatch(**options)  # type: ignore[arg-type]
