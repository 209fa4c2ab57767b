"""What is shown in a notebook's cell: the run widget, and static pictures of pipelines and runs.

Importing this room loads no widget library; the first use of :class:`RunWidget` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_lab.widgets._layout import layout
from dspex_lab.widgets._show import show_run
from dspex_lab.widgets._state import RunState
from dspex_lab.widgets._static import graph_html, graph_svg, run_html, run_svg, run_text

if TYPE_CHECKING:
    from dspex_lab.widgets._run import RunWidget

__all__ = ["RunState", "RunWidget", "graph_html", "graph_svg", "layout", "run_html", "run_svg", "run_text", "show_run"]


def __getattr__(name: str) -> Any:
    if name == "RunWidget":
        from dspex_lab.widgets._run import RunWidget

        globals()[name] = RunWidget
        return RunWidget
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
