"""Sentences of a text: which fits words best, which says what the whole says, and the passages that a field lists."""

from __future__ import annotations

import json
import re
from functools import lru_cache

import numpy as np

from dspex_lab.lms.exemplar._similarity import content_words, features, index

_SENTENCE = re.compile(r"(?<=[.!?])[\"”')»]*\s+|\n+")
#: How DSPy numbers a list in a field of text: ``[1] «text»``, or over several lines ``[1] «««`` … ``»»»``.
_NUMBERED = re.compile(
    r"^\[\d{1,4}\] (?:«««\n(?P<block>.*?)\n»»»|«(?P<line>[^\n]*?)»)(?=\n\[\d{1,4}\] «|\s*\Z)", re.DOTALL | re.MULTILINE
)
_ALONE = re.compile(r"\A(?:«««\n(?P<block>.*)\n»»»|«(?P<line>[^\n«»]*)»)\Z", re.DOTALL)
#: A word counts as found in a text when this share of its n-grams is there.
FOUND = 0.6


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of ``text``; markers of fields within a value are none."""
    return [s.strip() for s in _SENTENCE.split(text) if s.strip() and not s.startswith("[[ ## ")]


def coverage(parts: list[str], wanted: str) -> np.ndarray:
    """Return for each of ``parts`` the share of the content words of ``wanted`` it has, rare ones counting more."""
    terms = tuple(dict.fromkeys(content_words(wanted)))
    if not terms or not parts:
        return np.zeros(len(parts))
    vocabulary = index(terms)
    found = np.array([np.where(vocabulary.coverage(features(s)) >= FOUND, 1.0, 0.0) for s in parts])
    rarity = np.maximum(np.log((len(parts) + 1.0) / (found.sum(axis=0) + 0.5)), 0.05)
    return np.asarray(found @ rarity / rarity.sum())


def closest_sentence(text: str, wanted: str) -> str:
    """Return the sentence of ``text`` that has most in common with ``wanted``; the first, if none has anything."""
    parts = sentences(text)
    if not parts:
        return text.strip()
    return parts[int(coverage(parts, wanted).argmax())]


def central_sentence(text: str) -> str:
    """Return the sentence of ``text`` that resembles the whole most; a short text is returned as it is."""
    parts = sentences(text)
    if len(parts) < 2:
        return text.strip()
    whole = features(text)
    return parts[int(index(tuple(parts)).likeness(whole).argmax())]


def has_any(text: str, wanted: str) -> bool:
    """Whether ``text`` has any content word of ``wanted``."""
    terms = tuple(content_words(wanted))
    return bool(terms) and bool((index(terms).coverage(features(text)) >= FOUND).any())


@lru_cache(maxsize=512)
def listed(text: str) -> tuple[str, ...] | None:
    """Return the items of a field that holds a list, as JSON or numbered by DSPy; None if it holds none.

    An item that is no text is given as JSON.
    """
    stripped = text.strip()
    if stripped.startswith("["):
        try:
            found = json.loads(stripped)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            return tuple(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in found)
    alone = _ALONE.match(stripped)
    matches = [alone] if alone else list(_NUMBERED.finditer(stripped))
    if not matches or (not alone and not stripped.startswith("[1] «")):
        return None
    return tuple(_unindented(m["block"]) if m["block"] is not None else m["line"] for m in matches)


def _unindented(block: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())
