"""Boxes in layers from left to right, in an order with few crossings. Topology only; :mod:`_place` gives it coordinates.

A step stands right of everything it needs. A line that passes a layer gets a place of its own in it, a *lane*, so that
no line runs under a box; the order in each layer is that with the fewest crossings found by sweeping barycentres
(Sugiyama, Tagawa and Toda 1981).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Item", "crossings", "join", "layers_of", "order"]

_SWEEPS = 8


@dataclass(slots=True, eq=False)
class Item:
    """A box, a pipeline input, or the place of a passing line."""

    key: str
    kind: str  # "step", "group", "input" or "lane"
    width: float
    height: float
    label: str = ""
    layer: int = 0
    band: int = 0
    x: float = 0.0
    y: float = 0.0
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """The height at which lines enter and leave."""
        return self.y + self.height / 2


def layers_of(names: list[str], pairs: Mapping[tuple[str, str], list[str]]) -> dict[str, int]:
    """Return each step's layer: one more than the last of those it needs; what is in a cycle comes last."""
    needs: dict[str, set[str]] = {n: set() for n in names}
    for a, b in pairs:
        needs[b].add(a)
    rank: dict[str, int] = {}
    left = list(names)
    while left:
        ready = [n for n in left if needs[n] <= rank.keys()]
        if not ready:
            last = max(rank.values(), default=-1) + 1
            rank.update(dict.fromkeys(left, last))
            break
        for n in ready:
            rank[n] = 1 + max((rank[a] for a in needs[n]), default=-1)
        left = [n for n in left if n not in rank]
    return rank


def join(start: Item, end: Item, layers: list[list[Item]], lane: float) -> list[Item]:
    """Return the chain from ``start`` to ``end`` with a lane in every layer between, each linked to the next.

    Args:
        lane: the height of a lane in pixels.
    """
    chain = [start]
    for number in range(start.layer + 1, end.layer):
        passing = Item("", "lane", lane, lane, layer=number)
        layers[number].append(passing)
        chain.append(passing)
    chain.append(end)
    for a, b in pairwise(chain):
        a.after.append(b)
        b.before.append(a)
    return chain


def crossings(layers: list[list[Item]]) -> int:
    """Return how many pairs of lines cross between neighbouring layers."""
    total = 0
    for left, right in pairwise(layers):
        place = {id(item): i for i, item in enumerate(right)}
        seen: list[int] = []
        for item in left:
            ends = sorted(place[id(o)] for o in item.after)
            total += sum(len(seen) - bisect_left(seen, e + 1) for e in ends)
            for e in ends:
                insort(seen, e)
    return total


def order(layers: list[list[Item]]) -> list[list[Item]]:
    """Return the layers with the order in each that has the fewest crossings among those tried."""
    best, fewest = [list(layer) for layer in layers], crossings(layers)
    current = [list(layer) for layer in layers]
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forward = sweep % 2 == 0
        place = {id(i): p for row in current for p, i in enumerate(row)}
        for layer in current if forward else reversed(current):
            _sort(layer, place, forward)
        found = crossings(current)
        if found < fewest:
            best, fewest = [list(layer) for layer in current], found
    return best


def _sort(layer: list[Item], place: dict[int, int], forward: bool) -> None:
    """Sort a layer by the mean place of what each item is joined to on one side, and note the new places."""

    def centre(item: Item) -> float:
        near = item.before if forward else item.after
        return sum(place[id(o)] for o in near) / len(near) if near else place[id(item)]

    layer.sort(key=centre)
    place.update((id(item), at) for at, item in enumerate(layer))
