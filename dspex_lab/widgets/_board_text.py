"""What the variable board says in words. The browser is given these texts, so that they are written in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "HEIGHT",
    "WIDTH",
    "by_text",
    "head_text",
    "lease_text",
    "range_text",
    "score_text",
    "spark",
    "value_text",
    "whole_text",
]

#: Characters of a value that unfolds.
_LONGEST = 4_000

#: The box in which a variable's past is drawn.
WIDTH, HEIGHT = 96.0, 20.0


def number(value: float) -> str:
    """Return a number in up to six digits."""
    return f"{value:.6g}"


def value_text(value: Any, longest: int = 80) -> str:
    """Return a value (as JSON) in one short line."""
    if isinstance(value, bool) or value is None:
        text = str(value)
    elif isinstance(value, int | float):
        text = number(value) if isinstance(value, float) else str(value)
    elif isinstance(value, str):
        text = " ".join(value.split()) or "(empty)"
    elif isinstance(value, list):
        text = "none" if not value else f"{len(value)} item{'' if len(value) == 1 else 's'}"
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def whole_text(value: Any) -> str:
    """Return a value (as JSON) for those who unfold it."""
    text = value if isinstance(value, str) else value_text(value) if not isinstance(value, list | dict) else ""
    if not text and value:
        text = json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…[{len(text) - _LONGEST:,} more characters]"


def range_text(domain: Mapping[str, Any]) -> str:
    """Return what a domain (as ``describe()`` has it) allows."""
    kind = str(domain.get("kind", ""))
    if kind in ("float", "int"):
        low, high = (("−∞", "∞")[n] if v is None else number(v) for n, v in enumerate((domain.get("low"), domain.get("high"))))
        step = domain.get("step")
        steps = f", step {number(step)}" if step is not None and not (kind == "int" and step == 1) else ""
        return f"{kind} {low} … {high}{steps}{', log' if domain.get('log') else ''}"
    if isinstance(domain.get("options"), list):
        count = len(domain["options"])
        return f"{kind} of {count}"
    if domain.get("candidates"):
        count = len(domain["candidates"])
        return f"{kind}, {count} candidate{'' if count == 1 else 's'}"
    if domain.get("shape") is not None:
        return f"{kind} {' × '.join(map(str, domain['shape']))}"
    return "any value" if kind == "plain" else kind


def by_text(who: str, author: str | None, why: str | None) -> str:
    """Return who changed a variable last, and why: ``optimizer gepa-1: clearer``."""
    said = " ".join(part for part in (who, author) if part)
    return f"{said}: {why}" if why else said


def score_text(score: float | None) -> str:
    """Return a score in up to four digits, nothing for None."""
    return "" if score is None else f"{score:.4g}"


def lease_text(holder: str | None, queue: Sequence[str]) -> str:
    """Return who may write a variable and who waits for that: ``gepa-1, then tune-2, tune-3``."""
    if not queue:
        return holder or ""
    return f"{holder or 'nobody'}, then {', '.join(queue)}"


def head_text(version: int, count: int, shown: int) -> str:
    """Return what stands above the rows: ``version 7 · 3 variables``."""
    said = f"version {version} · {count:,} variable{'' if count == 1 else 's'}"
    return f"{said}, {shown} shown" if shown < count else said


def spark(points: Sequence[float]) -> str:
    """Return a variable's past as the points of an SVG line in a box of 96 × 20, nothing for less than two."""
    if len(points) < 2:
        return ""
    low, high = min(points), max(points)
    across, up = (WIDTH - 4) / (len(points) - 1), HEIGHT - 6
    heights = [0.5 if high == low else (p - low) / (high - low) for p in points]
    return " ".join(f"{2 + n * across:.1f},{3 + up * (1 - h):.1f}" for n, h in enumerate(heights))
