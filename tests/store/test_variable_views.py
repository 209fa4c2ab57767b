"""What pages and people ask of variables, jobs and runs."""

from __future__ import annotations

import datetime as dt

import pytest
from store_records import START, end

from dspex_lab.errors import StoreError
from dspex_lab.events import TrialRecord, VariableRecord
from dspex_lab.store import (
    DefinitionRow,
    FeedbackRow,
    FeedbackTable,
    JobRow,
    JobTable,
    Store,
    VariableTable,
    jobs_overview,
    recorded_runs,
    runs_by_variables,
    trials_of,
    variable_changes,
    variables_over_time,
    variables_overview,
)


@pytest.fixture
def table(store: Store) -> VariableTable:
    made = VariableTable(store)
    made.define("s", DefinitionRow("t", {"kind": "float"}, 0.5))
    made.define("s", DefinitionRow("words", {"kind": "text"}, "a"))
    made.define("s", DefinitionRow("quiet", {"kind": "bool"}, False))
    commits = [("t", 1, 0, 0.5), ("words", 1, 0, "a"), ("t", 2, 1, 0.75), ("t", 3, 2, 1), ("words", 4, 1, "b")]
    for name, version, parent, value in commits:
        made.write([VariableRecord("s", name, version, parent, START + version, value, "person", score=version / 10)])
    store.flush()
    return made


def test_variables_are_listed_the_one_that_changed_last_first(store: Store, table: VariableTable) -> None:
    found = variables_overview(store)
    assert list(found["name"]) == ["words", "t", "quiet"]
    assert list(found["value"][:2]) == ['"b"', "1"]
    assert list(found["kind"]) == ["text", "float", "bool"]
    assert list(found["commits"]) == [2, 3, 0]
    since = dt.datetime.fromtimestamp(START + 3, dt.UTC).replace(tzinfo=None)
    assert list(variables_overview(store, since=since)["commits"]) == [1, 1, 0]
    assert len(variables_overview(store, limit=1)) == 1


def test_changes_say_what_was_before(store: Store, table: VariableTable) -> None:
    found = variable_changes(store)
    rows = found[["name", "version", "before", "value"]]
    assert rows.astype(object).where(rows.notna(), None).to_numpy().tolist() == [
        ["words", 4, '"a"', '"b"'],
        ["t", 3, "0.75", "1"],
        ["t", 2, "0.5", "0.75"],
        ["t", 1, None, "0.5"],
        ["words", 1, None, '"a"'],
    ]
    assert len(variable_changes(store, limit=2)) == 2
    since = dt.datetime.fromtimestamp(START + 3, dt.UTC).replace(tzinfo=None)
    assert list(variable_changes(store, since=since)["version"]) == [4, 3]


def test_only_numbers_are_drawn(store: Store, table: VariableTable) -> None:
    found = variables_over_time(store)
    assert set(found["name"]) == {"t"}
    assert list(found["value"]) == [0.5, 0.75, 1.0]
    assert list(variables_over_time(store, limit=2)["value"]) == [0.75, 1.0]


def test_runs_are_told_apart_by_what_they_ran_with(store: Store) -> None:
    low, high = ({"version": v, "values": {"t": t}} for v, t in ((1, 0.5), (2, 0.75)))
    store.write_many(
        [
            end("a", variables=low, seconds=1.0, cost=0.5),
            end("b", variables=low | {"version": 3}, seconds=3.0, cost=0.25, status="failed"),
            end("c", variables=high, started=START + 1),
            end("d", name="other", variables=high),
            end("e"),
            end("f", kind="row", variables=high),
        ]
    )
    store.flush()
    found = runs_by_variables(store, name="support")
    rows = found[["values", "version", "runs", "complete", "failed", "p50"]].to_numpy().tolist()
    assert rows == [['{"t":0.75}', 2, 1, 1, 0, 0.5], ['{"t":0.5}', 3, 2, 1, 1, 2.0]]
    assert found["cost"][1] == 0.75
    assert len(runs_by_variables(store)) == 3


def trial(number: int, score: float | None, status: str = "complete", **fields: object) -> TrialRecord:
    return TrialRecord("j", number, None, status, START, 0.5, score)._replace(**fields)


def test_jobs_are_listed_with_their_trials_and_the_best_score_until_each(store: Store) -> None:
    JobTable(store).add(JobRow("j", "tune", "n", "running", START, started=START, settings={"a": 1}))
    JobTable(store).add(JobRow("k", "tune", "m", "complete", START, started=START, ended=START + 2))
    trials = [trial(0, 0.5), trial(1, 0.4), trial(2, 0.9, "rejected"), trial(3, None, "failed"), trial(1, 0.6)]
    store.write_many(trials)
    store.flush()
    found = jobs_overview(store)
    assert found[["job_id", "trials", "failed", "rejected"]].to_numpy().tolist() == [["k", 0, 0, 0], ["j", 4, 1, 1]]
    assert found["seconds"][0] == 2
    assert found["settings"][1] == '{"a": 1}'
    assert len(jobs_overview(store, limit=1)) == 1
    since = dt.datetime.fromtimestamp(START + 10, dt.UTC).replace(tzinfo=None)
    assert list(jobs_overview(store, since=since)["job_id"]) == ["j"], "what has not ended is of every window"
    tried = trials_of(store, "j")
    assert list(tried["number"]) == [0, 1, 2, 3]
    assert list(tried["best"]) == [0.5, 0.6, 0.6, 0.6]


def test_runs_are_found_for_examples_with_what_was_said_of_them_last(store: Store) -> None:
    store.write_many(
        [
            end("a", started=START + 1),
            end("b", kind="row", started=START, row_index=0, outputs=None, status="failed"),
            end("c", kind="map"),
            end("d", name="other"),
            end("e", inputs=None),
        ]
    )
    feedback = FeedbackTable(store)
    feedback.add(FeedbackRow("1", "a", "bad", START))
    feedback.add(FeedbackRow("2", "a", "good", START + 1, correction={"intent": "loan"}, note="see there"))
    found = recorded_runs(store, "support")
    assert [(r.run_id, r.verdict, r.correction) for r in found] == [("b", None, None), ("a", "good", {"intent": "loan"})]
    assert (found[0].inputs, found[0].outputs) == ({"message": "hello"}, {})
    assert found[1].note == "see there"
    assert found[1].started == dt.datetime.fromtimestamp(START + 1, dt.UTC).replace(tzinfo=None)
    feedback.add(FeedbackRow("3", "a", None, START + 2, note="and there"))
    (kept,) = recorded_runs(store, "support", where="verdict = 'good'")
    assert (kept.correction, kept.note) == ({"intent": "loan"}, "and there"), "a note takes back nothing else"
    only = recorded_runs(store, "support", where="status = 'complete' -- those that are whole")
    assert [r.run_id for r in only] == ["a"]
    assert [r.run_id for r in recorded_runs(store, "support", where="verdict IS NULL", limit=5)] == ["b"]
    with pytest.raises(StoreError):
        recorded_runs(store, "support", where="nowhere = 1")
    for hostile in ("true); DELETE FROM runs; SELECT (true", "true) UNION SELECT (1"):
        with pytest.raises(StoreError):
            recorded_runs(store, "support", where=hostile)
    assert store.query("SELECT count(*) AS n FROM runs")["n"][0] == 5


def test_the_view_is_named_where_a_table_was_meant(store: Store) -> None:
    with pytest.raises(StoreError, match=r"variables") as caught:
        store.query("SELECT * FROM varables")
    assert "variables" in (caught.value.hint or "") + str(caught.value)
