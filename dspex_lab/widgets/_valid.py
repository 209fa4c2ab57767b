"""What a graph must be like before it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import traitlets

__all__ = ["valid_graph"]


def valid_graph(graph: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return ``graph`` as it is.

    Raises:
        traitlets.TraitError: nodes of one level have no names of their own, or an edge names a step that it lacks.
    """
    of = f" of {where!r}" if where else ""
    names = [n.get("name") for n in graph.get("nodes", ())]
    if not all(isinstance(n, str) and n for n in names) or len(set(names)) != len(names):
        raise traitlets.TraitError(f"A graph needs nodes with names of their own, not {names!r}{of}.")
    for edge in graph.get("edges") or ():
        unknown = {edge.get("from"), edge.get("to")} - {*names, ""}
        if unknown:
            raise traitlets.TraitError(f"An edge of the graph{of} names a step that it lacks: {sorted(map(repr, unknown))}.")
    for node in graph.get("nodes", ()):
        if node.get("parts"):
            valid_graph(node["parts"], f"{where}.{node['name']}".lstrip("."))
    return dict(graph)
