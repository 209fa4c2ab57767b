"""Jobs of a Lab after a restart: listed, with their results, and resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from adopting_helpers import own_state
from job_helpers import GATES, ROWS, Finds, exact, model, support

from dspex_lab import Lab

__all__ = ["own_state"]

_KILLED = """
import sys
from job_helpers import *
from dspex_lab import Lab
lab = Lab(sys.argv[1])
lab.use(model())
lab.pipelines["support"] = support()
job = lab.evaluate("support", data=ROWS, metric=blocks, name="slow", concurrency=1)
next(event for event in job.events() if event.data.get("done") == 5)
job._account.write()
print("there", flush=True)
job.wait()
"""


def test_a_job_of_a_kernel_that_was_killed_is_listed_and_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "lab.duckdb"
    command = [sys.executable, "-c", _KILLED, str(store)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    child.stdout.close()
    with Lab(store) as lab:
        lab.use(model())
        lab.pipelines["support"] = support()
        job = lab.jobs["slow"]
        assert job.state == "interrupted"
        assert job.progress.done == 5
        GATES["never"].set()
        job.resume().wait(60)
        assert job.state == "complete"
        found = job.result()
        assert [row.score for row in found.rows] == [1.0] * len(ROWS)
        assert job.progress.repeated == 0
        assert job.progress.spent.calls <= len(ROWS) + 1, "what was done is not done again"


def test_jobs_are_there_after_a_restart_with_their_results(tmp_path: Path) -> None:
    store = tmp_path / "lab.duckdb"
    with Lab(store) as lab:
        lab.use(model())
        lab.pipelines["support"] = support()
        assert lab.evaluate("support", data=ROWS, metric=exact, name="first").result(60).score == 0.0
        GATES["closed"] = threading.Event()
        _, target = lab._program("support", None)
        lab._start(Finds(gate="closed"), target, "second", settings={})
    with Lab(store) as lab:
        assert [(job.number, job.name, job.state) for job in lab.jobs] == [
            (2, "second", "interrupted"),
            (1, "first", "complete"),
        ]
        assert lab.jobs[1].result().score == 0.0
        assert lab.jobs_folder == tmp_path / "lab.jobs"
        assert not lab.jobs_folder.exists(), "no job has left a file"
        GATES["closed"].set()
        assert lab.jobs.resume(2).wait(60).state == "complete"


def test_a_search_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = tmp_path / "lab.duckdb"

    def searched(lab: Lab) -> Any:
        lab.use(model())
        lab.pipelines["support"] = support()
        lab.expose("support")
        return lab

    with Lab(store) as lab:
        searched(lab)
        names = ["support.triage.temperature"]
        job = lab.tune("support", variables=names, metric=exact, data=ROWS[:2], trials=3, pool=None, budget="3 calls")
        assert job.wait(60).state == "stopped"
    with Lab(store) as lab:
        searched(lab)
        job = lab.jobs.get(1)
        assert job.resume(budget="100 calls").wait(60).state == "complete"
        assert len(job.result().tried) >= 3
