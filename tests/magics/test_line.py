"""The line of a magic."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._line import parse


def test_values_are_python() -> None:
    line = parse('support message="My card, k=2 (never came)" k=3 flags=[1, 2] --seed 4', words=1, flags=("seed",), fields=True)
    assert line.words == ["support"]
    assert line.values({}) == {"message": "My card, k=2 (never came)", "k": 3, "flags": [1, 2]}
    assert line.flag("seed", int) == 4


def test_names_come_from_the_notebook_and_nothing_is_expanded() -> None:
    line = parse("p text=note.upper() other='{note} $note'", words=1, fields=True)
    assert line.values({"note": "x"}) == {"text": "X", "other": "{note} $note"}


def test_paths_and_models_need_no_quotes() -> None:
    assert parse("support ../data/a-b.csv --concurrency 4", words=2, flags=("concurrency",)).words == [
        "support",
        "../data/a-b.csv",
    ]
    assert parse("openai/gpt-5-mini", words=1).words == ["openai/gpt-5-mini"]
    assert parse('"my file.csv" --into rows', words=1, flags=("into",)).flags == {"into": "rows"}


@pytest.mark.parametrize(
    ("text", "what", "column"),
    [
        ("p message=My card", "'card' is not expected", 14),
        ("p k=nope", "name 'nope' is not defined", 5),
        ("p k=1 k=2", "given twice", 7),
        ("p --sed 1", "Did you mean '--seed'", 3),
        ("p --seed", "needs a value", 3),
        ('p k="open', "string", None),
        ("p k=(1", "ends inside a string or bracket", None),
    ],
)
def test_what_is_wrong_is_named_with_its_column(text: str, what: str, column: int | None) -> None:
    with pytest.raises(ConfigurationError, match="(?s)" + what.replace("(", r"\(")) as caught:
        parse(text, words=1, flags=("seed",), fields=True).values({"My": 1})
    if column is not None:
        assert caught.value.column == column


def test_a_flag_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(ConfigurationError, match="--seed takes a whole number, found 'x'"):
        parse("p --seed x", words=1, flags=("seed",)).flag("seed", int)


@given(st.text(max_size=40))
def test_any_line_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        parse(text, words=2, flags=("seed",), fields=True)
