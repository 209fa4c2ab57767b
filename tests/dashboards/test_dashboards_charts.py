"""The charts: valid Vega-Lite, with the numbers of their frames."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dspex_lab.dashboards import _charts
from dspex_lab.dashboards._snapshot import Filters, take
from dspex_lab.dashboards._style import STATUS_COLOURS


def _values(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every row of data in a specification, its layers included."""
    own = spec.get("data", {}).get("values", [])
    return [*own, *(row for layer in spec.get("layer", []) for row in _values(layer))]


def test_charts_name_only_the_major_version_of_vega_lite(lab) -> None:
    lab.run()
    spec = _charts.latency(take(lab, Filters()).latency)
    assert spec["$schema"].rpartition("/")[2] in {"v5.json", "v6.json"}
    assert spec["background"] == "transparent"


def test_latency_has_two_bars_per_step_with_readable_times(lab) -> None:
    lab.run()
    rows = _values(_charts.latency(take(lab, Filters()).latency))
    assert {(r["step"], r["quantile"], r["label"]) for r in rows} >= {
        ("triage", "p50", "1.00 s"),
        ("normalise", "p95", "1.0 ms"),
    }


def test_runs_over_time_are_stacked_by_status() -> None:
    at = pd.Timestamp("2026-05-01 12:00")
    frame = pd.DataFrame({"at": [at, at], "width": [60, 60], "status": ["odd", "failed"], "runs": [2, 3]})
    spec = _charts.timeline(frame)
    rows = {r["status"]: (r["low"], r["high"]) for r in _values(spec)}
    assert rows == {"failed": (0, 3), "odd": (3, 5)}
    scale = spec["encoding"]["color"]["scale"]
    assert scale["domain"] == ["failed", "odd"]
    assert scale["range"][0] == STATUS_COLOURS["failed"]


def test_a_few_seconds_of_runs_are_drawn_within_a_minute() -> None:
    at = pd.Timestamp("2026-05-01 12:00")
    frame = pd.DataFrame({"at": [at], "width": [2], "status": ["complete"], "runs": [1]})
    bars, around = _charts.timeline(frame)["layer"]
    assert bars["encoding"]["y"]["axis"]["values"] == [0, 1]
    begin, end = (pd.Timestamp(row["from"]) for row in _values(around))
    assert end - begin == pd.Timedelta(minutes=1)
    assert begin < pd.Timestamp(_values(bars)[0]["from"]) < end
    assert "layer" not in _charts.timeline(frame.assign(width=60))


def test_usage_says_the_cost_or_why_there_is_none() -> None:
    frame = pd.DataFrame(
        {
            "model": ["a", "b", "c"],
            "calls": [1, 1, 1],
            "cache_hits": [0, 0, 0],
            "prompt_tokens": [1000, 10, 10],
            "completion_tokens": [200, 0, 0],
            "cost": [0.5, None, None],
            "simulated": [False, True, False],
        }
    )
    labels = {r["model"]: r["label"] for r in _values(_charts.usage(frame)) if "label" in r}
    assert labels == {"a": "1,200 · $0.5000", "b": "10 · simulated", "c": "10 · no price"}


def test_the_waterfall_shows_each_span_under_its_parent_once(lab) -> None:
    run_id = lab.run("loop", status="partial", error="x")
    detail = take(lab, Filters(), run_id).detail
    assert detail is not None
    doubled = pd.concat([detail.spans, detail.spans], ignore_index=True)
    rows = _values(_charts.waterfall(doubled))
    names = list(dict.fromkeys(r["span"] for r in rows))
    assert names[:4] == ["loop", "· normalise", "· triage", "· · m/1"]
    assert "· triage (2)" in names
    colours = {r["span"]: r["colour"] for r in rows}
    assert colours["· triage"] == STATUS_COLOURS["failed"]
    assert len(set(colours.values())) == 4
    assert len({r["span"] for r in _values(_charts.waterfall(doubled, most=3))}) == 3


def test_text_of_records_is_drawn_as_it_is() -> None:
    evil = "<script>alert(1)</script>"
    frame = pd.DataFrame({"step": [evil], "calls": [1], "p50": [0.0], "p95": [0.0], "errors": [0]})
    assert {r["step"] for r in _values(_charts.latency(frame))} == {evil}
