"""What is running now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._parts import show, text
from dspex_lab.dashboards._snapshot import Snapshot


class Running:
    """A short table of runs that have begun and not ended; hidden when there is none."""

    def __init__(self) -> None:
        self.view = text(card=True, visible=False)
        self._frame = pd.DataFrame()

    def update(self, snapshot: Snapshot) -> None:
        """Show what runs."""
        self._frame = snapshot.running
        self.beat()

    @property
    def busy(self) -> bool:
        """Whether something runs, so that its clock must go on."""
        return not self._frame.empty

    def beat(self) -> None:
        """Let the clocks go on, without a query."""
        now = datetime.now(UTC).replace(tzinfo=None)
        lines = [_line(dict(run), now) for _, run in self._frame.iterrows()]
        show(
            self.view,
            f'<h2><span class="live"></span>Running now ({len(lines)})</h2><table class="plain"><tr><th>Name</th><th>Kind</th>'
            f"<th>Started</th><th>For</th><th></th></tr>{''.join(lines)}</table>",
        )
        if self.view.visible != bool(lines):
            self.view.visible = bool(lines)


def _line(run: dict[str, Any], now: datetime) -> str:
    seconds = max(int((now - run["started"]).total_seconds()), 0)
    rows = f"{fmt.count(run['rows'])} rows done" if run["kind"] == "map" else ""
    cells = [run["name"], run["kind"], fmt.when(run["started"]), fmt.duration(seconds) if seconds else "", rows]
    return f"<tr>{''.join(f'<td>{fmt.escape(cell)}</td>' for cell in cells)}</tr>"
