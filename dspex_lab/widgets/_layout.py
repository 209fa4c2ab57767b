"""Where the boxes and the lines of a pipeline's graph go, and what stands in the boxes.

The result is computed once, here, and drawn by the live widgets and the static pictures alike. Layers stand from left to
right; the inner steps of a step stand in its box, down to a depth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.widgets._facts import facts, guards, line
from dspex_lab.widgets._kinds import look, outline
from dspex_lab.widgets._layers import Item, join, layers_of, order
from dspex_lab.widgets._nodes import inner, number, walk
from dspex_lab.widgets._place import PAD, Tracks, path, place
from dspex_lab.widgets._text import nature

__all__ = ["fit", "layout", "text_width"]

NODE_HEIGHT, NODE_MIN, NODE_MAX = 44.0, 166.0, 230.0
INPUT_HEIGHT, INPUT_MIN, INPUT_MAX = 22.0, 44.0, 140.0
BADGE_MAX = 110.0
LANE = 10.0
GROUP_HEAD, GROUP_PAD = 42.0, 10.0
WIDTH = 1200.0  # beyond it a graph goes on in a band below
FAR = 4  # layers from an input after which it is shown once more

#: Boxes up to which inner steps are shown in their outer step, and the levels that are.
MANY, DEPTH = 80, 3


@dataclass(slots=True)
class _Drawing:
    """A graph laid out: what is in it, from its upper left corner."""

    width: float = 0.0
    height: float = 0.0
    nodes: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)


def text_width(text: str, size: float) -> float:
    """Estimate the width of ``text`` in pixels in a plain interface font of ``size`` pixels."""
    wide = 0.0
    for c in text:
        wide += 0.9 if c in "mwMW@%" or ord(c) > 0x2E7F else 0.32 if c in "iljtfr.,'|!:;()[] " else 0.7 if c.isupper() else 0.57
    return wide * size


def fit(text: str, size: float, room: float) -> str:
    """Shorten ``text`` with an ellipsis until it fits ``room`` pixels."""
    text = " ".join(text[:400].split())
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    return text + "…"


def _step_item(name: str, node: Mapping[str, Any], drawing: _Drawing | None) -> Item:
    label = fit(name, 13, NODE_MAX - 44)
    if drawing is not None:
        width = max(drawing.width + 2 * GROUP_PAD, NODE_MIN)
        return Item(name, "group", round(width), round(GROUP_HEAD + drawing.height + GROUP_PAD), label)
    badge = _badge(node)[1]
    wanted = max(text_width(name, 13) + 44, text_width(line(node, _within(node))[:80], 11) + 50 + (badge + 4 if badge else 0))
    return Item(name, "step", round(min(max(wanted, NODE_MIN), NODE_MAX)), NODE_HEIGHT, label)


def _badge(node: Mapping[str, Any]) -> tuple[str, int]:
    """Return what a step's badge says, and its width: its pool, and what stands around it."""
    said = fit(" ".join(filter(None, [str(node.get("pool") or ""), *guards(node)])), 10, BADGE_MAX - 12)
    return said, round(text_width(said, 10) + 12) if said else 0


def _within(node: Mapping[str, Any]) -> int:
    """Return the number of a step's inner steps, and theirs."""
    return sum(1 for _ in walk(node["parts"])) if inner(node) else 0


def _input_item(name: str) -> Item:
    width = min(max(text_width(name, 11) + 18, INPUT_MIN), INPUT_MAX)
    return Item(name, "input", round(width), INPUT_HEIGHT, fit(name, 11, INPUT_MAX - 18))


def layout(graph: Mapping[str, Any], *, depth: int | None = None, width: float = WIDTH) -> dict[str, Any]:
    """Lay out a pipeline's graph.

    Args:
        graph: as ``Pipeline.graph()`` gives it; an edge from or to an unknown step is left out.
        depth: levels of inner steps that are shown in their outer step; by default as many of three as make 80 boxes.
        width: pixels after which it goes on below, where not too many lines are in the way.

    Returns:
        ``{"width", "height"}`` in pixels; ``"nodes"``, in reading order, an outer step before its inner ones: ``name`` (of
        an inner step ``outer.inner``), ``label``, ``x y width height``, ``layer`` (within its ``parent``, a name or ``""``),
        ``group`` (its inner steps are shown), ``folded`` (the number of inner steps that are not), ``kind`` (a class of the
        style sheet), ``word`` (of the legend), ``shape`` and ``icon`` (SVG paths), ``line`` (what it does), ``nature`` (what
        it is), ``badge`` (its pool, retries, timeout, cache and
        what becomes of an error, or ``""``) with ``badge_width``, and ``facts``: pairs of texts; ``"inputs"``: the
        pipeline's inputs that a step takes, an input again where it is taken far from the first place; ``"edges"``:
        ``{"from", "to", "fields", "path", "parent", "dx", "dy"}`` with an SVG path each, to be moved by ``dx`` and ``dy``,
        where ``from`` is ``""`` and ``fields`` has one name for a pipeline input; ``"legend"``: ``{"kind", "word", "icon"}``
        for each kind there is.
    """
    if depth is None:
        depth = next((d for d in range(DEPTH, 0, -1) if number(graph, d) <= MANY), 0)
    drawing = _arrange(graph, "", depth, width)
    shown = {n["word"]: {"kind": n["kind"], "word": n["word"], "icon": n["icon"]} for n in drawing.nodes}
    return {
        "width": drawing.width,
        "height": drawing.height,
        "nodes": drawing.nodes,
        "inputs": drawing.inputs,
        "edges": drawing.edges,
        "legend": list(shown.values()),
    }


def _arrange(graph: Mapping[str, Any], prefix: str, depth: int, limit: float) -> _Drawing:
    nodes = {str(n["name"]): n for n in graph.get("nodes", ())}
    within = {
        name: _arrange(node["parts"], f"{prefix}{name}.", depth - 1, max(limit - 200, 600))
        for name, node in nodes.items()
        if depth and inner(node)
    }
    pairs, taken = _edges(graph, set(nodes), bool(prefix))
    steps = {name: _step_item(name, node, within.get(name)) for name, node in nodes.items()}
    offset = 1 if taken else 0
    for name, rank in layers_of(list(nodes), pairs).items():
        steps[name].layer = rank + offset
    pills = _pills(taken, steps)
    layers: list[list[Item]] = [[] for _ in range(max((s.layer for s in steps.values()), default=-1) + 1)]
    for item in (*dict.fromkeys(pills.values()), *steps.values()):
        layers[item.layer].append(item)
    chains: list[tuple[str, str, list[str], list[Item]]] = []
    for (start, end), fields in pairs.items():
        if steps[start].layer < steps[end].layer:
            chains.append((start, end, fields, join(steps[start], steps[end], layers, LANE)))
    for (name, end), pill in pills.items():
        chains.append(("", end, [name], join(pill, steps[end], layers, LANE)))
    layers = order(layers)
    edges = place(layers, limit)
    return _drawing(layers, edges, chains, nodes, within, prefix)


def _edges(
    graph: Mapping[str, Any], names: set[str], nested: bool
) -> tuple[dict[tuple[str, str], list[str]], dict[tuple[str, str], None]]:
    """Return the fields between two steps, and which step takes which input; inner steps take theirs from their frame."""
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    taken: dict[tuple[str, str], None] = {}
    for edge in graph.get("edges") or ():
        start, end, name = str(edge["from"]), str(edge["to"]), str(edge.get("field", ""))
        if end not in names:
            continue
        if not start and not nested:
            taken[name, end] = None
        elif start in names and start != end:
            pairs[start, end].append(name)
    return pairs, taken


def _pills(taken: Mapping[tuple[str, str], None], steps: Mapping[str, Item]) -> dict[tuple[str, str], Item]:
    """Return the item of each input for each step that takes it: one for all that are near enough to it."""
    pills: dict[tuple[str, str], Item] = {}
    latest: dict[str, Item] = {}
    for name, end in sorted(taken, key=lambda pair: steps[pair[1]].layer):
        pill = latest.get(name)
        if pill is None or steps[end].layer - pill.layer > FAR:
            pill = latest[name] = _input_item(name)
            pill.layer = steps[end].layer - 1
        pills[name, end] = pill
    return pills


def _drawing(
    layers: list[list[Item]],
    edges: list[float],
    chains: list[tuple[str, str, list[str], list[Item]]],
    nodes: Mapping[str, Mapping[str, Any]],
    within: Mapping[str, _Drawing],
    prefix: str,
) -> _Drawing:
    items = [i for layer in layers for i in layer]
    tracks = Tracks(layers, edges)
    lines = [
        {
            "from": prefix + a if a else "",
            "to": prefix + b,
            "fields": f,
            "path": path(chain, edges, tracks),
            "parent": prefix.removesuffix("."),
            "dx": 0.0,
            "dy": 0.0,
        }
        for a, b, f, chain in chains
    ]
    out = _Drawing(edges=lines)
    out.width = max(tracks.right.values(), default=0.0) + PAD
    out.height = max((i.y + i.height for i in items), default=0) + PAD
    for item in items:
        if item.kind == "input":
            out.inputs.append(_box(item, item.key, ""))
        elif item.kind != "lane":
            out.nodes.append(_node(item, nodes[item.key], prefix))
            if item.key in within:
                _put(out, within[item.key], item.x + (item.width - within[item.key].width) / 2, item.y + GROUP_HEAD)
    return out


def _put(out: _Drawing, drawing: _Drawing, x: float, y: float) -> None:
    """Put an inner drawing into an outer one, its upper left corner at ``x``, ``y``."""
    for node in drawing.nodes:
        out.nodes.append({**node, "x": round(node["x"] + x, 1), "y": round(node["y"] + y, 1)})
    for edge in drawing.edges:
        out.edges.append({**edge, "dx": round(edge["dx"] + x, 1), "dy": round(edge["dy"] + y, 1)})


def _box(item: Item, name: str, parent: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": item.label,
        "x": item.x,
        "y": item.y,
        "width": item.width,
        "height": item.height,
        "layer": item.layer,
        "parent": parent,
    }


def _node(item: Item, node: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    kind, room = look(node.get("kind")), item.width - 48
    group = item.kind == "group"
    folded = 0 if group else _within(node)
    badge, badge_width = _badge(node)
    return {
        **_box(item, prefix + item.key, prefix.removesuffix(".")),
        "group": group,
        "folded": folded,
        "kind": kind.name,
        "word": kind.word,
        "icon": kind.icon,
        "shape": outline("frame" if group else kind.shape, item.width, item.height),
        "line": fit(line(node, folded), 11, room - (badge_width + 4 if badge else 0)),
        "nature": fit(nature(node), 11, room),
        "badge": badge,
        "badge_width": badge_width,
        "facts": facts(node),
    }
