"""What is left of a job that is stopped or fails, and what is refused before it starts."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from job_works import WHERE, Count, Until, Wordless, gate, teardown_module

from dspex_lab.errors import ConfigurationError, JobError, Unserialisable
from dspex_lab.jobs import Jobs, Plan, Work

__all__ = ["teardown_module"]

# ---- stopping ------------------------------------------------------------------------------------------------------


@WHERE
def test_a_job_that_is_stopped_keeps_the_best_so_far(jobs: Jobs, until: Until, pool: str | None) -> None:
    job = jobs.start(Count(9, wait_before=3, gate="never"), pool=pool)
    until(job, "job.progress", note="at the gate")
    assert job.stop(wait=True) is job
    assert (job.state, job.result()) == ("stopped", 3)
    states = [(e.data or {})["state"] for e in job.events() if e.name == "job.stop"]
    assert states == ["stopping", "stopped"]
    with pytest.raises(JobError, match=r"is stopped: it cannot be stopped"):
        job.stop()


@WHERE
def test_one_that_does_not_listen_is_ended_and_keeps_what_it_told(jobs: Jobs, until: Until, pool: str | None) -> None:
    name = f"deaf-{pool}"
    job = jobs.start(Count(9, wait_before=3, gate=name, polite=False), pool=pool)
    until(job, "job.progress", note="at the gate")
    job.stop(patience=0.01)
    job.wait(60)
    assert (job.state, job.result()) == ("stopped", 3)
    assert len(job.trials) == 3
    gate(name).set()  # the thread that was left behind is heard no more
    assert len(job.trials) == 3


@WHERE
def test_one_that_had_found_nothing_says_so(jobs: Jobs, until: Until, pool: str | None) -> None:
    name = f"nothing-{pool}"
    job = jobs.start(Wordless(name), pool=pool)
    until(job, "job.start")
    job.stop(wait=True, patience=0.01)
    with pytest.raises(JobError, match="stopped before it had found anything"):
        job.result()
    gate(name).set()


def test_one_that_ends_before_it_hears_of_the_stop_is_complete(jobs: Jobs, until: Until) -> None:
    job = jobs.start(Count(3, wait_before=2, gate="late", polite=False))
    until(job, "job.progress", note="at the gate")
    job.stop()
    assert job.state == "stopping"
    job.stop()  # once more does no harm
    gate("late").set()
    assert job.result(60) == 3
    assert job.state == "complete"


def test_a_stop_may_meet_a_loop_that_has_closed(jobs: Jobs, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs.start(Count(3, wait_before=2, gate="closed", polite=False))
    until(job, "job.progress", note="at the gate")
    gone = asyncio.new_event_loop()
    gone.close()
    with monkeypatch.context() as patch:
        patch.setattr(jobs._running[job.id], "_loop", gone)
        job.stop()
    gate("closed").set()
    assert job.result(60) == 3


def test_what_breaks_while_it_stops_is_no_failure(jobs: Jobs, until: Until) -> None:
    job = jobs.start(Count(9, wait_before=2, fails_at=2, gate="breaks", polite=False))
    until(job, "job.progress", note="at the gate")
    job.stop()
    gate("breaks").set()
    assert job.result(60) == 2
    assert job.state == "stopped"
    assert "ValueError" in job.progress.note


# ---- failing -------------------------------------------------------------------------------------------------------


@WHERE
def test_one_that_fails_says_why_and_keeps_its_trials(jobs: Jobs, pool: str | None) -> None:
    job = jobs.start(Count(5, fails_at=2), pool=pool)
    with pytest.raises(JobError, match=r"Job 1 \(count 'count'\) failed: ValueError: cannot count past 2") as failed:
        job.result(60)
    assert isinstance(failed.value.__cause__, ValueError)
    assert isinstance(job.error, ValueError)
    assert (job.state, len(job.trials), job.partial) == ("failed", 2, 2)
    assert [e.name for e in job.events()][-1] == "job.error"
    assert "cannot count past 2" in repr(job)


def test_what_cannot_travel_is_named_before_anything_is_spent(jobs: Jobs) -> None:
    @dataclass(frozen=True)
    class Holding(Work):
        program: Any = None
        kind: str = "holding"

    with pytest.raises(Unserialisable) as refused:
        jobs.start(Holding({"retriever": {"lock": threading.Lock()}}), pool="optimizer")
    assert refused.value.path == "program['retriever']['lock']"
    assert len(jobs) == 0


def test_a_plan_that_cannot_be_is_refused_before_a_job_is_made(jobs: Jobs) -> None:
    class Impossible(Count):
        def check(self, budget: Any) -> Plan:
            raise ConfigurationError("no values meet the constraints")

    with pytest.raises(ConfigurationError, match="no values meet"):
        jobs.start(Impossible())
    assert list(jobs) == []


def test_without_pools_none_can_be_named(place: Any) -> None:
    with pytest.raises(JobError, match="There is no pool 'optimizer'"):
        place.jobs(pool=None).start(Count(), pool="optimizer")
