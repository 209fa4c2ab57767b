"""A graph's nodes, inner ones too, under the names that records give them: ``outer.inner``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["inner", "number", "walk"]

#: Levels of inner steps that are looked at; what is deeper belongs to the step around it.
DEEPEST = 8


def inner(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a node's inner steps."""
    return list((node.get("parts") or {}).get("nodes") or ())


def walk(graph: Mapping[str, Any], prefix: str = "", depth: int = DEEPEST) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every node under its full name, an outer one before its inner ones."""
    for node in graph.get("nodes", ()):
        name = f"{prefix}{node['name']}"
        yield name, node
        if depth and inner(node):
            yield from walk(node["parts"], f"{name}.", depth - 1)


def number(graph: Mapping[str, Any], depth: int) -> int:
    """Return how many nodes there are, inner ones down to ``depth`` levels included."""
    return sum(1 for _ in walk(graph, depth=depth))
