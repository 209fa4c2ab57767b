"""A live widget in a cell, with its picture in the saved notebook at any moment.

A saved output that names a widget is an error message for whoever opens the notebook without its kernel. So the picture is an
output of its own beside it. The live view hides that; where there is none, the picture hides what stands for it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

__all__ = ["show_live"]

_VIEW = "application/vnd.jupyter.widget-view+json"

W = TypeVar("W")


def show_live(lab: Any, widget: W) -> W:
    """Show a widget in the cell until it or the Lab is closed, and return it; then its picture takes its place.

    Outside IPython its text is printed.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import display

    shown: Any = widget
    shown.saved = f"dspex-saved-{shown.model_id}"
    bundle, _ = shown._repr_mimebundle_()
    if InteractiveShell.initialized():
        # Only the view: its HTML and text would be a second picture wherever there are no widgets.
        _Saved(shown, display({_VIEW: bundle[_VIEW], "text/plain": ""}, raw=True, display_id=True))
    else:
        print(repr(widget))
    lab.on_close(shown.close)
    return widget


class _Saved:
    """The picture of a widget beside it: as it is now, and written anew at most every ``EVERY`` seconds."""

    EVERY = 3.0

    def __init__(self, widget: Any, view: DisplayHandle) -> None:
        from IPython.display import display

        self._widget, self._view = widget, view
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._ended, self._written = False, time.monotonic()
        self._handle = display(self._data(), raw=True, display_id=True)
        widget.observe(self._changed)
        widget.on_close(self._close)

    def _data(self) -> dict[str, str]:
        name, html = self._widget.saved, self._widget.to_html()
        # What has no element in it is the text that stands for a view without a model.
        dead = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{name}) .jp-OutputArea-output:not(:has(*)){{display:none}}"
        return {"text/html": f'<div class="{name}"><style>{dead}</style>{html}</div>', "text/plain": repr(self._widget)}

    def _changed(self, _: object) -> None:
        with self._lock:
            if self._timer is None and not self._ended:
                self._timer = threading.Timer(max(self._written + self.EVERY - time.monotonic(), 0), self._write)
                self._timer.daemon = True
                self._timer.start()

    def _write(self) -> None:
        with self._lock:
            self._timer = None
            if self._ended:
                return
            self._written = time.monotonic()
        self._handle.update(self._data(), raw=True)
        if self._ended:  # meanwhile, and the view is the picture now
            self._empty()

    def _close(self) -> None:
        with self._lock:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
        self._view.update({"text/html": self._widget.to_html(), "text/plain": repr(self._widget)}, raw=True)
        self._empty()

    def _empty(self) -> None:
        self._handle.update({"text/html": "", "text/plain": ""}, raw=True)
