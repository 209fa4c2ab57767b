"""The graph widget: a pipeline before it runs, to walk about in, and as a picture wherever there is no kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from dspex_lab.widgets import _static
from dspex_lab.widgets._layout import layout
from dspex_lab.widgets._valid import valid_graph

__all__ = ["GraphWidget"]

_STATIC = Path(__file__).parent.parent / "static"


class GraphWidget(anywidget.AnyWidget):
    """The steps of a pipeline and the fields that join them.

    Drag to move, zoom with the buttons, with ``+`` ``-`` ``0`` or with Ctrl or ⌘ and the wheel; a click on a step shows
    its fields, options and inner steps, arrow keys go from step to step.

    Args:
        graph: as ``Pipeline.graph()`` gives it.
        depth: levels of inner steps shown in their outer step's box; by default as many as stay readable.

    Raises:
        traitlets.TraitError: the graph's nodes have no names of their own, or an edge names a step that it lacks.

    The synced traits ``graph`` and ``geometry`` (of :func:`layout`) are for reading; setting ``graph`` draws another one.
    ``selected`` is the full name of the step whose details are open (``"outer.inner"``), or ``""``.
    """

    _esm = _STATIC / "pipeline.js"
    _css = _STATIC / "run.css"

    graph = traitlets.Dict().tag(sync=True)
    geometry = traitlets.Dict().tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)

    def __init__(self, graph: Mapping[str, Any], *, depth: int | None = None) -> None:
        self._depth = depth
        super().__init__(graph=plain(graph), geometry=layout(graph, depth=depth))

    @traitlets.validate("graph")
    def _valid_graph(self, proposal: Any) -> dict[str, Any]:
        return valid_graph(proposal["value"])

    @traitlets.observe("graph")
    def _drawn_again(self, change: Any) -> None:
        if change["old"] is not traitlets.Undefined and change["old"]:
            self.selected = ""
            self.geometry = layout(change["new"], depth=self._depth)

    def to_html(self) -> str:
        """Return the graph as static HTML whose steps unfold: all text escaped, no script, no request."""
        return _static.graph_html(self.graph)

    def to_svg(self) -> str:
        """Return the graph as one SVG document."""
        return _static.graph_svg(self.graph)

    def close(self) -> None:
        """Take the widget away from the browser; its pictures remain."""
        super().close()
        self.layout.close()

    def __repr__(self) -> str:
        return _static.graph_text(self.graph)

    def _repr_html_(self) -> str:
        # For a closed widget: closing takes its mime bundle away.
        return self.to_html()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/html": self.to_html(), "text/plain": repr(self)}, metadata


def plain(value: Any) -> Any:
    """Return a graph as plain dicts, lists and what JSON can write; an option that it cannot write becomes text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
