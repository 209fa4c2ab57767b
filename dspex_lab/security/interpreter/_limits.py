"""The limits of an interpreter, as people write them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.security.sandbox import Limits

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([a-z]*)", re.ASCII)


def limits_of(limits: Limits | None, **given: Any) -> Limits:
    """Return ``limits`` with those of ``timeout`` (seconds), ``memory`` (bytes or text) and ``output`` that are not None.

    Raises:
        ConfigurationError: one is no limit.
    """
    base = Limits() if limits is None else limits
    words = {"timeout": "seconds", "memory": "memory", "output": "output"}
    chosen = {words[name]: value for name, value in given.items() if value is not None}
    if "memory" in chosen:
        chosen["memory"] = _bytes(chosen["memory"])
    for name, value in chosen.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigurationError(f"The limit {name} is {value!r}.", key=name, expected="a number", actual=value)
    return replace(base, **chosen)


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ConfigurationError(
            f"The limit memory is {value!r}.", key="memory", expected="bytes, or a text such as '512 MB'", actual=value
        )
    return int(float(found[1]) * _UNITS[found[2]])
