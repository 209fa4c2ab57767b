"""What of a run went another way than planned, live, and the share of its budgets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from widget_records import Emits

from dspex_lab.events import Event
from dspex_lab.lms import Budget, Ledger
from dspex_lab.widgets import RunState, RunWidget, run_html, run_text

MAKER = "maker/model"


def summary(state: RunState) -> dict[str, Any]:
    return state.snapshot()[1]


@pytest.fixture
def state(graph: dict[str, Any]) -> RunState:
    made = RunState(graph)
    made.apply(Emits().start())
    return made


def test_a_run_as_planned_has_nothing_to_say(state: RunState, graph: dict[str, Any]) -> None:
    assert summary(state)["notes"] == {"retried": 0, "again": 0, "hedged": 0, "instead": [], "open": [], "level": None}
    assert summary(state)["budgets"] == []
    assert "dspex-noted" not in run_html(graph, *state.snapshot()).partition("</style>")[2]


def test_retries_hedges_and_stand_ins_are_counted_while_it_runs(state: RunState) -> None:
    run = Emits()
    assert state.apply(run.event("lm.retry"))
    assert state.apply(run.event("lm.retry", "other/model"))
    assert state.apply(run.event("hedge.win"))
    for other in ("b/two", "b/two", "c/three"):
        assert state.apply(run.event("fallback.use", other, before=MAKER, after=other))
    notes = summary(state)["notes"]
    assert (notes["retried"], notes["hedged"]) == (2, 1)
    assert notes["instead"] == [{"name": "b/two", "count": 2}, {"name": "c/three", "count": 1}]
    assert json.loads(json.dumps(notes)) == notes


def test_a_second_call_that_was_paid_for_is_counted(state: RunState) -> None:
    run = Emits()
    state.apply(run.call("label")._replace(again=True))
    state.apply(run.call("label", hit=True)._replace(again=True))
    assert summary(state)["notes"]["again"] == 1


def test_what_another_run_did_is_not_this_ones(state: RunState) -> None:
    other = Emits("r2")
    for name in ("lm.retry", "hedge.win", "fallback.use", "breaker.open", "breaker.half_open"):
        assert not state.apply(other.event(name)), name
    assert summary(state)["notes"]["open"] == []


def test_a_circuit_is_open_until_anybody_closes_it(state: RunState) -> None:
    assert state.apply(Emits().event("breaker.open"))
    assert not state.apply(Emits().event("breaker.open"))
    assert not state.apply(Emits().event("breaker.half_open"))
    assert summary(state)["notes"]["open"] == [MAKER]
    assert state.apply(Emits("r2").event("breaker.close"))
    assert not state.apply(Emits("r2").event("breaker.close"))
    assert summary(state)["notes"]["open"] == []


def test_the_level_of_degradation_is_everybodys(graph: dict[str, Any]) -> None:
    state = RunState(graph, level="no_hedging")
    assert summary(state)["notes"]["level"] == "no_hedging"
    state.apply(Event("degradation.change", 1000, data={"target": "degradation", "after": "normal"}))
    assert summary(state)["notes"]["level"] is None
    assert summary(RunState(graph, level="normal"))["notes"]["level"] is None


def test_rows_of_a_map_count_for_it(graph: dict[str, Any]) -> None:
    state = RunState(graph, total_rows=2)
    state.apply(Emits("m").start(kind="map"))
    state.apply(Emits("row1").event("lm.retry"))
    assert summary(state)["notes"]["retried"] == 1


def test_after_the_end_nothing_is_added(state: RunState) -> None:
    state.apply(Emits().end())
    assert not state.apply(Emits().event("lm.retry"))
    assert not state.apply(Event("degradation.change", 1001, data={"after": "cached_only"}))


def test_hostile_names_stay_few_short_and_text(state: RunState, graph: dict[str, Any]) -> None:
    for n in range(300):
        state.apply(Emits().event("fallback.use", f"<script>{n}" + "x" * 500))
        state.apply(Emits().event("breaker.open", f"<script>{n}" + "x" * 500))
    notes = summary(state)["notes"]
    assert (len(notes["instead"]), len(notes["open"])) == (3, 3)
    assert all(len(i["name"]) <= 80 for i in notes["instead"])
    assert len(state._notes.instead) == len(state._notes.open) == 100
    assert "<script>" not in run_html(graph, *state.snapshot())


def test_of_its_own_budget_the_nearest_limit_counts(graph: dict[str, Any]) -> None:
    state = RunState(graph, limits={"cost": 1.0, "tokens": None, "calls": 4})
    state.apply(Emits().start())
    state.apply(Emits().call("label", cost=0.3, simulated=False)._replace(attempts=3))
    state.apply(Emits().call("label", cost=0.0, hit=True))
    assert summary(state)["budgets"] == [{"of": "this run", "share": 0.75, "limit": "$1.00, 4 calls"}]
    assert "75% of $1.00, 4 calls (this run)" in run_text(summary(state))
    assert summary(RunState(graph, limits={"cost": 0.0}))["budgets"][0]["share"] == 1.0


def test_of_the_labs_budget_the_account_says_and_the_end_keeps_it(graph: dict[str, Any]) -> None:
    ledger = Ledger(Budget(calls=1, tokens=500), "this Lab")
    state = RunState(graph, account=lambda: ledger.snapshot().to_dict())
    state.apply(Emits().start())
    assert summary(state)["budgets"] == [{"of": "this Lab", "share": 0.0, "limit": "500 tokens, 1 call"}]
    state.apply(Emits().end())
    before = summary(state)["budgets"]
    ledger.budget = None
    assert summary(state)["budgets"] == before
    unlimited = RunState(graph, account=lambda: ledger.snapshot().to_dict())
    assert summary(unlimited)["budgets"] == []


def test_the_widget_pushes_them_and_its_picture_shows_them(graph: dict[str, Any]) -> None:
    widget = RunWidget(graph, limits={"cost": 2.0}, level="no_hedging", account=dict)
    for record in (Emits().start(), Emits().event("lm.retry"), Emits().call("label", cost=1.0, simulated=False)):
        widget.observe_run(record)
    widget.flush()
    assert widget.summary["notes"]["retried"] == 1
    assert widget.summary["cost"] == 1.0, "the cost is live"
    html = widget.to_html()
    assert "1 retry · under load: no hedging" in html
    assert "50% of $2.00 (this run)" in html
    assert "1 retry" in repr(widget)
    widget.close()
