"""A pipeline's graph as plain data, and what shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab._views import view
from dspex_lab.pipelines._step import Step, step_shape

if TYPE_CHECKING:
    from dspex_lab.pipelines._pipeline import Pipeline

_OPTIONS = ("pool", "timeout", "retries", "idempotent", "cache", "batch", "lm", "on_error", "replaces")
_DEFAULTS = {f.name: f.default for f in fields(Step)}


class GraphView(dict[str, Any]):
    """The graph as a dict; in a notebook it is shown as a picture."""

    def svg(self) -> str:
        """Return the picture as SVG that stands for itself: no script, no font and no style sheet from elsewhere."""
        picture: str = view("graph").svg(self)
        return picture

    def save(self, path: str | Path) -> Path:
        """Write the picture into an ``.svg`` or ``.html`` file and return its path."""
        target = Path(path)
        text = view("graph").page(self) if target.suffix == ".html" else self.svg()
        target.write_text(text, encoding="utf-8")
        return target

    def widget(self) -> Any:
        """Return the graph as a widget: zoom, and a click on a step shows what it takes, gives and does."""
        return view("graph").widget(self)

    def _repr_html_(self) -> str:
        page: str = view("graph").html(self)
        return page


def graph_of(pipeline: Pipeline) -> dict[str, Any]:
    """Return a pipeline's graph as plain data."""
    names = [n.name for n in pipeline.structure.nodes]
    edges = [
        {"from": names[slot[1]] if slot[1] >= 0 else "", "to": node.name, "field": slot[0]}
        for node in pipeline.structure.nodes
        for slot in node.reads.values()
    ]
    nodes = [_node(name, item, shape.inputs, shape.outputs) for name, item, shape in pipeline.nodes]
    return {
        "name": pipeline.name,
        "nodes": nodes,
        "edges": edges,
        "inputs": list(pipeline.inputs),
        "outputs": list(pipeline.outputs),
    }


def _node(name: str, item: Step, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = {
        "name": name,
        "kind": item.kind,
        "does": item.how.label(item),
        "inputs": list(inputs),
        "outputs": list(outputs),
        "pool": item.pool,
        "options": {o: _shown(getattr(item, o)) for o in _OPTIONS if getattr(item, o) != _DEFAULTS[o]},
    }
    inner = getattr(item.target, "inner", item.target)
    if hasattr(inner, "structure"):
        node["parts"] = graph_of(inner)
    elif parts := item.how.parts(item):
        node["parts"] = {"nodes": [_part(name, n, part) for n, part in parts.items()], "edges": []}
    return node


def _part(outer: str, name: str, part: Step) -> dict[str, Any]:
    shape = step_shape(outer, part)
    return _node(name, part, shape.inputs, shape.outputs)


def _shown(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(getattr(value, "model", value))
