"""What failed, where and when."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._parts import Table, card, show, text
from dspex_lab.dashboards._snapshot import Snapshot

_COLUMNS = {"at": "When", "name": "Run", "step": "Step", "error": "Error"}


class Errors:
    """Errors of runs and rows, newest first; choosing one shows its run.

    Args:
        chosen: called with the id of the run chosen.
    """

    def __init__(self, chosen: Callable[[str], None]) -> None:
        self.table = Table(_COLUMNS, height=200, widths={"at": 170, "name": 180, "step": 150}, numbers={}, chosen=chosen)
        self._title = text()
        self.view = card(self._title, self.table.view)

    def update(self, snapshot: Snapshot) -> None:
        """List the errors; with none, say so and take no room."""
        frame = snapshot.errors
        count = f"{len(frame):,}" if len(frame) else "none in this window"
        show(self._title, f'<h2>Errors <span class="dim">{count}</span></h2>')
        if self.table.view.visible == frame.empty:
            self.table.view.visible = not frame.empty
        selected = None if snapshot.detail is None else str(snapshot.detail.run["run_id"])
        self.table.update(_listed(frame), selected)


def _listed(frame: pd.DataFrame) -> pd.DataFrame:
    names = [fmt.numbered(n, i) for n, i in zip(frame["name"], frame["row_index"], strict=True)]
    return pd.DataFrame(
        {
            "key": frame["run_id"].fillna("").astype(str),
            "at": frame["at"].map(fmt.when),
            "name": names,
            "step": frame["step"].map(lambda s: fmt.NOTHING if fmt.missing(s) else str(s)),
            "error": frame["error"].map(fmt.first_line),
        },
        dtype=object,
    ).reset_index(drop=True)
