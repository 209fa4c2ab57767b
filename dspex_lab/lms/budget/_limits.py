"""The limits of a budget, and how they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError

_MULTIPLE = {"": 1, "k": 1_000, "m": 1_000_000}
_UNITS = {
    "cost": ("$", "usd", "dollar", "dollars"),
    "cents": ("cent", "cents", "ct", "¢"),
    "tokens": ("tokens", "token", "tok"),
    "calls": ("calls", "call"),
}
_UNIT = {word: unit for unit, words in _UNITS.items() for word in words}
_ITEM = re.compile(
    r"(?P<dollar>\$?)\s*(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d[\d_]*(?:\.\d+)?|\.\d+)\s*(?P<multiple>[kKmM]?)"
    r"(?![A-Za-z]*\d)\s*(?P<unit>\$|¢|[A-Za-z]*)"
)
_BETWEEN = re.compile(r"\s*(?:,|;|\+|\band\b|\s)\s*")
_HINT = "Write it like '$2', '50k tokens', '100 calls' or '$2, 50k tokens, 100 calls'."


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of what may be spent; what is None is not limited.

    Args:
        cost: US dollars.
        tokens: tokens of prompts and answers together.
        calls: calls of a model that are really made (not answered from the cache).

    Raises:
        ConfigurationError: a limit is no number, below 0, or not finite.
    """

    cost: float | None = None
    tokens: int | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        for key, expected in (("cost", "US dollars, 0 or more"), ("tokens", _whole("tokens")), ("calls", _whole("calls"))):
            value = getattr(self, key)
            if value is None:
                continue
            kinds = int | float if key == "cost" else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value < 0:
                raise ConfigurationError(
                    f"{key}={value!r} is no limit of a budget.", key=key, expected=expected, actual=value, hint=_HINT
                )

    @classmethod
    def of(cls, value: Any) -> Budget:
        """Return the budget that ``value`` stands for.

        Args:
            value: a budget; US dollars as a number; a text that :meth:`parse` reads; a mapping with ``cost``, ``tokens``
                and ``calls``; or None for no limit.

        Raises:
            ConfigurationError: it is none of these.
        """
        if isinstance(value, Budget):
            return value
        if value is None:
            return cls()
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, Mapping):
            unknown = sorted(str(key) for key in set(value) - {"cost", "tokens", "calls"})
            if unknown:
                raise ConfigurationError(
                    f"A budget has no {unknown[0]!r}.", key="budget", expected="cost, tokens, calls", actual=dict(value)
                )
            return cls(**value)
        return cls(cost=value)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``"$2"``, ``"50k tokens"``, ``"100 calls"`` or several of them, separated by commas, blanks, ``and``.

        A number without a unit is US dollars. ``k`` and ``M`` are a thousand and a million.

        Raises:
            ConfigurationError: a part cannot be read, or a limit is said twice.
        """
        found: dict[str, Any] = {}
        at = 0
        stripped = text.strip()
        while at < len(stripped) or not found:
            item = _ITEM.match(stripped, at)
            if item is None:
                raise _unread(text, stripped[at:])
            key, value = _limit(text, item)
            if key in found:
                raise _unread(text, item[0], f"{key} is limited twice")
            found[key] = value
            at = item.end()
            if at < len(stripped):
                between = _BETWEEN.match(stripped, at)
                if between is None or between.end() == len(stripped):
                    raise _unread(text, stripped[at:])
                at = between.end()
        return cls(**found)

    @property
    def limited(self) -> bool:
        """Say whether anything is limited."""
        return self.cost is not None or self.tokens is not None or self.calls is not None

    def __str__(self) -> str:
        parts = [
            "" if self.cost is None else f"${self.cost:,.2f}" if self.cost >= 0.01 or not self.cost else f"${self.cost:.3g}",
            "" if self.tokens is None else f"{self.tokens:,} tokens",
            "" if self.calls is None else f"{self.calls:,} calls",
        ]
        return ", ".join(part for part in parts if part) or "no limit"


def _whole(what: str) -> str:
    return f"a whole number of {what}, 0 or more"


def _limit(text: str, item: re.Match[str]) -> tuple[str, float | int]:
    """Return which limit an item of a budget's text says, and its value."""
    word = item["unit"].lower()
    unit = _UNIT.get(word) if word else "cost"
    if unit is None or (item["dollar"] and unit != "cost"):
        raise _unread(text, item[0], f"{item['unit']!r} is no unit here" if unit is None else "it has two units")
    amount = float(item["number"].replace(",", "").replace("_", "")) * _MULTIPLE[item["multiple"].lower()]
    if unit == "cents":
        return "cost", amount / 100
    if unit == "cost":
        return "cost", amount
    if amount != int(amount):
        raise _unread(text, item[0], f"{unit} are counted in whole numbers")
    return unit, int(amount)


def _unread(text: str, part: str, why: str = "it is no limit") -> ConfigurationError:
    where = f" at {part.strip()!r}" if part.strip() and part.strip() != text.strip() else ""
    return ConfigurationError(
        f"The budget {text!r} cannot be read{where}: {why}.",
        key="budget",
        expected="'$2', '50k tokens', '100 calls'",
        actual=text,
        hint=_HINT,
    )
