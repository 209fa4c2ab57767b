"""The graph of a pipeline: which step feeds which, found from field names. Topology only."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import Shape

#: A version of a field: its name and the index of the step that gave it, -1 for an input of the pipeline.
Slot = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Node:
    """One step in the graph.

    ``reads`` maps each input field to the version it reads; ``needs`` are the indices of the steps that must have
    ended before.
    """

    index: int
    name: str
    reads: dict[str, Slot]
    needs: frozenset[int]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the order of definition, what each step feeds, the pipeline's inputs, and each field's last version.

    ``sequential`` says that no two steps can ever run at the same time: each waits for the one before it, in ``order``.
    For the engine every slot has a number: ``given`` are the numbers of the pipeline's inputs, ``reads`` and ``writes`` those
    of each step, ``counts`` says for how many steps each one waits, and ``first`` are those that wait for none.
    """

    nodes: tuple[Node, ...]
    feeds: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]
    last: dict[str, Slot]
    sequential: bool
    order: tuple[int, ...]
    slots: dict[Slot, int]
    given: tuple[tuple[str, int], ...]
    reads: tuple[tuple[tuple[str, int], ...], ...]
    writes: tuple[tuple[tuple[str, int], ...], ...]
    counts: tuple[int, ...]
    first: tuple[int, ...]


def build(shapes: Mapping[str, Shape], replacing: frozenset[str] = frozenset()) -> Graph:
    """Join steps by field names.

    A step reads the version of a field that the nearest step before it (in order of definition) gave, or, where the
    only producer stands after it, that one. A field nobody gives is an input of the pipeline.

    Args:
        shapes: what each step takes and gives, in order of definition.
        replacing: the steps that may give a field which exists already.

    Raises:
        PipelineError: two steps give one field, or steps wait for each other in a circle.
    """
    names = list(shapes)
    producers = _producers(shapes, replacing)
    nodes = [_node(index, shapes, names, producers, replacing) for index in range(len(names))]
    _refuse_cycles(nodes, names)
    followers: list[list[int]] = [[] for _ in nodes]
    for node in nodes:
        for needed in node.needs:
            followers[needed].append(node.index)
    feeds = tuple(map(tuple, followers))
    order = _only_order(nodes, feeds)
    inputs = tuple(dict.fromkeys(field for node in nodes for field, slot in node.reads.items() if slot[1] == -1))
    every = [
        *((field, -1) for field in inputs),
        *((field, i) for i, name in enumerate(names) for field in shapes[name].outputs),
    ]
    slots: dict[Slot, int] = {slot: number for number, slot in enumerate(every)}
    return Graph(
        tuple(nodes),
        feeds,
        inputs,
        {field: (field, given[-1]) for field, given in producers.items()},
        order is not None,
        order or (),
        slots,
        given=tuple((field, slots[field, -1]) for field in inputs),
        reads=tuple(tuple((field, slots[slot]) for field, slot in node.reads.items()) for node in nodes),
        writes=tuple(tuple((field, slots[field, i]) for field in shapes[name].outputs) for i, name in enumerate(names)),
        counts=tuple(len(node.needs) for node in nodes),
        first=tuple(node.index for node in nodes if not node.needs),
    )


def _producers(shapes: Mapping[str, Shape], replacing: frozenset[str]) -> dict[str, list[int]]:
    """Return for each field the steps that give it, in order of definition."""
    names = list(shapes)
    producers: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        for field in shapes[name].outputs:
            others = producers.setdefault(field, [])
            if others and name not in replacing:
                raise PipelineError(
                    f"Steps {names[others[0]]!r} and {name!r} both produce the field {field!r}.",
                    step=name,
                    hint=f"Rename one of the fields, or say step(..., replaces=True) on {name!r} to replace the value.",
                )
            others.append(index)
    return producers


def _node(
    index: int, shapes: Mapping[str, Shape], names: list[str], producers: Mapping[str, list[int]], replacing: frozenset[str]
) -> Node:
    """Return a step with the version of each field that it reads."""
    name, reads = names[index], dict[str, Slot]()
    for field in shapes[name].inputs:
        reads[field] = (field, _version(producers.get(field, []), index, names, replacing))
        if field in shapes[name].outputs and name not in replacing and reads[field][1] == -1:
            raise PipelineError(
                f"Step {name!r} takes and gives the field {field!r}: it would wait for itself.",
                step=name,
                hint=f"Say step(..., replaces=True) on {name!r} if it is to replace the value, or rename the step.",
            )
    return Node(index, name, reads, frozenset(p for _, p in reads.values() if p >= 0))


def _version(given: list[int], reader: int, names: list[str], replacing: frozenset[str]) -> int:
    """Return which of the steps that give a field ``reader`` reads it from, -1 for the pipeline's input."""
    place = bisect_left(given, reader)
    if place:
        return given[place - 1]
    after = next((p for p in given[:2] if p != reader), None)
    return -1 if after is None or names[after] in replacing else after


def _only_order(nodes: list[Node], feeds: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    """Return the order of the steps if only one is possible, each waiting for the one before it, else None."""
    counts = [len(node.needs) for node in nodes]
    order: list[int] = []
    ready = [node.index for node in nodes if not node.needs]
    while len(ready) == 1:
        current = ready[0]
        order.append(current)
        ready = []
        for fed in feeds[current]:
            counts[fed] -= 1
            if counts[fed] == 0:
                ready.append(fed)
    return tuple(order) if len(order) == len(nodes) else None


def _refuse_cycles(nodes: list[Node], names: list[str]) -> None:
    done: set[int] = set()
    for node in nodes:
        # The way taken so far, and what is still to be looked at from each step on it; a long chain is no deep recursion.
        path: dict[int, Iterator[int]] = {} if node.index in done else {node.index: iter(sorted(node.needs))}
        while path:
            index = next(reversed(path))
            needed = next(path[index], None)
            if needed is None:
                done.add(index)
                del path[index]
            elif needed in path:
                way = list(path)
                raise _circle(nodes, names, [*way[way.index(needed) :], needed])
            elif needed not in done:
                path[needed] = iter(sorted(nodes[needed].needs))


def _circle(nodes: list[Node], names: list[str], circle: list[int]) -> PipelineError:
    pairs = list(zip(circle[1:], circle, strict=False))
    fields = [next(f for f, s in nodes[b].reads.items() if s[1] == a) for a, b in pairs]
    story = "; ".join(f"{names[b]!r} needs {f!r} from {names[a]!r}" for (a, b), f in zip(pairs, fields, strict=True))
    return PipelineError(
        f"The steps {' → '.join(repr(names[i]) for i in circle)} wait for each other: {story}.",
        step=names[circle[-1]],
        hint="Rename one of these fields or take one of the steps out of the circle.",
    )
