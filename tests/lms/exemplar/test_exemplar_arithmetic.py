"""The small safe arithmetic, formulas, and operations that demonstrations show."""

from __future__ import annotations

from collections.abc import Iterator

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.lms import make_lm
from dspex_lab.lms.exemplar._arithmetic import by_pattern, calculate, evaluate, expression_in, formula, quantities


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    with dspy.context(lm=make_lm("offline")):
        yield


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("What is 12 times 7?", 84),
        ("15% of 80", 12),
        ("20 percent of 50", 10),
        ("1,200 plus 300", 1500),
        ("7 minus 10", -3),
        ("9 divided by 2", 4.5),
        ("17 mod 5", 2),
        ("2 to the power of 5", 32),
        ("7 squared", 49),
        ("3 cubed", 27),
        ("the square root of 81", 9),
        ("subtract 3 from 10", 7),
        ("the sum of 3, 4 and 5", 12),
        ("the product of two and 6", 12),
        ("the difference between 4 and 10", 6),
        ("the average of 3, 4 and 8", 5),
        ("the largest of 3, 9 and 8", 9),
        ("the smallest of 3, 9 and 8", 3),
        ("the sum of nothing", None),
        ("we met 3 times", None),
    ],
)
def test_sums_in_words(text: str, value: float | None) -> None:
    assert calculate(text) == (pytest.approx(value) if value is not None else None)


@pytest.mark.parametrize(
    "source",
    [
        "__import__('os')",
        "a.b",
        "'x' * 3",
        "True + 1",
        "f(1)",
        "sqrt(4, base=2)",
        "1 if 1 else 2",
        "9 ** 9 ** 9",
        "1 / 0",
        "sqrt(-1)",
        "1e308 * 10",
        "(" * 300,
        "1 +" * 500,
        "max()",
        "",
    ],
)
def test_what_is_no_arithmetic_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"arithmetic|power|long|finite|domain|real"):
        evaluate(source)


def test_functions_and_names_are_known() -> None:
    assert evaluate("round(mean(a, 4) / 3, 1) + abs(-1) + min(1, 2) + sum(1, 2)", {"a": 3}) == pytest.approx(6.2)
    assert evaluate("7 // 2 + +1") == 4


@given(st.text(alphabet="0123456789+-*/().% ^×÷, abx", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    source = expression_in(text)
    if source is not None:
        evaluate(source)


def test_quantities_are_read_in_order() -> None:
    assert quantities("Two boxes, -3 degrees, 1,200 and A-4 at 2.5") == [2, -3, 1200, 2.5]


def test_a_formula_of_the_instructions_is_applied() -> None:
    program = dspy.Predict(dspy.Signature("price: float, quantity: int -> total: float", "total = price * quantity. Be exact."))
    assert program(price=2.5, quantity=4).total == 10
    assert formula("total", "total = price * amount", {"price": 1}) is None
    assert formula("total", "total = price and nothing else", {"price": 1}) == (1, "price")
    assert formula("x", "y = 3 + 4", {}) is None


def test_demonstrations_show_the_operation() -> None:
    program = dspy.ChainOfThought("question -> answer: float")
    program.predict.demos = [
        dspy.Example(question="Tom has 3 apples and buys 4 more. How many has he?", answer=7),
        dspy.Example(question="Ann has 10 cards and gets 5 more. How many has she?", answer=15),
    ]
    found = program(question="Bo has 21 stamps and gets 9 more. How many has he?")
    assert found.answer == 30
    assert "21 + 9" in found.reasoning


def test_an_operation_is_found_for_words_too() -> None:
    program = dspy.Predict("question -> answer")
    program.demos = [
        dspy.Example(question="A box holds 6 eggs. How many eggs are in 4 boxes?", answer="24"),
        dspy.Example(question="A bag has 7 pens. How many pens are in 3 bags?", answer="21"),
    ]
    assert program(question="A crate holds 12 bottles. How many bottles are in 5 crates?").answer == "60"


def test_expressions_are_calculated_where_demonstrations_do_so() -> None:
    program = dspy.Predict("question -> answer: float")
    program.demos = [dspy.Example(question="2 + 2", answer=4), dspy.Example(question="3 * 5 + 1", answer=16)]
    assert program(question="4 * (5 - 2) + 1").answer == 13


def test_no_operation_is_made_up() -> None:
    assert by_pattern([((2.0, 3.0), 77.0)], [1.0], (1.0, 2.0)) is None
    assert by_pattern([], [], (1.0, 2.0)) is None
    assert by_pattern([((6.0, 3.0), 2.0)], [1.0], (1.0, 0.0)) is None
    assert by_pattern([((1.0,) * 9, 9.0)], [1.0], (1.0,) * 9) is None


def test_reasoning_says_the_sum() -> None:
    assert "12 * 7" in dspy.ChainOfThought("question -> answer")(question="What is 12 times 7?").reasoning
    assert dspy.Predict("question -> answer: int")(question="What is 12 times 7?").answer == 84
