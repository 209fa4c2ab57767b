"""Signatures with other words: instructions, descriptions and prefixes of fields."""

from __future__ import annotations

import functools
import inspect
from typing import Any

#: Instructions as DSPy shows a docstring; it is read before every run.
_clean = functools.lru_cache(maxsize=1024)(inspect.cleandoc)

#: What is kept of made signatures: making one costs 0.7 ms, and trials try the same texts again and again.
_KEPT = 256


def instructions(signature: Any) -> str:
    """Return the instructions of a signature."""
    return _clean(signature.__doc__ or "")


def with_instructions(signature: Any, text: str) -> Any:
    """Return ``signature`` with other instructions; the class that was given is left as it is."""
    return _made(signature, text, None, "", _words(signature))


def with_word(signature: Any, field: str, key: str, text: str) -> Any:
    """Return ``signature`` with another ``"desc"`` or ``"prefix"`` of a field."""
    return _made(signature, None, field, key, _words(signature), text)


def word(signature: Any, field: str, key: str) -> str:
    """Return the description or prefix of a field; a description that DSPy made up (``${name}``) is none."""
    text = str((signature.model_fields[field].json_schema_extra or {}).get(key, ""))
    return "" if key == "desc" and text == f"${{{field}}}" else text


def _words(signature: Any) -> tuple[Any, ...]:
    # A signature can be written in place, so what it says is part of what a made one is found by.
    fields = tuple((n, *(f.json_schema_extra.get(k) for k in ("desc", "prefix"))) for n, f in signature.fields.items())
    return (signature.instructions, *fields)


@functools.lru_cache(maxsize=_KEPT)
def _build(signature: Any, text: str | None, field: str | None, key: str, words: tuple[Any, ...], value: str) -> Any:
    made = signature.with_instructions(signature.instructions if text is None else text)
    made.__name__, made.__qualname__ = signature.__name__, signature.__qualname__
    if field is None:
        return made
    shown = f"${{{field}}}" if key == "desc" and not value else value
    changed = made.with_updated_fields(field, **{key: shown})
    changed.__name__, changed.__qualname__ = signature.__name__, signature.__qualname__
    return changed


def _made(signature: Any, text: str | None, field: str | None, key: str, words: tuple[Any, ...], value: str = "") -> Any:
    found = _build(signature, text, field, key, words, value)
    wanted = signature.instructions if text is None else text
    if found.instructions != wanted or (field is not None and word(found, field, key) != value):
        # Somebody wrote into the one that was made before.
        _build.cache_clear()
        found = _build(signature, text, field, key, words, value)
    return found
