"""Jobs on real worker processes: killed in the middle, stopped, resumed; and a kernel that is killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_works import Count, Killing
from killed_kernels import kill_when

from dspex_lab.events import Event
from dspex_lab.jobs import Jobs, Shelf, evaluate
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec
from dspex_lab.store import JobTable, Store

ROWS = [{"text": f"t{at}", "label": "odd" if at % 2 else "even"} for at in range(24)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    made = Pool(PoolSpec("optimizer", 2, MINIMUM_MEMORY, writable=(str(tmp_path_factory.getbasetemp()),)))
    yield made
    made.close()


def begun(job: Any) -> dict[str, Any]:
    """Return what the worker said of itself when the work began there."""
    assert job._account.began is not None
    return {"pid": job._account.began.pid, "sees": job._account.began.sees}


def test_a_worker_that_is_killed_in_the_middle_costs_nothing_that_was_kept(pool: Pool, place: Any, tmp_path: Path) -> None:
    jobs = place.jobs(pool=lambda name: pool)
    job = jobs.start(Count(6, dies_at=4, deaths=1), pool="optimizer")  # kill -9 by itself, at number 4
    assert job.result(120) == 6
    assert [(t.number, t.score) for t in job.trials] == [(at, at + 1) for at in range(6)]
    # What it told last dies with a worker: nothing of that is taken for done, and what was heard of is counted.
    assert sum(t.status == "repeated" for t in job.trials) <= 4
    assert job.progress.repeated <= 4
    assert [(e.data or {})["attempt"] for e in job.events() if e.name == "job.start"] == [1, 2]
    (death,) = [e.data or {} for e in job.events() if e.name == "job.error"]
    assert "was killed" in death["error"]


def test_a_job_on_a_worker_hears_that_it_should_stop_and_goes_on_elsewhere(
    pool: Pool, place: Any, until: Callable[..., Event], tmp_path: Path
) -> None:
    jobs = place.jobs(pool=lambda name: pool)
    job = jobs.start(Count(6, wait_before=3, gate="never opened there"), pool="optimizer")
    until(job, "job.progress", note="at the gate")
    assert begun(job)["sees"], "a confined worker sees the file that asks it to stop"
    assert begun(job)["pid"] != os.getpid()
    job.stop(wait=True)
    assert (job.state, job.result()) == ("stopped", 3)
    assert job.resume(work=Count(6)).result(120) == 6


def test_a_row_that_kills_its_worker_fails_alone(pool: Pool, place: Any) -> None:
    def parity(text: str) -> Any:
        return _Answer("odd" if int(text[1:]) % 2 else "even")

    class _Answer:  # a notebook's own class
        def __init__(self, label: str) -> None:
            self.label = label

    jobs = place.jobs(pool=lambda name: pool)
    job = jobs.start(evaluate(parity, ROWS, Killing("t6"), concurrency=4), pool="optimizer")
    found = job.result(120)
    assert (found.failed, found.score, len(found.rows)) == (1, 1.0, 24)
    assert (found.failures[0].index, found.failures[0].where) == (6, "worker")
    assert job.progress.repeated >= 1  # what it told last died with it: how often it was begun is not known


KERNEL = """
import sys
from job_works import Count
from dspex_lab.events import Bus
from dspex_lab.jobs import Jobs, Shelf
from dspex_lab.store import JobTable, Store

store = Store("lab.duckdb")
bus = Bus()
bus.subscribe(store.write, live=False)
book = JobTable(store)
jobs = Jobs(book, shelf=Shelf(book), emit=bus.emit)
job = jobs.start(Count(6, wait_before=4, gate="kernel"), name="long", seed=5)
for event in job.events():
    if (event.data or {}).get("note") == "at the gate":
        break
job._account.write()
store.flush()
print("at the gate", flush=True)
sys.stdin.read()
"""


def test_a_job_of_a_kernel_that_was_killed_is_there_again_and_goes_on(tmp_path: Path) -> None:
    kill_when("at the gate", ["-c", KERNEL], tmp_path, Path(__file__).parent)
    with Store(tmp_path / "lab.duckdb") as store:
        book = JobTable(store)
        jobs = Jobs(book, shelf=Shelf(book), emit=store.write)
        (job,) = jobs
        assert (job.state, job.name, job.number, job.progress.done) == ("interrupted", "long", 1, 4)
        assert job.settings["seed"] == 5
        assert [t.score for t in job.trials] == [1, 2, 3, 4]
        assert [e.name for e in job.events()].count("job.trial") == 4
        from job_works import gate

        gate("kernel").set()
        assert job.resume().result(60) == 6
        assert job.progress.repeated == 0
        store.flush()
        frame = store.query("SELECT state, done, attempts, repeated FROM jobs")
        assert frame.values.tolist() == [["complete", 6.0, 2, 0]]
        assert store.query("SELECT count(*) AS n FROM trials")["n"][0] == 6
        jobs.close()
