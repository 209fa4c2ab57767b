"""What is read from the store: sums, lists and charts' frames, under filters."""

from __future__ import annotations

import time

from dspex_lab.dashboards._snapshot import Filters, take
from dspex_lab.events import LMCall, RunRecord, Span, new_id


def test_an_empty_store_gives_an_empty_snapshot(lab) -> None:
    snapshot = take(lab, Filters())
    assert snapshot.empty
    assert snapshot.never
    assert snapshot.detail is None
    assert all(frame.empty for frame in (snapshot.runs, snapshot.latency, snapshot.timeline, snapshot.usage, snapshot.errors))


def test_sums_count_a_map_once_and_its_rows_apart(lab) -> None:
    lab.run()
    lab.run(status="failed", error="no", error_step="triage")
    lab.run(status="partial", error="half")
    whole = lab.run("many", kind="map", simulated=True)
    for index, status in enumerate(["complete", "failed", "complete"]):
        lab.run("many", kind="row", parent_id=whole, row_index=index, status=status)
    totals = take(lab, Filters()).totals
    assert (totals["runs"], totals["failed"], totals["partial"], totals["rows"], totals["rows_failed"]) == (4, 1, 1, 3, 1)
    assert totals["tokens"] == 4 * 120  # the map's own sums hold those of its rows
    assert totals["cost"] == 1.0
    assert bool(totals["simulated"])


def test_filters_hold_for_every_part(lab) -> None:
    lab.run("support", status="failed", error="no", error_step="triage")
    lab.run("Other_one")
    lab.run("old", started=time.time() - 2 * 86_400)
    for filters, names in [
        (Filters(), {"support", "Other_one"}),
        (Filters(window=None), {"support", "Other_one", "old"}),
        (Filters(name=" OTHER_ "), {"Other_one"}),
        (Filters(name="%"), set()),
        (Filters(status="failed"), {"support"}),
    ]:
        snapshot = take(lab, filters)
        assert set(snapshot.runs["name"]) == names
        assert int(snapshot.totals["runs"]) == len(names)
        assert int(snapshot.timeline["runs"].sum()) == len(names)
        assert int(snapshot.usage["calls"].sum()) == len(names)
        assert (snapshot.latency.empty, snapshot.empty) == (not names, not names)
        assert set(snapshot.errors["name"]) == names & {"support"}
        assert not snapshot.never


def test_runs_are_newest_first_and_rows_are_listed_when_asked_for(lab) -> None:
    now = time.time()
    for age in (3, 1, 2):
        lab.run(f"{age} ago", started=now - age)
    lab.run("row", kind="row", row_index=7)
    assert list(take(lab, Filters()).runs["name"]) == ["1 ago", "2 ago", "3 ago"]
    rows = take(lab, Filters(rows=True)).runs
    assert list(rows["row_index"]) == [7]


def test_latency_is_exact_and_leaves_out_what_was_skipped(lab) -> None:
    now = time.time()
    for seconds in (1.0, 2.0, 3.0):
        lab.store.write(Span(new_id(), None, "r", "step", "slow", now, seconds, "complete"))
    lab.store.write(Span(new_id(), None, "r", "step", "slow", now, 99.0, "skipped"))
    lab.store.write(Span(new_id(), None, "r", "step", "quick", now, 0.1, "failed"))
    lab.store.flush()
    latency = take(lab, Filters()).latency
    assert list(latency["step"]) == ["slow", "quick"]
    assert (latency["p50"][0], round(latency["p95"][0], 6), latency["calls"][0]) == (2.0, 2.9, 3)
    assert list(latency["errors"]) == [0, 1]


def test_errors_tell_steps_calls_and_runs_each_once(lab) -> None:
    failed = lab.run(status="failed", error="step broke", error_step="triage", row_index=4, kind="row")
    lab.store.write(RunRecord("lonely", None, "run", "lonely", "failed", time.time(), 0.1, error="refused"))
    call = LMCall(new_id(), None, failed, "triage", "m/2", time.time(), 0.1, None, None, None, False, False, "429")
    lab.store.write(call)
    lab.store.flush()
    errors = take(lab, Filters()).errors
    assert sorted(zip(errors["source"], errors["error"], strict=True)) == [
        ("lm", "m/2: 429"),
        ("run", "refused"),
        ("step", "step broke"),
    ]
    assert errors["at"].is_monotonic_decreasing
    assert set(errors[errors["run_id"] == failed]["row_index"]) == {4}


def test_models_without_a_price_have_no_cost(lab) -> None:
    lab.run(cost=None)
    call = LMCall(new_id(), None, None, None, "free", time.time(), 0.1, 5000, 5, None, False, True)
    lab.store.write(call)
    lab.store.flush()
    usage = take(lab, Filters()).usage.set_index("model")
    assert list(usage.index) == ["free", "m/1"]
    assert usage.loc["free", "cost"] != usage.loc["free", "cost"]
    assert bool(usage.loc["free", "simulated"])
    assert usage.loc["m/1", "cache_hits"] == 1


def test_the_detail_of_a_run_has_its_spans_and_calls(lab) -> None:
    run_id = lab.run()
    lab.run()
    detail = take(lab, Filters(), run_id).detail
    assert detail is not None
    assert list(detail.spans["name"]) == ["support", "normalise", "triage", "m/1"]
    assert list(detail.calls["model"]) == ["m/1"]
    assert '"message"' in detail.run["inputs_text"]
    assert take(lab, Filters(), "unknown").detail is None


def test_lists_are_bounded(lab) -> None:
    now = time.time()
    lab.store.write_many([RunRecord(new_id(), None, "run", f"r{i}", "complete", now, 0.1, error="e") for i in range(250)])
    lab.store.flush()
    snapshot = take(lab, Filters())
    assert (len(snapshot.runs), len(snapshot.errors), int(snapshot.totals["runs"])) == (200, 100, 250)


def test_what_began_and_has_not_ended_is_running(lab) -> None:
    lab.begin("now", "map")
    ended = lab.begin("done")
    lab.store.write(RunRecord(ended, None, "run", "done", "complete", time.time(), 0.1))
    lab.store.flush()
    snapshot = take(lab, Filters())
    assert list(snapshot.running["name"]) == ["now"]
    assert not snapshot.empty
