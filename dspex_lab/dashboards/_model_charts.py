"""The charts of the page on models and health; made as those of ``_charts.py``."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from dspex_lab.dashboards import _charts
from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._style import GREY, INK

_HEIGHT = 220
#: Colours of models, readable on light and on dark ground.
_MODELS = [INK, "#e0a03b", "#2a9d68", "#9b5fc0", "#d64550", "#1d97a6", "#c0549f", "#8a8f98"]
#: Colours of the states of circuits and of the levels of degradation, from well to ill.
STATES = {
    "closed": "#2a9d68",
    "half_open": "#e0a03b",
    "open": "#d64550",
    "normal": "#7cc4a1",
    "no_hedging": "#ecd59c",
    "no_second_opinions": "#e5bd6d",
    "fewer_retries": "#d9902f",
    "cheapest_model_first": "#c8672f",
    "cached_only": "#a3363f",
}


def over_time(frame: pd.DataFrame, form: str, by: str) -> dict[str, Any]:
    """Return a line for each of what ``by`` names.

    Args:
        frame: ``by``, ``at`` (naive UTC), ``value`` and ``label`` (the value in words).
        form: how the axis writes values, in d3's words.
        by: the column that says whose line it is.
    """
    data = frame.assign(at=[_charts._iso(at) for at in frame["at"]])
    models = sorted(set(frame[by]))
    colours = alt.Scale(domain=models, range=[_MODELS[i % len(_MODELS)] for i in range(len(models))])
    chart = (
        alt.Chart(_charts._records(data))
        .mark_line(point=alt.OverlayMarkDef(size=36, filled=True), strokeWidth=1.6)
        .encode(
            x=alt.X("at:T", title=None, axis=alt.Axis(grid=False, labelOverlap=True, tickCount=6)),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(format=form, tickCount=5), scale=alt.Scale(domainMin=0)),
            color=alt.Color(
                f"{by}:N", title=None, scale=colours, legend=alt.Legend(orient="bottom", labelLimit=260, columns=3)
            ),
            tooltip=[
                f"{by}:N",
                alt.Tooltip("label:N", title="value"),
                alt.Tooltip("at:T", format="%Y-%m-%d %H:%M:%S", title="from"),
            ],
        )
    )
    return _charts._dress(chart, _HEIGHT)


def states(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a row for each circuit and one for the degradation level, with a bar for each state.

    Args:
        frame: as ``store.views.state_spans`` gives it.
    """
    rows = [_row(target, kind) for target, kind in zip(frame["target"], frame["kind"], strict=True)]
    data = pd.DataFrame(
        {
            "row": rows,
            "state": frame["state"],
            "reason": frame["reason"].map(fmt.first_line),
            "from": [_charts._iso(at) for at in frame["begin"]],
            "to": [_charts._iso(at) for at in frame["finish"]],
            "label": [fmt.duration((e - b).total_seconds()) for b, e in zip(frame["begin"], frame["finish"], strict=True)],
        }
    )
    found = set(frame["state"])
    shown = [s for s in STATES if s in found] + sorted(found - set(STATES))
    colour = alt.Color(
        "state:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[STATES.get(s, GREY) for s in shown]),
        legend=alt.Legend(orient="bottom", symbolType="square", columns=5),
    )
    order = sorted(set(rows))
    base = alt.Chart(_charts._records(data)).encode(
        y=alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False)),
        x=alt.X("from:T", title=None, axis=alt.Axis(grid=False, labelOverlap=True, tickCount=6)),
        color=colour,
        tooltip=[
            "row:N",
            "state:N",
            "reason:N",
            alt.Tooltip("from:T", format="%Y-%m-%d %H:%M:%S", title="from"),
            alt.Tooltip("label:N", title="for"),
        ],
    )
    # A state that lasted no pixel is seen by its tick.
    chart = base.mark_bar(size=16).encode(x2="to:T") + base.mark_tick(size=16, thickness=2)
    return _charts._dress(chart, len(order) * 26 + 74)


def _row(target: Any, kind: Any) -> str:
    return "load (degradation)" if kind == "level" else str(target)
