"""The page on models and health: what it shows, that it follows, and that nothing in it is run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest
from bokeh.document import Document
from guarded import EVIL, KEY, GuardedLab, changed
from test_dashboards_browser import ALL_OF, ALL_TEXT

from dspex_lab import dashboards
from dspex_lab.dashboards import _model_charts
from dspex_lab.dashboards._models import MEASURES, measured
from dspex_lab.dashboards._pages import MODELS, RUNS
from dspex_lab.dashboards._snapshot import Filters, take
from dspex_lab.store import Store, views


@pytest.fixture
def guarded() -> Iterator[GuardedLab]:
    with Store(":memory:") as store:
        made = GuardedLab(store)
        yield made
        made.health.close()


def opened(lab: Any) -> Any:
    page = dashboards.build(lab)
    page.pages.view.value = MODELS
    return page


def test_an_empty_store_is_said_to_be_empty(lab) -> None:
    page = opened(lab)
    assert "No language model was called" in page.models.view.object
    assert page.over_time.charts["calls"].chart is None
    assert page.states.timeline.chart is None
    assert "none in this window" in page.states._changes.object
    assert not page.now.view.visible, "this Lab guards nothing"
    assert not page.now.alive


def test_a_person_goes_from_page_to_page(guarded: GuardedLab) -> None:
    page = dashboards.build(guarded)
    assert page.pages.value == RUNS
    assert (page._of_runs.visible, page._of_models.visible, page.filters.name.visible) == (True, False, True)
    assert page.models.view.object == "", "what is not looked at is not asked for"
    page.pages.view.value = MODELS
    assert (page._of_runs.visible, page._of_models.visible, page.filters.name.visible) == (False, True, False)
    assert page.filters.window.visible
    page.pages.view.value = RUNS
    assert (page._of_runs.visible, page._of_models.visible, page.filters.name.visible) == (True, False, True)


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
    for name in MEASURES:
        page.over_time.measure.value = name
        chart = page.over_time.charts[name]
        assert chart.view.visible
        assert sum(c.view.visible for c in page.over_time.charts.values()) == 1
        assert chart.chart is not None, name
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
    page = dashboards.build(guarded, refresh=0.02)
    page.pages.view.value = MODELS
    root = page.get_root(Document())
    try:
        guarded.call("acme/late")
        eventually(lambda: "acme/late" in page.models.view.object)
        guarded.ledger.budget = "7 calls"  # no record says so
        eventually(lambda: "of 7 calls" in page.now.view.object)
    finally:
        page._cleanup(root)
        page.stop()


def test_a_snapshot_asks_for_models_only_where_they_are_shown(guarded: GuardedLab) -> None:
    assert take(guarded, Filters()).models is None
    assert take(guarded, Filters()).standing is None
    found = take(guarded, Filters(), models=True)
    assert found.models is not None
    assert found.standing is not None
    assert found.standing.changes is None


def test_what_has_no_value_is_not_drawn(guarded: GuardedLab) -> None:
    guarded.call("acme/one", cost=None)
    frame = views.models_over_time(guarded.store)
    assert measured(frame, MEASURES["cost"]).empty
    assert list(measured(frame, MEASURES["calls"])["value"]) == [1.0]


def test_the_window_is_that_of_the_filter(guarded: GuardedLab) -> None:
    guarded.call("old/one", started=(datetime.now(UTC) - timedelta(hours=2)).timestamp())
    page = opened(guarded)
    assert "old/one" in page.models.view.object
    page.filters.window.value = 3600
    assert "old/one" not in page.models.view.object


def steady(look: Callable[[], bool]) -> Callable[[], bool]:
    """Return ``look``, where an element that the page has replaced meanwhile counts as not there yet."""
    from selenium.common.exceptions import StaleElementReferenceException

    def looked() -> bool:
        try:
            return look()
        except StaleElementReferenceException:
            return False

    return looked


def test_a_person_sees_it_in_a_browser_and_nobody_else_is_asked(guarded, browser, asked, eventually) -> None:
    guarded.ledger.budget = "$2"
    guarded.fail(f"evil/{EVIL}", EVIL)
    guarded.call(f"evil/{EVIL}", error=EVIL)
    with dashboards.serve(guarded, refresh=0.1) as served:
        browser.get(served.url)

        def pressed() -> bool:
            buttons = [b for b in browser.execute_script(ALL_OF, "button.bk-btn") if "Models" in b.text]
            if buttons:
                buttons[0].click()
            return bool(buttons)

        def charts() -> bool:
            return len([c for c in browser.execute_script(ALL_OF, "canvas.marks, svg.marks") if c.size["width"] > 300]) == 2

        eventually(steady(pressed))
        eventually(lambda: "Models in this window" in browser.execute_script(ALL_TEXT))
        eventually(steady(charts))
        text = browser.execute_script(ALL_TEXT)
        for part in ("Now", "Budget of this Lab", "Models over time: calls", "Circuits and degradation over time", EVIL):
            assert part in text, part
        guarded.gateway.degradation.pin("no_hedging")
        eventually(lambda: "left out: hedging" in browser.execute_script(ALL_TEXT))
        assert not browser.execute_script(ALL_OF, "img[src=x]")
        assert browser.title == "tickets.ipynb · dspex_lab"
        assert {urlsplit(url).netloc for url in asked(browser)} == {f"127.0.0.1:{served.port}"}
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        browser.get("about:blank")
