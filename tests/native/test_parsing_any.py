"""Any text as an answer: a value or an error, and soon."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsing_types import Code, Intent, Order, Pair, Point, Row, Tags

from dspex_lab.errors import PipelineError
from dspex_lab.native import _found, parse_as

# json-repair 0.64 takes 15 seconds and more for 8 KB of these; the mending must stop by itself.
SLOW = ["“{a]", ", null  ]{", ']{"', '["a" "b" ', "\\(", '"a" "b" c', '/*"a" )', "[1,", '{"a"', "```"]


@pytest.mark.parametrize("unit", SLOW)
@pytest.mark.parametrize("start", ["", '["'])
def test_no_text_takes_for_ever_to_mend(unit: str, start: str) -> None:
    with pytest.raises(PipelineError):
        parse_as(start + unit * (60_000 // len(unit)), list[int])


def test_mending_stops_when_it_has_looked_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps([{"text": "some text", "n": n} for n in range(200)])[:-1]
    assert len(parse_as(text, list[dict]).value) == 200
    monkeypatch.setattr(_found, "MAX_LOOKS", 1_000)
    with pytest.raises(PipelineError, match="no JSON array"):
        parse_as(text, list[dict])


def test_a_long_answer_that_was_cut_off_is_mended() -> None:
    rows = [{"id": n, "text": 'say "hi" \\ and\nmore', "tags": ["a", "b"]} for n in range(1_500)]
    text = json.dumps(rows)[:-5]
    assert len(text) > 90_000
    assert parse_as(text, list[dict]).value[:1_499] == rows[:1_499]


PIECES = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    "'",
    "\\",
    "a",
    '"number"',
    '"number": ',
    "1",
    "-",
    ".",
    "e9",
    "null",
    "true",
    "\n",
    "- ",
    "1. ",
    "```",
    "```json\n",
    "//",
    "/*",
    "#",
    "“",
    "(",
    " ",
]
KINDS = [
    int,
    float,
    bool,
    str,
    Order,
    Point,
    Row,
    list[str],
    list[int],
    dict,
    Any,
    Intent,
    Literal["a", "b"],
    datetime.datetime,
    Decimal,
    uuid.UUID,
    list[str] | str,
    int | None,
    Tags,
    Pair,
    Code,
]


@given(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=60).map("".join)),
    st.sampled_from(KINDS),
    st.booleans(),
)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_answer_gives_a_value_or_a_pipeline_error(text: str, kind: Any, repair: bool) -> None:
    try:
        parsed = parse_as(text, kind, repair=repair)
    except PipelineError as error:
        assert str(error)  # noqa: PT017
    else:
        assert repair or not parsed.repaired
        if isinstance(kind, type) and kind is not Any:
            assert isinstance(parsed.value, dict if kind is Row else kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, min_size=1, max_size=4), st.sampled_from(["{}", " {}\n", "```json\n{}\n```", "The answer is {} I hope"]))
@settings(max_examples=150, deadline=None)
def test_json_is_found_whatever_is_around_it(value: list[Any], around: str) -> None:
    said = json.dumps(value)
    assert parse_as(around.replace("{}", said), list).value == value


@given(st.integers(min_value=-(10**30), max_value=10**30))
@settings(max_examples=60, deadline=None)
def test_a_whole_number_is_read_to_its_last_digit(number: int) -> None:
    assert parse_as(str(number), int).value == parse_as(f"{number:,}", int).value == number
