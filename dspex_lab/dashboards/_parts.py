"""The small Panel objects that the sections are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import panel as pn
from bokeh.models.widgets.tables import NumberFormatter

from dspex_lab.dashboards import _style
from dspex_lab.dashboards._format import NOTHING
from dspex_lab.dashboards._panes import Html, Vega


def text(html: str = "", *, card: bool = False, **params: Any) -> Html:
    """Return a pane for HTML written by this package; every value in it must have been escaped."""
    sheets = [_style.TEXT, _style.CARD] if card else [_style.TEXT]
    return Html(html, stylesheets=sheets, sizing_mode="stretch_width", margin=0, **params)


def show(pane: Any, html: str) -> None:
    """Set a pane's HTML if it is another one: an equal text would close what a person has opened."""
    if pane.object != html:
        pane.object = html


def card(*objects: Any, **params: Any) -> pn.Column:
    """Return a framed column."""
    return pn.Column(*objects, stylesheets=[_style.CARD], **{"sizing_mode": "stretch_width", "margin": 0, **params})


_HEAD, _LINE = 40, 32
_MARK = "mark"


class ChartCard:
    """A titled chart that says so when there is nothing to draw, and is drawn again only when its frame changed.

    Args:
        title: plain text.
        nothing: what to say instead of an empty chart.
        draw: makes the chart, as a Vega-Lite specification, of a frame that has rows.
        framed: with a frame of its own.
    """

    def __init__(self, title: str, nothing: str, draw: Callable[[pd.DataFrame], Any], *, framed: bool = True) -> None:
        self._draw = draw
        self._drawn: pd.DataFrame | None = None
        self._chart = Vega(None, sizing_mode="stretch_width", margin=(6, 0, 0, 0), visible=False)
        self._nothing = text(f'<p class="dim">{nothing}</p>')
        around = card if framed else pn.Column
        self.view = around(text(f"<h2>{title}</h2>"), self._nothing, self._chart, sizing_mode="stretch_width", margin=0)

    @property
    def chart(self) -> Any:
        """The chart shown, or None."""
        return self._chart.object if self._chart.visible else None

    def update(self, frame: pd.DataFrame) -> None:
        """Draw the frame."""
        if self._drawn is not None and frame.equals(self._drawn):
            return
        self._drawn = frame
        if frame.empty:
            self._chart.visible, self._nothing.visible = False, True
            return
        self._chart.object = self._draw(frame)
        self._chart.visible, self._nothing.visible = True, False


class Table:
    """A list that keeps a person's choice, sorting and place while its rows change.

    Args:
        columns: the titles of the columns by their names, in order.
        height: pixels at most.
        widths: pixels by column; the others share what is left.
        numbers: the format of each column of numbers, which so sort as numbers; the others are plain text.
        chosen: called with the key of the row that a person chose.
    """

    def __init__(
        self,
        columns: dict[str, str],
        *,
        height: int,
        widths: dict[str, Any],
        numbers: dict[str, str],
        chosen: Callable[[str], None],
    ) -> None:
        self._chosen = chosen
        self._most = height
        self.view = pn.widgets.Tabulator(
            pd.DataFrame({name: pd.Series(dtype=object) for name in [_MARK, "key", *columns]}),
            titles={_MARK: "", **columns},
            hidden_columns=["key"],
            show_index=False,
            disabled=True,
            # Not Tabulator's own selection: that scrolls to the row again whenever new rows move it.
            selectable=False,
            height=height,
            layout="fit_columns",
            sortable={name: name != _MARK for name in [_MARK, *columns]},
            widths={_MARK: 24, **widths},
            text_align=dict.fromkeys(numbers, "right"),
            formatters={name: _formatter(numbers.get(name)) for name in [_MARK, *columns]},
            theme="simple",
            stylesheets=[_style.TABLE],
            sizing_mode="stretch_width",
            margin=(6, 0, 0, 0),
        )
        self.view.style.apply(_highlight, axis=1)
        self.view.on_click(self._clicked)

    def update(self, frame: pd.DataFrame, selected: str | None) -> None:
        """Show the rows; ``frame`` has the columns and ``key``, which is empty where a row cannot be chosen."""
        shown = frame.copy()
        shown.insert(0, _MARK, ["▸" if key and key == selected else "" for key in frame["key"]])
        height = min(self._most, _HEAD + _LINE * max(len(frame), 1))
        if self.view.height != height:
            self.view.height = height
        if not shown.equals(self.view.value):
            self.view.value = shown

    @property
    def chosen(self) -> list[str]:
        """The keys of the rows shown as chosen."""
        value = self.view.value
        return list(value["key"][value[_MARK] != ""])

    def _clicked(self, event: Any) -> None:
        key = str(self.view.value["key"].iloc[event.row])
        if key:
            self._chosen(key)


def _highlight(row: pd.Series) -> list[str]:
    return ["background-color: var(--dx-chosen)" if row[_MARK] else ""] * len(row)


def _formatter(number: str | None) -> Any:
    return {"type": "plaintext"} if number is None else NumberFormatter(format=number, nan_format=NOTHING, null_format=NOTHING)
