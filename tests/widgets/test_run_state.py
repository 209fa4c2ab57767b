"""The reducer: from records to what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clocks import Clock
from graphs import support
from widget_records import Emits, whole_run

import dspex_lab as dx
from dspex_lab.events import Decision, Event
from dspex_lab.widgets import RunState
from dspex_lab.widgets._state import STEP_STATUSES
from dspex_lab.widgets._static import run_html, run_text
from dspex_lab.widgets._text import step_line


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def state(graph: dict[str, Any], clock: Clock) -> RunState:
    return RunState(graph, clock=clock)


def statuses(state: RunState) -> dict[str, str]:
    return {name: step["status"] for name, step in state.snapshot()[0].items()}


def test_before_the_start_everything_waits(state: RunState) -> None:
    steps, summary = state.snapshot()
    assert {s["status"] for s in steps.values()} == {"waiting"}
    assert (summary["name"], summary["status"], summary["seconds"], summary["rows"]) == ("demo", "waiting", None, None)


def test_a_whole_run(state: RunState) -> None:
    for record in whole_run():
        state.apply(record)
    steps, summary = state.snapshot()
    assert statuses(state) == {"clean": "complete", "label": "complete", "look": "failed", "answer": "skipped"}
    assert (steps["label"]["seconds"], steps["label"]["prompt_tokens"], steps["label"]["implementation"]) == (0.4, 280, "dspy")
    assert (steps["look"]["worker"], steps["look"]["errors"][0]["count"]) == ("general-0", 1)
    assert (summary["status"], summary["seconds"], summary["error_step"], summary["lm"]) == (
        "partial",
        0.6,
        "look",
        "maker/model",
    )
    assert summary["simulated"]
    assert json.loads(json.dumps([steps, summary])) == [steps, summary]


def test_a_record_that_changes_nothing_says_so(state: RunState) -> None:
    run = Emits()
    assert state.apply(run.start())
    assert state.apply(run.step("clean"))
    assert not state.apply(run.step("unheard of"))
    assert not state.apply(run.span("unheard of"))
    assert not state.apply(Event("router.route", 1000, "r1", step="clean"))
    assert not state.apply(Decision("d", "r1", None, 1000, "predict", "a", ("a",), "fixed", ""))
    assert not state.apply(Emits("r1").row("r1"))


def test_only_the_run_it_follows_counts(state: RunState) -> None:
    other, run = Emits("other", name="something else"), Emits("r1")
    assert not state.apply(run.step("clean"))  # not yet begun
    assert not state.apply(other.start())
    assert not state.apply(other.step("clean"))
    assert state.apply(run.start())
    late = Emits("r2")
    assert not any(
        state.apply(r) for r in (late.start(), late.step("clean"), late.span("clean"), late.call("clean"), late.end())
    )
    assert state.run_id == "r1"
    assert statuses(state)["clean"] == "waiting"


def test_a_given_run_id_is_followed_whatever_its_name(graph: dict[str, Any]) -> None:
    state = RunState(graph, "renamed", run_id="r7")
    assert not state.apply(Emits("r1", name="renamed").start())
    assert state.apply(Emits("r7").start())


def test_a_running_step_and_the_run_take_their_time_from_the_clock(state: RunState, clock: Clock) -> None:
    run = Emits()
    state.apply(run.start())
    state.apply(run.step("clean", at=1))
    clock.now = 1003
    steps, summary = state.snapshot()
    assert (steps["clean"]["seconds"], summary["seconds"], summary["status"]) == (2, 3, "running")


def test_events_alone_end_a_step(state: RunState) -> None:
    run = Emits()
    for record in (
        run.start(),
        run.step("clean"),
        run.stop("clean", at=2),
        run.step("look"),
        run.error("look", "bad", 1, None),
    ):
        state.apply(record)
    steps, _ = state.snapshot()
    assert (steps["clean"]["status"], steps["clean"]["seconds"]) == ("complete", 2)
    assert (steps["look"]["status"], steps["look"]["errors"]) == ("failed", [{"text": "bad", "count": 1}])


def test_an_error_told_by_event_and_span_is_one(state: RunState) -> None:
    run = Emits()
    for record in (run.start(), run.step("look"), run.error("look", "bad"), run.span("look", 0.1, "failed", "bad")):
        state.apply(record)
    assert state.snapshot()[0]["look"]["errors"] == [{"text": "bad", "count": 1}]
    assert state.snapshot()[0]["look"]["failed"] == 1


@pytest.mark.parametrize(
    ("status", "error", "shown"),
    [
        ("fallback", None, "fallback"),
        ("cancelled", "cancelled", "cancelled"),
        ("odd", None, "complete"),
        ("odd", "x", "failed"),
    ],
)
def test_every_span_status_is_one_that_can_be_shown(state: RunState, status: str, error: str | None, shown: str) -> None:
    state.apply(Emits().start())
    state.apply(Emits().span("look", 0.1, status, error))
    assert statuses(state)["look"] == shown
    assert shown in STEP_STATUSES


def test_what_ran_when_the_run_ended_was_cancelled_and_what_waited_was_skipped(state: RunState) -> None:
    run = Emits()
    for record in (run.start(), run.step("clean"), run.end("cancelled")):
        state.apply(record)
    assert statuses(state)["clean"] == "cancelled"
    assert statuses(state)["answer"] == "skipped"
    assert state.snapshot()[0]["clean"]["seconds"] is None
    assert state.final


def test_a_run_nobody_waits_for_is_interrupted_once(state: RunState) -> None:
    state.apply(Emits().start())
    assert state.interrupt()
    assert not state.interrupt()
    assert state.snapshot()[1]["status"] == "interrupted"
    state.apply(Emits().end("cancelled"))  # the engine's own word comes late and counts
    assert state.snapshot()[1]["status"] == "cancelled"


def test_an_end_without_a_start_is_the_run_of_that_name(state: RunState) -> None:
    assert state.apply(Emits().end("failed", error="no", error_step="clean"))
    assert state.snapshot()[0]["clean"]["errors"][0]["text"] == "no"


def test_costs_add_up_and_calls_without_a_price_are_counted(state: RunState) -> None:
    run = Emits()
    state.apply(run.start())
    for call in (
        run.call("label", cost=0.5, simulated=False),
        run.call("label", cost=0.25, simulated=False),
        run.call("label", simulated=False),
        run.call("label", None, None, hit=True, simulated=False),
    ):
        state.apply(call)
    step = state.snapshot()[0]["label"]
    assert (step["calls"], step["cached"], step["cost"], step["unpriced"]) == (4, 1, 0.75, 1)
    assert (step["prompt_tokens"], step["completion_tokens"]) == (30, 6)
    assert not state.snapshot()[1]["simulated"]


def test_a_nested_steps_calls_count_for_the_step_around_it(state: RunState) -> None:
    state.apply(Emits().start())
    state.apply(Emits().call("label.inner.deep"))
    state.apply(Emits().call(None))
    steps, summary = state.snapshot()
    assert (steps["label"]["calls"], summary["calls"]) == (1, 2)


def test_the_runs_own_totals_win(state: RunState) -> None:
    state.apply(Emits().start())
    state.apply(Emits().call("label"))
    state.apply(Emits().end(prompt_tokens=100, completion_tokens=20, cost=1.5, lm="given", simulated=True))
    summary = state.snapshot()[1]
    assert (summary["prompt_tokens"], summary["completion_tokens"], summary["cost"], summary["lm"]) == (100, 20, 1.5, "given")


@pytest.fixture
def rows(graph: dict[str, Any], clock: Clock) -> RunState:
    state = RunState(graph, total_rows=4, clock=clock)
    state.apply(Emits("m").start(kind="map"))
    return state


def test_a_map_adds_up_its_rows(rows: RunState, clock: Clock) -> None:
    for i, fails in enumerate((False, True, False)):
        row = Emits(f"row{i}")
        for name in ("clean", "label"):
            status, error = ("failed", "no answer") if fails and name == "label" else ("complete", None)
            rows.apply(row.step(name))
            rows.apply(row.call(name))
            rows.apply(row.span(name, 0.1 * (i + 1), status, error))
            rows.apply(row.stop(name))
        rows.apply(row.row("m", "partial" if fails else "complete", at=i, index=i))
    clock.now = 1003
    steps, summary = rows.snapshot()
    assert steps["clean"]["seconds"] == pytest.approx(0.2)
    assert (steps["clean"]["complete"], steps["label"]["complete"], steps["label"]["failed"]) == (3, 2, 1)
    assert steps["label"]["errors"] == [{"text": "no answer", "count": 1}]
    assert statuses(rows) == {"clean": "running", "label": "running", "look": "waiting", "answer": "waiting"}
    assert (steps["clean"]["calls"], summary["calls"]) == (3, 6)
    shown = summary["rows"]
    assert (shown["total"], shown["done"], shown["complete"], shown["partial"]) == (4, 3, 2, 1)
    assert (shown["rate"], shown["eta"]) == (1, 1)


def test_at_its_end_a_maps_steps_say_how_they_did(rows: RunState) -> None:
    rows.apply(Emits("a").span("clean"))
    rows.apply(Emits("a").span("label"))
    rows.apply(Emits("b").span("label", 0.1, "failed", "x"))
    rows.apply(Emits("a").span("look", 0.1, "failed", "x"))
    rows.apply(Emits("a").span("answer", 0.0, "skipped"))
    rows.apply(Emits("m").end("partial", 5, "map"))
    assert statuses(rows) == {"clean": "complete", "label": "partial", "look": "failed", "answer": "skipped"}
    assert rows.snapshot()[1]["rows"]["eta"] is None


def test_a_step_that_has_seen_every_row_is_done_before_the_map_is(rows: RunState) -> None:
    for i in range(4):
        rows.apply(Emits(f"row{i}").span("clean"))
    assert statuses(rows)["clean"] == "complete"


def test_another_run_beside_a_map_is_not_a_row_of_it(rows: RunState) -> None:
    beside = Emits("beside")
    rows.apply(beside.start(name="demo"))
    changed = [rows.apply(r) for r in (beside.step("clean"), beside.span("clean"), beside.call("clean"), beside.end())]
    assert not any(changed)
    assert not rows.apply(Emits("x").row("another map"))


def test_the_rate_follows_the_last_seconds(rows: RunState, clock: Clock) -> None:
    rows.total_rows = 1000
    for i in range(100):
        rows.apply(Emits(f"early{i}").row("m", at=i / 100))
    for i in range(50):
        rows.apply(Emits(f"late{i}").row("m", at=95 + i / 10))
    clock.now = 1100
    assert rows.snapshot()[1]["rows"]["rate"] == 5
    rows.apply(Emits("m").end("complete", 100, "map"))
    assert rows.snapshot()[1]["rows"]["rate"] == 1.5


def test_a_map_may_learn_its_length_at_its_start(graph: dict[str, Any]) -> None:
    state = RunState(graph, kind="map")
    assert state.snapshot()[1]["rows"]["total"] is None
    state.apply(Emits("m").start(kind="map", rows=7))
    assert state.snapshot()[1]["rows"]["total"] == 7


def test_errors_that_all_differ_do_not_pile_up(rows: RunState) -> None:
    for i in range(100):
        rows.apply(Emits(f"row{i}").span("look", 0.1, "failed", f"error {i % 30} " + "x" * 5000))
    step = rows.snapshot()[0]["look"]
    assert step["failed"] == 100
    assert len(step["errors"]) == 3
    assert len(step["errors"][0]["text"]) == 2000
    assert len(rows._steps["look"].errors) == 20


def nested_state(kind: str = "run", rows: int | None = None) -> RunState:
    state = RunState(support(), total_rows=rows)
    state.apply(Emits("r1", "support").start(kind=kind))
    return state


def test_an_inner_step_has_a_state_of_its_own() -> None:
    state, run = nested_state(), Emits("r1", "support")
    state.apply(run.step("reply"))
    state.apply(run.step("reply.then"))
    steps, _ = state.snapshot()
    assert [steps[n]["status"] for n in ("reply", "reply.then", "reply.otherwise")] == ["running", "running", "waiting"]
    state.apply(run.span("reply.then", 0.3))
    state.apply(run.stop("reply.then", 0.3, 0.3))
    steps, _ = state.snapshot()
    assert (steps["reply.then"]["status"], steps["reply.then"]["seconds"], steps["reply.then"]["times"]) == ("complete", 0.3, 1)
    assert steps["reply"]["status"] == "running"
    state.apply(run.span("reply", 0.4))
    state.apply(run.end())
    steps, _ = state.snapshot()
    assert steps["reply.otherwise"]["status"] == "skipped", "the branch that was not chosen"


def test_an_inner_step_that_runs_many_times_is_counted() -> None:
    state, run = nested_state(), Emits("r1", "support")
    for _ in range(3):
        state.apply(run.step("about.item"))
    state.apply(run.span("about.item", 0.2))
    state.apply(run.span("about.item", 0.4, "failed", "bad"))
    steps, _ = state.snapshot()
    assert steps["about.item"]["status"] == "running"
    state.apply(run.span("about.item", 0.6, "partial", "short"))
    steps, _ = state.snapshot()
    item = steps["about.item"]
    assert (item["status"], item["times"], item["complete"], item["partial"], item["failed"]) == ("partial", 3, 1, 1, 1)
    assert item["seconds"] == pytest.approx(0.4)
    assert {e["text"] for e in item["errors"]} == {"bad", "short"}


@pytest.mark.parametrize("name", ["about.item", "about.3.item", "about.item.3", "about[3].item", "about.item[3]"])
def test_which_item_it_was_done_for_does_not_matter(name: str) -> None:
    state, run = nested_state(), Emits("r1", "support")
    assert state.apply(run.span(name, 0.2))
    state.apply(run.call(name, 10, 2))
    steps, _ = state.snapshot()
    assert steps["about.item"]["complete"] == 1
    assert steps["about.item"]["prompt_tokens"] == steps["about"]["prompt_tokens"] == 10


def test_an_inner_step_that_the_graph_does_not_know_counts_for_the_one_around_it() -> None:
    state, run = nested_state(), Emits("r1", "support")
    assert not state.apply(run.span("clean.within", 0.2))
    state.apply(run.call("clean.within", 10, 2))
    assert state.snapshot()[0]["clean"]["prompt_tokens"] == 10


def test_a_step_that_ends_partial_or_by_its_fallback_stays_so_when_its_event_comes() -> None:
    for status in ("partial", "fallback"):
        state, run = nested_state(), Emits("r1", "support")
        state.apply(run.step("clean"))
        state.apply(run.span("clean", 0.2, status, "less than wanted"))
        error = run.error("clean", "less than wanted")
        state.apply(error._replace(data={**(error.data or {}), "status": status}))
        assert state.snapshot()[0]["clean"]["status"] == status
    assert state.snapshot()[0]["clean"]["errors"] == [{"text": "less than wanted", "count": 1}]


def test_in_a_map_partial_rows_of_a_step_are_counted_and_inner_steps_end_with_it() -> None:
    state = nested_state("map", rows=2)
    for row, status in (("a", "complete"), ("b", "partial")):
        run = Emits(row, "support")
        for _ in range(2):
            state.apply(run.span("about.item", 0.1))
        state.apply(run.span("about", 0.3, status))
        state.apply(run.row("r1", status))
    steps, _ = state.snapshot()
    assert (steps["about"]["status"], steps["about"]["complete"], steps["about"]["partial"]) == ("partial", 1, 1)
    assert steps["about.item"]["status"] == "running", "more may come"
    state.apply(Emits("r1", "support").end("partial", 1, "map"))
    assert state.snapshot()[0]["about.item"]["status"] == "complete"


def test_a_refused_answer_is_no_success_and_what_it_lacks_is_said() -> None:
    def gives(q: str) -> dict[str, str]:
        return {"a": "bad"}

    made = dx.pipeline(
        "p",
        b=dx.step(lambda q: q * 2, cache=60),
        s=dx.suggest(dx.step(gives, outputs=["a"]), "len(a) > 9", "longer"),
    )
    with dx.Lab(":memory:") as lab:
        lab.run(made, q="x")
        seen = RunState(made.graph())
        lab.bus.subscribe(seen.apply)
        lab.run(made, q="x")
    steps, summary = seen.snapshot()
    assert steps["s.try"]["status"] == steps["s"]["status"] == summary["status"] == "partial"
    assert steps["s.try"]["errors"] == steps["s"]["errors"] == [{"text": "longer (asked 2 times)", "count": 1}]
    assert (summary["error_step"], summary["error"]) == ("s", "longer (asked 2 times)")
    assert "s: longer (asked 2 times)" in run_text(summary)
    assert step_line({"kind": "native"}, steps["b"], False).endswith(" · from cache")
    assert "from cache</text>" in run_html(made.graph(), steps, summary)


def test_why_an_inner_step_fell_back_is_kept(clock: Clock) -> None:
    state = RunState(support(), clock=clock)
    emits = Emits(name=support()["name"])
    inner = next(n for n in state.snapshot()[0] if "." in n)
    for record in (emits.start(), emits.span(inner, status="fallback", error="no such page")):
        state.apply(record)
    assert state.snapshot()[0][inner]["errors"] == [{"text": "no such page", "count": 1}]
