"""Two sides over one space that are stopped, fail, run out of budget or lose their worker: what was committed stays."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from job_works import POOLS, gate
from together_works import ROWS, Side, Writes, answer, space_of, work_of, worth

from dspex_lab.errors import JobError, WorkerKilled
from dspex_lab.jobs import Jobs, Models, Reporter, ScoredRow, Work
from dspex_lab.jobs._remote import Piece
from dspex_lab.jobs.tune import Together, tune
from dspex_lab.jobs.tune._attribution import measure
from dspex_lab.testing import FakePool, scripted_lm


def test_a_round_whose_worker_dies_goes_on_from_what_it_kept(place: Any, tmp_path: Path) -> None:
    pool = FakePool("optimizer", workers=1)
    jobs = place.jobs(pool=lambda name: pool)
    space = space_of()
    inner = tune(answer, ["k"], worth, ROWS, 1, space=space, parallel=1, inputs=["q"], folder=tmp_path)
    POOLS["together"] = pool
    job = jobs.start(Together(inner, Once(("good words",)), 1), pool="optimizer", seed=1)
    while not (job._account.state_kept or {}).get("inner"):
        assert not job._account.rests.wait(0.01), job
    gate("together dies").set()
    found = job.result(120)
    assert [(r.status, r.note) for r in found.rounds] == [("committed", None)]
    assert job.progress.repeated >= 1


@dataclass(frozen=True)
class Once(Side):
    """A side whose worker dies once."""

    def work(self, program: Any, number: int) -> Work:
        return Dies(program, self.words[number])


@dataclass(frozen=True)
class Dies(Writes):
    continues: bool = True

    def run(self, reporter: Reporter) -> Any:
        if reporter.state is None:
            reporter.keep({"begun": True})
            assert gate("together dies").wait(60), "what it told last would die with its worker"
            POOLS["together"].die("optimizer-0")
            return None
        return self.words


def test_it_is_stopped_and_goes_on_with_the_round_that_was_under_way(jobs: Jobs, tmp_path: Path, until: Any) -> None:
    space, name = space_of(), "together stop"
    job = jobs.start(work_of(space, Side(("bad", "good words"), gate=name), tmp_path, rounds=2), seed=1)
    until(job, "job.progress", done=8)
    job.stop()
    gate(name).set()
    found = job.wait(60).result()
    assert job.state == "stopped"
    assert found.attribution is None
    assert "what gained what was not measured" in " ".join(found.notes)
    rounds = len(found.rounds)
    assert rounds < 2
    job.resume()
    found = job.result(120)
    assert [r.status for r in found.rounds] == ["nothing", "committed"]
    assert found.values == {"words": "good words", "k": 5}
    assert found.attribution.means["neither"] == pytest.approx(0.0)  # from where it began, not from where it went on


def test_what_was_told_until_it_was_killed_is_left(jobs: Jobs, tmp_path: Path, until: Any) -> None:
    space, name = space_of(), "together kill"
    job = jobs.start(work_of(space, Side(("good words",), gate=name), tmp_path), seed=1)
    until(job, "job.progress", done=8)
    job.stop(patience=0.01).wait(60)
    found = job.result()
    assert found.values["k"] == 5
    assert found.rounds == ()
    gate(name).set()
    assert replace(found, attribution=None).score is None


def test_a_tune_job_that_fails_ends_the_other_side_after_its_round(jobs: Jobs, tmp_path: Path) -> None:
    def broken(example: Any, prediction: Any) -> float:
        raise ValueError("no gold")

    inner = tune(answer, ["k"], broken, ROWS, 2, space=space_of(), parallel=1, inputs=["q"], folder=tmp_path)
    job = jobs.start(Together(inner, Side(("x",) * 50), 50), seed=1)
    with pytest.raises(JobError, match="no gold"):
        job.result(120)
    assert job.state == "failed"


def test_a_budget_that_ends_in_the_middle_leaves_what_was_committed(jobs: Jobs, tmp_path: Path) -> None:
    predict = dspy.Predict("q -> label")

    def asks(q: int, words: str, k: int) -> dict[str, float]:
        predict(q=str(q))
        return answer(q, words, k)

    for calls in (3, 60, 70):
        space = space_of()
        inner = tune(asks, ["k"], worth, ROWS, 8, space=space, sampler="grid", parallel=1, inputs=["q"], folder=tmp_path)
        work = Together(inner, Side(("good words",)), 1)
        lm = scripted_lm({"label": "x"})
        job = jobs.start(work, surroundings=Models(lm, fresh=True), budget=f"{calls} calls", seed=1)
        job.wait(120)
        assert job.state == "stopped"
        assert job.progress.spent.calls == calls
        found = job.result() if job.partial is not None else None
        if found is not None:
            assert found.values == {name: space.get(name) for name in found.values}
            assert found.attribution is None
            assert "not measured" in " ".join(found.notes)


def test_a_worker_that_dies_while_what_was_found_is_measured_costs_its_rows_alone() -> None:
    from dspex_lab.jobs._pieces import Item

    class Dying:
        """Its first piece dies after one row."""

        def __init__(self, deaths: int) -> None:
            self.deaths, self.repeated = deaths, 0

        def submit(self, function: Any, *args: Any, told: Any = None, label: str | None = None) -> Future[Any]:
            made: Future[Any] = Future()
            if self.deaths:
                self.deaths -= 1
                told(ScoredRow(0, "complete", score=1.0))
                made.set_exception(WorkerKilled("gone"))
            else:
                made.set_result(function(Piece(told, lambda: False), *args))
            return made

        def again(self, count: int) -> None:
            self.repeated += count

    items = [Item(at, {"q": at}, {"q": at}) for at in range(3)]
    reporter: Any = Dying(1)
    rows = measure(reporter, lambda q: q, lambda example, found: float(found), items, threads=1, label="x")
    assert {at: row.score for at, row in rows.items()} == {0: 1.0, 1: 1.0, 2: 2.0}
    assert reporter.repeated == 1
    with pytest.raises(WorkerKilled):
        measure(Dying(2), lambda q: q, lambda example, found: 1.0, items, threads=1, label="x")  # type: ignore[arg-type]
