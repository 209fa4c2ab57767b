"""The language of conditions: what it says, and what it refuses."""

from __future__ import annotations

import datetime
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from condition_helpers import VALUES

from dspex_lab.errors import PipelineError
from dspex_lab.native._conditions import MAX_CHARACTERS, Condition


def refused(text: str) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        Condition(text)
    return caught.value


# -- what it says -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('urgency > 0.8 and intent in ["card", "billing"]', True),
        ("0 < urgency <= 1", True),
        ("1 < urgency < nowhere", False),
        ("urgency < 0.5 or intent == 'card'", True),
        ("not urgency", False),
        ("nothing is None", True),
        ("n is not None and n != 3", True),
        ("intent not in ('a', 'b')", True),
        ("n + 1 - 2 * 3", 2),
        ("n / 2", 3.5),
        ("n // 2 + n % 2 + -n + +n", 4),
        ("amount * 2 == 5", True),
        ("day - item.made", datetime.timedelta(days=121)),
        ("day - item.made > day - day", True),
        ("intent + '!'", "card!"),
        ("tags + ['c']", ["a", "b", "c"]),
        ("'yes' if urgency > 0.5 else nowhere", "yes"),
        ("[1, (2,), {3}, {'a': n}]", [1, (2,), {3}, {"a": 7}]),
        ("order.total", 12.5),
        ("order.note", "gift"),
        ("item.price", 3.0),
        ("point.x", 4),
        ("color.value == 'red' and color.name == 'RED'", True),
        ("row.price", 5),
        ("row['deep'].list[1]['k']", "v"),
        ("tags[-1]", "b"),
        ("message[2:4]", "My"),
        ("tags[1:]", ["b"]),
        ("len(tags)", 2),
        ("lower(strip(message))", "my card never came"),
        ("upper(intent)", "CARD"),
        ("strip('xxaxx', 'x')", "a"),
        ("startswith(intent, 'ca') and endswith(intent, 'rd')", True),
        ("contains(message, 'Card') and contains(tags, 'a')", True),
        (r"matches(message, r'(?i)\bcard\b')", True),
        ("matches(message, '^card')", False),
        ("abs(-n) + min(1, 2) + max([3, 4])", 12),
        ("round(2.567, 1) + round(2.4)", 4.6),
        ("sum([1, 2.5])", 3.5),
        ("sum > 2", True),
        ("sum([sum, sum])", 6),
        ("any([urgency > 2, n == 7])", True),
        ("all([])", True),
        ("int('12') + int(3.9) + int(amount)", 17),
        ("float('0.5')", 0.5),
        ("str(n) + str(color) + str(day)", "7red2024-05-01"),
        ("bool('')", False),
        ("sorted([3, 1])", [1, 3]),
        ("one == 1 and one + 1 == 2", True),
        ("(urgency > 0.5\n  and n > 3)", True),
        ("True and None", None),
        ("array[0]", 1.0),
    ],
)
def test_conditions_are_computed(text: str, value: Any) -> None:
    found = Condition(text)(VALUES)
    assert found == value
    assert type(found) is type(value) or isinstance(found, np.generic)


def test_names_are_the_fields_in_order_and_nothing_is_evaluated_that_need_not_be() -> None:
    condition = Condition("len(b) > a if c.x in rows[a] else sum(sum) > d")
    assert condition.names == ("b", "a", "c", "rows", "sum", "d")
    assert Condition("x > 1 and y > 2").test({"x": 0}) is False
    assert Condition("1 < 2").names == ()


def test_the_truth_of_a_condition() -> None:
    assert Condition("tags").test(VALUES) is True
    assert Condition("nothing").test(VALUES) is False
    with pytest.raises(PipelineError, match="neither true nor false: The truth value of an array"):
        Condition("array > 1").test(VALUES)


def test_equal_by_text_immutable_and_it_travels() -> None:
    condition = Condition("  n > 3 ")
    assert str(condition) == "n > 3"
    assert repr(condition) == "Condition('n > 3')"
    assert condition == Condition("n > 3")
    assert hash(condition) == hash(Condition("n > 3"))
    assert condition != Condition("n > 4")
    assert condition != "n > 3"
    with pytest.raises(AttributeError, match="immutable"):
        condition.text = "n"
    assert pickle.loads(pickle.dumps(condition))({"n": 4}) is True  # noqa: S301 (made in the line itself)


def test_the_values_it_reads_can_be_shown() -> None:
    shown = Condition("urgency > 0.8 and missing == message").describe({**VALUES, "message": "x" * 500})
    assert shown.startswith("urgency = 0.9 (float), no missing, message = 'xxx")
    assert len(shown) < 150


# -- what it refuses --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "line", "column", "said", "hint"),
    [
        ("", None, None, "is empty", "As in"),
        ("n >", 1, 4, "cannot be read: invalid syntax", ""),
        ("n = 3", 1, 1, "cannot be read", "Compare with '=='"),
        ("a && b", 1, 4, "cannot be read", "Write 'and'"),
        ("n > 1\nand n < 3", 2, 1, "cannot be read", ""),
        ("a and (b or", 1, 7, "never closed", ""),
        ("é > 1 and x ** 2 > 1", 1, 11, "'**' is not part", "product"),
        ("a | b", 1, 1, "'|' is not part", "Write 'or'"),
        ("a & b", 1, 1, "'&' is not part", "Write 'and'"),
        ("~a", 1, 1, "'~' is not part", "Write 'not'"),
        ("a @ b", 1, 1, "'matmult' is not part", ""),
        ("(a := 3)", 1, 2, "an assignment", "Compare"),
        ("f'{a}'", 1, 1, "an f-string", "Join"),
        ("lambda: 1", 1, 1, "a lambda", ""),
        ("[x for x in y]", 1, 1, "a comprehension", ""),
        ("{x: 1 for x in y}", 1, 1, "a comprehension", ""),
        ("any(x for x in y)", 1, 4, "a comprehension", ""),
        ("[*a]", 1, 2, "a '*'", ""),
        ("{**a}", 1, 1, "'**' is not part", ""),
        ("len(*a)", 1, 5, "a '*'", ""),
        ("(yield 1)", 1, 2, "'yield'", ""),
        ("await x", 1, 1, "'await'", ""),
        ("a[1:2:3]", 1, 1, "a step in a slice", ""),
        ("a[1:2, 3]", 1, 3, "'slice' is not part", ""),
        ("a is True", 1, 6, "'is' compares with None alone", "=="),
        ("b'x'", 1, 1, "the value b'x'", ""),
        ("1j", 1, 1, "the value 1j", ""),
        ("...", 1, 1, "the value ...", ""),
        ("9" * 400 + " > 1", 1, 1, "more than 1024 bits", ""),
        ("_x", 1, 1, "'_x' begins with an underscore", ""),
        ("a.__class__", 1, 1, "'__class__' begins with an underscore", ""),
        ("().__class__.__bases__[0].__subclasses__()", 1, 1, "methods are not called", "There are the functions"),
        ("message.lower() == 'x'", 1, 1, "methods are not called", "Write lower(message, …)"),
        ("__import__('os').system('x')", 1, 1, "methods are not called", ""),
        ("(1 > 2) and lenght(a)", 1, 13, "there is no function 'lenght'", "Did you mean 'len"),
        ("eval('1')", 1, 1, "there is no function 'eval'", "There are len"),
        ("round(1.5, ndigits=1)", 1, 12, "round takes its arguments by place", ""),
        ("len()", 1, 1, "len takes 1 argument, found 0", ""),
        ("round(1, 2, 3)", 1, 1, "round takes 1 to 2 arguments, found 3", ""),
        ("matches(a, '(?=x)')", 1, 12, "look-around", ""),
        ("matches(a, '(')", 1, 12, "the pattern cannot be taken: unclosed group", ""),
        (f"matches(a, '{'x' * 201}')", 1, 12, "more than 200 characters", ""),
        ("matches(a, 3)", 1, 12, "expected a text", ""),
        (r"matches(a, '\bx')", 1, 12, "'\\b' is a backspace in this text", "Write the pattern as r'…'"),
        ("(1,\n 2 **\n 3)", 2, 2, "Line 2, column 2", ""),
        ("1 if 2", 1, 1, "cannot be read", ""),
        ("a\x00b", 1, 1, "cannot be read", ""),
        ("\ud800", 1, 1, "cannot be read", ""),
        ("x # comment\n y", 2, 2, "cannot be read", ""),
        ("import os", 1, 1, "cannot be read", ""),
    ],
)
def test_what_is_refused_says_where_and_what_to_do(
    text: str, line: int | None, column: int | None, said: str, hint: str
) -> None:
    error = refused(text)
    assert said in error.message
    assert hint in str(error)
    if line is not None:
        assert (error.line, error.text) == (line, text.strip())
        if said not in ("cannot be read", "cannot be read: invalid syntax", "never closed"):  # Python's own columns vary
            assert error.column == column
        assert error.excerpt()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(" * 150 + "1" + ")" * 150, ""),
        ("not " * 60 + "x", "inside each other"),
        ("-" * 1_900 + "1", ""),
        ("[" * 900 + "]" * 900, ""),
        ("x" + ".a" * 900, ""),
        ("[" + "1," * 600 + "]", "more than 500 parts"),
        ("x" * (MAX_CHARACTERS + 1), "2,000 are read at most"),
    ],
)
def test_what_is_too_large_is_refused(text: str, said: str) -> None:
    try:
        Condition(text)
    except PipelineError as error:
        assert said in error.message  # noqa: PT017 (some of these are read by some versions of Python)
    else:
        assert not said


@pytest.mark.parametrize("thing", [3, None, True, ["n > 1"]])
def test_a_condition_is_a_text(thing: Any) -> None:
    with pytest.raises(PipelineError, match="A condition is a text, found"):
        Condition(thing)


def test_escapes_in_patterns_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Condition("matches(n, '\\d')")({"n": "3"}) is True
