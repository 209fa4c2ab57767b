"""One row as one line of JSON, whatever its values are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

#: A value that is no data is kept as its ``repr``, cut to so many characters.
_LONGEST_REPR = 10_000


def encode(value: Any, *, strict: bool = False) -> bytes:
    """Return ``value`` as JSON in one line. Never raises.

    Dates become ISO text, numpy values numbers, bytes base64, anything that is no data its ``repr``. NaN and the
    infinities are written as Python's ``json`` does, or with ``strict`` as null, since JSON has none.
    """
    from pydantic_core import PydanticSerializationError, to_json

    how: Any = "null" if strict else "constants"
    try:
        return to_json(value, inf_nan_mode=how, bytes_mode="base64", fallback=_plain)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError):
        # Lone surrogates, circles, keys that are no text: the walk costs more, so it comes second.
        return to_json(_simplified(value, frozenset()), inf_nan_mode=how, bytes_mode="base64", fallback=_plain)


def decode(line: bytes) -> Any:
    """Return the value of a line of JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _plain(value: Any) -> Any:
    """Return a stand-in for a value that the encoder does not know; types of other packages are known by their shape."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    if type(value).__module__.partition(".")[0] == "pandas" and not hasattr(value, "shape"):
        return None if str(value) in ("<NA>", "NaT") else str(value)
    if hasattr(type(value), "toDict"):  # dspy.Example and dspy.Prediction
        return value.toDict()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    try:
        return repr(value)[:_LONGEST_REPR]
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _simplified(value: Any, above: frozenset[int]) -> Any:
    """Rebuild a value of text that can be written, numbers, lists and dicts with text as keys, without circles."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value
    if id(value) in above or len(above) > 50:
        return f"<a {type(value).__name__} that contains itself>" if id(value) in above else f"<a deep {type(value).__name__}>"
    above |= {id(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    elif hasattr(type(value), "model_fields"):
        value = {name: getattr(value, name, None) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {_simplified(str(k), above): _simplified(v, above) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_simplified(v, above) for v in value]
    plain = _plain(value)
    return _simplified(plain, above) if not isinstance(plain, str) else plain.encode("utf-8", "replace").decode()
