"""From layers to coordinates: columns side by side, wrapped into bands like words into lines, and the paths of the lines."""

from __future__ import annotations

from itertools import pairwise

from dspex_lab.widgets._layers import Item

__all__ = ["GAP_X", "GAP_Y", "PAD", "Tracks", "path", "place"]

GAP_X, GAP_Y, PAD = 38.0, 12.0, 4.0
_LANE_GAP = 3.0  # between two lines that pass side by side
_TRACK = 7.0  # between two lines that go back to the next band's beginning
_MOST_TRACKS = 10  # with more lines across it a band is not ended


def place(layers: list[list[Item]], limit: float) -> list[float]:
    """Give every item its ``x``, ``y`` and ``band``: each as level with its neighbours as its siblings allow.

    Args:
        limit: the width in pixels beyond which layers go on in a band below.

    Returns:
        the right edge of each layer.
    """
    widths = [_spread(layer) for layer in layers]
    bands = _bands(layers, widths, limit)
    for number, (first, end) in enumerate(bands):
        for item in (i for layer in layers[first:end] for i in layer):
            item.band = number
    edges: list[float] = []
    top = PAD
    for number, (first, end) in enumerate(bands):
        here = layers[first:end]
        # Lines that come from the band above run down left of this one.
        x = PAD + (_TRACK * (_across(layers, first) + 1) if number else 0.0)
        for layer, width in zip(here, widths[first:end], strict=True):
            for item in layer:
                # Inputs end where their layer ends, beside the lines that leave them.
                item.x = x + width - item.width if item.kind == "input" else x
                item.width = width if item.kind == "lane" else item.width
            edges.append(x + width)
            x += width + GAP_X
        _stack(here)
        bottom = _drop(here, top)
        top = bottom + (2 * GAP_Y + _TRACK * _across(layers, end) if end < len(layers) else 0)
    return edges


def _spread(layer: list[Item]) -> float:
    """Give the plain steps of a layer one width, and return that of the layer."""
    widest = max((i.width for i in layer if i.kind == "step"), default=0.0)
    for item in layer:
        item.width = widest if item.kind == "step" else item.width
    return max((i.width for i in layer), default=0.0)


def _across(layers: list[list[Item]], at: int) -> int:
    """Return how many lines go from the layer before ``at`` into it."""
    return sum(len(item.before) for item in layers[at]) if 0 < at < len(layers) else 0


def _bands(layers: list[list[Item]], widths: list[float], limit: float) -> list[tuple[int, int]]:
    """Return the first and last layer (exclusive) of each band."""
    starts = [0]
    width = 0.0
    for number, wide in enumerate(widths):
        if number > starts[-1] and width + wide > limit:
            near = range(number, max(starts[-1] + 1, number - 3) - 1, -1)
            cut = next((n for n in near if _across(layers, n) <= _MOST_TRACKS), None)
            if cut is not None:
                starts.append(cut)
                width = sum(w + GAP_X for w in widths[cut:number])
        width += wide + GAP_X
    return list(pairwise([*starts, len(layers)]))


def _gap(above: Item, below: Item) -> float:
    return _LANE_GAP if above.kind == below.kind == "lane" else GAP_Y


def _stack(layers: list[list[Item]]) -> None:
    for layer in layers:
        y = 0.0
        for index, item in enumerate(layer):
            y += _gap(layer[index - 1], item) if index else 0.0
            item.y, y = y, y + item.height
        for item in layer:
            item.y -= y / 2
    for forward in (True, False, True, False, True):
        for layer in layers if forward else reversed(layers):
            _level(layer, forward)


def _level(layer: list[Item], forward: bool) -> None:
    wanted = []
    for item in layer:
        near = [o for o in (item.before if forward else item.after) if o.band == item.band]
        if item.kind != "lane":  # boxes stand level with boxes; passing lines go round them
            near = [o for o in near if o.kind != "lane"] or near
        wanted.append(sum(o.middle for o in near) / len(near) - item.height / 2 if near else item.y)
    # The places nearest to those wanted (least squares) that keep order and distance: pool adjacent violators.
    offset, pools = 0.0, list[tuple[float, int]]()
    offsets = []
    for index, (item, want) in enumerate(zip(layer, wanted, strict=True)):
        offset += layer[index - 1].height + _gap(layer[index - 1], item) if index else 0.0
        offsets.append(offset)
        total, count = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, many = pools.pop()
            total, count = total + before, count + many
        pools.append((total, count))
    levels = [total / count for total, count in pools for _ in range(count)]
    for item, level, down in zip(layer, levels, offsets, strict=True):
        item.y = level + down


def _drop(layers: list[list[Item]], top: float) -> float:
    """Move a band's layers so that they begin at ``top``, and return where they end."""
    items = [i for layer in layers for i in layer]
    highest = min((i.y for i in items), default=0.0)
    for item in items:
        item.y = round(item.y - highest + top, 1)
    return max((i.y + i.height for i in items), default=top)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class Tracks:
    """The ways of lines from the end of a band back to the beginning of the next."""

    def __init__(self, layers: list[list[Item]], edges: list[float]) -> None:
        items = [i for layer in layers for i in layer]
        bands = {i.band for i in items}
        self.right = {b: max(edges[i.layer] for i in items if i.band == b) for b in bands}
        self.bottom = {b: max(i.y + i.height for i in items if i.band == b) for b in bands}
        self.numbers: dict[tuple[int, int], int] = {}
        for band in bands:
            back = [(o, i) for i in items for o in i.before if o.band == band != i.band]
            # The lowest goes innermost, so that those which keep their order do not cross.
            back.sort(key=lambda pair: (-pair[0].middle, -pair[1].middle))
            self.numbers.update({(id(o), id(i)): n for n, (o, i) in enumerate(back)})
            self.right[band] += 8 + _TRACK * (len(back) - 1) if back else 0.0

    def back(self, start: Item, end: Item, edge: float, y: float) -> str:
        """Return the path from ``edge``, where ``start``'s layer ends, at height ``y``, down and back to ``end``."""
        number, r = self.numbers[id(start), id(end)], 5
        right = edge + 8 + _TRACK * number
        low = self.bottom[start.band] + GAP_Y + _TRACK * number
        left = PAD + _TRACK * number
        down = f"H{_n(right - r)}q{r} 0 {r} {r}V{_n(low - r)}q0 {r} {-r} {r}"
        into = f"H{_n(left + r)}q{-r} 0 {-r} {r}V{_n(end.middle - r)}q0 {r} {r} {r}H{_n(end.x)}"
        return f"{down}{into}"


def path(chain: list[Item], edges: list[float], tracks: Tracks) -> str:
    """Return the SVG path through a chain of items: level at both ends of each curve, straight through lanes."""
    first = chain[0]
    x, y = first.x + first.width, first.middle
    parts = [f"M{_n(x)} {_n(y)}"]
    for before, item in pairwise(chain):
        edge = edges[before.layer]
        if x < edge:  # past the wider boxes of its layer before it turns
            parts.append(f"H{_n(edge)}")
            x = edge
        to_x, to_y = item.x, item.middle
        if before.band != item.band:
            parts.append(tracks.back(before, item, edge, y))
        elif y == to_y:
            parts.append(f"L{_n(to_x)} {_n(to_y)}")
        else:
            # An input may begin far right in its layer; the turn happens between the layers all the same.
            start = max(x, to_x - GAP_X) if item.kind != "input" else x
            parts.append(f"H{_n(start)}" if start > x else "")
            half = (start + to_x) / 2
            parts.append("C" + " ".join(_n(v) for v in (half, y, half, to_y, to_x, to_y)))
        x, y = to_x, to_y
        if item.kind == "lane":
            x += item.width
            parts.append(f"H{_n(x)}")
    return "".join(parts)
