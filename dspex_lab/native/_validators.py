"""Checks of values, such as a model's answers: small, put together freely, each says in a sentence what is wrong.

A validator is called with one value and returns None, or the sentence. They know no language: words are what stands
between spaces. ``validators`` has them by name; users register their own, as a function that makes a check.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Container, Iterable, Sized
from typing import Any
from urllib.parse import urlsplit

from dspex_lab.errors import ConfigurationError
from dspex_lab.native._validator import Check, Validator, as_validator, maker, validate, validator, validators

__all__ = ["Check", "Validator", "validate", "validator", "validators"]


def _bad(name: str, message: str) -> ConfigurationError:
    return ConfigurationError(f"{name}(): {message}", key=name)


def _not_text(value: Any) -> str:
    return f"It is no text but {type(value).__name__}."


def _not_collection(value: Any) -> str:
    return f"It is no text or collection but {type(value).__name__}."


@maker
def length(minimum: int | None = None, maximum: int | None = None) -> Check:
    """The length of a text in characters, or of a collection in items, is within these, both included."""
    if minimum is None and maximum is None:
        raise _bad("length", "give a minimum, a maximum or both.")

    def check(value: Any) -> str | None:
        if not isinstance(value, Sized):
            return f"It has no length; it is {type(value).__name__}."
        unit = "characters" if isinstance(value, str) else "items"
        if minimum is not None and len(value) < minimum:
            return f"It has {len(value)} {unit}, and needs at least {minimum}."
        if maximum is not None and len(value) > maximum:
            return f"It has {len(value)} {unit}, and may have at most {maximum}."
        return None

    return check


@maker
def min_words(count: int) -> Check:
    """A text has at least this many words."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        words = len(value.split())
        return f"It has {words} words, and needs at least {count}." if words < count else None

    return check


@maker
def max_words(count: int) -> Check:
    """A text has at most this many words."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        words = len(value.split())
        return f"It has {words} words, and may have at most {count}." if words > count else None

    return check


@maker
def max_lines(count: int) -> Check:
    """A text has at most this many lines."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        lines = len(value.splitlines())
        return f"It has {lines} lines, and may have at most {count}." if lines > count else None

    return check


@maker
def matches(pattern: str) -> Check:
    """A whole text fits a regular expression.

    The syntax is that of Rust's ``regex``, which takes time in proportion to the text whatever the pattern (so no
    look-around and no back-references).

    Raises:
        ConfigurationError: the pattern cannot be read.
    """
    from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

    try:
        compiled = SchemaValidator(
            core_schema.str_schema(pattern=rf"\A(?:{pattern})\z", regex_engine="rust-regex", strict=True)
        )
    except SchemaError as error:
        raise _bad("matches", f"the pattern {pattern!r} cannot be read: {error}") from error

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        try:
            compiled.validate_python(value)
        except ValidationError:
            return f"{reprlib.repr(value)} does not match {pattern!r}."
        return None

    return check


@maker
def one_of(*choices: Any, ignore_case: bool = False) -> Check:
    """The value is one of ``choices``; with ``ignore_case``, texts are compared without it."""
    if not choices:
        raise _bad("one_of", "give at least one choice.")

    def folded(value: Any) -> Any:
        return value.casefold() if ignore_case and isinstance(value, str) else value

    allowed = [folded(choice) for choice in choices]

    def check(value: Any) -> str | None:
        # 1 == True in Python, and no one who lists 1 means True.
        if any(folded(value) == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in allowed):
            return None
        return f"{reprlib.repr(value)} is none of {', '.join(map(repr, choices))}."

    return check


@maker
def between(low: Any = None, high: Any = None) -> Check:
    """The value is from ``low`` to ``high``, both included; either may be left out. NaN is between nothing."""
    if low is None and high is None:
        raise _bad("between", "give a low end, a high end or both.")

    def check(value: Any) -> str | None:
        try:
            within = bool((low is None or low <= value) and (high is None or value <= high))
        except TypeError:
            return f"{type(value).__name__} cannot be compared with {type(low if low is not None else high).__name__}."
        if within:
            return None
        ends = f"at least {low!r}" if high is None else f"at most {high!r}" if low is None else f"from {low!r} to {high!r}"
        return f"{reprlib.repr(value)} is not {ends}."

    return check


@maker
def not_empty() -> Check:
    """The value is not None, and no text of spaces or empty collection."""

    def check(value: Any) -> str | None:
        empty = (
            value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, Sized) and len(value) == 0)
        )
        return "It is empty." if empty else None

    return check


@maker
def contains(*parts: Any, ignore_case: bool = False) -> Check:
    """A text has each of these in it, or a collection each of these items."""

    def check(value: Any) -> str | None:
        if not isinstance(value, Container):
            return _not_collection(value)
        missing = [part for part in parts if not _has(value, part, ignore_case)]
        return f"It does not contain {', '.join(map(repr, missing))}." if missing else None

    return check


@maker
def not_contains(*parts: Any, ignore_case: bool = False) -> Check:
    """A text has none of these in it, or a collection none of these items."""

    def check(value: Any) -> str | None:
        if not isinstance(value, Container):
            return _not_collection(value)
        there = [part for part in parts if _has(value, part, ignore_case)]
        return f"It contains {', '.join(map(repr, there))}." if there else None

    return check


def _has(value: Any, part: Any, ignore_case: bool) -> bool:
    if isinstance(value, str):
        said = str(part)
        return said.casefold() in value.casefold() if ignore_case else said in value
    if ignore_case and isinstance(part, str):
        return any(isinstance(item, str) and item.casefold() == part.casefold() for item in value)
    try:
        return part in value
    except TypeError:  # bytes hold no text, and sets no lists
        return False


@maker
def starts_with(*starts: str) -> Check:
    """A text begins with one of these."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        return None if value.startswith(starts) else f"It does not begin with {' or '.join(map(repr, starts))}."

    return check


@maker
def ends_with(*ends: str) -> Check:
    """A text ends with one of these."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        return None if value.endswith(ends) else f"It does not end with {' or '.join(map(repr, ends))}."

    return check


@maker
def unique() -> Check:
    """No item of a collection is there twice."""

    def check(value: Any) -> str | None:
        if not isinstance(value, Iterable):
            return _not_collection(value)
        seen: list[Any] = []
        known: set[Any] = set()
        for item in value:
            try:
                twice = item in known
                known.add(item)
            except TypeError:  # an item that cannot be hashed
                twice = item in seen
                seen.append(item)
            if twice:
                return f"{reprlib.repr(item)} is there twice."
        return None

    return check


@maker
def is_json(kind: Any = None) -> Check:
    """A text is JSON as it stands; with ``kind``, a value of that type.

    Args:
        kind: any type that Pydantic validates.
    """

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        try:
            found = json.loads(value)
        except json.JSONDecodeError as error:
            return f"It is no JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        except (ValueError, RecursionError) as error:
            return f"It is no JSON that can be read: {error}."
        if kind is None:
            return None
        from pydantic import TypeAdapter, ValidationError

        try:
            TypeAdapter(kind).validate_python(found)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return f"Its JSON does not fit at /{'/'.join(map(str, first['loc']))}: {first['msg']}."
        return None

    return check


@maker
def is_url(schemes: tuple[str, ...] | list[str] = ("https", "http")) -> Check:
    """A text is an address with one of ``schemes`` and a host, and nothing else. Nothing is asked of the network."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return _not_text(value)
        try:
            parts = urlsplit(value)
            sound = bool(parts.hostname) and (parts.port is None or parts.port > 0) and value.isprintable() and " " not in value
        except ValueError:
            sound = False
        if not sound:
            return f"{reprlib.repr(value)} is no address."
        return None if parts.scheme in schemes else f"{reprlib.repr(value)} does not begin with {' or '.join(schemes)}."

    return check


@maker
def every(*checks: Check) -> Check:
    """Each item of a collection passes all of ``checks``."""
    inner = [as_validator(check) for check in checks]

    def check(value: Any) -> str | None:
        if not isinstance(value, Iterable):
            return _not_collection(value)
        for number, item in enumerate(value, 1):
            for one in inner:
                said = one(item)
                if said is not None:
                    return f"Item {number}: {said}"
        return None

    return check


@maker
def either(*checks: Check) -> Check:
    """The value passes at least one of ``checks``."""
    if not checks:
        raise _bad("either", "give at least one validator.")
    inner = [as_validator(check) for check in checks]

    def check(value: Any) -> str | None:
        said = [one(value) for one in inner]
        return None if None in said else " ".join(sentence for sentence in said if sentence)

    return check


@maker
def satisfies(test: Callable[[Any], Any], otherwise: str) -> Check:
    """``test`` of the value is true; ``otherwise`` is the sentence where it is not."""

    def check(value: Any) -> str | None:
        return None if test(value) else otherwise

    return check
