"""Drawn texts as conditions: none gets out of the language, and what it computes is what Python does."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from condition_helpers import VALUES
from hypothesis import given, settings
from hypothesis import strategies as st
from steady import STEADY

from dspex_lab.errors import PipelineError
from dspex_lab.native._condition_values import FUNCTIONS
from dspex_lab.native._conditions import Condition

MANY = settings(STEADY, max_examples=300)


class Trap:
    """A value that tells when anything but data of it is touched."""

    touched: list[str] = []  # noqa: RUF012 (shared on purpose)

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "__dict__"):
            Trap.touched.append(name)
        return object.__getattribute__(self, name)

    def __call__(self, *args: Any) -> None:
        Trap.touched.append("called")

    def run(self) -> None:
        Trap.touched.append("run")


PIECES = [
    *("n", "intent", "trap", "row", "nothing", "tags", "zzz", "_x", "__class__", "__globals__", "__import__", "eval", "run"),
    *(".", ".", "(", ")", "(", ")", "[", "]", "{", "}", ",", ":", "+", "-", "*", "/", "//", "%", "**", "<<", "|", "&", "~"),
    *("<", ">", "==", "!=", "<=", ">=", " in ", " not ", " and ", " or ", " is ", " if ", " else ", " for ", "lambda ", ":="),
    *(
        "0",
        "1",
        "9" * 30,
        "1.5",
        "1e308",
        "'x'",
        '"',
        "f'{n}'",
        "b'x'",
        "None",
        "True",
        "...",
        "await ",
        "yield ",
        "\n",
        " ",
        "#",
    ),
    *(f"{name}(" for name in FUNCTIONS),
    *("mro", "format", "__subclasses__()", "é", "\x00", "\\", "'(a+)+$'", "'{0.__class__}'"),
]


def survive(text: str) -> None:
    try:
        condition = Condition(text)
    except PipelineError as refusal:
        str(refusal)
        refusal.excerpt()
        return
    assert all(not name.startswith("_") for name in condition.names)
    assert Condition(str(condition)) == condition
    Trap.touched.clear()
    try:
        condition({**VALUES, "trap": Trap()})
    except PipelineError as failure:
        assert failure.text == condition.text  # noqa: PT017 (it may as well not fail)
        failure.excerpt()
    assert not Trap.touched


@MANY
@given(st.text(max_size=100))
def test_any_text_is_refused_or_computed(text: str) -> None:
    survive(text)


@MANY
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_soup_of_tokens_is_refused_or_computed(pieces: list[str]) -> None:
    survive("".join(pieces))


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> str:
    """Draw a text that the grammar allows (what it means may still fail)."""
    leaf = st.sampled_from(
        ["n", "urgency", "intent", "tags", "row", "nothing", "trap", "0", "2", "1.5", "'card'", "None", "True"]
    )
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(leaf)
    inner = expressions(depth=depth - 1)
    one, two, three = draw(inner), draw(inner), draw(inner)
    signs = ["+", "-", "*", "/", "//", "%", "<", ">", "==", "!=", "in", "not in", "and", "or"]
    function = draw(st.sampled_from(sorted(FUNCTIONS)))
    least = FUNCTIONS[function][0]
    forms = [
        f"({one} {draw(st.sampled_from(signs))} {two})",
        f"({one} < {two} <= {three})",
        f"({one} if {two} else {three})",
        f"(not {one})",
        f"(-{one})",
        f"({one} is not None)",
        f"[{one}, {two}]",
        f"{{{one}: {two}}}",
        f"({one})[{two}]",
        f"({one})[{two}:]",
        f"({one}).price",
        f"{function}({', '.join([one, two][:least])})",
    ]
    return draw(st.sampled_from(forms))


@MANY
@given(expressions())
def test_any_expression_of_the_language_computes_or_says_why(text: str) -> None:
    survive(text)


PLAIN = {"a": 3, "b": -2, "c": 0.5, "t": "xy", "l": [1, 2], "z": 0}
SIGNS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@MANY
@given(
    st.recursive(
        st.sampled_from(["a", "b", "c", "z", "1", "2.5"]),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from([*SIGNS, "and", "or", "//", "%", "/"]), inner).map(
                lambda p: f"({p[0]} {p[1]} {p[2]})"
            ),
            inner.map(lambda x: f"(not {x})"),
            st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
            st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} < {p[1]} >= {p[2]})"),
        ),
        max_leaves=8,
    )
)
def test_what_python_and_a_condition_compute_is_the_same(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {}}, PLAIN)  # noqa: S307 (the text is drawn above)
    except ZeroDivisionError:
        with pytest.raises(PipelineError, match="ZeroDivisionError"):
            Condition(text)(PLAIN)
        return
    assert Condition(text)(PLAIN) == expected
