"""What of a run went another way than planned: retried, asked again, answered by another model; and what it may spend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.events import Event
from dspex_lab.widgets import _format

__all__ = ["NOTED", "Notes", "shares_of"]

#: The events that are noted here.
NOTED = frozenset(
    {"lm.retry", "fallback.use", "hedge.win", "breaker.open", "breaker.half_open", "breaker.close", "degradation.change"}
)
_NORMAL = "normal"
_NAMES = 3  # models and circuits that are named
_LONGEST = 80  # characters of a name
_KEPT = 100  # names that are kept


class Notes:
    """Counts of one run, and the state of what it shares with others.

    Args:
        level: of degradation, to begin with.
    """

    __slots__ = ("again", "hedged", "instead", "level", "open", "retried")

    def __init__(self, level: str | None = None) -> None:
        self.retried = self.again = self.hedged = 0
        self.instead: Counter[str] = Counter()
        self.open: dict[str, None] = {}
        self.level = level

    def take(self, event: Event, mine: bool) -> bool:
        """Take in one event of ``NOTED`` and return whether what is shown has changed.

        Args:
            mine: it came about in the run that is shown. A circuit closes for all; the level is everybody's.
        """
        data = event.data or {}
        target = str(data.get("target", ""))[:_LONGEST]
        if event.name == "degradation.change":
            self.level = str(data.get("after", _NORMAL))[:_LONGEST]
            return True
        if event.name == "breaker.close":
            return self.open.pop(target, self) is None
        if not mine or event.name == "breaker.half_open":
            return False
        if event.name == "lm.retry":
            self.retried += 1
        elif event.name == "hedge.win":
            self.hedged += 1
        elif event.name == "breaker.open":
            if target in self.open or len(self.open) >= _KEPT:
                return False
            self.open[target] = None
        elif target in self.instead or len(self.instead) < _KEPT:
            self.instead[target] += 1
        return True

    def shown(self) -> dict[str, Any]:
        """Return them as they are shown."""
        return {
            "retried": self.retried,
            "again": self.again,
            "hedged": self.hedged,
            "instead": [{"name": name, "count": n} for name, n in self.instead.most_common(_NAMES)],
            "open": list(self.open)[:_NAMES],
            "level": None if self.level in (None, _NORMAL) else self.level,
        }


def shares_of(
    limits: Mapping[str, Any] | None, spent: Mapping[str, float], account: Callable[[], Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """Return how much of each budget is spent: ``{"of", "share", "limit"}``, the run's own first.

    Args:
        limits: of the run, by ``cost``, ``tokens`` and ``calls``; None has none.
        spent: by the run so far, by the same.
        account: gives that of the Lab: ``limits`` and ``fraction``.
    """
    own = {key: limit for key, limit in (limits or {}).items() if limit is not None}
    found = []
    if own:
        share = max(spent[key] / limit if limit else 1.0 for key, limit in own.items())
        found.append({"of": "this run", "share": share, "limit": _limit(own)})
    around = account() if account is not None else {}
    if around.get("limits") and around.get("fraction") is not None:
        found.append({"of": "this Lab", "share": around["fraction"], "limit": _limit(around["limits"])})
    return found


def _limit(limits: Mapping[str, Any]) -> str:
    said = {
        "cost": _format.cost,
        "tokens": lambda n: f"{_format.count(n)} tokens",
        "calls": lambda n: f"{_format.count(n)} call{'' if n == 1 else 's'}",
    }
    return ", ".join(say(limits[key]) for key, say in said.items() if limits.get(key) is not None)
