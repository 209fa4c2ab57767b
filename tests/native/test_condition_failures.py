"""Conditions that fail while they are computed: the part, the values it read, and what cannot run away."""

from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from condition_helpers import VALUES

from dspex_lab.errors import PipelineError
from dspex_lab.native._condition_values import MAX_JOINED
from dspex_lab.native._conditions import Condition


def failed(text: str, /, **values: Any) -> PipelineError:
    condition = Condition(text)
    with pytest.raises(PipelineError) as caught:
        condition({**VALUES, **values})
    return caught.value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "nothing > 0.8 and n",
            "failed at 'nothing > 0.8': TypeError: '>' not supported between instances of 'NoneType' and 'float'. "
            "It read nothing = None (NoneType).",
        ),
        ("urgncy > 1", "reads 'urgncy', and there is no such field. Did you mean 'urgency'?"),
        ("n + 'a'", "'+' joins no int and str. It read n = 7 (int)."),
        ("'a' * n", "'*' joins no str and int"),
        ("'%9999999d' % n", "'%' joins no str and int"),
        ("tags * 2", "'*' joins no list and int"),
        ("-tags", "expected a number, found ['a', 'b'] (list)"),
        ("n / 0", "ZeroDivisionError: division by zero"),
        ("n in 3", "'in' looks into texts, lists and the like, found 3 (int)"),
        ("order.totl", "Order has no data field 'totl'; it has total, note. Did you mean 'total'? It read order = "),
        ("order.computed", "Order has no data field 'computed'"),
        ("order.method", "Order has no data field 'method'"),
        ("n.real", "int has no data field 'real'"),
        ("row.prise", "there is no 'prise' in it. Did you mean 'price'?"),
        ("counted.b", "there is no 'b' in it"),
        ("tags[9]", "IndexError: list index out of range"),
        ("n[0]", "7 (int) has no items"),
        ("len(n)", "TypeError: object of type 'int' has no len()"),
        ("lower(n)", "expected a text, found 7 (int)"),
        ("any(n)", "expected a list or the like, found 7 (int)"),
        ("sum(tags)", "expected a number, found 'a' (str)"),
        ("int('x')", "ValueError: invalid literal for int()"),
        ("int('9' + message)", "ValueError"),
        ("str(tags)", "expected a text, a number or a date, found ['a', 'b'] (list)"),
        ("round(n, -1000000000)", "expected a number of digits, found -1000000000 (int)"),
        ("round(urgency, 'a')", "expected a number of digits"),
        ("{tags: 1}", "TypeError: unhashable type: 'list'"),
        ("array and n", "ValueError: The truth value of an array"),
        ("1 if array else 2", "ValueError: The truth value of an array"),
        ("matches(message, n)", "expected a text, found 7 (int)"),
        ("min([])", "ValueError: min() "),
        ("[9, n < 'x']", "failed at \"n < 'x'\": TypeError"),
    ],
)
def test_failures_say_the_part_and_the_values_it_read(text: str, said: str) -> None:
    error = failed(text)
    assert said in str(error)
    assert error.text == text
    assert error.line == 1
    assert error.excerpt()


def test_an_unknown_field_lists_those_there_are() -> None:
    with pytest.raises(PipelineError, match="There are a, b"):
        Condition("zzz")({"a": 1, "b": 2})
    with pytest.raises(PipelineError, match="There are no fields"):
        Condition("zzz")({})


def test_the_original_error_stays_as_the_cause() -> None:
    assert isinstance(failed("nothing > 1").__cause__, TypeError)


@pytest.mark.parametrize(
    "text",
    [
        "big * big",
        "big + 1",
        "-big",
        "abs(big)",
        "str(big)",
        "int(decimal)",
        "decimal * 2",
        "round(decimal)",
        "int('9' + digits)",
        "text + text",
        "long + long",
        "int(fraction)",
        "matches(text, 'x')",
        "sum([big])",
    ],
)
def test_numbers_and_texts_cannot_run_away(text: str) -> None:
    large = {
        "big": 2**2000,
        "decimal": Decimal("1e999999"),
        "digits": "9" * 400,
        "text": "x" * (MAX_JOINED - 10),
        "long": [0] * (MAX_JOINED - 10),
        "fraction": Fraction(1, 2**3000),
    }
    assert Condition(text).names
    failed(text, **large)


def test_a_product_may_not_grow_past_its_limit() -> None:
    value = "9" * 300
    failed(f"{value} * {value}")


def test_endless_iterators_are_not_followed() -> None:
    for text in ("3 in endless", "any(endless)", "sum(endless)", "sorted(endless)", "max(endless)", "contains(endless, -1)"):
        failed(text, endless=itertools.count())


def test_a_value_whose_repr_fails_is_told_all_the_same() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

        def __lt__(self, other: object) -> bool:
            raise RuntimeError("broken")

    error = failed("x < 3", x=Broken())
    assert "RuntimeError: broken" in str(error)
    assert "(Broken)" in str(error)
    error = failed("x < 3", x=type("list", (), {})())  # reprlib takes it for a list by its name
    assert "x = … (list)" in str(error)


def test_interrupts_pass_through() -> None:
    class Interrupted:
        def __gt__(self, other: object) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Condition("x > 3")({"x": Interrupted()})
