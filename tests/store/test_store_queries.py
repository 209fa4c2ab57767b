"""The questions of views, each checked against records counted by hand."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from store_records import START, begin, call, end, span

from dspex_lab.store import Store, costs, errors, latency_by_step, run_tree, running, runs


def test_runs_are_listed_newest_first_with_their_rows_counted(store: Store) -> None:
    store.write_many([end("a"), end("m", kind="map", name="rows", started=START + 5), end("z", started=START + 1, tags=("t",))])
    for n, status in enumerate(["complete", "partial", "failed", "cancelled"]):
        store.write(end(f"row{n}", parent_id="m", kind="row", row_index=n, status=status, started=START + 9))
    found = runs(store)
    assert found["run_id"].tolist() == ["m", "z", "a"]
    assert found["rows"].tolist() == [4, 0, 0]
    assert found["rows_failed"].tolist() == [2, 0, 0]
    assert runs(store, 1)["run_id"].tolist() == ["m"]
    assert " ".join(found.columns) == (
        "run_id lab_id kind name status started seconds error error_step lm simulated prompt_tokens completion_tokens cost "
        "session tags rows rows_failed"
    )


def test_latency_has_exact_quantiles_by_step(store: Store) -> None:
    for n in range(101):
        store.write(span(f"a{n}", seconds=n / 100, status="failed" if n == 100 else "complete"))
        store.write(span(f"b{n}", name="fast", seconds=0.001))
    store.write_many([span("skip", seconds=9.0, status="skipped"), span("run", kind="run", seconds=9.0)])
    found = latency_by_step(store)
    assert found.to_numpy().tolist() == [
        ["classify", 101, 0.5, pytest.approx(0.95), 1.0, 1],
        ["fast", 101, 0.001, 0.001, 0.001, 0],
    ]
    assert list(found.columns) == ["step", "count", "p50", "p95", "max", "errors"]


@pytest.mark.parametrize(
    "since",
    [
        START,
        dt.datetime.fromtimestamp(START, dt.UTC),
        dt.datetime.fromtimestamp(START, dt.UTC).replace(tzinfo=None),
        dt.datetime.fromtimestamp(START, dt.timezone(dt.timedelta(hours=5))),
    ],
)
def test_since_is_a_moment_in_any_form(store: Store, since: Any) -> None:
    store.write_many([span("old", started=START - 1), span("at"), call("old", started=START - 1), call("at")])
    assert latency_by_step(store, since)["count"].tolist() == [1]
    assert costs(store, since)["calls"].tolist() == [1]
    assert costs(store)["calls"].tolist() == [2]


def test_since_may_be_a_length_of_time(store: Store) -> None:
    now = time.time()
    store.write_many([span("old", started=now - 3_600), span("new", started=now)])
    assert latency_by_step(store, dt.timedelta(minutes=30))["count"].tolist() == [1]


def test_costs_are_summed_by_model(store: Store) -> None:
    store.write_many(
        [
            call("1"),
            call("2", cache_hit=True, cost=0.0, prompt_tokens=None),
            call("3", error="boom", cost=None),
            call("4", model="free", cost=None, simulated=True),
        ]
    )
    found = costs(store)
    assert found.drop(columns="cost").to_numpy().tolist() == [["m", False, 3, 20, 15, 1, 1], ["free", True, 1, 10, 5, 0, 0]]
    assert found["cost"][0] == pytest.approx(0.001)
    assert found["cost"].isna().tolist() == [False, True]


def test_errors_of_steps_and_models_and_of_runs_that_failed_without_one(store: Store) -> None:
    store.write_many(
        [
            end("r", status="failed", error="step broke", error_step="classify", seconds=9.0),
            span("s", error="step broke", status="failed", started=START + 1),
            call("c", error="401", started=START + 2),
            end("bare", status="failed", error="no such model", started=START + 3),
            end("good", started=START + 4),
        ]
    )
    found = errors(store)
    assert found[["source", "run_id", "name", "step", "error"]].fillna("").to_numpy().tolist() == [
        ["run", "bare", "support", "", "no such model"],
        ["lm", "r", "m", "classify", "401"],
        ["step", "r", "classify", "classify", "step broke"],
    ]
    assert found.columns[0] == "at"
    assert len(errors(store, 2)) == 2


def test_a_run_is_a_tree_of_spans(store: Store) -> None:
    store.write_many(
        [
            span("b", parent_id="root", name="second", started=START + 2),
            span("a1", parent_id="a", kind="lm", name="lm", started=START + 1),
            span("root", kind="run", name="support"),
            span("a", parent_id="root", name="first", started=START + 1),
            span("orphan", parent_id="elsewhere", started=START + 5),
            span("other", "another run"),
            call("c1", span_id="a1"),
            call("c2", span_id="a1", cache_hit=True),
        ]
    )
    tree = run_tree(store, "r")
    assert tree[["depth", "span_id"]].to_numpy().tolist() == [[0, "root"], [1, "a"], [2, "a1"], [1, "b"], [0, "orphan"]]
    assert tree[["calls", "cache_hits"]].to_numpy().tolist() == [[0, 0], [0, 0], [2, 1], [0, 0], [0, 0]]
    assert tree["prompt_tokens"][2] == 20
    assert len(run_tree(store, "none such")) == 0


def test_spans_that_are_each_others_parents_do_not_hang(store: Store) -> None:
    store.write_many([span("a", parent_id="b"), span("b", parent_id="a"), span("self", parent_id="self")])
    tree = run_tree(store, "r")
    assert sorted(tree["span_id"]) == ["a", "b", "self"]
    assert len(tree) == 3


def test_running_is_what_began_in_this_lab_and_has_no_end(path: Path) -> None:
    now = time.time()
    with Store(path, lab_id="one") as one, Store(path, lab_id="two") as two:
        one.write_many([begin("done"), end("done"), begin("m", "map", "rows", now - 10), begin("late", at=now)])
        one.write(end("row", parent_id="m", kind="row"))
        two.write(begin("other"))
        two.flush()
        found = running(one)
        assert found[["run_id", "kind", "name", "rows"]].to_numpy().tolist() == [
            ["m", "map", "rows", 1],
            ["late", "run", "support", 0],
        ]
        assert found["seconds"][0] >= 10
        assert running(two)["run_id"].tolist() == ["other"]


def test_all_of_them_answer_on_an_empty_store(store: Store) -> None:
    for question in (runs, latency_by_step, costs, errors, running):
        assert len(question(store)) == 0
