"""What a tune job commits, under its lease and beside others who write, pin and forbid meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tune_programs import ROWS, go, space_of, work_of, worth

from dspex_lab.errors import JobError, LeaseError
from dspex_lab.jobs import Jobs
from dspex_lab.jobs.tune import Tuned
from dspex_lab.variables import Author


def test_it_holds_the_lease_while_it_runs_and_waits_for_who_has_it(jobs: Jobs, tmp_path: Path, until: Any) -> None:
    space, inside, out = space_of(), threading.Event(), threading.Event()

    def slow(example: Any, prediction: Any) -> float:
        inside.set()
        assert out.wait(60)
        return worth(example, prediction)

    first = jobs.start(work_of(space, ["x", "k"], 2, metric=slow, folder=tmp_path), seed=1)
    assert inside.wait(60)
    with pytest.raises(LeaseError, match="is leased to 'tune"):
        space.commit({"x": 0.4})
    until(first, "job.progress", note="trial 0: x = 0.1, k = 2")
    second = jobs.start(work_of(space, ["k"], 2, folder=tmp_path), seed=1)
    while not any(each.state == "waiting" for each in space.leases()):
        assert second.state in ("waiting", "running")
    out.set()
    assert isinstance(first.result(60), Tuned)
    found = second.result(60)
    assert found.tried[0].values["k"] == first.result().values["k"]  # it began with what the first had committed
    owners = [r.author for r in space.history("k")]
    assert owners.index(f"tune {second.id}") < owners.index(f"tune {first.id}") if f"tune {second.id}" in owners else True


def test_one_that_waits_for_a_lease_can_be_stopped(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    with space.lease("k", owner="somebody"):
        job = jobs.start(work_of(space, ["k"], 2, folder=tmp_path))
        while not any(each.state == "waiting" for each in space.leases()):
            assert job.state in ("waiting", "running")
        job.stop(wait=True)
        assert job.state == "stopped"
    with space.lease("k", owner="next", patience=60):  # the request that was left behind gives way
        pass
    resumed = job.resume().result(60)
    assert len(resumed.tried) == 2


def test_a_lease_that_was_broken_commits_nothing_and_says_so(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()

    def breaking(example: Any, prediction: Any) -> float:
        if example.q == 7 and any(each.state == "held" for each in space.leases()):
            space.break_lease("k", "I want it")
        return worth(example, prediction)

    found = go(jobs, work_of(space, ["k"], 3, metric=breaking, folder=tmp_path))
    assert found.score is not None
    assert found.committed is None
    assert "was not committed: The lease" in found.note
    assert space.get("k") == 2


def test_when_another_job_writes_the_best_is_measured_anew_with_what_it_wrote(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.float("bonus", 0, 1, default=0.0)
    tries: list[int] = []

    def watched(q: int, k: int, bonus: float) -> dict[str, float]:
        return {"worth": bonus - abs(k - 5)}

    def metric(example: Any, prediction: Any) -> float:
        tries.append(example.q)
        if len(tries) == 3 * len(ROWS):
            space.commit({"bonus": 0.5}, author=Author("optimizer", "gepa", score=1.0))
        return worth(example, prediction)

    job = jobs.start(
        work_of(space, ["k"], 5, program=watched, metric=metric, inputs=["q"], concurrency=1, folder=tmp_path), seed=1
    )
    found = job.result(60)
    again = [t for t in found.tried if t.origin == "rescored"]
    assert len(again) == 1
    assert sum(t.origin != "rescored" for t in found.tried) == 5
    old = max((t for t in found.tried if t.version < again[0].version), key=lambda t: t.scores["score"])
    assert again[0].values == old.values
    assert again[0].scores["score"] == pytest.approx(old.scores["score"] + 0.5)
    assert found.best is not None
    assert found.best.others == {"bonus": space["bonus"].version}
    assert found.score == max(t.scores["score"] for t in found.tried if t.others == found.best.others)


def test_each_improvement_can_be_committed(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    found = go(jobs, work_of(space, ["x", "k"], 10, commit="improvement", folder=tmp_path))
    scores = [r.score for r in reversed(space.history("x")) if r.who == "job" and r.score is not None]
    assert scores == sorted(scores)
    assert len(space.history()) > 2
    assert scores[-1] <= (found.score or 0)
    assert {name: space.get(name) for name in found.values} == found.values


def test_a_variable_that_was_pinned_meanwhile_is_left_alone(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    work, other = work_of(space, ["k", "x"], 3, folder=tmp_path), work_of(space, ["k"], 3, folder=tmp_path)
    space.pin("k")
    found = go(jobs, work)
    assert [set(t.values) for t in found.tried] == [{"x"}] * 3
    assert "k is pinned and keeps its value." in found.note
    with pytest.raises(JobError, match="There is no variable to tune"):
        go(jobs, other)


def test_what_another_job_forbids_meanwhile_ends_it_with_its_trials(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.float("limit", 0, 1, default=1.0)
    space.constrain("x <= limit")
    space.float("low", 0, 1, default=0.0)
    space.constrain("x >= low", name="enough")
    done: list[int] = []

    def metric(example: Any, prediction: Any) -> float:
        done.append(1)
        if len(done) == len(ROWS):
            space.drop("enough")
            space.constrain("x > 2", name="never")
        return worth(example, prediction)

    job = jobs.start(work_of(space, ["x"], 3, metric=metric, concurrency=1, folder=tmp_path))
    with pytest.raises(JobError, match="'never'"):
        job.result(60)
    assert len(job.partial.tried) == 1


def test_a_best_that_was_measured_before_another_job_wrote_says_so_where_nobody_could_measure_it_anew(
    jobs: Jobs, tmp_path: Path
) -> None:
    space = space_of()
    space.float("bonus", 0, 1, default=0.0)
    box: list[Any] = []

    def watched(q: int, k: int, bonus: float) -> dict[str, float]:
        return {"worth": bonus - abs(k - 5)}

    def metric(example: Any, prediction: Any) -> float:
        box.append(1)
        if len(box) == 2 * len(ROWS):
            space.commit({"bonus": 0.5})
            job.stop()
        return worth(example, prediction)

    work = work_of(space, ["k"], 5, program=watched, metric=metric, inputs=["q"], concurrency=1, folder=tmp_path)
    job = jobs.start(work, seed=1)
    found = job.wait(60).result()
    assert job.state == "stopped"
    assert "Another job has committed since the best was measured" in found.note
