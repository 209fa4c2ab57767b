"""A widget in the cell whose saved output is its last state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

    from dspex_lab.widgets._run import RunWidget

__all__ = ["show_run"]


@contextmanager
def show_run(widget: RunWidget) -> Iterator[RunWidget]:
    """Show ``widget`` in the cell while the block runs, and keep its last state in the cell's saved output.

    When the run has ended, its picture takes the widget's place in the output and the widget is closed: a saved output
    that still named the widget would be an error message for whoever opens the notebook without this kernel. The
    picture has the widget's look, size and unfolding details. That is when the block is over or, for a run that goes on
    in the background, when it ends; if the block is left by an exception, a run that has not ended counts as
    interrupted.

    Outside IPython the widget's one line is printed, before and after.
    """
    from IPython.display import display

    handle = display(widget, display_id=True)
    try:
        yield widget
    except BaseException:
        widget.interrupt()
        raise
    finally:
        widget.on_final(lambda: _settle(widget, handle))


def _settle(widget: RunWidget, handle: DisplayHandle | None) -> None:
    if handle is None:
        print(repr(widget))
    else:
        handle.update({"text/html": widget.to_html(), "text/plain": repr(widget)}, raw=True)
    widget.close()
