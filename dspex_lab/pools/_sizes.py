"""Sizes and times as people write them: ``512MB``, ``1.5 GiB``, ``5 min``."""

from __future__ import annotations

import math
import re

MB = 1_000_000

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_WRITTEN = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([a-z]*)", re.ASCII)
_LONGEST = 48


def bytes_of(text: str) -> int:
    """Return the bytes that a text such as ``"512MB"``, ``"1.5 GiB"`` or ``"600000000"`` says; MB is 1,000,000 bytes.

    Raises:
        ValueError: it is no size.
    """
    number, unit = _split(text, _BYTES)
    # By whole numbers: a float would lose bytes of large sizes.
    whole, _, part = number.partition(".")
    return int(whole) * _BYTES[unit] + int(part or "0") * _BYTES[unit] // 10 ** len(part)


def seconds_of(text: str) -> float:
    """Return the seconds that a text such as ``"30"``, ``"30 s"``, ``"5 min"`` or ``"1.5h"`` says.

    Raises:
        ValueError: it is no time.
    """
    number, unit = _split(text, _SECONDS)
    return float(number) * _SECONDS[unit]


def _split(text: str, units: dict[str, float] | dict[str, int]) -> tuple[str, str]:
    found = _WRITTEN.fullmatch(text.strip().lower()) if len(text) <= _LONGEST else None
    if found is None or found[2] not in units:
        raise ValueError(text)
    return found[1], found[2]


def written(size: int) -> str:
    """Return bytes for a person: ``512 MB``, ``4 GB``, ``4.2 GB``, ``88 kB``."""
    if size < MB:
        return f"{size / 1000:.0f} kB" if size >= 1000 else f"{size} B"
    if 10 * MB <= size < 1000 * MB:
        return f"{size // MB} MB"
    unit, length = ("MB", MB) if size < 1000 * MB else ("GB", 1000 * MB)
    tenths = size * 10 // length
    return f"{tenths // 10:,}{f'.{tenths % 10}' if tenths % 10 else ''} {unit}"


def timed(seconds: float) -> str:
    """Return seconds for a person: ``12 s``, ``5 min``, ``2 h``, ``3 d``, of the largest unit that fits."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{math.floor(seconds / length)} {unit}"
    return f"{seconds:.0f} s"
