"""The sections of the page on variables: what they are, how they moved, who changed them, and how runs did with them."""

from __future__ import annotations

import json
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
from dspex_lab.store import frame_rows

_NOW = ("Variable", "Value", "May be", "Version", "Changed", "By", "Why", "Score", "Marks", "Leased to", "Commits")
_CHANGES = ("Version", "Changed", "Variable", "Before", "Value", "By", "Why", "Score")
_RUNS = ("Pipeline", "Values", "Version", "Runs", "Complete", "Failed", "p50", "Cost", "Last")
_NONE = "There are no variables yet: lab.expose(program), or %dspex var NAME 0.0..1.5."
_HEIGHT = 220

#: Letters of a value in a table.
_SHORT = 80


class VariablesNow:
    """A row for each variable."""

    def __init__(self) -> None:
        self.view = text(card=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show the variables."""
        facts = snapshot.variables
        if facts is None:
            return
        mask = Redactor()
        held = {(row.space, row.name): row.owner for row in facts.leases.itertuples(index=False)}
        rows = [_variable(row, held, mask) for row in facts.overview.itertuples(index=False)]
        show(self.view, f"<h2>Variables</h2>{Table('', _NOW, rows, _NONE).html()}")


def _variable(row: Any, held: Mapping[tuple[Any, Any], Any], mask: Redactor) -> tuple[str, ...]:
    space = "" if row.space == "default" else f"{row.space}: "
    marks = [
        *([f"= {row.derived}"] if not fmt.missing(row.derived) else []),
        *([f"when {row.active}"] if not fmt.missing(row.active) else []),
        *(["pinned"] if row.pinned is True else []),
    ]
    return (
        words(f"{space}{row.name}", mask),
        value(row.value, mask),
        words(may_be(json.loads(row.domain)), mask, _SHORT),
        fmt.count(row.version),
        fmt.when(row.changed),
        by(row, mask),
        _said(row.why, mask),
        score(row.score),
        words(", ".join(marks), mask),
        words(held.get((row.space, row.name), ""), mask),
        fmt.count(row.commits),
    )


def value(kept: Any, mask: Redactor) -> str:
    """Return a value, kept as JSON text, in one short line."""
    if fmt.missing(kept):
        return fmt.NOTHING
    found = json.loads(kept)
    if isinstance(found, list):
        return f"{len(found)} item{'' if len(found) == 1 else 's'}"
    return words(found if isinstance(found, str) else f"{found:.6g}" if isinstance(found, float) else str(found), mask, _SHORT)


def may_be(domain: Mapping[str, Any]) -> str:
    """Return what a domain allows in one line."""
    kind = str(domain.get("kind", ""))
    if domain.get("low") is not None or domain.get("high") is not None:
        low, high = domain.get("low"), domain.get("high")
        return f"{kind} {'-∞' if low is None else low} … {'∞' if high is None else high}"
    options = domain.get("options")
    return f"{kind}: {', '.join(map(str, options))}" if isinstance(options, list) else kind


def by(row: Any, mask: Redactor) -> str:
    """Return who changed a variable."""
    return words(" ".join(part for part in (row.who, row.author) if not fmt.missing(part)), mask)


def score(number: Any) -> str:
    """Return a score in up to four digits."""
    return fmt.NOTHING if fmt.missing(number) else f"{number:.4g}"


def _said(text: Any, mask: Redactor) -> str:
    return "" if fmt.missing(text) else words(text, mask)


class VariablesOverTime:
    """The numbers that changed most often, version by version."""

    def __init__(self) -> None:
        self.chart = ChartCard("Numbers that changed most", "No number of a variable changed in this window.", steps)
        self.view = self.chart.view

    def update(self, snapshot: Snapshot) -> None:
        """Draw what changed."""
        if snapshot.variables is not None:
            self.chart.update(drawn(snapshot.variables.over_time))


def drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what is drawn: ``variable, version, at, value, share, who``; ``share`` is where it lies between its own ends."""
    mask = Redactor()
    names = [words(name, mask) for name in frame["name"]]
    kept = frame.assign(variable=names, value=frame["value"].astype(float))
    of = kept.groupby(["space", "name"])["value"]
    low, high = of.transform("min"), of.transform("max")
    share = ((kept["value"] - low) / (high - low)).where(high > low, 0.5)
    return pd.DataFrame(
        {
            "variable": kept["variable"],
            "version": kept["version"],
            "at": kept["time"],
            "value": kept["value"],
            "share": share.astype(float),
            "who": kept["who"],
        }
    )


def steps(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a stepped line for each variable over the versions of the space, between its own least and greatest value."""
    data = frame.assign(at=[_charts._iso(at) for at in frame["at"]])
    names = sorted(set(frame["variable"]))
    colour = alt.Color(
        "variable:N",
        title=None,
        scale=alt.Scale(domain=names, range=[_MODELS[i % len(_MODELS)] for i in range(len(names))]),
        legend=alt.Legend(orient="bottom", labelLimit=260, columns=3),
    )
    base = alt.Chart(_charts._records(data)).encode(
        x=alt.X("version:Q", title="version of the space", axis=alt.Axis(grid=False, tickMinStep=1, format="d")),
        y=alt.Y("share:Q", axis=alt.Axis(title="between least and greatest", values=[0, 1], format=".0%")),
        color=colour,
        tooltip=[
            "variable:N",
            "value:Q",
            "version:Q",
            "who:N",
            alt.Tooltip("at:T", format="%Y-%m-%d %H:%M:%S", title="at"),
        ],
    )
    lines = base.mark_line(interpolate="step-after", strokeWidth=2)
    return _charts._dress(lines + base.mark_circle(size=28), _HEIGHT)


class VariableChanges:
    """The last commits, and how runs did with the values they ran with."""

    def __init__(self) -> None:
        self.view = text(card=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show the commits of the window, and the runs."""
        facts = snapshot.variables
        if facts is None:
            return
        mask = Redactor()
        changes = [_change(row, mask) for row in facts.changes.itertuples(index=False)]
        runs = [_runs(row, mask) for row in frame_rows(facts.runs)]
        parts = (
            "<h2>Changes</h2>",
            Table("", _CHANGES, changes, "Nothing was committed in this window.").html(),
            "<h2>Runs by the values they ran with</h2>",
            Table("", _RUNS, runs, "No run of an exposed program began in this window.").html(),
        )
        show(self.view, "".join(parts))


def _change(row: Any, mask: Redactor) -> tuple[str, ...]:
    return (
        fmt.count(row.version),
        fmt.when(row.time),
        words(row.name, mask),
        value(row.before, mask),
        value(row.value, mask),
        by(row, mask),
        _said(row.why, mask),
        score(row.score),
    )


def _runs(row: Mapping[str, Any], mask: Redactor) -> tuple[str, ...]:
    values = json.loads(row["values"])
    shown = ", ".join(f"{name} = {_ran(kept)}" for name, kept in values.items())
    return (
        words(row["name"], mask),
        words(shown, mask),
        fmt.count(row["version"]),
        fmt.count(row["runs"]),
        fmt.count(row["complete"]),
        fmt.count(row["failed"]),
        fmt.duration(row["p50"]),
        fmt.dollars(row["cost"]),
        fmt.when(row["last"]),
    )


def _ran(kept: Any) -> str:
    if isinstance(kept, dict) and set(kept) == {"version"}:
        return f"as of version {kept['version']}"
    return f"{len(kept)} items" if isinstance(kept, list) else str(kept)
