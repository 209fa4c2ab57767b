"""A program on many rows whose workers die, or cannot send what was found."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import dspy
import pytest
from evaluate_helpers import ROWS, parity, right
from hypothesis import given, settings
from hypothesis import strategies as st
from job_works import POOLS, Killing

from dspex_lab.errors import JobError, PoolBusy, WorkerKilled
from dspex_lab.jobs import Jobs, ScoredRow, evaluate
from dspex_lab.jobs._pieces import Begun
from dspex_lab.testing import FakePool


def test_a_row_that_ends_its_workers_fails_and_the_others_do_not(place: Any) -> None:
    POOLS["fake"] = FakePool("optimizer", workers=1)
    job = place.jobs(pool=POOLS.get).start(evaluate(parity, ROWS, Killing("t6", "fake"), concurrency=4), pool="fake")
    found = job.result(60)
    assert (found.failed, found.score) == (1, 1.0)
    assert (found.failures[0].index, found.failures[0].where) == (6, "worker")
    assert "WorkerKilled" in (found.failures[0].error or "")
    assert job.progress.repeated >= 1


def test_an_error_of_the_pool_itself_fails_the_job(place: Any) -> None:
    pool = FakePool("optimizer", failures=[PoolBusy("no worker was free")])
    with pytest.raises(JobError, match="no worker was free"):
        place.jobs(pool=lambda name: pool).start(evaluate(parity, ROWS, right), pool="optimizer").result(60)


def test_answers_that_cannot_come_home_are_told_as_they_look(jobs: Jobs) -> None:
    def program(text: str) -> Any:
        return dspy.Prediction(label=parity(text).label, lock=threading.Lock())

    found = jobs.start(evaluate(program, ROWS[:3], right), pool="optimizer").result(60)
    assert found.score == 1.0
    assert "<unlocked _thread.lock" in found.rows[0].prediction


class _Sorting:
    """A pool of one worker that dies of some rows; of a piece that kills it, so many rows are told before the death."""

    def __init__(self, killers: set[int], told: int) -> None:
        self.job_id, self.seed, self.attempt, self.state, self.workers, self.stopping = "j", None, 1, None, 1, False
        self.killers, self.tells, self.pieces, self.repeated = killers, told, [], 0  # type: ignore[var-annotated]

    def submit(self, function: Any, program: Any, metric: Any, items: Any, threads: int, *, told: Any, label: str) -> Any:
        self.pieces.append([item.at for item in items])
        future: Future[None] = Future()
        for n, item in enumerate(items):
            heard = n < self.tells or not self.killers & {i.at for i in items}
            if heard:
                told(Begun(item.at))
            if item.at in self.killers:
                future.set_exception(WorkerKilled("gone"))
                return future
            if heard:
                told(ScoredRow(item.at, "complete", score=1.0))
        future.set_result(None)
        return future

    def again(self, count: int) -> None:
        self.repeated += count

    def keep(self, state: Any) -> None: ...

    def progress(self, *_: Any, **__: Any) -> None: ...

    def trial(self, *_: Any, **__: Any) -> int:
        return 0


@settings(max_examples=80, deadline=None)
@given(st.sets(st.integers(0, 39), max_size=4), st.integers(0, 12), st.integers(1, 8))
def test_whatever_workers_told_before_they_died_the_rows_that_kill_are_found(
    killers: set[int], told: int, at_once: int
) -> None:
    rows = [{"text": f"t{at}", "label": "odd"} for at in range(40)]
    reporter = _Sorting(killers, told)
    found = evaluate(parity, rows, right, concurrency=at_once).run(reporter)  # type: ignore[arg-type]
    assert {row.index for row in found.failures} == killers
    assert len(found.rows) == 40
    assert sum(map(len, reporter.pieces)) - 40 <= 40 * (len(killers) + 1)
    assert (reporter.repeated > 0) == bool(killers)
