"""Jobs, versions of programs, data sets and feedback: on the disk when a call returns, and nobody overwrites anybody."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from store_records import START, Script, end

from dspex_lab.errors import StoreError
from dspex_lab.events import Event, TrialRecord
from dspex_lab.store import (
    DatasetTable,
    FeedbackRow,
    FeedbackTable,
    JobRow,
    JobTable,
    ProgramRow,
    ProgramTable,
    Store,
)
from dspex_lab.store import _jobs as jobs_module
from dspex_lab.store._encode import LARGEST_WHOLE
from dspex_lab.store._transaction import all_or_nothing

SECRET = "sk-proj-" + "a1B2c3D4" * 6


def job(job_id: str = "j", state: Any = "waiting", **fields: Any) -> JobRow:
    return JobRow(job_id, "tune", "support", state, START, **fields)


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_a_job_comes_back_with_every_field(path: Path) -> None:
    row = job(
        started=START + 1, ended=START + 2, pool="general", attempts=2, repeated=3, done=4.5, total=9.0, best=0.75, cost=0.5,
        calls=7, tokens=8, note="n", error="e", settings={"seed": 7, "budget": {"cost": 1.5}}, version=3,
    )  # fmt: skip
    with Store(path) as store:
        added = JobTable(store).add(row)
        assert added == replace(row, number=1, lab_id=store.lab_id)
        assert JobTable(store).add(job("k")).number == 2
    with Store(path) as store:
        table = JobTable(store)
        assert table.row("j") == added
        assert [r.job_id for r in table.rows()] == ["k", "j"]
        assert [r.job_id for r in table.rows(limit=1)] == ["k"]
        assert table.row("nobody") is None


def test_an_id_is_given_once(store: Store) -> None:
    JobTable(store).add(job())
    with pytest.raises(StoreError, match="There is a job 'j' already"):
        JobTable(store).add(job())


def test_a_job_is_written_only_by_who_knows_its_state_and_version(store: Store) -> None:
    table = JobTable(store)
    row = table.add(job())
    running = replace(row, state="running", version=1, started=START)
    assert table.save(running, ["waiting"])
    assert not table.save(replace(running, version=1), ["running"]), "somebody wrote that version"
    assert not table.save(replace(running, version=2, state="complete"), ["waiting"]), "it does not wait any more"
    assert not table.save(replace(running, job_id="nobody", version=1), ["waiting"])
    assert table.save(replace(running, version=2, state="complete", best=0.5), ["running", "stopping"])
    assert table.row("j") == replace(running, version=2, state="complete", best=0.5)


def test_of_many_who_take_a_job_one_gets_it(store: Store) -> None:
    table = JobTable(store)
    row = table.add(job())
    got: list[int] = []
    ready = threading.Barrier(8)

    def take(n: int) -> None:
        ready.wait()
        if table.save(replace(row, state="running", version=1, attempts=n), ["waiting"]):
            got.append(n)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    found = table.row("j")
    assert found is not None
    assert found.attempts == got[0]


def test_a_job_is_abandoned_when_its_lab_is_not_open_any_more(path: Path) -> None:
    one, two = Store(path), Store(path)
    for n, state in enumerate(("waiting", "running", "stopping", "complete", "stopped", "failed", "interrupted")):
        JobTable(one).add(job(f"j{n}", state))
    JobTable(two).add(job("mine", "running"))
    assert JobTable(two).abandoned() == []
    one.close()
    assert [r.job_id for r in JobTable(two).abandoned()] == ["j0", "j1", "j2"]
    two.close()
    with Store(path) as three:
        table = JobTable(three)
        first, *_ = rows = table.abandoned()
        assert [r.job_id for r in rows] == ["j0", "j1", "j2", "mine"]
        assert table.save(replace(first, state="interrupted", version=1), ["waiting"])
        assert [r.job_id for r in table.abandoned()] == ["j1", "j2", "mine"]
        found = table.row("j0")
        assert found is not None
        assert found.lab_id == three.lab_id


def test_a_job_is_abandoned_when_its_process_was_killed(path: Path, script: Script) -> None:
    killed = """
        import os, signal, sys
        from dspex_lab.store import JobRow, JobTable, Store
        store = Store(sys.argv[1])
        table = JobTable(store)
        table.add(JobRow("j", "optimize", "n", "running", 1.7e9))
        table.keep("j", "state", b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert script(killed, path).returncode == -9
    with Store(path) as store:
        assert [r.job_id for r in JobTable(store).abandoned()] == ["j"]
        assert JobTable(store).kept("j", "state") == b"half"


def test_bytes_are_kept_as_they_are_but_no_secret_and_nothing_huge(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = JobTable(store)
    data = bytes(range(256)) * 10
    table.keep("j", "work", data)
    table.keep("j", "state", b"1")
    table.keep("j", "state", b"2")
    assert (table.kept("j", "work"), table.kept("j", "state"), table.kept("j", "result")) == (data, b"2", None)
    table.keep("j", "work", b"key=" + SECRET.encode())
    assert table.kept("j", "work") is None
    monkeypatch.setattr(jobs_module, "_LARGEST", 10)
    table.keep("j", "state", b"12345678901")
    assert table.kept("j", "state") is None
    said = [r.message for r in caplog.records]
    assert len(said) == 2
    assert "its work holds a secret" in said[0]
    assert "its state has 0 MB" in said[1]
    assert SECRET not in "".join(said)


def test_what_it_says_holds_no_secret_and_its_settings_are_whole_or_refused(store: Store) -> None:
    table = JobTable(store)
    row = table.add(job(settings={"note": SECRET}, error=f"401 for {SECRET}"))
    assert SECRET not in store.query("SELECT * FROM jobs").to_string()
    assert table.save(replace(row, version=1, note=SECRET), ["waiting"])
    assert SECRET not in store.query("SELECT * FROM jobs").to_string()
    many = {"values": ["x" * 100] * 2_000}
    table.add(job("large", settings=many))
    found = table.row("large")
    assert found is not None
    assert found.settings == many
    with pytest.raises(StoreError, match="The settings of job 'support' cannot be kept"):
        table.add(job("huge", settings={"x": "y" * (LARGEST_WHOLE + 1)}))
    assert table.row("huge") is None


def test_what_a_job_tried_comes_back_by_number_the_last_time_of_each(store: Store) -> None:
    whole = TrialRecord(
        "j", 1, 0, "complete", START, 0.5, 0.75, {"f1": 0.75, "cost": 0.1}, {"t": 0.5}, {"predict.instructions": "x" * 100_000},
        0.25, 3, 20, "e", "n",
    )  # fmt: skip
    first = TrialRecord("j", 1, None, "failed", START, 0.5)
    store.write_many(
        [first, whole, TrialRecord("j", 0, None, "pruned", START, 0.1), TrialRecord("k", 0, None, "complete", 1.0, 1)]
    )
    found = JobTable(store).trials("j")
    assert [t.number for t in found] == [0, 1]
    assert found[1] == whole
    assert JobTable(store).trials("nobody") == []


def test_what_a_job_told_comes_back_in_its_order(store: Store) -> None:
    told = [Event("job.trial", START, data={"job_id": "j", "seq": n}) for n in (2, 1, 10)]
    store.write_many(
        [*told, Event("job.start", START, data={"job_id": "k", "seq": 0}), Event("lm.call", START, data={"job_id": "j"})]
    )
    assert [e.data for e in JobTable(store).events("j")] == [{"job_id": "j", "seq": n} for n in (1, 2, 10)]


# --- programs -------------------------------------------------------------------------------------------------------


def program(**fields: Any) -> ProgramRow:
    return ProgramRow(**{"name": "support", "fingerprint": "f1", "state": {"predict": {"demos": []}}, "time": START, **fields})


def test_versions_of_a_program_are_numbered_by_name(path: Path) -> None:
    whole = program(parent=1, source="pipeline: x", score=0.75, interval=(0.7, 0.8), reason="better", job_id="j")
    with Store(path) as store:
        table = ProgramTable(store)
        assert [table.add(program()).version, table.add(whole).version] == [1, 2]
        assert table.add(program(name="other")).version == 1
    with Store(path) as store:
        table = ProgramTable(store)
        assert table.get("support", 2) == replace(whole, version=2)
        assert [r.version for r in table.versions("support")] == [2, 1]
        assert table.names() == ["other", "support"]
        assert table.in_use("support") is None
        assert table.last_good("support") is None


def test_one_version_is_adopted_and_the_one_before_is_what_to_go_back_to(store: Store) -> None:
    table = ProgramTable(store)
    for _ in range(3):
        table.add(program())
    assert table.adopt("support", 1, START) is None
    before = table.adopt("support", 3, START + 1, "p = 0.01")
    assert before is not None
    assert before.version == 1
    in_use, good = table.in_use("support"), table.last_good("support")
    assert in_use is not None
    assert good is not None
    assert (in_use.version, in_use.reason, in_use.in_use, in_use.adopted) == (3, "p = 0.01", True, START + 1)
    assert (good.version, good.retired, good.in_use) == (1, START + 1, False)
    table.adopt("support", good.version, START + 2, "the live score fell")
    in_use = table.in_use("support")
    assert in_use is not None
    assert in_use.version == 1


def test_a_version_that_is_not_there_is_named(store: Store) -> None:
    table = ProgramTable(store)
    table.add(program())
    with pytest.raises(StoreError, match=r"no version 7 of program 'support'.*There are 1"):
        table.get("support", 7)
    with pytest.raises(StoreError, match=r"No version of program 'suport'.*Did you mean 'support'"):
        table.adopt("suport", 1, START)


def test_a_secret_in_a_program_is_masked_and_said(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    made = ProgramTable(store).add(program(state={"lm": SECRET}, source=f"key: {SECRET}"))
    assert made.masked
    assert SECRET not in str(made.state)
    assert ProgramTable(store).get("support", 1).masked
    assert SECRET not in store.query("SELECT * FROM programs").to_string(max_colwidth=None)
    assert "holds a secret" in caplog.text


# --- data sets ------------------------------------------------------------------------------------------------------

ROWS = [{"message": f"m{n}", "intent": "card"} for n in range(3)]


def test_a_data_set_is_versioned_split_and_fingerprinted(path: Path) -> None:
    with Store(path) as store:
        table = DatasetTable(store)
        assert table.add("d", {"train": ROWS, "test": ROWS[:1]}, "f1", START, {"pipeline": "support"}) == 1
        assert table.add("d", {"train": ROWS, "test": ROWS[:1]}, "f1", START + 1) == 1, "the same rows are the same version"
        assert table.add("d", {"train": ROWS[:2]}, "f2", START + 2) == 2
        assert table.add("d", {"train": ROWS, "test": ROWS[:1]}, "f1", START + 3) == 3
    with Store(path) as store:
        table = DatasetTable(store)
        first = table.get("d", 1)
        assert list(first) == ["train", "test"]
        assert (first["train"].rows, first["train"].source, first["test"].fingerprint) == (
            tuple(ROWS),
            {"pipeline": "support"},
            "f1",
        )
        assert table.get("d")["train"].version == 3
        listed = table.list()
        assert listed[["version", "split", "rows"]].to_numpy().tolist()[:2] == [[3, "test", 1], [3, "train", 3]]


def test_a_data_set_that_is_not_there_is_named(store: Store) -> None:
    table = DatasetTable(store)
    table.add("tickets", {"all": ROWS}, "f", START)
    with pytest.raises(StoreError, match=r"no version 2 of data set 'tickets'.*There are 1"):
        table.get("tickets", 2)
    with pytest.raises(StoreError, match=r"no data set 'ticket' .*Did you mean 'tickets'"):
        table.get("ticket")


def test_a_secret_in_a_data_set_is_masked_and_said(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    DatasetTable(store).add("d", {"all": [{"message": f"my key is {SECRET}"}]}, "f", START)
    kept = DatasetTable(store).get("d")["all"]
    assert kept.masked
    assert SECRET not in str(kept.rows)
    assert "data set d holds secrets" in caplog.text


# --- feedback -------------------------------------------------------------------------------------------------------


def test_what_people_say_of_a_run_is_kept(path: Path) -> None:
    with Store(path) as store:
        store.write(end("r"))
        table = FeedbackTable(store)
        row = FeedbackRow("1", "r", "bad", START, "triage", {"intent": "loan"}, "no card", "ada")
        table.add(row)
        table.add(FeedbackRow("2", "r", "good", START + 1))
    with Store(path) as store:
        table = FeedbackTable(store)
        assert table.of("r")[0] == row
        assert [f.feedback_id for f in table.of(["r", "s"])] == ["1", "2"]


def test_feedback_is_on_a_run_that_has_ended_and_holds_no_secret(store: Store) -> None:
    table = FeedbackTable(store)
    with pytest.raises(StoreError, match="no run 'nobody'"):
        table.add(FeedbackRow("1", "nobody", "good", START))
    store.write(end("r"))
    table.add(FeedbackRow("1", "r", None, START, correction={"reply": SECRET}, note=SECRET, who=SECRET))
    assert SECRET not in str(table.of("r"))


def test_the_rows_of_jobs_are_those_of_the_room_of_jobs() -> None:
    book = pytest.importorskip("dspex_lab.jobs._book")
    ours, theirs = ({f.name: f.default for f in dataclasses.fields(kind)} for kind in (JobRow, book.JobRow))
    assert ours == theirs


# --- transactions ---------------------------------------------------------------------------------------------------


def test_a_commit_that_fails_says_by_what() -> None:
    con = duckdb.connect()
    con.execute("CREATE TABLE t (k INTEGER PRIMARY KEY)")
    mine, other = con.cursor(), con.cursor()

    def both_write(k: int) -> None:
        with all_or_nothing(mine):
            mine.execute("INSERT INTO t VALUES (?)", [k])
            other.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(duckdb.TransactionException, match=r"Failed to commit.*duplicate key"):
        both_write(1)
    with pytest.raises(duckdb.ConstraintException):
        both_write(2)
    assert other.execute("SELECT k FROM t").fetchall() == [(1,)]
    con.close()
