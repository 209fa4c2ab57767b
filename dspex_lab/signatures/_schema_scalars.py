"""Texts and numbers of a JSON schema, with their limits."""

from __future__ import annotations

import datetime
import ipaddress
import math
import pathlib
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

from ._document import Path, refusal
from ._meta import engine_of, to_metadata

#: The longest pattern read.
MAX_PATTERN = 1_000

_FORMATS: Mapping[str, Any] = {
    "binary": bytes,
    "date": datetime.date,
    "date-time": datetime.datetime,
    "duration": datetime.timedelta,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "path": pathlib.Path,
    "time": datetime.time,
    "uuid": uuid.UUID,
}
_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt", "multipleOf": "multiple_of"}


def limited(base: Any, limits: Mapping[str, Any]) -> Any:
    """Return ``base`` with constraints."""
    return Annotated[(base, *to_metadata(limits))] if limits else base


def lengths(node: Mapping[str, Any], path: Path, words: Mapping[str, str]) -> dict[str, int]:
    """Return the limits of lengths that ``node`` says; ``words`` maps its keywords to our constraints."""
    limits = {}
    for word, key in words.items():
        if word in node:
            value = node[word]
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
                raise refusal((*path, word), f"expected a whole number from 0 on, found {value!r:.80}.")
            limits[key] = value
    return limits


def string_type(node: Mapping[str, Any], path: Path, any_pattern: bool) -> Any:
    """Return the type of a text."""
    limits: dict[str, Any] = dict(lengths(node, path, {"minLength": "min_length", "maxLength": "max_length"}))
    known = node.get("format")
    base = _FORMATS.get(known, str) if isinstance(known, str) else str
    if base is str and "pattern" in node:
        limits["pattern"] = read_pattern(node["pattern"], (*path, "pattern"), any_pattern)
    return limited(base, limits) if base in (str, bytes) else base


def read_pattern(pattern: Any, path: Path, any_pattern: bool) -> str:
    """Return a pattern that both engines can read, or with ``any_pattern`` Python's at least."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise refusal(path, f"expected a pattern of at most {MAX_PATTERN:,} characters.")
    try:
        re.compile(pattern)
    except (re.error, ValueError, OverflowError, RecursionError, Warning) as error:
        raise refusal(path, f"the pattern is not a regular expression: {error}.") from error
    if not any_pattern and engine_of(pattern) != "rust-regex":
        hint = "Where the schema is your own, pass any_pattern=True."
        raise refusal(path, "the pattern needs an engine that a text can make arbitrarily slow.", hint=hint)
    return pattern


def _bounds(node: Mapping[str, Any], path: Path) -> dict[str, int | float]:
    found = {}
    for word, key in _BOUNDS.items():
        if word in node:
            value = node[word]
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1.7e308:
                raise refusal((*path, word), f"expected a number, found {value!r:.80}.")
            if key == "multiple_of" and value <= 0:
                raise refusal((*path, word), f"expected a number above 0, found {value!r:.80}.")
            found[key] = value
    return found


def number_type(node: Mapping[str, Any], path: Path) -> Any:
    """Return the type of a number."""
    return limited(float, _bounds(node, path))


def integer_type(node: Mapping[str, Any], path: Path) -> Any:
    """Return the type of a whole number; bounds between two of them are moved to the one that counts."""
    whole: dict[str, int] = {}
    for key, bound in _bounds(node, path).items():
        if isinstance(bound, float) and not bound.is_integer():
            if key == "multiple_of":
                raise refusal((*path, "multipleOf"), f"expected a whole number beside 'integer', found {bound!r}.")
            bound = math.ceil(bound) if key in ("ge", "lt") else math.floor(bound)
        whole[key] = int(bound)
    return limited(int, whole)
