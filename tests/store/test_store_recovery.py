"""Runs whose process ended under them are found at the next start; a SIGKILL loses nothing that was committed."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store_records import START, begin, call, end, span

from dspex_lab.events import Event
from dspex_lab.store import Recovery, Store, recorded_runs


def test_a_clean_end_leaves_nothing_to_recover(path: Path) -> None:
    with Store(path) as store:
        store.write_many([begin("r"), end("r")])
    with Store(path) as again:
        assert again.recovery is None


def test_unfinished_runs_become_interrupted_ones(path: Path) -> None:
    with Store(path, lab_id="before") as store:
        store.write_many(
            [begin("done"), end("done"), begin("a"), begin("m", "map", "rows", START + 1), begin("p", name="plain")]
        )
        store.write_many([span("s", "a", started=START + 2, seconds=1.5), Event("step.start", START + 2.5, "a")])
        store.write(call("c", "p", started=START, seconds=0.25))
        store.write_many([end("row", parent_id="m", kind="row", started=START + 3, seconds=2.0), Event("lm.call", START + 9)])
    with Store(path) as again:
        recovery = again.recovery
        assert recovery == Recovery(("a", "m", "p"), ("support", "rows", "plain"))
        assert str(recovery) == (
            "3 runs were interrupted when the process ended: support (a), rows (m), plain (p). "
            "They are kept with status 'interrupted'."
        )
        found = again.query("SELECT * FROM runs WHERE status = 'interrupted' ORDER BY run_id").set_index("run_id")
        assert found["kind"].to_dict() == {"a": "run", "m": "map", "p": "run"}
        assert found["seconds"].to_dict() == {"a": 3.5, "m": 4.0, "p": 0.25}
        assert found["started"]["a"] == dt.datetime.fromtimestamp(START, dt.UTC).replace(tzinfo=None)
        assert set(found["lab_id"]) == {"before"}
        assert found["error"]["a"] == f"The process that ran it (pid {os.getpid()}) ended before the run did."
    with Store(path) as third:
        assert third.recovery is None
        assert len(third.query("SELECT * FROM runs")) == 5


def test_an_interrupted_run_keeps_its_tags_and_is_found_by_them(path: Path) -> None:
    with Store(path) as store:
        store.write(Event("run.start", START, "a", data={"kind": "run", "name": "p", "tags": ["web", "request:1"]}))
        store.write(Event("run.start", START, "b", data={"kind": "run", "name": "p", "tags": "no list"}))
    with Store(path) as again:
        (found,) = recorded_runs(again, tags=["web", "request:1"], unended=True)
        assert (found.run_id, found.status, found.inputs, found.outputs) == ("a", "interrupted", {}, {})
        assert recorded_runs(again, tags=["web"]) == []
        assert [run.run_id for run in recorded_runs(again, unended=True)] == ["a", "b"]


def test_a_beginning_without_data_still_counts(path: Path) -> None:
    with Store(path) as store:
        store.write(Event("run.start", START, "bare"))
    with Store(path) as again:
        assert again.recovery is not None
        assert again.recovery.names == ("unnamed",)
        assert again.query("SELECT kind, seconds FROM runs").iloc[0].tolist() == ["run", 0.0]


def test_runs_of_a_store_that_lives_in_this_process_are_left_alone(path: Path) -> None:
    with Store(path) as one:
        one.write(begin("r"))
        one.flush()
        with Store(path) as two:
            assert two.recovery is None
            assert len(two.query("SELECT * FROM runs")) == 0
        one.write(end("r"))
    with Store(path) as again:
        assert again.recovery is None


@pytest.mark.parametrize(
    ("recovery", "text"),
    [
        (
            Recovery(("a",), ("n",)),
            "1 run was interrupted when the process ended: n (a). It is kept with status 'interrupted'.",
        ),
        (
            Recovery(tuple("abcde"), tuple("vwxyz")),
            "5 runs were interrupted when the process ended: v (a), w (b), x (c) and 2 more.",
        ),
        (Recovery(damaged_wal="/x/w"), "The write-ahead log could not be read: what it held, at most"),
    ],
)
def test_what_was_found_is_said_in_a_sentence(recovery: Recovery, text: str) -> None:
    assert str(recovery).startswith(text)


CHILD = """
import os, sys
from dspex_lab.events import Event, RunRecord, new_id
from dspex_lab.store import Store

store = Store(sys.argv[1])

def report(records):
    ids = [r.run_id for r in records if isinstance(r, RunRecord)]
    if ids:
        os.write(1, ("\\n".join(ids) + "\\n").encode())

store.on_commit(report)
while True:
    run_id = new_id()
    store.write(Event("run.start", 1.0, run_id, data={"kind": "run", "name": "endless"}))
    store.write(RunRecord(run_id, None, "run", "endless", "complete", 1.0, 0.1, {"text": "x" * 50}))
"""


def test_a_kill_at_any_moment_loses_no_run_that_was_reported_as_committed(path: Path) -> None:
    moments = random.Random(7)
    reported: list[str] = []
    interrupted = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(moments.randrange(1, 12_000)):
                reported.append(child.stdout.readline().decode().strip())
            child.send_signal(signal.SIGKILL)
            # Lines that were complete in the pipe were reported; a torn last one was not.
            rest = child.stdout.read().decode()
            reported += rest[: rest.rfind("\n") + 1].split()
        with Store(path) as store:
            kept = set(store.query("SELECT run_id FROM runs")["run_id"])
            assert set(reported) <= kept
            assert len(reported) > 0
            counts = store.query("SELECT count(*) AS n, count(DISTINCT run_id) AS d FROM runs").iloc[0]
            assert counts["n"] == counts["d"]
            begun = store.query("SELECT count(DISTINCT run_id) FROM events WHERE name = 'run.start'").iloc[0, 0]
            assert begun == counts["n"]  # each that began has its one outcome
            if store.recovery is not None:
                interrupted += len(store.recovery.run_ids)
                assert "interrupted" in str(store.recovery)
            assert store.query("SELECT count(*) FROM runs WHERE status = 'interrupted'").iloc[0, 0] == interrupted
