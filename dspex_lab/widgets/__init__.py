"""What is shown in a notebook's cell: the graph and run widgets, and static pictures of pipelines and runs.

Importing this room loads no widget library; the first use of :class:`GraphWidget` or :class:`RunWidget` does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dspex_lab.widgets import _view as graph_view
from dspex_lab.widgets._layout import layout
from dspex_lab.widgets._show import show_run
from dspex_lab.widgets._state import RunState
from dspex_lab.widgets._static import graph_html, graph_svg, graph_text, run_html, run_svg, run_text

if TYPE_CHECKING:
    from dspex_lab.widgets._graph import GraphWidget
    from dspex_lab.widgets._run import RunWidget

__all__ = [
    "GraphWidget",
    "RunState",
    "RunWidget",
    "graph_html",
    "graph_svg",
    "graph_text",
    "graph_view",
    "layout",
    "run_html",
    "run_svg",
    "run_text",
    "show_run",
]

_HOME = {"GraphWidget": "_graph", "RunWidget": "_run"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
