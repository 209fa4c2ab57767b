"""Answers read as values: what is taken, and what is refused."""

from __future__ import annotations

import datetime
import sys
import typing
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from parsing_types import Age, Alias, Code, Intent, Level, Loose, Order, Pair, Picky, Point, Row, T, Tags
from pydantic import Field

from dspex_lab.errors import PipelineError
from dspex_lab.native import Parsed, parse_as


@pytest.mark.parametrize(
    ("text", "kind", "value", "how", "repaired"),
    [
        # text
        (" hi ", str, " hi ", "as is", False),
        ("", str, "", "as is", False),
        ("```python\nx = 1\n```", str, "x = 1", "text in a fence", False),
        ("see ```x``` there", str, "see ```x``` there", "as is", False),
        ("hi", Annotated[str, Field(min_length=2)], "hi", "as is", False),
        ("hi", object, "hi", "as is", False),
        ("hi", bytes, b"hi", "as is", False),
        # numbers
        ("42", int, 42, "as is", False),
        (" -7\n", int, -7, "as is", False),
        ("3.0", int, 3, "as is", False),
        ("**1,200**.", int, 1200, "number without its commas", True),
        ("`0.5`", float, 0.5, "trimmed", True),
        ('"5"', Age, 5, "trimmed", True),
        ("1e3", float, 1000.0, "as is", False),
        ("-.5", float, -0.5, "as is", False),
        ("5", T, 5, "as is", False),
        ("1.10", Decimal, Decimal("1.10"), "as is", False),
        ("```\n7\n```", int, 7, "as is", False),
        ("7", Annotated[int, Field(ge=5)], 7, "as is", False),
        # flags, nothing
        ("true", bool, True, "as is", False),
        ("NO.", bool, False, "trimmed", True),
        ("null", int | None, None, "as is", False),
        ("None", str | None, None, "as is", False),
        ("none", None, None, "as is", False),
        ("5", int | None, 5, "as is", False),
        # choices
        ("billing", Literal["billing", "card"], "billing", "as is", False),
        ('"Billing"', Literal["billing", "card"], "billing", "matched to a choice", True),
        ("'billing'.", Literal["billing", "card"], "billing", "trimmed", True),
        ("Card-Arrival", Literal["card_arrival"], "card_arrival", "matched to a choice", True),
        ("2", Literal[1, 2], 2, "as is", False),
        ("null", Literal["a"] | None, None, "as is", False),
        ("CARD", Intent, Intent.CARD, "as is", False),
        ("card arrival", Intent, Intent.CARD, "as is", False),
        ("Billing.", Intent, Intent.BILLING, "matched to a choice", True),
        ("2", Level, Level.HIGH, "as is", False),
        ("card arrival", Literal[Intent.CARD], Intent.CARD, "as is", False),
        # times and words
        ("2024-01-02", datetime.date, datetime.date(2024, 1, 2), "as is", False),
        (
            "2024-01-02T03:04:05Z.",
            datetime.datetime,
            datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
            "trimmed",
            True,
        ),
        ("00000000-0000-0000-0000-000000000005", uuid.UUID, uuid.UUID(int=5), "as is", False),
        # JSON
        ('{"x": 1}', Point, Point(1), "as is", False),
        ('{"x": "3", "y": 2}', Point, Point(3, 2.0), "as is", False),
        ('Here:\n```json\n{"number": 1}\n```\nDone.', Order, Order(number=1), "json in a fence", False),
        ('```json {"number": 1}```', Order, Order(number=1), "json in a fence", False),
        (
            '```\n{"number": 1}\n``` or ```\n{"number": 2}\n```',
            Order,
            Order(number=2),
            "json in a fence (the last of 2 that fits)",
            False,
        ),
        (
            '```\n{"number": 1}\n``` or ```\n{"other": 2}\n```',
            Order,
            Order(number=1),
            "json in a fence (the last of 2 that fits)",
            False,
        ),
        (
            'I think {"number": 1}, no, {"number": 2}.',
            Order,
            Order(number=2),
            "json in the text (the last of 2 that fits)",
            False,
        ),
        ('It is {"number": 1} {oh}', Order, Order(number=1), "json in the text", False),
        (
            '```json\n{"number": 1, "tags": ["a ``` b"]}\n```',
            Order,
            Order(number=1, tags=["a ``` b"]),
            "json in the text",
            False,
        ),
        ('{"tags": ["a"]}', list[str], ["a"], "json in the text", False),
        ('["a"]', Tags, Tags(["a"]), "as is", False),
        ("[1, 2]", tuple[int, ...], (1, 2), "as is", False),
        ("[1, 1]", set[int], {1}, "as is", False),
        ("[1, 2]", Sequence[int], [1, 2], "as is", False),
        ("[1]", Alias, [1], "as is", False),
        ('{"a": 1}', Mapping[str, int], {"a": 1}, "as is", False),
        ('{"a": 1}', dict, {"a": 1}, "as is", False),
        ('[1, "b"]', Pair, Pair(1, "b"), "as is", False),
        ('{"x": 1}', Row, {"x": 1}, "as is", False),
        ('{"x": 1, "note": "n"}', Row, {"x": 1, "note": "n"}, "as is", False),
        ('[{"x": 1}]', list[Row], [{"x": 1}], "as is", False),
        ("null", Row | None, None, "as is", False),
        ('{"x": 1}', Annotated[Row, "meta"], {"x": 1}, "as is", False),
        ("{}", Loose, {}, "as is", False),
        # text or JSON: only when it is the whole
        ('["a"]', list[str] | str, ["a"], "as is", False),
        ('```json\n["a"]\n```', list[str] | str, ["a"], "as is", False),
        ("see [1] there", list[int] | str, "see [1] there", "as is", False),
        ('{"a": 1}', Any, {"a": 1}, "as is", False),
        ("hello", Any, "hello", "as is", False),
        # mended
        ('{"number": 1, "tags": ["a", "b"', Order, Order(number=1, tags=["a", "b"]), "repaired json", True),
        ("So: {'number': 1, tags: ['a',],}", Order, Order(number=1, tags=["a"]), "repaired json", True),
        ('```json\n{"number": 1,\n```', Order, Order(number=1), "repaired json in a fence", True),
        ('{"number": 1 // one\n}', Order, Order(number=1), "repaired json", True),
        ("- a\n* b\n\n2. c", list[str], ["a", "b", "c"], "list of lines", True),
        ("1) 5\n2) 6", list[int], [5, 6], "list of lines", True),
        # a model that takes text
        ("x = 1", Code, Code(code="x = 1"), "as is", False),
    ],
)
def test_what_is_read(text: str, kind: Any, value: Any, how: str, repaired: bool) -> None:
    parsed = parse_as(text, kind)
    assert parsed == Parsed(value, repaired, how)
    assert type(parsed.value) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("about 1,200", int, "does not give int: the whole answer must say it. Found: 'about 1,200'. Ask for the value"),
        ("12 %", float, "the whole answer must say it"),
        ("$5", int, "the whole answer must say it"),
        ("1,20", int, "the whole answer must say it"),
        ("1 200", int, "the whole answer must say it"),
        ("0x10", int, "the whole answer must say it"),
        ("nan", float, "the whole answer must say it"),
        ("1e999", float, "the whole answer must say it"),
        ("9" * 500, int, "the whole answer must say it"),
        ("٣", int, "the whole answer must say it"),
        ("3.5", int, "at its top, input should be a valid integer"),
        ("4", Annotated[int, Field(ge=5)], "input should be greater than or equal to 5, not 4"),
        ("", int, "Found: ''"),
        ("maybe", bool, "the whole answer must say it"),
        ("Yes, because", bool, "the whole answer must say it"),
        ("1200", datetime.datetime, "the whole answer must say it"),
        ("tomorrow", datetime.date, "at its top, input should be a valid date"),
        (
            "billin",
            Literal["billing", "card"],
            "none of the choices. Found: 'billin'. Ask for one of billing, card and nothing else. The nearest is 'billing'.",
        ),
        ("The answer is billing", Literal["billing", "card"], "none of the choices"),
        ("AB", Literal["ab", "Ab"], "none of the choices"),
        ("TRUE", Literal[1, 2], "none of the choices"),
        ("no", Order, "there is no JSON object in it that can be read. Found: 'no'"),
        ("no", list[int], "there is no JSON array in it that can be read"),
        ("no", Tags, "there is no JSON in it that can be read"),
        (
            '{"number": "q", "tags": 5}',
            Order,
            "at /number, input should be a valid integer, unable to parse string as an integer, not 'q' (1 more). Found:",
        ),
        ('{"number": 1, "tags": ["a", 5]}', Order, "at /tags/1, input should be a valid string, not 5"),
        ("[1]", Order, "at its top, input should be a valid dictionary or instance of Order"),
        ('{"x": 1}', Picky, "its validation raised RuntimeError: no luck"),
        ("[" * 100_000, list, "there is no JSON array"),
        ('{"a":' * 50_000, dict, "there is no JSON object"),
        ("[" * 500 + "]" * 500, list, "there is no JSON array"),
        ("[" * 500 + "]" * 500, Any, None),
    ],
)
def test_what_is_refused(text: str, kind: Any, says: str | None) -> None:
    if says is None:
        assert parse_as(text, kind).value == text
        return
    with pytest.raises(PipelineError) as caught:
        parse_as(text, kind)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1_500


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1,200", int),
        ("Yes.", bool),
        ("Billing", Literal["billing"]),
        ('{"number": 1', Order),
        ("- a", list[str]),
        ("2024-01-02.", datetime.date),
    ],
)
def test_without_repair_only_what_needs_no_change_is_taken(text: str, kind: Any) -> None:
    assert parse_as(text, kind).repaired
    with pytest.raises(PipelineError):
        parse_as(text, kind, repair=False)


def test_broken_json_is_pointed_at() -> None:
    with pytest.raises(PipelineError) as caught:
        parse_as('{"number": 1,\n "tags": [}', Order, repair=False)
    assert (caught.value.line, caught.value.column) == (2, 11)
    with pytest.raises(PipelineError) as caught:
        parse_as("[" * 300 + "1" * 5_000 + "]" * 300, list, repair=False)
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_cause_is_kept() -> None:
    with pytest.raises(PipelineError) as caught:
        parse_as('{"x": 1}', Picky)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_type_that_pydantic_does_not_know_is_refused() -> None:
    class Own:
        pass

    class Selfish(typing.TypedDict):
        inner: Selfish

    # From 3.12 Pydantic reads what is made of itself.
    for kind in (Own, list[Own], "NoSuchType", *((Selfish,) if sys.version_info < (3, 12) else ())):
        with pytest.raises(PipelineError, match=r"An answer cannot be read as .*Take a type that Pydantic validates"):
            parse_as("x", kind)


def test_types_that_cannot_be_hashed_are_read_too() -> None:
    assert parse_as("5", Annotated[int, {"note": []}]).value == 5


def test_sizes_are_capped() -> None:
    with pytest.raises(PipelineError, match="An answer is a text, not int"):
        parse_as(5, int)  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match="has 1,000,001 characters, and may have 1,000,000"):
        parse_as("x" * 1_000_001, str)
    assert len(parse_as("x" * 1_000_000, str).value) == 1_000_000
