"""How much one render of a template may do, and turning values into text within it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

#: Units of work of one render. A character made costs 1, a step (a loop's turn, a call, an operator, a filter) `STEP`.
MAX_WORK = 20_000_000
STEP = 50
#: Seconds after which a render is stopped, however little it was charged for: what is bounded but slow ends here.
MAX_SECONDS = 10.0
#: Macros, recursive loops and containers inside each other.
MAX_DEPTH = 50

_CONTAINERS = (list, tuple, dict, set, frozenset)


class Refused(SecurityError):
    """What a template may not do; the message is a clause for the user."""


class TooMuch(Refused):
    """A template that would do more than it may."""


class Budget:
    """What one render may still do. Used by one thread."""

    __slots__ = ("_ends", "_left", "_weights", "depth")

    def __init__(self) -> None:
        self._left = MAX_WORK
        self._ends = time.monotonic() + MAX_SECONDS
        self._weights: dict[int, tuple[Any, int]] = {}
        self.depth = 0

    def charge(self, units: int) -> None:
        """Take ``units``, 0 or more, off what is left.

        Raises:
            TooMuch: nothing is left, or the time is over.
        """
        self._left -= max(units, 0)
        if self._left < 0:
            raise TooMuch(f"it loops too often or makes too much text (over {MAX_WORK:,} units of work)")
        if time.monotonic() > self._ends:
            raise TooMuch(f"it took over {MAX_SECONDS:g} seconds")

    def deeper(self) -> None:
        """Go one call deeper.

        Raises:
            TooMuch: that is too deep.
        """
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooMuch(f"macros or loops call each other over {MAX_DEPTH} deep")

    def weigh(self, value: Any) -> int:
        """Return how large ``value`` is when it is written out: a list that is held twice counts twice.

        Each container is looked at once a render, so a structure that doubles itself costs a moment and not a lifetime.
        """
        if isinstance(value, str | bytes):
            return len(value)
        if not isinstance(value, _CONTAINERS):
            return 1
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        self._weights[id(value)] = (value, 1)
        parts: Iterable[Any] = (*value.keys(), *value.values()) if isinstance(value, dict) else value
        weight = 8 + sum(self.weigh(part) + 8 for part in parts)  # a reference takes 8 bytes
        self._weights[id(value)] = (value, weight)
        return weight

    def text(self, value: Any) -> str:
        """Return ``str(value)``, made piece by piece and charged for."""
        if type(value) in _CONTAINERS:
            pieces: list[str] = []
            self._write(value, pieces, 0)
            return "".join(pieces)
        made = str(value)
        self.charge(len(made))
        return made

    def _write(self, value: Any, pieces: list[str], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooMuch(f"a value is nested over {MAX_DEPTH} deep")
        kind = type(value)
        if kind not in _CONTAINERS or not value:
            made = str(value) if isinstance(value, Undefined) else repr(value)  # str() of what is missing raises
            self.charge(len(made))
            pieces.append(made)
            return
        self.charge(STEP)
        opening, closing = _BRACKETS[kind]
        if kind is tuple and len(value) == 1:
            closing = ",)"
        pieces.append(opening)
        for number, item in enumerate(value):
            if number:
                pieces.append(", ")
            self._write(item, pieces, depth + 1)
            if kind is dict:
                pieces.append(": ")
                self._write(value[item], pieces, depth + 1)
        pieces.append(closing)


_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
