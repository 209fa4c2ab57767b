"""The list of recent runs."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._parts import Table, card, show, text
from dspex_lab.dashboards._snapshot import Snapshot

_COLUMNS = {
    "status": "Status",
    "name": "Name",
    "kind": "Kind",
    "started": "Started",
    "seconds": "Seconds",
    "tokens": "Tokens",
    "cost": "Cost",
    "error": "Error",
}


_NUMBERS = {"seconds": "0,0.000", "tokens": "0,0", "cost": "$0,0.0000[00]"}


class Runs:
    """Recent runs and maps, or rows of maps; choosing one shows its detail.

    Args:
        chosen: called with the id of the run chosen.
    """

    def __init__(self, chosen: Callable[[str], None]) -> None:
        widths = {"status": 110, "kind": 70, "started": 170, "seconds": 95, "tokens": 85, "cost": 90}
        self.table = Table(_COLUMNS, height=300, widths=widths, numbers=_NUMBERS, chosen=chosen)
        self._title = text()
        self.view = card(self._title, self.table.view)

    def update(self, snapshot: Snapshot) -> None:
        """List the runs, newest first, keeping the choice."""
        frame, rows = snapshot.runs, snapshot.filters.rows
        total = int(snapshot.totals["rows" if rows else "runs"])
        what = "map rows" if rows else "runs"
        part = f"the newest {len(frame):,} of {total:,}" if total > len(frame) else f"{total:,}"
        hint = " · choose one to see its steps and its calls" if total else ""
        show(self._title, f'<h2>Recent {what} <span class="dim">{part}{hint}</span></h2>')
        selected = None if snapshot.detail is None else str(snapshot.detail.run["run_id"])
        self.table.update(_listed(frame), selected)


def _listed(frame: pd.DataFrame) -> pd.DataFrame:
    names = [fmt.numbered(n, i) for n, i in zip(frame["name"], frame["row_index"], strict=True)]
    errors = [
        fmt.first_line(error) if fmt.missing(step) else f"{step}: {fmt.first_line(error)}"
        for step, error in zip(frame["error_step"], frame["error"], strict=True)
    ]
    return pd.DataFrame(
        {
            "key": frame["run_id"].astype(str),
            "status": frame["status"].map(fmt.status),
            "name": names,
            "kind": frame["kind"],
            "started": frame["started"].map(fmt.when),
            "seconds": frame["seconds"].astype(float),
            "tokens": frame["tokens"].astype(float),
            "cost": frame["cost"].astype(float),
            "error": errors,
        }
    ).reset_index(drop=True)
