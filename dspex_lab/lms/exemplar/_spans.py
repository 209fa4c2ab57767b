"""Spans of a text that have a known form: addresses, dates, amounts, codes, names; and which one a field asks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from dspex_lab.lms.exemplar._similarity import FUNCTION_WORDS, content_words, features, words

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|today|tomorrow|tonight|yesterday"
_AMOUNT = r"\d+(?:[.,]\d{3})*(?:[.,]\d+)?"

#: The form of each kind of span; the order is that in which a value is recognised.
KINDS: dict[str, re.Pattern[str]] = {
    "email": re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]+[^\s<>\"')\].,;:!?]"),
    "date": re.compile(
        r"\b(?:\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
        rf"|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? \d{{4}})?"
        rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?|{_DAY})(?!\w)",
        re.IGNORECASE,
    ),
    "year": re.compile(r"\b(?:1[5-9]|20)\d\d\b"),
    "time": re.compile(r"\b\d{1,2}(?::\d{2}(?:\s?[ap]\.?m\.?)?|\s?[ap]\.?m\.?)(?!\w)", re.IGNORECASE),
    "money": re.compile(
        rf"(?:[$€£¥]\s?{_AMOUNT}|{_AMOUNT}\s?(?:[$€£¥]|(?:usd|eur|gbp|dollars?|euros?|pounds?|cents?)\b))", re.IGNORECASE
    ),
    "percent": re.compile(rf"{_AMOUNT}\s?(?:%|percent\b)", re.IGNORECASE),
    "phone": re.compile(r"(?<![\w-])\+?\(?\d{2,4}\)?(?:[\s./-]?\d{2,4}){2,4}(?![\w-])"),
    "code": re.compile(r"#\w[\w-]*|\b(?=[\w-]{0,80}\d)(?=[\w-]{0,80}[A-Za-z])[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\b"),
    "number": re.compile(rf"(?<![\w.])(?<!\w-)[-+]?{_AMOUNT}(?!\w)"),
    "quoted": re.compile(r"[\"“«]([^\"”»\n]+)[\"”»]"),
    "name": re.compile(r"\b[A-Z][\w'’&-]*(?:\s+(?:(?:of|de|van|von|da|la|le)\s+)?[A-Z][\w'’&-]*)*"),
}

_CUES = {
    "email": "email mail emails",
    "url": "url link website site webpage homepage urls links",
    "date": "date day deadline when birthday due dates days",
    "time": "time hour clock",
    "money": "amount price cost total sum fee payment balance refund charge money salary budget",
    "percent": "percent percentage rate",
    "phone": "phone telephone mobile fax",
    "code": "id code identifier reference ref order invoice ticket serial tracking sku codes ids",
    "number": "number count quantity age many much size",
    "year": "year",
    "name": "name person who author customer company city country place location where names people entity entities "
    "organisation organization",
}
_KIND_OF_CUE = {cue: kind for kind, cues in _CUES.items() for cue in cues.split()}
#: Where the likeliest form is missing, these may stand in.
_INSTEAD = {
    "date": ("year",),
    "money": ("number",),
    "code": ("number",),
    "percent": ("number",),
    "number": ("money", "percent"),
}

#: How many words before a span may hold a cue for it.
_REACH = 5
#: Characters in which those words are looked for.
_NEAR = 300


def kind_asked(name: str, description: str) -> str | None:
    """Return the kind of span that a field's name, or else its description, asks for."""
    for text in (name, description):
        kinds = [_KIND_OF_CUE[w] for w in words(text) if w in _KIND_OF_CUE]
        if "code" in kinds and "number" in kinds:
            return "code"
        if kinds:
            return kinds[-1] if text is name else kinds[0]
    return None


@lru_cache(maxsize=2048)
def spans(text: str, kind: str) -> tuple[tuple[int, str], ...]:
    """Return the spans of ``kind`` in ``text``, each with where it begins."""
    found = []
    for match in KINDS[kind].finditer(text):
        value = match.group(1) if kind == "quoted" else match.group()
        if kind == "name":
            trimmed = _trim_name(text, match.start(), value)
            if trimmed:
                found.append(trimmed)
        else:
            found.append((match.start(), value))
    return tuple(found)


def _trim_name(text: str, start: int, value: str) -> tuple[int, str] | None:
    """Cut function words off the front of a capitalised run, and drop a word that only begins its sentence."""
    parts = value.split()
    while parts and (parts[0].lower() in FUNCTION_WORDS or len(parts[0]) < 2):
        start += len(parts[0]) + 1
        parts = parts[1:]
    before = text[:start].rstrip()
    if not parts or (len(parts) == 1 and (not before or before[-1] in ".!?:\n") and not parts[0].isupper()):
        return None
    return start, " ".join(parts)


def kind_of(values: Sequence[str]) -> str | None:
    """Return the kind that most of ``values`` have the form of, if there is one."""
    found = Counter(kind for value in values for kind in [_form(value)] if kind)
    if not found:
        return None
    kind, count = found.most_common(1)[0]
    return kind if count >= 0.6 * len(values) else None


def _form(value: str) -> str | None:
    for kind, pattern in KINDS.items():
        if kind not in ("quoted", "year") and pattern.fullmatch(value.strip()):
            return kind
    return None


def extract(text: str, name: str, description: str) -> str | None:
    """Return the span of ``text`` that a field asks for by its name or description; None if it asks for no known kind or
    the text has none."""
    kind = kind_asked(name, description)
    if kind is None:
        return None
    for candidate in (kind, *_INSTEAD.get(kind, ())):
        found = spans(text, candidate)
        if found:
            return _nearest_to_cue(text, found, {*words(name), *content_words(description)})
    return None


def _nearest_to_cue(text: str, found: Sequence[tuple[int, str]], cues: set[str]) -> str:
    """Return the span before which most cue words stand, among those with equally many the one closest to them."""

    def fit(span: tuple[int, str]) -> tuple[int, int, int]:
        before = words(text[max(span[0] - _NEAR, 0) : span[0]])[-_REACH:]
        places = [i for i, word in enumerate(before) if word in cues]
        return -len({before[i] for i in places}), -(max(places) if places else 0), span[0]

    return min(found, key=fit)[1]


def extract_like(text: str, shown: Sequence[tuple[str, str]]) -> str | None:
    """Return the span of ``text`` that plays the part which the values play in the demonstrated texts.

    Args:
        text: where to look.
        shown: pairs of a text and the value taken from it.

    None unless most values really are parts of their texts, and have a form in common that ``text`` has too.
    """
    inside = [(given, value) for given, value in shown if value and value.lower() in given.lower()]
    if not inside or len(inside) < 0.6 * len(shown):
        return None
    kind = kind_of([value for _, value in inside])
    if kind is None:
        return None
    found = spans(text, kind)
    if not found:
        return None
    around = [features(_around(given, given.lower().index(value.lower()), value)) for given, value in inside]

    def fit(span: tuple[int, str]) -> float:
        own = set(features(_around(text, *span)).tolist())
        return max(len(own.intersection(other.tolist())) for other in around)

    return max(found, key=fit)[1]


def _around(text: str, start: int, value: str) -> str:
    """Return the words beside a span: three before it and two after it."""
    end = start + len(value)
    before, after = words(text[max(start - _NEAR, 0) : start])[-3:], words(text[end : end + _NEAR])[:2]
    return " ".join(before) + " | " + " ".join(after)
