"""Reads an answer off rows: objects with named values, as tools and JSON fields give them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from dspex_lab.lms.exemplar._sentences import FOUND, coverage, listed
from dspex_lab.lms.exemplar._similarity import content_words, features, index, vocabulary, words

_LONGEST = 50_000
_MOST = 5
_NAMES = vocabulary("name names title who person author")
_WHO = re.compile(r"\b(?:who|whom|whose|which|name)\b", re.IGNORECASE)
_TIMES = re.compile(r"\b(?:when|year|date)\b", re.IGNORECASE)
_COUNTS = re.compile(r"\bhow (?:many|much|old|long|far|tall|high)\b", re.IGNORECASE)


def rows_in(text: str) -> list[Any] | None:
    """Return the items of a list or the one object that ``text`` is, as JSON or as Python writes it; None if it is neither."""
    plain = (listed(text) or (text,))[0] if text.lstrip().startswith(("«", "[1] «")) else text
    items = listed(text) if text.lstrip().startswith("[1] «") else None
    if items is not None:
        found: Any = [_loaded(item) for item in items]
    else:
        found = _loaded(plain) if plain.strip()[:1] in ("[", "{", "(") else None
    if isinstance(found, dict):
        return [found]
    return list(found) if isinstance(found, list | tuple) else None


def _loaded(text: str) -> Any:
    if len(text) > _LONGEST:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def answer_in(question: str, text: str) -> str | None:
    """Return what the rows in ``text`` say to ``question``; None if it holds no rows."""
    rows = rows_in(text)
    if not rows:
        return None
    objects = [row for row in rows if isinstance(row, dict) and row]
    if not objects:
        return ", ".join(str(row) for row in rows[:_MOST])
    shares = coverage([" ".join(f"{k} {v}" for k, v in row.items()) for row in objects], question)
    best = [row for row, share in zip(objects, shares, strict=True) if share >= shares.max() - 1e-9]
    key = _key(question, best[0])
    values = [_said(row[key]) if key is not None and key in row else _rest(question, row) for row in best[:_MOST]]
    return ", ".join(dict.fromkeys(values))


def _key(question: str, row: Mapping[str, Any]) -> str | None:
    """Return the name of the value that the question asks for, by its words or by the form it wants."""
    asked = features(question)
    known = set(content_words(question))
    open_keys = [k for k, v in row.items() if not (set(words(str(v))) and set(words(str(v))) <= known)]
    named = [k for k in open_keys if (own := tuple(content_words(k))) and (index(own).coverage(asked) >= FOUND).all()]
    if named:
        return named[0]
    if _TIMES.search(question):
        dated = [k for k in open_keys if re.search(r"\d+[-./:]\d+|\d+ [A-Za-z]{3,9}\.? \d{4}", str(row[k]))]
        dated += [k for k in open_keys if re.search(r"\b\d{4}\b", str(row[k]))]
        return dated[0] if dated else None
    if _COUNTS.search(question):
        return next((k for k in open_keys if isinstance(row[k], int | float) and not isinstance(row[k], bool)), None)
    if _WHO.search(question):
        return next((k for k in open_keys if set(words(k)) & _NAMES), None)
    return None


def _rest(question: str, row: Mapping[str, Any]) -> str:
    """Return the values that the question does not have itself."""
    known = set(content_words(question))
    fresh = [_said(v) for v in row.values() if not set(words(str(v))) <= known]
    return ", ".join(fresh or [_said(v) for v in row.values()])


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
