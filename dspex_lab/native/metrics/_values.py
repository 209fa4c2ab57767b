"""Values made comparable: as text, as plain data, and whether two are the same."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any

from dspex_lab.errors import ConfigurationError

#: Levels of lists and mappings a value may have.
DEPTH = 100
#: Bits of a whole number that is kept as a number.
_BITS = 10_000


def plain(value: Any, depth: int = 0) -> Any:
    """Return ``value`` as dicts with text keys, lists and scalars.

    Pydantic models, dataclasses and mappings become dicts; tuples, sets and arrays lists; members of an enum their value;
    dates, paths and UUIDs text, and so do whole numbers of more than 10,000 bits. Anything else stays as it is.

    Raises:
        ConfigurationError: it is nested deeper than 100 levels, or holds itself.
    """
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, enum.Enum)):
        # Python refuses to write longer whole numbers in decimal.
        return hex(value) if isinstance(value, int) and value.bit_length() > _BITS else value
    if depth > DEPTH:
        raise ConfigurationError(
            f"A value that is nested deeper than {DEPTH} levels, or holds itself, cannot be compared.",
            key="prediction",
            expected=f"at most {DEPTH} levels",
        )
    if isinstance(value, enum.Enum):
        return plain(value.value, depth + 1)
    if isinstance(value, decimal.Decimal):
        return math.nan if value.is_nan() else value  # a signalling NaN would raise where it is compared
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | pathlib.PurePath):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    record = as_record(value)
    if record is not None:
        return {str(k): plain(v, depth + 1) for k, v in record.items()}
    if isinstance(value, Set):
        return sorted((plain(v, depth + 1) for v in value), key=repr)
    if isinstance(value, Sequence):
        return [plain(v, depth + 1) for v in value]
    if callable(getattr(value, "tolist", None)):  # arrays and their scalars
        return plain(value.tolist(), depth + 1)
    return value


def as_record(value: Any) -> dict[Any, Any] | None:
    """Return the fields of a mapping, a DSPy example or prediction, a Pydantic model or a dataclass, or None for all else."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    declared = getattr(type(value), "model_fields", None)
    if isinstance(declared, Mapping):
        return {name: getattr(value, name) for name in declared}
    if callable(getattr(type(value), "keys", None)) and callable(getattr(type(value), "items", None)):
        return dict(value.items())
    return None


def as_text(value: Any) -> str:
    """Return ``value`` as text: None is the empty text, lists and records are JSON, everything else is ``str(value)``."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    found = plain(value)
    if isinstance(found, dict | list):
        return json.dumps(found, ensure_ascii=False, sort_keys=True, default=str)
    return "" if found is None else str(found)


def same(a: Any, b: Any, *, ordered: bool = True) -> bool:
    """Say whether two plain values are equal as JSON knows it: 1 is 1.0, true is not 1, keys have no order.

    Two NaN are the same. ``ordered`` says whether the order of lists counts.
    """
    if not ordered:
        return _canonical(a) == _canonical(b)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def _canonical(value: Any) -> str:
    """Return a text that is the same for all orders of the lists in ``value``."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k!r}:{_canonical(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(map(_canonical, value))) + "]"
    if isinstance(value, float) and value.is_integer():
        return repr(int(value))
    return repr(value)


def short(value: Any, limit: int = 160) -> str:
    """Return ``value`` for a message: quoted where it is text, on one line, cut in the middle where it is long."""
    text = repr(value[: 4 * limit] if isinstance(value, str) else as_text(value)[: 4 * limit])
    if not isinstance(value, str):
        text = text[1:-1] if value is not None else "nothing"
    return text if len(text) <= limit else f"{text[: limit - 40]} … {text[-30:]}"
