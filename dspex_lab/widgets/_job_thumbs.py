"""Thumbs and a correction under a result: what a person says of a run, in the cell."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from dspex_lab.errors import DspexError
from dspex_lab.events import Bus, Event, Record
from dspex_lab.widgets._picture import escape

__all__ = ["ThumbsWidget"]

_STATIC = Path(__file__).parent.parent / "static"
#: Letters of a field that are sent to a browser.
_LETTERS = 2_000


class ThumbsWidget(anywidget.AnyWidget):
    """Two thumbs, and the fields of a run to be corrected; what is said is kept by ``Lab.feedback``. It shows what was said of
    the run, here or anywhere.

    Args:
        say: keeps it: called with ``verdict`` (``"up"``, ``"down"`` or None) and ``correction`` (or None).
        run: the run's id.
        outputs: the fields that it gave.
        read: gives all that was said of the run, in order: rows of ``dspex_lab.store.FeedbackTable``.
        bus: tells when something is said of a run.

    The synced traits ``fields`` (name and text), ``said`` (``verdict``, ``corrected``, ``error``) are for reading.
    """

    _esm = _STATIC / "thumbs.js"
    _css = _STATIC / "job.css"

    fields = traitlets.List().tag(sync=True)
    said = traitlets.Dict().tag(sync=True)
    #: The class of its picture in the saved output, which is hidden where this is live.
    saved = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, say: Callable[..., Any], run: str, outputs: dict[str, Any], read: Callable[[], Sequence[Any]], bus: Bus
    ) -> None:
        self._say, self._outputs, self._close_callbacks = say, outputs, list[Callable[[], object]]()
        self._run, self._read_all, self._ended = run, read, False
        shown = [[name, _text(value)] for name, value in outputs.items()]
        self._reading = threading.RLock()  # what was read first never follows what was read later
        super().__init__(fields=shown, said={"verdict": "", "corrected": [], "error": ""})
        self.on_msg(self._message)
        # Told before it is read, so that nothing in between is missed.
        self._unsubscribe = bus.subscribe(self._told, live=False)
        self._read_anew()

    def _read_anew(self) -> None:
        with self._reading:
            rows = [row for row in self._read_all() if row.step is None]
            verdicts = [row.verdict for row in rows if row.verdict]
            corrected = list(dict.fromkeys(name for row in rows for name in row.correction or ()))
            self.said = {"verdict": verdicts[-1] if verdicts else "", "corrected": corrected, "error": ""}

    def _told(self, record: Record) -> None:
        if isinstance(record, Event) and record.name == "run.feedback" and record.run_id == self._run and not self._ended:
            self._read_anew()

    def _message(self, _: object, content: Any, __: object) -> None:
        """Keep what a person said in the browser; anything else is not looked at."""
        if self._ended or not isinstance(content, dict) or content.get("type") != "say":
            return
        verdict, given = content.get("verdict"), content.get("correction")
        if verdict not in ("up", "down", None):
            return
        correction = None
        if isinstance(given, dict):
            correction = {n: self._read(n, t) for n, t in given.items() if n in self._outputs and isinstance(t, str)} or None
        if verdict is None and correction is None:
            return
        try:
            self._say(verdict=verdict, correction=correction)
        except DspexError as error:
            self.said = {**self.said, "error": str(error)}

    def _read(self, name: str, text: str) -> Any:
        """Return what was typed, as the kind of value that the field had; a text where it is none."""
        if isinstance(self._outputs[name], str):
            return text
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        return value if isinstance(value, type(self._outputs[name]) | int | float | None) else text

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` when the widget is closed."""
        self._close_callbacks.append(callback)

    def close(self) -> None:
        """Take the widget away from the browser; what was said remains as text. May be repeated."""
        if self._ended:
            return
        self._ended = True
        self._unsubscribe()
        for callback in self._close_callbacks:
            callback()
        super().close()
        self.layout.close()

    def __repr__(self) -> str:
        corrected = f"corrected: {', '.join(self.said['corrected'])}" if self.said["corrected"] else ""
        said = ", ".join(part for part in (self.said["verdict"], corrected) if part)
        return f"run {self._run[:12]}: {said or 'nothing was said of it'}"

    def to_html(self) -> str:
        """Return what was said as static HTML."""
        return f"<div>{escape(repr(self))}</div>"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/html": self.to_html(), "text/plain": repr(self)}, metadata


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"
