"""Anything as JSON text: tolerant, redacted, of bounded size, and always valid."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

#: The largest JSON value or text that is kept, in characters; what is longer is cut and says so.
LARGEST = 64 * 1024

#: The largest JSON value that is read back as it was, in characters: whoever writes one refuses what is larger.
LARGEST_WHOLE = 16 * 1024 * 1024

#: An array of more elements is described instead of written out.
LARGEST_ARRAY = 1_000

Redact = Callable[[str], str]


def to_json(value: Any, redact: Redact | None = None, largest: int = LARGEST) -> str | None:
    """Return ``value`` as JSON text, None for None. Never raises.

    Dataclasses, Pydantic models and DSPy examples become objects, numpy scalars and small arrays numbers, dates ISO text,
    NaN and the infinities the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` (which SQL casts back); DataFrames and
    large arrays are described, and anything else is its ``repr``. Secrets are masked before anything is cut. A value beyond
    ``largest`` characters is shortened inside (long strings, long lists) with a mark that says how much is missing.
    """
    if value is None:
        return None
    return finished(dump(value), redact, largest)


def finished(text: str, redact: Redact | None, largest: int = LARGEST) -> str:
    """Mask the secrets in JSON text, then shorten it to ``largest`` characters; it stays valid JSON."""
    if redact is not None:
        text = _redacted(text, redact)
    return text if len(text) <= largest else _shortened(text, largest)


def to_text(value: Any, redact: Redact | None = None, largest: int = LARGEST) -> str | None:
    """Return ``value`` as text that can be stored: redacted, then cut to ``largest`` characters. Never raises."""
    if value is None:
        return None
    text = value if type(value) is str else _repr(value, str)
    if redact is not None:
        try:
            text = redact(text)
        except Exception as error:
            text = f"[not kept: redaction failed with {type(error).__name__}]"
    if len(text) > largest:
        text = _cut(text, largest)
    return text.encode("utf-8", "replace").decode()


def dump(value: Any) -> str:
    """Return ``value`` as JSON text, of whatever length and with whatever is in it."""
    try:
        text = _STRICT.encode(value)
    except (TypeError, ValueError, RecursionError):
        # Keys that are no strings, NaN, circles and great depth; the walk costs ten times as much, so it comes second.
        text = _STRICT.encode(_simplified(value, 0, frozenset()))
    except Exception as error:
        # A property or __repr__ of the user's that raises while it is read.
        text = json.dumps(f"[not kept: {type(value).__name__} raised {type(error).__name__} while it was read]")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _repr(value: Any, how: Callable[[Any], str] = repr) -> str:
    try:
        text = how(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose {how.__name__} raised {type(error).__name__}>"
    return _cut(text, LARGEST) if len(text) > LARGEST else text


def _plain(value: Any) -> Any:
    """Return a JSON-able stand-in, one level deep, for a value the encoder does not know."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{type(value).__name__} of {len(value)} bytes>"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    return _foreign(value)


def _foreign(value: Any) -> Any:
    """Types of packages that need not be installed are known by their shape, so nothing is imported for them."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    root = type(value).__module__.partition(".")[0]
    if root in {"pandas", "polars", "pyarrow"} and hasattr(value, "shape"):
        columns = [str(c) for c in getattr(value, "columns", [])][:20] if root != "pyarrow" else value.schema.names[:20]
        return f"<{type(value).__name__} of shape {tuple(value.shape)}" + (
            f" with columns {', '.join(columns)}>" if columns else ">"
        )
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        size = math.prod(value.shape)
        if not value.shape and hasattr(value, "item"):
            return value.item()
        if size <= LARGEST_ARRAY and hasattr(value, "tolist"):
            return value.tolist()
        return f"<{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}>"
    if hasattr(type(value), "model_fields") and hasattr(value, "__iter__"):
        return dict(value)
    if hasattr(type(value), "toDict"):  # dspy.Example and dspy.Prediction
        return value.toDict()
    return _repr(value)


_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)
_SCALARS = (str, int, bool, type(None))
_DEEPEST = 50


def _simplified(value: Any, depth: int, above: frozenset[int]) -> Any:
    """Rebuild a value of strings, numbers, lists and dicts with string keys; without circles, no deeper than 50."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if type(value) in _SCALARS:
        return value
    if depth >= _DEEPEST:
        return f"[cut: a {type(value).__name__} deeper than {_DEEPEST} levels]"
    if id(value) in above:
        return f"[a {type(value).__name__} that contains itself]"
    above |= {id(value)}
    if isinstance(value, dict):
        return {_key(k): _simplified(v, depth + 1, above) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_simplified(v, depth + 1, above) for v in value]
    if isinstance(value, (str, int)):
        return str(value) if isinstance(value, str) else int(value)
    try:
        return _simplified(_plain(value), depth + 1, above)
    except Exception as error:
        return f"<{type(value).__name__} that raised {type(error).__name__} while it was read>"


def _key(key: Any) -> str:
    return str(key.value if isinstance(key, enum.Enum) else key) if isinstance(key, (str, int, float, bool)) else _repr(key)


def _redacted(text: str, redact: Redact) -> str:
    try:
        masked = redact(text)
        if masked == text or _is_json(masked):
            return masked
        # The hook ate quotes or braces: mask the strings one by one, then what only shows in their context.
        masked = _STRICT.encode(_mapped(json.loads(text), redact))
        again = redact(masked)
        return again if _is_json(again) else json.dumps("[redacted as a whole]")
    except Exception as error:
        return json.dumps(f"[not kept: redaction failed with {type(error).__name__}]")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _mapped(value: Any, function: Redact) -> Any:
    if isinstance(value, str):
        return function(value)
    if isinstance(value, list):
        return [_mapped(v, function) for v in value]
    if isinstance(value, dict):
        return {function(k): _mapped(v, function) for k, v in value.items()}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        shown = str(value)
        masked = function(shown)
        return value if masked == shown else masked
    return value


def _cut(text: str, keep: int) -> str:
    return f"{text[:keep]}…[cut: {len(text) - keep} more characters]"


def _shortened(text: str, largest: int) -> str:
    """Shorten strings and lists inside, ever more, until the whole fits."""
    value = json.loads(text)
    limit = largest // 2
    while limit >= 16:
        out = _STRICT.encode(_limited(value, limit))
        if len(out) <= largest:
            return out
        limit //= 4
    return json.dumps(_cut(text, largest // 8), ensure_ascii=False)


def _limited(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return _cut(value, limit) if len(value) > limit else value
    if isinstance(value, list):
        kept = [_limited(v, limit) for v in value[:limit]]
        return kept if len(value) <= limit else [*kept, f"[cut: {len(value) - limit} more items]"]
    if isinstance(value, dict):
        kept_items = {_limited(k, limit): _limited(v, limit) for k, v in list(value.items())[:limit]}
        return kept_items if len(value) <= limit else {**kept_items, "[cut]": f"{len(value) - limit} more entries"}
    return value
