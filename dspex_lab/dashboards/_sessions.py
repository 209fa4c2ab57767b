"""The sections of the page on sessions: which there are, and how long their runs take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from dspex_lab.dashboards import _charts
from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._model_charts import _MODELS
from dspex_lab.dashboards._parts import ChartCard, show, text
from dspex_lab.dashboards._sheet import Table, words
from dspex_lab.dashboards._snapshot import Snapshot
from dspex_lab.security import Redactor
from dspex_lab.sessions import Trend, trend

_COLUMNS = (
    *("Session", "Status", "Pool, worker", "Affinity", "Used", "Runs", "Failed", "p50", "p95", "Trend", "Cost", "Calls"),
    *("Moves", "State"),
)
_HEIGHT = 220
_HINT = (
    "p50 and p95 of single runs that gave something; trend: Mann-Kendall over the runs drawn below, p below 0.05; calls and "
    "moves: completed calls on its worker, and how often it went to another one."
)

#: Runs of which the line is the median.
_ROLLING = 7


class SessionsUsed:
    """A row for each session."""

    def __init__(self) -> None:
        self.view = text(card=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show the sessions of the window."""
        facts = snapshot.sessions
        if facts is None:
            return
        mask = Redactor()
        trends = {
            str(session): trend({str(n): list(g["seconds"].dropna()) for n, g in frame.groupby("name", sort=False)})
            for session, frame in facts.over_time.groupby("session_id", sort=False)
        }
        rows = [_row(row, trends, mask) for row in facts.overview.itertuples(index=False)]
        table = Table("", _COLUMNS, rows, "No session was used in this window: lab.sessions.open(name), or %dspex session.")
        show(self.view, f"<h2>Sessions in this window</h2>{table.html()}" + (f'<p class="dim">{_HINT}</p>' if rows else ""))


def _row(row: Any, trends: Mapping[str, Trend], mask: Redactor) -> tuple[str, ...]:
    found = trends.get(str(row.session_id))
    ended = not fmt.missing(row.closed)
    simulated = bool(row.simulated) and (fmt.missing(row.cost) or not row.cost)
    return (
        words(row.name, mask),
        ("expired" if row.reason == "expired" else "closed") if ended else "open",
        f"{row.pool}, {fmt.NOTHING if fmt.missing(row.worker) else words(row.worker, mask)}",
        str(row.affinity),
        fmt.when(row.touched),
        fmt.count(row.runs),
        fmt.count(row.failed),
        fmt.duration(row.p50),
        fmt.duration(row.p95),
        fmt.NOTHING if found is None or found.p is None else f"{found.direction}, p = {found.p:.2g}",
        "simulated" if simulated else fmt.dollars(row.cost),
        fmt.count(row.calls),
        fmt.count(row.moves),
        f"{fmt.count(row.size)} B",
    )


class SessionsOverTime:
    """How long the runs of each session took, one after the other."""

    def __init__(self) -> None:
        self.chart = ChartCard("Durations of runs by session", "No run of a session has ended in this window.", durations)
        self.view = self.chart.view

    def update(self, snapshot: Snapshot) -> None:
        """Draw what changed."""
        if snapshot.sessions is not None:
            self.chart.update(drawn(snapshot.sessions.over_time))


def drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what is drawn: ``session, name, at, seconds, median, label``; ``median`` is that of the last seven runs."""
    mask, kept = Redactor(), frame[frame["seconds"].notna()].reset_index(drop=True)
    again = kept.drop_duplicates("session_id").groupby("session").cumcount()
    number = dict(zip(kept.drop_duplicates("session_id")["session_id"], again, strict=True))
    return pd.DataFrame(
        {
            "session": [
                words(name, mask) + (f" ({number[of] + 1})" if number[of] else "")
                for name, of in zip(kept["session"], kept["session_id"], strict=True)
            ],
            "name": [words(name, mask) for name in kept["name"]],
            "at": kept["started"],
            "seconds": kept["seconds"].astype(float),
            "median": kept.groupby("session_id")["seconds"].transform(lambda s: s.rolling(_ROLLING, 1).median()).astype(float),
            "label": [fmt.duration(value) for value in kept["seconds"]],
        }
    )


def durations(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a dot for each run, and a line for the median of each session's last runs."""
    data = frame.assign(at=[_charts._iso(at) for at in frame["at"]])
    names = sorted(set(frame["session"]))
    colour = alt.Color(
        "session:N",
        title=None,
        scale=alt.Scale(domain=names, range=[_MODELS[i % len(_MODELS)] for i in range(len(names))]),
        legend=alt.Legend(orient="bottom", labelLimit=260, columns=3),
    )
    base = alt.Chart(_charts._records(data)).encode(
        x=alt.X("at:T", title=None, axis=alt.Axis(grid=False, labelOverlap=True, tickCount=6)),
        color=colour,
        tooltip=[
            "session:N",
            "name:N",
            alt.Tooltip("label:N", title="time"),
            alt.Tooltip("at:T", format="%Y-%m-%d %H:%M:%S", title="began"),
        ],
    )
    axis = alt.Axis(title=None, format="~s", tickCount=5)
    dots = base.mark_circle(size=28, opacity=0.45).encode(y=alt.Y("seconds:Q", axis=axis, scale=alt.Scale(domainMin=0)))
    lines = base.mark_line(strokeWidth=2).encode(y=alt.Y("median:Q", axis=axis))
    return _charts._dress(dots + lines, _HEIGHT)
