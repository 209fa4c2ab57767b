"""Brings an answer into the form that constraints demand of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dspex_lab.lms.exemplar._constraints import Constraints
from dspex_lab.lms.exemplar._sentences import sentences
from dspex_lab.lms.exemplar._similarity import FUNCTION_WORDS
from dspex_lab.lms.exemplar._spans import kind_asked, spans

#: An answer that must be shorter than an earlier one is cut to this share of its words.
_SHORTER = 0.6


def fitted_text(text: str, wanted: Constraints, source: str) -> str:
    """Return ``text`` in the form that is wanted, as far as that can be had.

    Args:
        source: the text that was asked about, from which parts that must be there are taken.
    """
    for part in wanted.without:
        text = re.sub(rf"\s*{re.escape(part)}", "", text, flags=re.IGNORECASE).strip() or text
    if wanted.longer and wanted.earlier and len(text) <= max(map(len, wanted.earlier)):
        text = _lengthened(text, source)
    least, most = wanted.limit("words")
    if wanted.shorter and wanted.earlier:
        most = min(most or 10_000, max(1, int(_SHORTER * min(len(e.split()) for e in wanted.earlier))))
    if least is not None and len(text.split()) < least:
        text = _lengthened(text, source, least)
    parts = _required(text, wanted, source)
    text = _cut(text, wanted, None if most is None else max(most - sum(len(p.split()) for p in parts), 0))
    if parts:
        text = " ".join([text.rstrip(" .,;:"), *parts]).strip()
    return _dressed(text, wanted)


def _required(text: str, wanted: Constraints, source: str) -> list[str]:
    """Return the parts that must be in the text and are not."""
    parts = [part for part in wanted.contains if part not in text]
    for described in wanted.described:
        kind = kind_asked("", described)
        found = [value for _, value in spans(source, kind)] if kind else []
        if found and not any(value in text for value in found):
            parts.append(found[0])
    return parts


def _cut(text: str, wanted: Constraints, words: int | None) -> str:
    _, sentences_most = wanted.limit("sentences")
    _, lines = wanted.limit("lines")
    _, characters = wanted.limit("characters")
    if sentences_most is not None and len(sentences(text)) > sentences_most:
        text = " ".join(sentences(text)[:sentences_most])
    if lines is not None:
        text = "\n".join(text.splitlines()[:lines])
    if words is not None:
        text = _first_words(text, words)
    if characters is not None and len(text) > characters:
        text = _first_characters(text, characters)
    return text


def _first_words(text: str, most: int) -> str:
    """Return at most ``most`` words: whole sentences where they fit, else the beginning without loose ends."""
    if len(text.split()) <= most:
        return text
    whole: list[str] = []
    for sentence in sentences(text):
        if len(" ".join([*whole, sentence]).split()) > most:
            break
        whole.append(sentence)
    if whole:
        return " ".join(whole)
    return _trimmed(text.split()[:most])


def _first_characters(text: str, most: int) -> str:
    kept: list[str] = []
    for word in text.split():
        if len(" ".join([*kept, word])) > most:
            break
        kept.append(word)
    return _trimmed(kept) if kept else text[:most]


def _trimmed(words: list[str]) -> str:
    while len(words) > 1 and words[-1].lower().strip(".,;:") in FUNCTION_WORDS:
        words = words[:-1]
    return " ".join(words).rstrip(",;:–—-")


def _lengthened(text: str, source: str, least: int = 0) -> str:
    """Return ``text`` with sentences of ``source`` after it: one, or until it has ``least`` words."""
    for sentence in sentences(source):
        if sentence in text:
            continue
        text = f"{text} {sentence}".strip()
        if len(text.split()) >= least:
            break
    return text


def _dressed(text: str, wanted: Constraints) -> str:
    if wanted.begins and not text.startswith(wanted.begins):
        text = f"{wanted.begins[0]} {text}" if wanted.begins[0][-1:].isalnum() else f"{wanted.begins[0]}{text}"
    if wanted.ends and not text.endswith(wanted.ends):
        end = wanted.ends[0]
        text = f"{text.rstrip('.!? ')}{end}" if not end[:1].isalnum() else f"{text} {end}"
    if wanted.case:
        text = text.lower() if wanted.case == "lower" else text.upper()
    return text


def fitted_list(values: list[Any], wanted: Constraints, more: Sequence[Any] = ()) -> list[Any]:
    """Return ``values`` with as many items as wanted; ``more`` are items that may be added."""
    least, most = wanted.limit("items")
    out = [v for v in values if v not in wanted.without and v not in wanted.refused]
    out += [part for part in wanted.contains if part not in out and all(isinstance(v, str) for v in out)]
    for value in more:
        if least is None or len(out) >= least:
            break
        if value not in out:
            out.append(value)
    return out[:most] if most is not None else out


def fitted_number(value: float, wanted: Constraints) -> float:
    """Return ``value`` within the wanted bounds."""
    if wanted.low is not None:
        value = max(value, wanted.low)
    return value if wanted.high is None else min(value, wanted.high)


def open_options(options: Sequence[Any], wanted: Constraints, sole: bool) -> list[int]:
    """Return the places of the options that may still be chosen; all of them where none would be left.

    Args:
        sole: the earlier answer was about this field alone, so that its value is what was refused.
    """
    texts = [str(o) for o in options]
    allowed = {a.strip().lower() for a in wanted.allowed}
    refused = {r.strip().lower() for r in (*wanted.refused, *(wanted.earlier if sole else ()))}
    named = [i for i, text in enumerate(texts) if text.lower() in allowed and text.lower() not in refused]
    if named:
        return named
    left = [i for i, text in enumerate(texts) if text.lower() not in refused]
    return left or list(range(len(texts)))
