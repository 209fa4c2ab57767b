"""A job goes on: when its worker dies, after a stop, and in another Lab; what is done again is counted."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from job_works import WHERE, Count, Until, gate, teardown_module

from dspex_lab.errors import JobError, WorkerKilled
from dspex_lab.jobs import Jobs, Reporter, Rules, Work

__all__ = ["teardown_module"]

# ---- a worker that dies --------------------------------------------------------------------------------------------


class Dying(Count):
    """Its worker dies by a named failure of the pool: in a fake pool there is no process to kill."""

    def die(self) -> None:
        raise WorkerKilled("the worker is gone")


def test_a_job_goes_on_from_what_it_kept_when_its_worker_dies(jobs: Jobs) -> None:
    job = jobs.start(Dying(6, dies_at=4, deaths=2), pool="optimizer")
    assert job.result(60) == 6
    assert [t.score for t in job.trials] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert {t.status for t in job.trials} == {"complete"}
    assert job.progress.repeated == 0
    starts = [(e.data or {})["attempt"] for e in job.events() if e.name == "job.start"]
    assert starts == [1, 2, 3]
    deaths = [e.data or {} for e in job.events() if e.name == "job.error"]
    assert [(d["restart"], d["error"]) for d in deaths] == [(1, "the worker is gone"), (2, "the worker is gone")]


def test_it_does_so_only_so_often(jobs: Jobs) -> None:
    job = jobs.start(Dying(6, dies_at=4, deaths=9), pool="optimizer", rules=Rules(restarts=2))
    with pytest.raises(JobError, match="the worker is gone"):
        job.result(60)
    assert job.partial == 4
    assert sum(e.name == "job.start" for e in job.events()) == 3


def test_what_cannot_go_on_does_not_begin_again_by_itself(jobs: Jobs) -> None:
    job = jobs.start(Dying(6, dies_at=4, deaths=1, continues=False), pool="optimizer")
    with pytest.raises(JobError, match="the worker is gone"):
        job.result(60)
    assert job.resume().result(60) == 6
    assert job.progress.repeated == 4
    assert [t.status for t in job.trials] == ["repeated"] * 4 + ["complete"] * 2


def test_what_was_done_since_it_kept_something_is_counted_as_repeated(jobs: Jobs) -> None:
    @dataclass(frozen=True)
    class Forgetful(Work):
        kind: str = "forgetful"
        continues: bool = True

        def run(self, reporter: Reporter) -> Any:
            for at in range(reporter.state or 0, 10):
                reporter.trial(at, number=at)
                reporter.progress(at + 1, 10)
                if at % 4 == 0:
                    reporter.keep(at + 1)
                if at == 7 and reporter.attempt == 1:
                    raise WorkerKilled("gone")
            return "done"

    job = jobs.start(Forgetful(), pool="optimizer")
    assert job.result(60) == "done"
    assert job.progress.repeated == 3  # 5, 6 and 7 were done, and 5 was kept last
    assert [t.number for t in job.trials if t.status == "repeated"] == [5, 6, 7]


# ---- resuming ------------------------------------------------------------------------------------------------------


@WHERE
def test_a_stopped_job_goes_on(jobs: Jobs, until: Until, pool: str | None) -> None:
    name = f"resume-{pool}"
    job = jobs.start(Count(6, wait_before=3, gate=name), pool=pool)
    until(job, "job.progress", note="at the gate")
    job.stop(wait=True)
    gate(name).set()
    assert job.resume().result(60) == 6
    assert (job.state, job.progress.repeated) == ("complete", 0)
    assert [t.score for t in job.trials] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(JobError, match=r"is complete: it cannot be resumed.*job\.result"):
        job.resume()


def test_jobs_of_a_lab_that_is_closed_are_interrupted_and_another_one_goes_on(place: Any, until: Until) -> None:
    first = place.jobs(limit=1)
    job = first.start(Count(6, wait_before=3, gate="closing"), pool="optimizer", name="long one")
    waiting = first.start(Count(2), name="waits")
    until(job, "job.progress", note="at the gate")
    first.close()
    first.close()
    assert (job.state, waiting.state) == ("interrupted", "interrupted")
    with pytest.raises(JobError, match=r"was interrupted.*job\.resume\(\) goes on"):
        job.result()
    with pytest.raises(JobError, match="The Lab is closed"):
        first.start(Count())
    gate("closing").set()
    second = place.jobs()
    assert [(j.name, j.state) for j in second] == [("waits", "interrupted"), ("long one", "interrupted")]
    again = second.get("long one")
    assert [t.score for t in again.trials] == [1, 2, 3]
    assert [e.name for e in again.events()][-1] == "job.stop"
    assert again.resume().result(60) == 6
    assert again.progress.repeated == 0
    assert second["waits"].resume().result(60) == 2
    assert place.jobs()["long one"].result() == 6  # also later: results are kept


def test_jobs_whose_lab_vanished_are_found_interrupted(place: Any, until: Until) -> None:
    first = place.jobs()
    job = first.start(Count(6, wait_before=3, gate="vanish"))
    until(job, "job.progress", note="at the gate")
    job._account.write()
    place.books[0].close()  # as after kill -9: nothing was written at the end
    second = place.jobs()
    found = second.get(job.number)
    assert found.state == "interrupted"
    assert found._account.row.error == "Its process ended before it did."
    gate("vanish").set()
    assert found.resume().result(60) == 6
    job.wait(60)  # the first Lab's own thread, which a kill would have ended, cannot write any more
    assert place.books[0].row(job.id).state == "complete"


def test_what_a_job_does_is_given_again_where_it_is_not_kept(place: Any) -> None:
    first = place.jobs()

    @dataclass(frozen=True)
    class Holding(Count):
        lock: Any = None

    job = first.start(Holding(5, fails_at=2, lock=threading.Lock()))
    job.wait(60)
    assert re.search(r"cannot be pickled .*: lock is a lock: ", job.settings["unkept"]["work"]), "the part is named"
    first.close()
    found = place.jobs().get(job.id)
    assert found.error == "ValueError: cannot count past 2"
    with pytest.raises(JobError, match=r"is not known here: it cannot be pickled.*Give it again"):
        found.resume()
    assert found.resume(work=Count(5)).result(60) == 5


def test_a_job_that_another_lab_has_resumed_is_theirs(place: Any) -> None:
    job = place.jobs().start(Count(5, fails_at=2))
    job.wait(60)
    other = place.jobs().get(job.id)
    assert other.resume(work=Count(5)).result(60) == 5
    with pytest.raises(JobError, match=r"was changed by another Lab"):
        job.resume(work=Count(5))


def test_a_lab_lets_go_of_a_job_that_another_one_has_resumed(
    place: Any, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dspex_lab.jobs._running.EVERY", 0.01)
    job = place.jobs().start(Count(6, wait_before=3, gate="taken"))
    until(job, "job.progress", note="at the gate")
    job._account.write()  # the first Lab writes no more while the other one takes the job
    place.books[0].close()
    other = place.jobs().get(job.id)
    job._account.repeat(0)  # something to write
    job.wait(60)
    assert "was changed by another Lab" in caplog.text
    gate("taken").set()
    assert other.resume().result(60) == 6
