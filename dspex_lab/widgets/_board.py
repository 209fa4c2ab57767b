"""The variable board: the variables of a space, live in the cell, with controls for a person's own changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import traitlets

from dspex_lab.errors import DspexError
from dspex_lab.events import Bus, Event, Record
from dspex_lab.variables import Author
from dspex_lab.widgets import _board_static
from dspex_lab.widgets._board_rows import Rows, value_from
from dspex_lab.widgets._live import LiveWidget

__all__ = ["VariableBoard"]

_STATIC = Path(__file__).parent.parent / "static"


class VariableBoard(LiveWidget):
    """Values, ranges, who changed them last and why, scores, pins, leases with their queues, and the past of each variable.

    It follows the space: told of each commit, it pushes at most every ``INTERVAL``. A person's change is a commit with
    ``who="person"``; one that is refused is said in words beside the variable, whose control goes back to its value.

    Args:
        space: a space of ``dspex_lab.variables``, such as ``lab.variables``.
        names: the variables to show, in order; by default all, the first 200.
        bus: tells of leases and pins as they come and go; without it they are shown with the next commit.
        person: whose changes those on the board are.

    The synced traits ``rows`` (by name), ``head`` and ``answered`` (what came of the last change: ``n``, ``name``,
    ``error``) are for reading. Close it when it is no longer needed; it then shows its last state.
    """

    _esm = _STATIC / "board.js"
    _css = _STATIC / "board.css"

    rows = traitlets.Dict().tag(sync=True)
    head = traitlets.Dict().tag(sync=True)
    answered = traitlets.Dict().tag(sync=True)

    def __init__(
        self, space: Any, names: Sequence[str] | None = None, *, bus: Bus | None = None, person: str | None = None
    ) -> None:
        self._space, self._person = space, person
        # Told before it is read, so that nothing in between is missed.
        self._early: list[Any] | None = []
        self._unsubscribe.append(space.observe(self._committed))
        self._rows = Rows(space, names)
        with self._pushing:
            early, self._early = self._early, None
            for commit in early:
                self._rows.take(commit)
        if bus is not None:
            self._unsubscribe.append(bus.subscribe(self._told, live=False))
        rows, head = self._rows.snapshot()
        super().__init__(rows=rows, head=head, answered={"n": 0, "name": "", "error": ""})
        self.on_msg(self._message)

    def _committed(self, commit: Any) -> None:
        with self._pushing:
            if self._early is not None:
                self._early.append(commit)
                return
            self._rows.take(commit)
        self._changed()

    def _told(self, record: Record) -> None:
        if isinstance(record, Event) and record.name.startswith("variable.") and record.name != "variable.commit":
            self._changed()

    def _is_stale(self) -> bool:
        # A variable that is dropped tells nobody.
        return self._dirty or self._rows.names() != list(self.rows)

    def _push(self) -> None:
        rows, head = self._rows.snapshot()
        with self.hold_sync():
            self.rows = rows
            self.head = head

    def _message(self, _: object, content: Any, __: object) -> None:
        """Carry out what a person did in the browser; anything else is not looked at."""
        if not isinstance(content, dict) or not isinstance(name := content.get("name"), str) or name not in self.rows:
            return
        does = {"set": self._set, "pin": self._pin}.get(str(content.get("type")))
        if does is None or self._ended:
            return
        error = ""
        try:
            does(name, content.get("value"))
        except (DspexError, ValueError) as problem:
            error = str(problem)
        with self._lock:
            self._dirty = True
        with self._pushing:
            self.flush()
            self.answered = {"n": self.answered["n"] + 1, "name": name, "error": error}

    def _set(self, name: str, place: Any) -> None:
        variable = self._space[name]
        value = variable.domain.from_json(value_from(variable.domain.describe(), place))
        self._space.commit({name: value}, author=Author("person", self._person, "set on the board"))

    def _pin(self, name: str, pinned: Any) -> None:
        (self._space.pin if pinned is True else self._space.unpin)(name)

    def _picture(self) -> str:
        return _board_static.board_html(self.rows, self.head)

    def __repr__(self) -> str:
        return _board_static.board_text(self.rows, self.head)
