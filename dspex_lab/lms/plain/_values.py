"""Inputs and outputs of a DSPy program as JSON-able data, taken down before anybody changes them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
from collections.abc import Mapping
from typing import Any

_DEEPEST = 8
_MOST_ITEMS = 1_000
_LONGEST_REPR = 2_000


def inputs_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, those without a name as ``args``."""
    given = {name: as_json(value) for name, value in kwargs.items()}
    return {**given, "args": as_json(args)} if args else given


def outputs_of(answer: Any) -> dict[str, Any]:
    """Return what a program gave: the fields of a prediction, or one named ``output``."""
    made = as_json(answer)
    return made if isinstance(made, dict) else {"output": made}


def as_json(value: Any, depth: int = 0) -> Any:
    """Return ``value`` as JSON-able data; what is none is its ``repr``, cut to size. Never raises."""
    if value is None or (isinstance(value, str | bool | int) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if depth > _DEEPEST:
        return _shown(value)
    try:
        return _structured(value, depth + 1)
    except Exception:  # a property, an iterator or a __repr__ of the user's may raise anything
        return f"<{type(value).__name__}>"


def _structured(value: Any, depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return as_json(value.value, depth)
    if isinstance(value, Mapping):
        return {str(key): as_json(inner, depth) for key, inner in _some(value.items())}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(inner, depth) for inner in _some(value)]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return f"<{type(value).__name__} of {len(value)} bytes>"
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return as_json(value.model_dump(mode="json"), depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name), depth) for field in dataclasses.fields(value)}
    if hasattr(value, "toDict"):  # dspy.Example and dspy.Prediction
        return {str(key): as_json(inner, depth) for key, inner in _some(value.items())}
    if hasattr(value, "dump_state") and hasattr(value, "model"):  # a language model, whose state may hold more than its name
        return f"<{type(value).__name__} {value.model}>"
    return _shown(value)


def _some(items: Any) -> list[Any]:
    return [item for _, item in zip(range(_MOST_ITEMS), items, strict=False)]


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a user's __repr__ may raise anything; the call that is recorded goes on
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}…"
