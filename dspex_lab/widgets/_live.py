"""What the live widgets share: when they push to the browser, how they are closed, and the picture that stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

__all__ = ["LiveWidget"]


class LiveWidget(anywidget.AnyWidget):
    """A widget that follows something: told of it at any rate and from any thread, it pushes at most every ``INTERVAL``.

    A subclass says what is pushed (:meth:`_push`) and how it looks as a picture (:meth:`_picture`) and as a line of text
    (``__repr__``). What ends its following goes into ``_unsubscribe``.
    """

    #: Seconds between two pushes to the browser; the last state is always pushed.
    INTERVAL = 0.1
    #: Whether a change after a quiet time is pushed in the thread that tells of it, and not in one of its own.
    PUSHES_WHERE_TOLD = True

    #: The class of its picture in the saved output, which is hidden where this is live.
    saved = traitlets.Unicode().tag(sync=True)

    def setup_instance(self, *args: Any, **kwargs: Any) -> None:
        """Traitlets' own: called before ``__init__``, during which it may be told of something already."""
        super().setup_instance(*args, **kwargs)
        self._lock = threading.Lock()  # guards the plan of the next push
        self._pushing = threading.RLock()  # one push at a time, so that an older state never follows a newer
        self._dirty = self._ended = False
        self._timer: threading.Timer | None = None
        self._pushed = float("-inf")
        self._unsubscribe: list[Callable[[], object]] = []
        self._close_callbacks: list[Callable[[], object]] = []

    def _changed(self) -> None:
        """Hear that what it follows is another; from any thread."""
        with self._lock:
            if self._ended:
                return
            self._dirty = True
            if not self._is_due():
                return
        self.flush()

    def _is_due(self) -> bool:
        """Say whether to push here and now, with the lock held; where not, a timer will."""
        if self._timer is not None:
            return False
        wait = self._pushed + self.INTERVAL - time.monotonic()
        if wait <= 0 and self.PUSHES_WHERE_TOLD:
            return True
        self._timer = threading.Timer(max(wait, 0.0), self.flush)
        self._timer.daemon = True
        self._timer.start()
        return False

    def flush(self) -> None:
        """Push what has not been pushed yet, now."""
        with self._pushing:
            with self._lock:
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                if not self._is_stale():
                    return
                self._dirty = False
                self._pushed = time.monotonic()
            self._push()

    def _is_stale(self) -> bool:
        """Say whether there is something to push, with the lock held."""
        return self._dirty

    def _push(self) -> None:
        """Set the synced traits to how things are now."""
        raise NotImplementedError

    def _picture(self) -> str:
        """Return the synced traits as static HTML."""
        raise NotImplementedError

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` when the widget is closed."""
        self._close_callbacks.append(callback)

    def close(self) -> None:
        """Stop following and take the widget away from the browser; its picture remains. May be repeated."""
        with self._lock:
            ended, self._ended = self._ended, True
        if ended:
            return
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self.flush()
        for callback in self._close_callbacks:
            callback()
        super().close()
        self.layout.close()

    def to_html(self) -> str:
        """Return what it shows as it is now as static HTML: all text escaped, no script, no request."""
        self.flush()
        return self._picture()

    def _repr_html_(self) -> str:
        # For a closed widget: closing takes its mime bundle away.
        return self.to_html()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        html = self.to_html()
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/html": html, "text/plain": repr(self)}, metadata
