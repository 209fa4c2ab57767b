"""How long an answer may be and must be: words, characters, lines, sentences, items; in prose and in conditions of programs."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: A unit, the least and the most of it; None where there is no such end.
Limit = tuple[str, int | None, int | None]

_SMALL = "zero one two three four five six seven eight nine ten eleven twelve"
_COUNTS = {word: i for i, word in enumerate(_SMALL.split())} | {"a": 1}
NUMBER = rf"(\d{{1,6}}|{'|'.join(_SMALL.split())}|a single)"
UNIT = r"(words?|characters?|chars?|letters?|lines?|sentences?|items?|entries|elements?|keywords?|tags?)"
MOST = r"(?:at most|no more than|not more than|a maximum of|maximum(?: of)?|max\.?|up to|within|limit(?:ed)?(?: \w+)? to|<=|≤)"
UNDER = r"(?:fewer than|less than|under|below|<)"
LEAST = r"(?:at least|no fewer than|no less than|not less than|a minimum of|minimum(?: of)?|>=|≥)"
OVER = r"(?:more than|over|above|>)"
_EXACT = r"(?:exactly|precisely|must (?:be|have|contain)|should be|answer (?:in|with)|reply (?:in|with)|only|in)"
#: Each with which end it gives, by how much the bound is off, and whether the number or the unit comes first.
_PROSE = tuple(
    (re.compile(pattern, re.IGNORECASE), end, shift, first)
    for pattern, end, shift, first in (
        (rf"\b{MOST}\s+{NUMBER}\s+{UNIT}\b", "most", 0, "number"),
        (rf"(?<!no )(?<!not )\b{UNDER}\s+{NUMBER}\s+{UNIT}\b", "most", -1, "number"),
        (rf"\b{LEAST}\s+{NUMBER}\s+{UNIT}\b", "least", 0, "number"),
        (rf"(?<!no )(?<!not )\b{OVER}\s+{NUMBER}\s+{UNIT}\b", "least", 1, "number"),
        (rf"\b{NUMBER}\s+{UNIT}\s+(?:or (?:less|fewer)|at most|max(?:imum)?)\b", "most", 0, "number"),
        (rf"\b{NUMBER}\s+{UNIT}\s+(?:or more|at least)\b", "least", 0, "number"),
        (rf"\b{_EXACT}\s+{NUMBER}\s+{UNIT}\b(?!\s+(?:or|at)\b)", "both", 0, "number"),
        (rf"\bhas \d+ {UNIT},? and may have at most\s+(\d{{1,6}})", "most", 0, "unit"),
        (rf"\bhas \d+ {UNIT},? and needs at least\s+(\d{{1,6}})", "least", 0, "unit"),
    )
)
_CODE = re.compile(r"\blen\(\s*([\w.\[\]'\"]+?)(\.split\(\)|\.splitlines\(\))?\s*\)\s*(<=|>=|==|<|>)\s*(\d{1,6})")
_STEMS = (("word", "words"), ("char", "characters"), ("letter", "characters"), ("line", "lines"), ("sent", "sentences"))
_BEGINS = (
    re.compile(rf"\s*(?:{MOST}|{LEAST}|exactly)?\s*{NUMBER}\s+{UNIT}\b", re.IGNORECASE),
    re.compile(rf"\s*(?:{MOST}|{LEAST}|{UNDER}|{OVER})\s+\d", re.IGNORECASE),
)


def limits_in(sentence: str) -> Iterator[Limit]:
    """Yield the limits that a sentence gives."""
    for pattern, end, shift, first in _PROSE:
        for match in pattern.finditer(sentence):
            number, unit = match.groups() if first == "number" else reversed(match.groups())
            count = (int(number) if number.isdigit() else _COUNTS[number.lower().split()[0]]) + shift
            yield _unit(unit), count if end != "most" else None, count if end != "least" else None
    for match in _CODE.finditer(sentence):
        unit = {".split()": "words", ".splitlines()": "lines", None: "characters"}[match.group(2)]
        sign, count = match.group(3), int(match.group(4))
        least = {">=": count, ">": count + 1, "==": count}.get(sign)
        most = {"<=": count, "<": count - 1, "==": count}.get(sign)
        yield unit, least, most
        if unit == "characters":
            yield "items", least, most  # of a list, len() counts items


def limit_at(sentence: str, start: int) -> bool:
    """Whether a limit stands at ``start``."""
    return any(pattern.match(sentence, start) for pattern in _BEGINS)


def _unit(text: str) -> str:
    return next((unit for start, unit in _STEMS if text.lower().startswith(start)), "items")
