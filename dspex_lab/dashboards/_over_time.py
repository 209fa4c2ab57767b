"""The section that draws one of several measures over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import panel as pn

from dspex_lab.dashboards import _model_charts, _style
from dspex_lab.dashboards._parts import ChartCard, card
from dspex_lab.dashboards._sheet import words
from dspex_lab.dashboards._snapshot import Snapshot
from dspex_lab.security import Redactor


@dataclass(frozen=True)
class Measure:
    """What may be drawn over time: a column, how it is said, and how the axis writes it."""

    column: str
    say: Callable[[Any], str]
    form: str


class OverTime:
    """One measure over time, which a person chooses: a line for each of what ``by`` names.

    Args:
        of: what they are called in the titles.
        by: the column that says whose a value is.
        measures: what may be chosen, by name.
        frame: takes what is drawn out of a snapshot; None where it has none of it.
    """

    def __init__(
        self,
        of: str,
        by: str,
        measures: Mapping[str, Measure],
        frame: Callable[[Snapshot], pd.DataFrame | None],
    ) -> None:
        self._by, self._measures, self._of = by, measures, frame
        self._frame: pd.DataFrame | None = None
        self.measure: Any = pn.widgets.Select(
            label="Measure", options=list(measures), value="calls", width=220, stylesheets=[_style.FIELD], margin=0
        )
        self.measure.param.watch(lambda _event: self._draw(), "value")
        nothing = "Nothing was measured in this window."
        self.charts = {
            name: ChartCard(
                f"{of} over time: {name}", nothing, partial(_model_charts.over_time, form=m.form, by=by), framed=False
            )
            for name, m in measures.items()
        }
        for name, chart in self.charts.items():
            chart.view.visible = name == self.measure.value
        self.view = card(self.measure, *(chart.view for chart in self.charts.values()))

    def update(self, snapshot: Snapshot) -> None:
        """Draw what changed."""
        found = self._of(snapshot)
        if found is not None:
            self._frame = found
            self._draw()

    def _draw(self) -> None:
        chosen = self.measure.value
        if self._frame is not None:
            self.charts[chosen].update(measured(self._frame, self._measures[chosen], self._by))
        for name, chart in self.charts.items():
            if chart.view.visible != (name == chosen):
                chart.view.visible = name == chosen


def measured(frame: pd.DataFrame, measure: Measure, by: str) -> pd.DataFrame:
    """Return what is drawn of a measure: ``by``, ``at, value, label``, without spaces of time that have none."""
    mask = Redactor()
    kept = frame[frame[measure.column].notna()]
    return pd.DataFrame(
        {
            by: [words(name, mask) for name in kept[by]],
            "at": kept["at"],
            "value": kept[measure.column].astype(float),
            "label": [measure.say(value) for value in kept[measure.column]],
        }
    ).reset_index(drop=True)
