"""Finding JSON in what a model wrote, and mending it. Bounded: no text makes these slow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Brackets inside each other that are still read.
MAX_DEPTH = 100
#: Characters that are looked at while mending. Broken JSON as models write it takes 3 looks a character, but json-repair
#: is quadratic on some texts: 8 KB can take it 15 seconds.
MAX_LOOKS = 500_000
#: Times that the reading of a text may start over, as a multiple of its length.
_RESTARTS = 4

_LANGUAGE = re.compile(r"[A-Za-z0-9_+.-]{0,30}[ \t]*\r?\n")
_INLINE = re.compile(r"(?i:jsonc?|json5)\s+")
_BRACKET = re.compile(r"[\[\]{}]")
_OPEN = {"[": 1, "{": 1, "]": -1, "}": -1}


class Found(NamedTuple):
    """A value read from a text."""

    value: Any
    how: str
    repaired: bool


class _Exhausted(Exception):
    """The mending looked at too much."""


class _Metered(str):
    """A text that counts how often it is looked at.

    json-repair reads its text by index and by slice only, and catches no exceptions of this kind.
    """

    def __init__(self, _: str) -> None:
        self.looks = 0

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        self.looks += len(part)
        if self.looks > MAX_LOOKS:
            raise _Exhausted
        return part


def fences(text: str) -> list[str]:
    """Return what stands between triple backticks, the language's name left out; a fence left open ends with the text."""
    inside = []
    for part in text.split("```")[1::2]:
        language = _LANGUAGE.match(part) or _INLINE.match(part)
        inside.append(part[language.end() :] if language else part)
    return inside


def fenced_whole(text: str) -> str | None:
    """Return what is inside the fence that is the whole text, or None where the text is not one fence."""
    parts = text.strip().split("```")
    if len(parts) != 3 or parts[0] or parts[2]:
        return None
    return fences(text)[0].removesuffix("\n").removesuffix("\r")


def json_whole(text: str) -> Iterator[Found]:
    """Yield the JSON value that ``text`` is, if it is one."""
    whole = _loaded(text)
    if whole is not None:
        yield Found(whole[0], "as is", False)


def json_in(text: str, openings: str) -> Iterator[Found]:
    """Yield the JSON values in ``text``, the likeliest first: the whole, the fences from the last, the prose from the last.

    Args:
        text: what a model wrote.
        openings: the characters that a value within prose may begin with, of ``{`` and ``[``.
    """
    yield from json_whole(text)
    blocks = [value for value in map(_loaded, fences(text)) if value is not None]
    for block in reversed(blocks):
        yield Found(block[0], "json in a fence" + _which(len(blocks)), False)
    spans = _spans(text, openings)
    for span in reversed(spans):
        yield Found(span, "json in the text" + _which(len(spans)), False)


def mended(text: str, openings: str) -> Iterator[Found]:
    """Yield what json-repair makes of the last fence, and of the text from its first bracket on."""
    import json_repair

    sources = [(block, "repaired json in a fence") for block in fences(text)[-1:]]
    sources.append((text, "repaired json"))
    for source, how in sources:
        start = min((i for i in map(source.find, openings) if i >= 0), default=-1)
        if start < 0 or depth_of(source) > MAX_DEPTH:
            continue
        metered = _Metered(source[start:])
        try:
            value = json_repair.loads(metered, skip_json_loads=True)
        except (_Exhausted, ValueError, RecursionError, IndexError):
            continue  # it cannot be mended; the next source, or the caller's error, speaks for it
        if isinstance(value, dict | list):
            yield Found(value, how, True)


def depth_of(text: str) -> int:
    """Return how deep the brackets of ``text`` go, those in its strings counted too."""
    deepest = depth = 0
    for bracket in _BRACKET.finditer(text):
        depth = max(depth + _OPEN[bracket[0]], 0)
        deepest = max(deepest, depth)
    return deepest


def _which(count: int) -> str:
    return f" (the last of {count} that fits)" if count > 1 else ""


def _loaded(text: str) -> tuple[Any] | None:
    """Return the JSON value that ``text`` is, in a tuple, or None where it is none."""
    try:
        value = json.loads(text.strip())
    except (ValueError, RecursionError):
        return None
    return None if _too_deep(value) else (value,)


def _spans(text: str, openings: str) -> list[Any]:
    """Return the objects and arrays within ``text`` in order, those inside others left out."""
    opening = re.compile(f"[{re.escape(openings)}]")
    decoder = json.JSONDecoder()
    found: list[Any] = []
    work = _RESTARTS * len(text) + 10_000
    at = opening.search(text)
    while at is not None and work > 0:
        start = at.start()
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            work -= error.pos - start + 1
            end = start + 1
        except (ValueError, RecursionError):  # a number or a nesting beyond what is read
            work -= len(text) - start
            end = start + 1
        else:
            if not _too_deep(value):
                found.append(value)
        at = opening.search(text, end)
    return found


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
