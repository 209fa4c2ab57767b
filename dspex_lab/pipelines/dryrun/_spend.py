"""Sums of what a run may spend, each with a lower and an upper bound."""

from __future__ import annotations

from typing import NamedTuple


class Bounds(NamedTuple):
    """The least and the most; ``most`` is None where it cannot be told."""

    least: float
    most: float | None

    def plus(self, other: Bounds) -> Bounds:
        """Return the bounds of both together."""
        most = None if self.most is None or other.most is None else self.most + other.most
        return Bounds(self.least + other.least, most)

    def times(self, factor: Bounds) -> Bounds:
        """Return the bounds of doing it ``factor`` times."""
        if self.most == 0 or factor.most == 0:
            return Bounds(0, 0)
        most = None if self.most is None or factor.most is None else self.most * factor.most
        return Bounds(self.least * factor.least, most)

    def up_to(self, times: int) -> Bounds:
        """Return the bounds where it is done once or up to so many times."""
        return Bounds(self.least, None if self.most is None else self.most * times)

    def either(self, other: Bounds) -> Bounds:
        """Return the bounds where one or the other is done."""
        most = None if self.most is None or other.most is None else max(self.most, other.most)
        return Bounds(min(self.least, other.least), most)

    def __str__(self) -> str:
        return self.text("{:,.0f}")

    def text(self, form: str) -> str:
        """Return the bounds in words, each number written as ``form`` says."""
        least = form.format(self.least)
        if self.most is None:
            return f"{least} or more"
        most = form.format(self.most)
        return least if least == most else f"{least}-{most}"


NONE, ONCE = Bounds(0, 0), Bounds(1, 1)


class Spend(NamedTuple):
    """LM calls, tokens (of prompts and answers together), and US dollars; ``cost`` is None where a price is unknown."""

    calls: Bounds
    tokens: Bounds
    cost: Bounds | None

    def plus(self, other: Spend) -> Spend:
        """Return what both spend."""
        cost = None if self.cost is None or other.cost is None else self.cost.plus(other.cost)
        return Spend(self.calls.plus(other.calls), self.tokens.plus(other.tokens), cost)

    def times(self, factor: Bounds) -> Spend:
        """Return what doing it ``factor`` times spends."""
        cost = None if self.cost is None else self.cost.times(factor)
        return Spend(self.calls.times(factor), self.tokens.times(factor), cost)

    def up_to(self, times: int) -> Spend:
        """Return what doing it once or up to so many times spends."""
        cost = None if self.cost is None else self.cost.up_to(times)
        return Spend(self.calls.up_to(times), self.tokens.up_to(times), cost)

    def either(self, other: Spend) -> Spend:
        """Return what is spent where one or the other is done."""
        cost = None if self.cost is None or other.cost is None else self.cost.either(other.cost)
        return Spend(self.calls.either(other.calls), self.tokens.either(other.tokens), cost)

    def __str__(self) -> str:
        if self.calls.most == 0:
            return "no LM calls"
        calls = f"{self.calls} LM call{'' if self.calls.most == 1 else 's'}"
        return f"{calls} · {self.tokens} tokens · {dollars(self.cost)}"


FREE = Spend(NONE, NONE, NONE)


def dollars(cost: Bounds | None) -> str:
    """Return a sum in words."""
    if cost is None:
        return "cost unknown"
    top = cost.least if cost.most is None else cost.most
    return cost.text("${:,.2f}" if top == 0 or top >= 1 else "${:.4f}" if top >= 0.001 else "${:.6f}")
