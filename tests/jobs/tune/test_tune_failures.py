"""Rows, objectives, programs and pools that fail in a tune job: alone, with their trial, or with the whole job."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tune_programs import MANY, ROWS, go, space_of, work_of, worth

from dspex_lab.errors import JobError, PoolBusy
from dspex_lab.jobs import Jobs
from dspex_lab.jobs.tune import tune
from dspex_lab.testing import FakePool


def test_rows_on_which_the_metric_raises_or_is_nan_fail_alone_and_are_said(jobs: Jobs, tmp_path: Path) -> None:
    def picky(example: Any, prediction: Any) -> float:
        if example.q == 3:
            raise KeyError("gold")
        return math.nan if example.q == 5 else worth(example, prediction)

    found = go(jobs, work_of(space_of(), ["x"], 4, metric=picky, folder=tmp_path))
    assert {t.failed for t in found.tried} == {2}
    assert {t.status for t in found.tried} == {"complete"}
    assert "2 of 8 rows failed, for instance: KeyError: 'gold'" in found.note
    assert set(found.best.row_scores) == {0, 1, 2, 4, 6, 7}  # type: ignore[union-attr]
    strict = go(jobs, work_of(space_of(), ["x"], 2, metric=picky, failure=0.0, folder=tmp_path))
    assert strict.tried[0].scores["score"] == pytest.approx(found.tried[0].scores["score"] * 6 / 8)


def test_a_trial_fails_only_where_all_of_its_rows_do(jobs: Jobs, tmp_path: Path) -> None:
    def delicate(q: int, k: int) -> dict[str, float]:
        if k > 4:
            raise RuntimeError("too much")
        return {"worth": float(k)}

    job = jobs.start(work_of(space_of(), ["k"], 8, program=delicate, inputs=["q"], sampler="grid", folder=tmp_path))
    found = job.result(60)
    assert found.values == {"k": 4}
    failed = [t for t in found.tried if t.status == "failed"]
    assert len(failed) == 4
    assert failed[0].error == "All 8 rows failed: RuntimeError: too much"
    assert "4 of 8 trials failed." in found.note
    assert sum(t.status == "failed" and t.error is not None for t in job.trials) == 4


def test_a_job_whose_trials_all_fail_says_why_and_keeps_them(jobs: Jobs, tmp_path: Path) -> None:
    def broken(example: Any, prediction: Any) -> float:
        raise ValueError("no gold")

    space = space_of()
    before = space.version
    job = jobs.start(work_of(space, ["x"], 3, metric=broken, folder=tmp_path), seed=1)
    with pytest.raises(JobError, match=r"Not one of 3 trials is complete.*All 8 rows failed: ValueError: no gold"):
        job.result(60)
    assert (job.state, len(job.trials), space.version) == ("failed", 3, before)
    assert [t.status for t in job.partial.tried] == ["failed"] * 3
    assert job.partial.best is None
    assert job.partial.score is None


def test_an_objective_or_a_program_that_cannot_be_had_fails_its_trial(jobs: Jobs, tmp_path: Path) -> None:
    def sometimes(rows: Any) -> float:
        return 1 / (rows[0].score - 4)

    aims = {"score": "maximize", "odd": ("minimize", sometimes)}
    found = go(
        jobs,
        work_of(
            space_of(), ["k"], 8, program=lambda q, k: {"worth": float(k)}, objectives=aims, sampler="grid", folder=tmp_path
        ),
    )
    (failed,) = [t for t in found.tried if t.status == "failed"]
    assert failed.error == "ZeroDivisionError: float division by zero"

    def make(values: Any) -> Any:
        if values["k"] == 3:
            raise OSError("no such model")
        return lambda q: {"worth": float(values["k"])}

    other = tune(
        None, ["k"], worth, ROWS, 8, space=space_of(), build=make, inputs=["q"], sampler="grid", parallel=1, folder=tmp_path
    )
    (failed,) = [t for t in go(jobs, other).tried if t.status == "failed"]
    assert (failed.values, failed.error) == ({"k": 3}, "OSError: no such model")


def test_an_error_of_the_pool_itself_fails_the_job_and_keeps_its_trials(place: Any, tmp_path: Path) -> None:
    pool = FakePool("optimizer", failures=[PoolBusy("no worker was free")])
    job = place.jobs(pool=lambda name: pool).start(work_of(space_of(), ["x"], 3, folder=tmp_path), pool="optimizer")
    with pytest.raises(JobError, match="no worker was free"):
        job.result(60)
    assert [t.status for t in job.partial.tried] == ["unfinished"]


def test_an_objective_that_breaks_on_some_rows_fails_the_trial_before_the_rest_is_spent(jobs: Jobs, tmp_path: Path) -> None:
    aims = {"odd": ("maximize", lambda rows: 1.0 / (len(rows) - 8))}
    job = jobs.start(work_of(space_of(), ["x"], 1, rows=MANY, objectives=aims, pruner="median", folder=tmp_path))
    with pytest.raises(JobError, match="ZeroDivisionError"):
        job.result(60)
    assert job.partial.tried[0].rows == 8
