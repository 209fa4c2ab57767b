"""How each kind of step looks: its word in the legend, its icon and the shape of its box. Colours are in ``run.css``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["KINDS", "Look", "look", "outline"]

Shape = Literal["box", "pill", "cut", "drum", "frame"]


@dataclass(frozen=True, slots=True)
class Look:
    """How one kind looks.

    ``name`` is its class in the style sheet, ``icon`` an SVG path in a 14 × 14 box, drawn as strokes.
    """

    name: str
    word: str
    shape: Shape
    icon: str


#: Functions have corners, models are round, checks and conditions are cut, stores bulge, groups are frames.
KINDS = {
    look.name: look
    for look in (
        Look(
            "native",
            "Python function",
            "box",
            "M5.4 2.6C3.6 2.6 4.8 6.4 2.8 7C4.8 7.6 3.6 11.4 5.4 11.4"
            "M8.6 2.6C10.4 2.6 9.2 6.4 11.2 7C9.2 7.6 10.4 11.4 8.6 11.4",
        ),
        Look("dspy", "DSPy module", "pill", "M7 1.8L8.5 5.5L12.2 7L8.5 8.5L7 12.2L5.5 8.5L1.8 7L5.5 5.5Z"),
        Look(
            "operation",
            "routed operation",
            "pill",
            "M2 7H5.2L8.4 3.4H12M5.2 7L8.4 10.6H12M10.4 1.8L12 3.4L10.4 5M10.4 9L12 10.6L10.4 12.2",
        ),
        Look("lm", "prompt to a model", "pill", "M2.2 3H11.8V9.4H6.8L4.2 11.8V9.4H2.2Z"),
        Look("retrieve", "retrieval", "drum", "M6.2 2.4A3.8 3.8 0 1 1 6.2 10A3.8 3.8 0 1 1 6.2 2.4M9 9L12.2 12.2"),
        Look("code", "program in the sandbox", "box", "M4.8 4L1.8 7L4.8 10M9.2 4L12.2 7L9.2 10M7.9 2.6L6.1 11.4"),
        Look(
            "assert",
            "check that must hold",
            "cut",
            "M7 1.8L11.6 3.4V7C11.6 9.8 9.4 11.6 7 12.4C4.6 11.6 2.4 9.8 2.4 7V3.4ZM4.8 7L6.4 8.6L9.2 5.4",
        ),
        Look(
            "suggest",
            "check that should hold",
            "cut",
            "M7 1.9A3.7 3.7 0 0 1 8.8 8.8V10H5.2V8.8A3.7 3.7 0 0 1 7 1.9M5.4 12.1H8.6",
        ),
        Look("when", "condition", "cut", "M7 1.8L12.2 7L7 12.2L1.8 7ZM7 4.8V7.4M7 9.1V9.3"),
        Look("each", "for each item", "frame", "M4.6 4.6H12V12H4.6ZM9.4 4.6V2H2V9.4H4.6"),
        Look("loop", "repeat until", "frame", "M11.4 5.2A4.9 4.9 0 1 0 11.9 7.6M11.8 2.2V5.4H8.6"),
        Look("parallel", "at the same time", "frame", "M3 2.4V11.6M7 2.4V11.6M11 2.4V11.6"),
        Look("pipeline", "nested pipeline", "frame", "M1.8 4.8H5.4V9.2H1.8ZM8.6 4.8H12.2V9.2H8.6ZM5.4 7H8.6"),
    )
}

_OTHER = "M7 2.4L11 4.7V9.3L7 11.6L3 9.3V4.7Z"


def look(kind: object) -> Look:
    """Return the look of a kind; one that a user added has a plain one and its own name as word."""
    known = KINDS.get(str(kind))
    return known if known is not None else Look("other", str(kind or "step"), "box", _OTHER)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def outline(shape: Shape, width: float, height: float) -> str:
    """Return the SVG path of a box's outline, its upper left corner at 0, 0."""
    w, h = width, height
    if shape == "cut":
        c = 9
        points = [(c, 0), (w - c, 0), (w, c), (w, h - c), (w - c, h), (c, h), (0, h - c), (0, c)]
        return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) + "Z"
    if shape == "drum":
        b = 5
        upper, lower = _n(h / 4), _n(h * 3 / 4)
        right = f"C{_n(w + 1)} {upper} {_n(w + 1)} {lower} {_n(w - b)} {_n(h)}"
        return f"M{b} 0H{_n(w - b)}{right}H{b}C-1 {lower} -1 {upper} {b} 0Z"
    r = min({"box": 5, "pill": 20, "frame": 9}[shape], h / 2)
    arc = f"A{_n(r)} {_n(r)} 0 0 1 "
    right, low = _n(w - r), _n(h - r)
    return f"M{_n(r)} 0H{right}{arc}{_n(w)} {_n(r)}V{low}{arc}{right} {_n(h)}H{_n(r)}{arc}0 {low}V{_n(r)}{arc}{_n(r)} 0Z"
