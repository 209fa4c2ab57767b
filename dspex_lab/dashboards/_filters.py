"""What a person asks to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn

from dspex_lab.dashboards import _style
from dspex_lab.dashboards._snapshot import DEFAULT_WINDOW, STATUSES, WINDOWS, Filters


class FilterBar:
    """Name, status, time window, and runs or rows.

    Args:
        changed: called when a person changed one.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        looks: dict[str, Any] = {"stylesheets": [_style.FIELD], "margin": 0}
        self.name = pn.widgets.TextInput(label="Name contains", placeholder="all names", width=190, **looks)
        statuses = {"all": "", **{s: s for s in STATUSES}}
        self.status = pn.widgets.Select(label="Status", options=statuses, width=130, **looks)
        windows = {label: seconds or 0 for label, seconds in WINDOWS.items()}
        self.window = pn.widgets.Select(label="Started in the", options=windows, value=DEFAULT_WINDOW, width=150, **looks)
        self.rows = pn.widgets.Select(label="List", options={"runs and maps": False, "rows of maps": True}, width=140, **looks)
        self.view = pn.FlexBox(
            self.name, self.status, self.window, self.rows, gap="10px", margin=0, sizing_mode="stretch_width"
        )
        for widget in (self.name, self.status, self.window, self.rows):
            widget.param.watch(lambda _event: changed(), "value")

    def show(self, runs: bool) -> None:
        """Offer what narrows down runs, or else the window alone."""
        for widget in (self.name, self.status, self.rows):
            if widget.visible != runs:
                widget.visible = runs

    @property
    def value(self) -> Filters:
        """What is asked for now."""
        status, window = self.status.value or None, self.window.value or None
        return Filters(name=self.name.value, status=status, window=window, rows=self.rows.value)
