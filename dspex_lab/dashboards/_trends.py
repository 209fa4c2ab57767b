"""The charts of the page: how fast, how many, at what cost."""

from __future__ import annotations

import panel as pn

from dspex_lab.dashboards import _charts, _style
from dspex_lab.dashboards._parts import ChartCard
from dspex_lab.dashboards._snapshot import Snapshot


class Trends:
    """Latency by step, runs over time by status, tokens and cost by model."""

    def __init__(self) -> None:
        self.latency = ChartCard("Latency by step", "No step has run in this window.", _charts.latency)
        self.timeline = ChartCard("Runs and map rows over time", "No run has ended in this window.", _charts.timeline)
        self.usage = ChartCard("Tokens and cost by model", "No language model was called in this window.", _charts.usage)
        cards = (self.latency, self.timeline, self.usage)
        grid = pn.Column(*(c.view for c in cards), stylesheets=[_style.GRID], sizing_mode="stretch_width", margin=0)
        self.view = pn.Column(grid, sizing_mode="stretch_width", margin=0)  # the grid's own display would win over being hidden

    def update(self, snapshot: Snapshot) -> None:
        """Draw what changed."""
        self.latency.update(snapshot.latency)
        self.timeline.update(snapshot.timeline)
        self.usage.update(snapshot.usage)
