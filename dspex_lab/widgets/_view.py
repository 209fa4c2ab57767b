"""The view registered as ``graph`` in the entry-point group ``dspex_lab.views``; ``Pipeline.graph()`` is shown by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab.widgets._picture import escape
from dspex_lab.widgets._static import graph_html as html
from dspex_lab.widgets._static import graph_svg as svg
from dspex_lab.widgets._static import graph_text as text

if TYPE_CHECKING:
    from dspex_lab.widgets._graph import GraphWidget

__all__ = ["html", "page", "svg", "text", "widget"]


def page(graph: Mapping[str, Any]) -> str:
    """Return the graph as an HTML page of its own."""
    name = escape(str(graph.get("name", "")))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Pipeline {name}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{html(graph)}</body></html>\n'


def widget(graph: Mapping[str, Any]) -> GraphWidget:
    """Return the graph as a widget."""
    from dspex_lab.widgets._graph import GraphWidget

    return GraphWidget(graph)
