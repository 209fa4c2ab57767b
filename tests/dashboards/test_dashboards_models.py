"""The page on models and health: what it shows, that it follows, and that nothing in it is run."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pandas as pd
from browser_helpers import Seen
from guarded import EVIL, KEY, GuardedLab, changed
from page_helpers import draws_each, followed, opened_at, there_and_back

from dspex_lab import dashboards
from dspex_lab.dashboards import _model_charts
from dspex_lab.dashboards._base import MODELS
from dspex_lab.dashboards._models import MEASURES
from dspex_lab.dashboards._over_time import measured
from dspex_lab.dashboards._snapshot import Filters, take
from dspex_lab.store import views

opened = partial(opened_at, MODELS)


def test_an_empty_store_is_said_to_be_empty(lab) -> None:
    page = opened(lab)
    assert "No language model was called" in page.models.view.object
    assert page.over_time.charts["calls"].chart is None
    assert page.states.timeline.chart is None
    assert "none in this window" in page.states._changes.object
    assert not page.now.view.visible, "this Lab guards nothing"
    assert not page.now.alive


def test_a_person_goes_from_page_to_page(guarded: GuardedLab) -> None:
    there_and_back(MODELS, guarded, "models")


def test_models_have_a_row_each(guarded: GuardedLab) -> None:
    guarded.call("acme/one", attempts=3, first_token=0.1)
    guarded.call("acme/one", again=True)
    guarded.call("acme/one", error="ServerError: no", attempts=0)
    guarded.call("acme/one", cache_hit=True)
    guarded.call(f"evil/{EVIL}", cost=None, instead_of="acme/one")
    html = opened(guarded).models.view.object
    row = html[html.index("acme/one") : html.index("evil/")]
    for part in ("3 + 1 cached", "1 (33.3%), 1 never made", "500 ms", "100 ms", "$1.00", "480"):
        assert part in row, part
    assert "<img" not in html
    assert "no price" in html


def test_each_measure_has_a_chart_over_time(guarded: GuardedLab) -> None:
    guarded.call("acme/one", attempts=3, first_token=0.1, started=time.time() - 100)
    guarded.call("acme/two")
    page = opened(guarded)
    draws_each(page.over_time, MEASURES)
    rows = page.over_time.charts["latency, median"].chart["data"]["values"]
    assert {(row["model"], row["value"], row["label"]) for row in rows} == {
        ("acme/one", 0.5, "500 ms"),
        ("acme/two", 0.5, "500 ms"),
    }
    assert [row["model"] for row in page.over_time.charts["first token, median"].chart["data"]["values"]] == ["acme/one"]


def test_circuits_and_levels_are_bars_on_a_line_of_time(guarded: GuardedLab) -> None:
    start = time.time() - 600
    guarded.store.write_many(
        [
            changed("breaker.open", start, "closed", "open", last_error=f"{EVIL} {KEY}"),
            changed("breaker.half_open", start + 60, "open", "half_open"),
            changed("breaker.close", start + 61, "half_open", "closed"),
            changed("degradation.change", start + 5, "normal", "no_hedging", "degradation"),
        ]
    )
    guarded.store.flush()
    page = opened(guarded)
    spec = page.states.timeline.chart
    rows = spec["layer"][0]["data"]["values"] if "data" in spec["layer"][0] else spec["data"]["values"]
    said = {(row["row"], row["state"], row["label"]) for row in rows}
    assert ("acme/one", "open", "1 min 00 s") in said
    assert ("acme/one", "half_open", "1.00 s") in said
    assert any(row == "load (degradation)" and state == "no_hedging" for row, state, _ in said)
    html = page.states._changes.object
    assert "<img" not in html
    assert KEY not in html + json.dumps(spec)
    assert "circuit of acme/one" in html


def test_a_state_is_cut_off_where_the_window_begins(guarded: GuardedLab) -> None:
    guarded.store.write(changed("breaker.open", time.time() - 5_000, "closed", "open"))
    guarded.store.flush()
    page = opened(guarded)
    page.filters.window.value = 900
    spec = page.states.timeline.chart
    assert "15 min" in json.dumps(spec)


def test_an_unknown_state_is_drawn_too() -> None:
    at = datetime(2026, 5, 1, 12)
    frame = pd.DataFrame({"target": ["x"], "kind": ["circuit"], "state": ["odd"], "reason": [""]})
    frame = frame.assign(begin=pd.Timestamp(at), finish=pd.Timestamp(at + timedelta(seconds=1)))
    assert '"odd"' in json.dumps(_model_charts.states(frame))


def test_now_shows_circuits_load_and_budget_and_goes_on_without_a_commit(guarded: GuardedLab) -> None:
    guarded.ledger.budget = "$2"
    guarded.fail("acme/one", f"{EVIL} {KEY}")
    page = opened(guarded)
    html = page.now.view.object
    assert page.now.view.visible
    assert "✗ open" in html
    assert "0%: $0 of $2" in html
    assert "<img" not in html
    assert KEY not in html
    guarded.ledger.budget = None
    guarded.gateway.degradation.pin("no_hedging")
    page._beat()
    assert "no limit is set" in page.now.view.object
    assert "left out: hedging" in page.now.view.object


def test_it_follows_the_store_and_the_lab_while_it_is_shown(guarded: GuardedLab, eventually) -> None:
    with followed(MODELS, guarded) as page:
        guarded.call("acme/late")
        eventually(lambda: "acme/late" in page.models.view.object)
        guarded.ledger.budget = "7 calls"  # no record says so
        eventually(lambda: "of 7 calls" in page.now.view.object)


def test_a_snapshot_asks_for_models_only_where_they_are_shown(guarded: GuardedLab) -> None:
    assert take(guarded, Filters()).models is None
    assert take(guarded, Filters()).standing is None
    found = take(guarded, Filters(), page=MODELS)
    assert found.models is not None
    assert found.standing is not None
    assert found.standing.changes is None


def test_what_has_no_value_is_not_drawn(guarded: GuardedLab) -> None:
    guarded.call("acme/one", cost=None)
    frame = views.models_over_time(guarded.store)
    assert measured(frame, MEASURES["cost"], "model").empty
    assert list(measured(frame, MEASURES["calls"], "model")["value"]) == [1.0]


def test_the_window_is_that_of_the_filter(guarded: GuardedLab) -> None:
    guarded.call("old/one", started=(datetime.now(UTC) - timedelta(hours=2)).timestamp())
    page = opened(guarded)
    assert "old/one" in page.models.view.object
    page.filters.window.value = 3600
    assert "old/one" not in page.models.view.object


def test_a_person_sees_it_in_a_browser_and_nobody_else_is_asked(guarded, browser, asked, eventually) -> None:
    guarded.ledger.budget = "$2"
    guarded.fail(f"evil/{EVIL}", EVIL)
    guarded.call(f"evil/{EVIL}", error=EVIL)
    with dashboards.serve(guarded, refresh=0.1) as served:
        page = Seen(served.url, browser, asked, eventually)
        page.press("button.bk-btn", "Models")
        page.reads("Models in this window")
        page.draws(2)
        for part in ("Now", "Budget of this Lab", "Models over time: calls", "Circuits and degradation over time", EVIL):
            assert part in page.text, part
        guarded.gateway.degradation.pin("no_hedging")
        page.reads("left out: hedging")
        page.leave()
