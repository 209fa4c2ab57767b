"""Numbers as short text. ``widgets/src/format.js`` says the same in the browser; a test compares the two."""

from __future__ import annotations

import math

__all__ = ["cost", "count", "left", "rate", "seconds"]


def _round(value: float, digits: int = 0) -> float:
    # Half up, as in the browser; Python's own rounding takes a half to the even neighbour.
    scale = 10**digits
    return math.floor(value * scale + 0.5) / scale


def seconds(value: float | None) -> str:
    """A duration in seconds: ``340 ms``, ``4.2 s``, ``3 min 04 s``, ``2 h 05 min``; nothing for None."""
    if value is None:
        return ""
    if value < 0.0005:
        return "<1 ms"
    if value < 0.9995:
        return f"{_round(value * 1000):.0f} ms"
    if value < 9.95:
        return f"{_round(value, 1):.1f} s"
    return _whole(int(_round(value)))


def left(value: float) -> str:
    """The time left in seconds, in whole seconds and never nothing: ``1 s``, ``3 min 04 s``."""
    return _whole(max(math.ceil(value), 1))


def _whole(whole: int) -> str:
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(value: int) -> str:
    """A count: ``1,204``, ``12.3k``, ``4.5M``."""
    if value < 10_000:
        return f"{value:,}"
    if value < 999_950:
        return f"{_round(value / 1000, 1):.1f}k"
    return f"{_round(value / 1_000_000, 1):.1f}M"


def cost(value: float) -> str:
    """US dollars: ``$0``, ``$0.0031``, ``$0.012``, ``$12.30``."""
    if value == 0:
        return "$0"
    if value < 0.0001:
        return "<$0.0001"
    if value < 0.00995:
        return f"${_round(value, 4):.4f}"
    if value < 0.9995:
        return f"${_round(value, 3):.3f}"
    return f"${_round(value, 2):.2f}"


def rate(value: float) -> str:
    """Rows per second, or per minute when slower: ``1,240/s``, ``3.2/s``, ``12/min``."""
    if value >= 9.95:
        return f"{count(int(_round(value)))}/s"
    if value >= 0.95:
        return f"{_round(value, 1):.1f}/s"
    return f"{_round(value * 60):.0f}/min"
