"""The charts: made with Altair from frames, given as Vega-Lite specifications. Their text is drawn, never parsed as HTML."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._style import FONT, GREY, INK, LINE, PALE, STATUS_COLOURS, THIRD

_BAR, _HEIGHT = 15, 180
_PADDING = {"left": 2, "right": 6, "top": 4, "bottom": 2}


def latency(frame: pd.DataFrame) -> dict[str, Any]:
    """Return bars of the median and the 95th percentile of each step's seconds, the slowest step first."""
    long = frame.melt(["step", "calls", "errors"], ["p50", "p95"], "quantile", "seconds")
    long["label"] = long["seconds"].map(fmt.duration)
    order = list(frame["step"])
    around = min(max(0.05, ((_HEIGHT - 40) / (2 * _BAR + 4) - len(order)) / 2), 1)  # few steps are not to become fat bars
    base = alt.Chart(_records(long)).encode(
        y=alt.Y("step:N", sort=order, title=None, axis=_names(), scale=alt.Scale(paddingInner=0.1, paddingOuter=around)),
        yOffset=alt.YOffset("quantile:N", sort=["p50", "p95"]),
        x=alt.X("seconds:Q", title=None, axis=None, scale=_with_room(long["seconds"].max())),
        tooltip=["step:N", "quantile:N", alt.Tooltip("label:N", title="time"), "calls:Q", "errors:Q"],
    )
    colour = alt.Color("quantile:N", title=None, scale=alt.Scale(domain=["p50", "p95"], range=[INK, PALE]), legend=_legend())
    return _dress(
        base.mark_bar(cornerRadiusEnd=2).encode(color=colour) + _labels(base), max(len(order) * 2 * _BAR + 40, _HEIGHT)
    )


def timeline(frame: pd.DataFrame) -> dict[str, Any]:
    """Return stacked bars of runs per bucket of time, by status."""
    found = set(frame["status"])
    shown = [s for s in STATUS_COLOURS if s in found] + sorted(found - set(STATUS_COLOURS))
    ranked = frame.assign(rank=frame["status"].map(shown.index)).sort_values(["at", "rank"])
    top = ranked.groupby("at")["runs"].cumsum().astype(int)  # stacked here: Vega-Lite does not stack bars that have two ends
    data = pd.DataFrame(
        {
            "from": [_iso(at) for at in ranked["at"]],
            "to": [_iso(at + pd.Timedelta(seconds=int(w))) for at, w in zip(ranked["at"], ranked["width"], strict=True)],
            "status": ranked["status"],
            "runs": ranked["runs"].astype(int),
            "low": top - ranked["runs"].astype(int),
            "high": top,
        }
    )
    scale = alt.Scale(domain=shown, range=[STATUS_COLOURS.get(s, GREY) for s in shown])
    ticks: dict[str, Any] = {"values": list(range(int(top.max()) + 1))} if top.max() < 5 else {"tickCount": 4}
    chart = (
        alt.Chart(_records(data))
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X("from:T", title=None, axis=alt.Axis(grid=False, labelOverlap=True, tickCount=5)),
            x2="to:T",
            y=alt.Y("low:Q", title=None, axis=alt.Axis(format="d", **ticks)),
            y2="high:Q",
            color=alt.Color("status:N", title=None, scale=scale, legend=_legend()),
            tooltip=[alt.Tooltip("from:T", format="%Y-%m-%d %H:%M:%S", title="from"), "status:N", "runs:Q"],
        )
    )
    around = _a_minute_around(frame)
    return _dress(chart if around is None else chart + around, _HEIGHT)


def usage(frame: pd.DataFrame) -> dict[str, Any]:
    """Return bars of the tokens of each model, labelled with what they cost."""
    parts = {"prompt_tokens": "prompt", "completion_tokens": "completion"}
    wide = frame.assign(label=[_cost_label(row) for row in frame.itertuples()])
    long = wide.melt(["model", "label", "calls", "cache_hits"], list(parts), "part", "tokens")
    long["part"] = long["part"].map(parts)
    order = list(frame["model"])
    total = (frame["prompt_tokens"] + frame["completion_tokens"]).astype(float)
    y = alt.Y("model:N", sort=order, title=None, axis=_names())
    scale = _with_room(total.max(), 1.75)
    colours = alt.Scale(domain=list(parts.values()), range=[INK, PALE])
    bars = (
        alt.Chart(_records(long))
        .mark_bar(cornerRadiusEnd=2, size=_BAR)
        .encode(
            y=y,
            x=alt.X("tokens:Q", title=None, axis=None, scale=scale, stack=True),
            color=alt.Color("part:N", title=None, scale=colours, legend=_legend()),
            order=alt.Order("part:N", sort="descending"),
            tooltip=[
                "model:N",
                "part:N",
                alt.Tooltip("tokens:Q", format=","),
                "calls:Q",
                alt.Tooltip("cache_hits:Q", title="from cache"),
            ],
        )
    )
    ends = alt.Chart(_records(wide.assign(total=total))).encode(
        y=y, x=alt.X("total:Q", title=None, axis=None, scale=scale), tooltip=["model:N", "label:N"]
    )
    return _dress(bars + _labels(ends), max(len(order) * 2 * _BAR + 40, _HEIGHT))


def waterfall(frame: pd.DataFrame, most: int = 80) -> dict[str, Any]:
    """Return the first ``most`` spans of a run as bars on one line of time; the frame is in the order of a tree."""
    spans = frame.head(most)
    begin = spans["started"].min()
    offset = (spans["started"] - begin).dt.total_seconds()
    data = pd.DataFrame(
        {
            "span": _unique("· " * d + str(n) for n, d in zip(spans["name"], spans["depth"], strict=True)),
            "kind": spans["kind"],
            "status": spans["status"],
            "from": offset,
            "to": offset + spans["seconds"].fillna(0),
            "label": spans["seconds"].map(fmt.duration),
            "implementation": spans["implementation"].fillna(""),
        }
    )
    data["colour"] = [_span_colour(k, s) for k, s in zip(data["kind"], data["status"], strict=True)]
    widest = min(max(data["span"].str.len()) * 6.6, 260)
    scale = _with_room(data["to"].max(), 1.15)
    base = alt.Chart(_records(data)).encode(
        y=alt.Y("span:N", sort=None, title=None, axis=_names(labelAlign="left", labelPadding=widest)),
        x=alt.X("from:Q", title="seconds since the run began", scale=scale, axis=alt.Axis(tickCount=6)),
        tooltip=[
            "span:N",
            "kind:N",
            "status:N",
            alt.Tooltip("label:N", title="time"),
            alt.Tooltip("by:N", title="implementation"),
        ],
    )
    colour = alt.Color("colour:N", scale=None)
    bars = base.mark_bar(size=11, cornerRadius=2).encode(x2="to:Q", color=colour)
    ticks = base.mark_tick(thickness=2, size=11).encode(color=colour)
    labels = base.mark_text(align="left", dx=5, color=GREY, fontSize=11).encode(x="to:Q", text="label:N")
    return _dress(bars + ticks + labels, len(data) * 20 + 48)


def _span_colour(kind: Any, status: Any) -> str:
    if status in ("failed", "skipped"):
        return STATUS_COLOURS["failed"] if status == "failed" else GREY
    return {"run": GREY, "step": INK, "lm": THIRD}.get(str(kind), INK)


def _unique(names: Any) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def _cost_label(row: Any) -> str:
    if row.simulated and (fmt.missing(row.cost) or not row.cost):
        price = "simulated"
    elif fmt.missing(row.cost):
        price = "no price"
    else:
        price = fmt.dollars(row.cost)
    return f"{fmt.count(row.prompt_tokens + row.completion_tokens)} · {price}"


def _iso(at: pd.Timestamp) -> str:
    return fmt.to_local(at).isoformat(timespec="milliseconds")


def _a_minute_around(frame: pd.DataFrame) -> alt.Chart | None:
    """Return unseen points that widen the axis of time, or None where the frame covers a minute by itself."""
    begin = frame["at"].min()
    end = (frame["at"] + pd.to_timedelta(frame["width"].astype(int), unit="s")).max()
    around = (pd.Timedelta(minutes=1) - (end - begin)) / 2
    if around <= pd.Timedelta(0):
        return None
    ends = pd.DataFrame({"from": [_iso(begin - around), _iso(end + around)]})
    return alt.Chart(_records(ends)).mark_point(opacity=0).encode(x=alt.X("from:T", title=None), tooltip=alt.value(None))


def _records(frame: pd.DataFrame) -> alt.Data:
    # Plain values instead of the frame: nothing is guessed about types, and no row limit of Altair's applies.
    return alt.Data(values=frame.astype(object).where(frame.notna(), None).to_dict("records"))


def _with_room(largest: Any, factor: float = 1.3) -> alt.Scale:
    top = float(largest) if not fmt.missing(largest) and float(largest) > 0 else 1.0
    return alt.Scale(domain=[0, top * factor], nice=False)


def _labels(base: alt.Chart) -> alt.Chart:
    return base.mark_text(align="left", dx=4, color=GREY, fontSize=11).encode(text="label:N")


def _names(**more: Any) -> alt.Axis:
    return alt.Axis(labelLimit=260 if more else 150, ticks=False, domain=False, **more)


def _legend() -> alt.Legend:
    return alt.Legend(orient="bottom", symbolType="square", symbolSize=70, offset=6)


def _dress(chart: Any, height: float) -> dict[str, Any]:
    spec = (
        chart.properties(width="container", height=height, background="transparent", padding=_PADDING)
        .configure(font=FONT, autosize=alt.AutoSizeParams(type="fit", contains="padding"))
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=GREY, titleColor=GREY, gridColor=LINE, domainColor=LINE, tickColor=LINE, titleFontWeight="normal"
        )
        .configure_legend(labelColor=GREY)
        .to_dict()
    )
    # Panel brings its own Vega-Lite, whose minor version is not Altair's; the page's console would say so at each chart.
    spec["$schema"] = f"https://vega.github.io/schema/vega-lite/v{alt.SCHEMA_VERSION.lstrip('v').partition('.')[0]}.json"
    return spec
