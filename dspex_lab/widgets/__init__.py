"""What is shown in a notebook's cell: the graph and run widgets, and static pictures of pipelines and runs.

Importing this room loads no widget library; the first use of a class here that ends in ``Widget`` or ``Board`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex_lab import _lazy
from dspex_lab.widgets import _view as graph_view
from dspex_lab.widgets._board_show import board_picture, show_board
from dspex_lab.widgets._job_show import show_job, show_thumbs, thumbs_under_results
from dspex_lab.widgets._layout import layout
from dspex_lab.widgets._show import show_run
from dspex_lab.widgets._state import RunState
from dspex_lab.widgets._static import graph_html, graph_svg, graph_text, run_html, run_svg, run_text

if TYPE_CHECKING:
    from dspex_lab.widgets._board import VariableBoard
    from dspex_lab.widgets._graph import GraphWidget
    from dspex_lab.widgets._job import JobWidget
    from dspex_lab.widgets._job_thumbs import ThumbsWidget
    from dspex_lab.widgets._run import RunWidget

__all__ = [
    "GraphWidget",
    "JobWidget",
    "RunState",
    "RunWidget",
    "ThumbsWidget",
    "VariableBoard",
    "board_picture",
    "graph_html",
    "graph_svg",
    "graph_text",
    "graph_view",
    "layout",
    "run_html",
    "run_svg",
    "run_text",
    "show_board",
    "show_job",
    "show_run",
    "show_thumbs",
    "thumbs_under_results",
]

_HOME = {
    "GraphWidget": "_graph",
    "JobWidget": "_job",
    "RunWidget": "_run",
    "ThumbsWidget": "_job_thumbs",
    "VariableBoard": "_board",
}


__getattr__ = _lazy.names(__name__, _HOME, keep=True)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
