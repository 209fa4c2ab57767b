"""How an account stands, as plain frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dspex_lab.lms.budget._limits import Budget


class Spent(NamedTuple):
    """What was spent, or is held.

    Args:
        cost: US dollars.
        tokens: tokens of prompts and answers.
        calls: calls.
        assumed: how much of ``cost`` nobody reported; it is what was estimated.
        unpriced: how many of the calls have no known price, and are not in ``cost``.
    """

    cost: float = 0.0
    tokens: int = 0
    calls: int = 0
    assumed: float = 0.0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How one ledger stands at one moment.

    Args:
        name: whose budget it is.
        budget: its limits.
        spent: what is spent.
        held: what calls under way may cost, and what is lent to workers.
        under_way: how many calls and loans hold it.
        refused: how many calls were refused, by this ledger.
    """

    name: str
    budget: Budget
    spent: Spent
    held: Spent
    under_way: int = 0
    refused: int = 0

    @property
    def fractions(self) -> dict[str, float]:
        """How much of each limit is spent; a limit of 0 is spent in full."""
        limits = {"money": self.budget.cost, "tokens": self.budget.tokens, "calls": self.budget.calls}
        spent = {"money": self.spent.cost, "tokens": self.spent.tokens, "calls": self.spent.calls}
        return {key: (spent[key] / limit if limit else 1.0) for key, limit in limits.items() if limit is not None}

    @property
    def fraction(self) -> float | None:
        """How much of the limit that is nearest is spent; None without a limit."""
        return max(self.fractions.values(), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        limits = {"cost": self.budget.cost, "tokens": self.budget.tokens, "calls": self.budget.calls}
        return {
            "name": self.name,
            "limits": {key: limit for key, limit in limits.items() if limit is not None},
            "spent": self.spent._asdict(),
            "held": self.held._asdict(),
            "under_way": self.under_way,
            "fraction": self.fraction,
            "refused": self.refused,
        }

    def __str__(self) -> str:
        cost, tokens, calls = self.budget.cost, self.budget.tokens, self.budget.calls
        parts = [
            money(self.spent.cost) + ("" if cost is None else f" of {money(cost)}"),
            f"{self.spent.tokens:,}" + ("" if tokens is None else f" of {tokens:,}") + " tokens",
            count(self.spent.calls, "call") if calls is None else f"{self.spent.calls:,} of {count(calls, 'call')}",
        ]
        if self.under_way:
            parts.append(f"{money(self.held.cost)} held by {count(self.under_way, 'call')} under way")
        if self.spent.assumed:
            parts.append(f"{money(self.spent.assumed)} of it estimated")
        if self.spent.unpriced:
            parts.append(f"{count(self.spent.unpriced, 'call')} without a known price")
        return ", ".join(parts)


class Notice(NamedTuple):
    """Something about a budget that its owner should hear of.

    Args:
        kind: ``"level"``: half, four fifths or all of a limit is spent; ``"refused"``: a call was.
        limit: which limit: ``"money"``, ``"tokens"``, ``"calls"``, or ``"price"`` (a model without one, under a limit in
            money).
        level: 0.5, 0.8 or 1.0; None of a refusal.
        message: the same in words.
        model: the model that was to be called, or was.
        snapshot: how the ledger concerned stands.
    """

    kind: Literal["level", "refused"]
    limit: str
    level: float | None
    message: str
    model: str
    snapshot: Snapshot

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"limit": self.limit, "level": self.level, "message": self.message, "budget": self.snapshot.to_dict()}


def money(value: float) -> str:
    """Return US dollars as text, with as many digits as it takes to see them."""
    if value == 0 or abs(value) >= 0.01:
        return f"${value:,.4f}" if 0 < abs(value) < 1 else f"${value:,.2f}"
    return f"${value:.3g}" if abs(value) >= 0.0001 else f"${value:.2e}"


def count(number: int, what: str) -> str:
    """Return ``"1 call"``, ``"2 calls"``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
