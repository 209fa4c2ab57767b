"""The run widget: what a run does, live in the cell, and as a picture in the saved notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import traitlets

from dspex_lab.events import Record
from dspex_lab.widgets import _static
from dspex_lab.widgets._graph import plain
from dspex_lab.widgets._layout import layout
from dspex_lab.widgets._live import LiveWidget
from dspex_lab.widgets._state import RUN_STATUSES, STEP_STATUSES, RunState
from dspex_lab.widgets._valid import valid_graph

__all__ = ["RunWidget"]

_STATIC = Path(__file__).parent.parent / "static"


class RunWidget(LiveWidget):
    """A pipeline's steps, their state, time and tokens while it runs; for a map also rows, rate and time left.

    Subscribe it before the run starts: ``unsubscribe = bus.subscribe(widget.observe_run)``. It follows the next run
    of its name, or ``run_id``. The arguments are those of :class:`RunState`.

    The synced traits ``graph``, ``geometry`` (of :func:`layout`), ``steps``, ``summary`` (of
    :meth:`RunState.snapshot`) and ``cancelling`` (``"none"``: no button, ``"ready"``, ``"asked"``) are for reading.
    """

    _esm = _STATIC / "run.js"
    _css = _STATIC / "run.css"

    graph = traitlets.Dict().tag(sync=True)
    geometry = traitlets.Dict().tag(sync=True)
    steps = traitlets.Dict().tag(sync=True)
    summary = traitlets.Dict().tag(sync=True)
    cancelling = traitlets.Enum(("none", "ready", "asked"), "none").tag(sync=True)

    def __init__(
        self,
        graph: Mapping[str, Any],
        name: str | None = None,
        total_rows: int | None = None,
        *,
        lm: str | None = None,
        simulated: bool = False,
        run_id: str | None = None,
        kind: Literal["run", "map"] | None = None,
        limits: Mapping[str, Any] | None = None,
        account: Callable[[], Mapping[str, Any]] | None = None,
        level: str | None = None,
    ) -> None:
        # Guarded by the lock, as the plan of the next push is.
        self._state = RunState(
            graph,
            name,
            total_rows,
            lm=lm,
            simulated=simulated,
            run_id=run_id,
            kind=kind,
            limits=limits,
            account=account,
            level=level,
        )
        self._cancel_callbacks: tuple[Callable[[], object], ...] = ()
        self._final_callbacks: list[Callable[[], object]] = []
        steps, summary = self._state.snapshot()
        super().__init__(graph=plain(graph), geometry=layout(graph), steps=steps, summary=summary)
        self.on_msg(self._message)

    @traitlets.validate("graph")
    def _valid_graph(self, proposal: Any) -> dict[str, Any]:
        return valid_graph(proposal["value"])

    @traitlets.validate("steps")
    def _valid_steps(self, proposal: Any) -> dict[str, Any]:
        for name, step in proposal["value"].items():
            if step.get("status") not in STEP_STATUSES:
                raise traitlets.TraitError(f"Step {name!r} has the status {step.get('status')!r}, not one of {STEP_STATUSES}.")
        return proposal["value"]

    @traitlets.validate("summary")
    def _valid_summary(self, proposal: Any) -> dict[str, Any]:
        status = proposal["value"].get("status")
        if status not in RUN_STATUSES:
            raise traitlets.TraitError(f"The summary has the status {status!r}, not one of {RUN_STATUSES}.")
        return proposal["value"]

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return self._state.final

    def observe_run(self, record: Record) -> None:
        """Take in one record, from any thread: a few microseconds, and at most every ``INTERVAL`` a push."""
        with self._lock:
            was_final = self._state.final
            if not self._state.apply(record):
                return
            self._dirty = True
            ended = self._state.final and not was_final
            if not ended and not self._is_due():
                return
        self.flush()
        if ended:
            self._tell_final()

    def _push(self) -> None:
        with self._lock:
            steps, summary = self._state.snapshot()
        with self.hold_sync():
            self.steps = steps
            self.summary = summary

    def interrupt(self) -> None:
        """Say that nothing more is awaited: a run that has not ended is shown as interrupted."""
        with self._lock:
            changed = self._state.interrupt()
            self._dirty = self._dirty or changed
        self.flush()
        if changed:
            self._tell_final()

    def _tell_final(self) -> None:
        with self._lock:
            callbacks, self._final_callbacks = self._final_callbacks, []
        for callback in callbacks:
            callback()

    def on_final(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` once when the run has ended and its last state is pushed, in the thread that ended it.

        If it has ended already, it is called at once.
        """
        with self._lock:
            if not self._state.final:
                self._final_callbacks.append(callback)
                return
        callback()

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Show a Cancel button that calls ``callback()``, and return the function that takes it away.

        The call comes when the kernel handles the browser's message, which a blocking cell delays until it is done: offer
        it for work in the background. A blocking cell is stopped by interrupting the kernel.
        """
        self._cancel_callbacks = (*self._cancel_callbacks, callback)
        self._set_cancelling("ready")

        def remove() -> None:
            self._cancel_callbacks = tuple(c for c in self._cancel_callbacks if c is not callback)
            if not self._cancel_callbacks:
                self._set_cancelling("none")

        return remove

    def _set_cancelling(self, value: str) -> None:
        with self._pushing:
            self.cancelling = value

    def _message(self, _: object, content: Any, __: object) -> None:
        if not isinstance(content, dict) or content.get("type") != "cancel" or self.cancelling != "ready":
            return
        self._set_cancelling("asked")
        for callback in self._cancel_callbacks:
            callback()

    def _picture(self) -> str:
        return _static.run_html(self.graph, self.steps, self.summary)

    def to_svg(self) -> str:
        """Return the graph with its state as it is now as one SVG document."""
        self.flush()
        return _static.run_svg(self.graph, self.steps, self.summary)

    def __repr__(self) -> str:
        return _static.run_text(self.summary)
