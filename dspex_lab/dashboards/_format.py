"""Values as a person reads them. Every function takes None and pandas' missing values, and gives plain text."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd

NOTHING = "–"
STATUS_MARKS = {"complete": "✓", "partial": "◐", "failed": "✗", "cancelled": "■", "interrupted": "⚡", "running": "▶"}


def missing(value: Any) -> bool:
    """Say whether a cell of a frame holds nothing."""
    return value is None or bool(pd.isna(value))


def escape(value: Any) -> str:
    """Return the value as text that a browser shows and never runs."""
    return "" if missing(value) else html.escape(str(value), quote=True)


def duration(seconds: Any) -> str:
    """Return ``0.4 ms``, ``12 ms``, ``1.40 s``, ``2 min 05 s`` or ``1 h 02 min``."""
    if missing(seconds):
        return NOTHING
    s = float(seconds)
    if s < 0.0095:
        return f"{s * 1000:.1f} ms"
    if s < 0.9995:
        return f"{s * 1000:.0f} ms"
    if s < 59.995:
        return f"{s:.2f} s"
    whole = round(s)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: Any) -> str:
    """Return ``12,345`` or, from a million on, ``1.23 M``."""
    if missing(number):
        return NOTHING
    n = int(number)
    return f"{n:,}" if n < 1_000_000 else f"{n / 1e6:,.2f} M"


def dollars(cost: Any) -> str:
    """Return US dollars with as many digits as small sums need."""
    if missing(cost):
        return NOTHING
    c = float(cost)
    if c == 0:
        return "$0"
    return f"${c:,.2f}" if c >= 1 else f"${c:.4f}" if c >= 0.001 else f"${c:.2g}" if c >= 1e-4 else f"${c:.1e}"


def size(number: Any) -> str:
    """Return bytes as ``88 kB``, ``62 MB`` or ``4.2 GB`` (1 MB is 1,000,000 bytes)."""
    if missing(number):
        return NOTHING
    n = int(number)
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= length:
            return f"{n / length:.1f} {unit}" if n < 10 * length and n % length else f"{n / length:,.0f} {unit}"
    return f"{n} B"


def to_local(at: pd.Timestamp) -> datetime:
    """Return a naive UTC time as a naive time of the machine's zone."""
    return at.to_pydatetime().replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def when(at: Any) -> str:
    """Return a naive UTC time as ``2026-05-01 14:03:22`` in the machine's zone, which sorts as text."""
    return NOTHING if missing(at) else to_local(pd.Timestamp(at)).strftime("%Y-%m-%d %H:%M:%S")


def zone() -> str:
    """Return the name of the machine's zone."""
    return datetime.now().astimezone().tzname() or "local time"


def status(value: Any) -> str:
    """Return a status with its mark, so that it is not told by colour alone."""
    return NOTHING if missing(value) else f"{STATUS_MARKS.get(str(value), '·')} {value}"


def numbered(name: Any, row_index: Any) -> str:
    """Return a run's name, for the row of a map with its number."""
    shown = NOTHING if missing(name) else str(name)
    return shown if missing(row_index) else f"{shown} [{int(row_index)}]"


def first_line(text: Any, limit: int = 160) -> str:
    """Return the first line of a text, shortened."""
    if missing(text):
        return ""
    line = str(text).strip().partition("\n")[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"


def pretty(text: Any) -> str:
    """Return JSON text indented, or the text itself where it is not JSON."""
    if missing(text):
        return ""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return str(text)
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
