"""Readers of plain values: each takes an answer and yields what it may say, or nothing."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from dspex_lab.native._found import Found, fenced_whole

Reader = Callable[[str], Iterator[Found]]

#: Characters of a number or a choice.
_MAX_PLAIN = 400
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?")
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
_NOTHING = frozenset({"null", "none"})
_MARKS = ("**", "`", '"', "'", "*")
_ITEM = re.compile(r"[ \t]*(?:[-*•]|[0-9]{1,4}[.)])[ \t]+(.*)")


def bare(text: str) -> tuple[str, str, bool]:
    """Return ``text`` without bold, quotes, backticks and a last period, how that went, and whether any of it was there."""
    stripped = text.strip()
    left = stripped
    for _ in range(3):
        left = left.removesuffix(".").strip()
        for mark in _MARKS:
            if len(left) > 2 * len(mark) and left.startswith(mark) and left.endswith(mark):
                left = left[len(mark) : -len(mark)].strip()
                break
    changed = left != stripped
    return left, "trimmed" if changed else "as is", changed


def reads_text(text: str) -> Iterator[Found]:
    """The text itself, or what is in the fence that it is."""
    inside = fenced_whole(text)
    if inside is not None:
        yield Found(inside, "text in a fence", False)
    yield Found(text, "as is", False)


def reads_word(text: str) -> Iterator[Found]:
    """What is written as one word, such as a UUID or a path, for Pydantic to read."""
    said, how, changed = bare(text)
    if said:
        yield Found(said, how, changed)


def reads_time(text: str) -> Iterator[Found]:
    """A date or time in a form that Pydantic reads; not a plain number, which it would take for seconds since 1970."""
    said, how, changed = bare(text)
    if said and not _NUMBER.fullmatch(said):
        yield Found(said, how, changed)


def reads_nothing(text: str) -> Iterator[Found]:
    """None."""
    said, how, changed = bare(text)
    if said.lower() in _NOTHING:
        yield Found(None, how, changed)


def reads_flag(text: str) -> Iterator[Found]:
    """True or false."""
    said, how, changed = bare(text)
    value = _FLAGS.get(said.lower())
    if value is not None:
        yield Found(value, how, changed)


def reads_number(text: str) -> Iterator[Found]:
    """A whole number or a float."""
    for found in reads_decimal(text):
        value: decimal.Decimal = found.value
        whole = value.as_tuple().exponent == 0
        number = int(value) if whole else float(value)
        if math.isfinite(number):
            yield found._replace(value=number)


def reads_decimal(text: str) -> Iterator[Found]:
    """A number to its last digit."""
    said, how, changed = bare(text)
    if len(said) > _MAX_PLAIN:
        return
    if _GROUPED.fullmatch(said):
        said, how, changed = said.replace(",", ""), "number without its commas", True
    if _NUMBER.fullmatch(said):
        yield Found(decimal.Decimal(said), how, changed)


def reads_lines(text: str) -> Iterator[Found]:
    """A list whose lines all begin with a dash, a bullet or a number."""
    items = [_ITEM.fullmatch(line) for line in text.splitlines() if line.strip()]
    if items and all(items):
        yield Found([item[1].strip() for item in items if item], "list of lines", True)


def choice_reader(choices: tuple[tuple[str, Any], ...]) -> Reader:
    """Return a reader of one of several values, given with a text that says it."""
    exact: dict[str, Any] = {}
    loose: dict[str, list[Any]] = {}
    for said, value in choices:
        exact.setdefault(said, value)
        meant = loose.setdefault(_folded(said), [])
        if not any(value is other for other in meant):
            meant.append(value)

    def reads_choice(text: str) -> Iterator[Found]:
        stripped = text.strip()
        if stripped in exact:
            yield Found(exact[stripped], "as is", False)
            return
        said, how, changed = bare(text)
        if said in exact:
            yield Found(exact[said], how, changed)
            return
        meant = loose.get(_folded(said), []) if len(said) <= _MAX_PLAIN else []
        if len(meant) == 1:
            yield Found(meant[0], "matched to a choice", True)

    return reads_choice


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
