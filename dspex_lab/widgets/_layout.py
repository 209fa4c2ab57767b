"""Where the boxes and the lines of a pipeline's graph go.

Layers from left to right (a step stands right of everything it needs), siblings stacked. A line that passes
a layer gets a place of its own in it, so that no line runs under a box; the order in each layer is that
with the fewest crossings found by sweeping barycentres (Sugiyama, Tagawa and Toda 1981). The result is
computed once, here, and drawn by the live widget and the static pictures alike.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

__all__ = ["layout"]

NODE_HEIGHT, NODE_MIN, NODE_MAX = 44.0, 166.0, 230.0
INPUT_HEIGHT, INPUT_MIN, INPUT_MAX = 22.0, 44.0, 140.0
LANE_HEIGHT = 10.0  # the place of a line that passes a layer
GAP_X, GAP_Y, PAD = 38.0, 12.0, 4.0
_SWEEPS = 4


@dataclass(slots=True, eq=False)
class _Item:
    """A box, a pipeline input, or the place of a passing line."""

    key: str
    kind: str  # "step", "input" or "lane"
    width: float
    height: float
    label: str = ""
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    before: list[_Item] = field(default_factory=list)
    after: list[_Item] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def _text_width(text: str, size: float) -> float:
    """Estimate the width of ``text`` in pixels in a plain interface font of ``size`` pixels."""
    wide = sum(0.9 if c in "mwMW@%" else 0.32 if c in "iljtfr.,'|!:;()[] " else 0.7 if c.isupper() else 0.57 for c in text)
    return wide * size


def _fit(text: str, size: float, room: float) -> str:
    """Shorten ``text`` with an ellipsis until it fits ``room`` pixels."""
    if _text_width(text, size) <= room:
        return text
    while text and _text_width(text + "…", size) > room:
        text = text[:-1]
    return text + "…"


def _step_item(name: str) -> _Item:
    width = min(max(_text_width(name, 13) + 44, NODE_MIN), NODE_MAX)
    return _Item(name, "step", round(width), NODE_HEIGHT, _fit(name, 13, NODE_MAX - 44))


def _input_item(name: str) -> _Item:
    width = min(max(_text_width(name, 11) + 18, INPUT_MIN), INPUT_MAX)
    return _Item(name, "input", round(width), INPUT_HEIGHT, _fit(name, 11, INPUT_MAX - 18))


def _layers_of(names: list[str], pairs: Mapping[tuple[str, str], list[str]]) -> dict[str, int]:
    """Return each step's layer: one more than the last of those it needs; what is in a cycle comes last."""
    needs = {n: {a for a, b in pairs if b == n and a} for n in names}
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


def _crossings(layers: list[list[_Item]]) -> int:
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


def _order(layers: list[list[_Item]]) -> list[list[_Item]]:
    """Return the layers with the order in each that has the fewest crossings among those tried."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    current = [list(layer) for layer in layers]
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forward = sweep % 2 == 0
        for layer in current if forward else reversed(current):
            place = {id(i): p for row in current for p, i in enumerate(row)}

            def centre(item: _Item, place: dict[int, int] = place, forward: bool = forward) -> float:
                near = item.before if forward else item.after
                return sum(place[id(o)] for o in near) / len(near) if near else place[id(item)]

            layer.sort(key=centre)
        crossings = _crossings(current)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in current], crossings
    return best


def _place(layers: list[list[_Item]]) -> None:
    """Give every item its ``x`` and ``y``: each as level with its neighbours as its siblings allow."""
    x = PAD
    for layer in layers:
        width = max((i.width for i in layer if i.kind != "lane"), default=LANE_HEIGHT)
        y = 0.0
        for item in layer:
            # Inputs end where their layer ends, beside the lines that leave them; steps share one width.
            item.x = x + width - item.width if item.kind == "input" else x
            item.width = item.width if item.kind == "input" else width
            item.y, y = y, y + item.height + GAP_Y
        for item in layer:
            item.y -= (y - GAP_Y) / 2
        x += width + GAP_X
    for forward in (True, False, True, False):
        for layer in layers if forward else reversed(layers):
            _level(layer, forward)
    top = min((i.y for layer in layers for i in layer), default=0.0)
    for layer in layers:
        for item in layer:
            item.y = round(item.y - top + PAD, 1)


def _level(layer: list[_Item], forward: bool) -> None:
    wanted = []
    for item in layer:
        near = item.before if forward else item.after
        if item.kind != "lane":  # boxes stand level with boxes; passing lines go round them
            near = [o for o in near if o.kind != "lane"] or near
        wanted.append(sum(o.middle for o in near) / len(near) - item.height / 2 if near else item.y)
    bottom = float("-inf")
    for item, want in zip(layer, wanted, strict=True):
        item.y = max(want, bottom)
        bottom = item.y + item.height + GAP_Y
    shift = sum(w - i.y for i, w in zip(layer, wanted, strict=True)) / len(layer)
    for item in layer:
        item.y += shift


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _path(chain: list[_Item]) -> str:
    """Return the SVG path through a chain of items: level at both ends of each curve, straight through lanes."""
    first = chain[0]
    x, y = first.x + first.width, first.middle
    parts = [f"M{_number(x)} {_number(y)}"]
    for item in chain[1:]:
        to_x, to_y = item.x, item.middle
        half = (x + to_x) / 2
        numbers = " ".join(_number(v) for v in (half, y, half, to_y, to_x, to_y))
        parts.append(f"L{_number(to_x)} {_number(to_y)}" if y == to_y else f"C{numbers}")
        x, y = to_x, to_y
        if item.kind == "lane":
            x += item.width
            parts.append(f"H{_number(x)}")
    return "".join(parts)


def _join(start: _Item, end: _Item, layers: list[list[_Item]]) -> list[_Item]:
    """Return the chain from ``start`` to ``end`` with a lane in every layer between, each linked to the next."""
    chain = [start]
    for number in range(start.layer + 1, end.layer):
        lane = _Item("", "lane", LANE_HEIGHT, LANE_HEIGHT, layer=number)
        layers[number].append(lane)
        chain.append(lane)
    chain.append(end)
    for a, b in pairwise(chain):
        a.after.append(b)
        b.before.append(a)
    return chain


def layout(graph: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out a pipeline's graph.

    Args:
        graph: as ``Pipeline.graph()`` gives it; an edge from or to an unknown step is left out.

    Returns:
        ``{"width", "height"}`` in pixels; ``"nodes"``: ``{"name", "label", "x", "y", "width", "height", "layer"}`` in
        reading order (layer by layer, from above); ``"inputs"``: the same for the pipeline's inputs that a step
        takes; ``"edges"``: ``{"from", "to", "fields", "path"}`` with an SVG path each, where ``from`` is ``""`` and
        ``fields`` has one name for a pipeline input.
    """
    names = [str(n["name"]) for n in graph.get("nodes", ())]
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    taken: dict[tuple[str, str], None] = {}
    for edge in graph.get("edges", ()):
        start, end, name = str(edge["from"]), str(edge["to"]), str(edge.get("field", ""))
        if end in names and not start:
            taken[name, end] = None
        elif end in names and start in names and start != end:
            pairs[start, end].append(name)
    inputs = {name: _input_item(name) for name, _ in taken}
    steps = {name: _step_item(name) for name in names}
    offset = 1 if inputs else 0
    for name, rank in _layers_of(names, pairs).items():
        steps[name].layer = rank + offset
    layers: list[list[_Item]] = [[] for _ in range(max((s.layer for s in steps.values()), default=-1) + 1)]
    for item in (*inputs.values(), *steps.values()):
        layers[item.layer].append(item)
    chains: list[tuple[str, str, list[str], list[_Item]]] = []
    for (start, end), fields in pairs.items():
        if steps[start].layer < steps[end].layer:
            chains.append((start, end, fields, _join(steps[start], steps[end], layers)))
    for name, end in taken:
        chains.append(("", end, [name], _join(inputs[name], steps[end], layers)))
    layers = _order(layers)
    _place(layers)
    items = [i for layer in layers for i in layer]
    return {
        "width": max((i.x + i.width for i in items), default=0) + PAD,
        "height": max((i.y + i.height for i in items), default=0) + PAD,
        "nodes": [_box(i) for i in items if i.kind == "step"],
        "inputs": [_box(i) for i in items if i.kind == "input"],
        "edges": [{"from": a, "to": b, "fields": f, "path": _path(chain)} for a, b, f, chain in chains],
    }


def _box(item: _Item) -> dict[str, Any]:
    return {
        "name": item.key,
        "label": item.label,
        "x": item.x,
        "y": item.y,
        "width": item.width,
        "height": item.height,
        "layer": item.layer,
    }
