"""What is left when a tune job is stopped, its worker dies or its kernel is killed, and how it goes on."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_works import POOLS, Killing, gate
from killed_kernels import kill_when
from tune_programs import ROWS, KillsOnce, program, space_of, worth

from dspex_lab.errors import JobError, LeaseError
from dspex_lab.events import Event
from dspex_lab.jobs import Jobs, Shelf
from dspex_lab.jobs.tune import Tuned, know_space, known_space, read_study, tune
from dspex_lab.jobs.tune._waiting import leased
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec
from dspex_lab.store import JobTable, Store
from dspex_lab.testing import FakePool
from dspex_lab.variables import Space


class Waits:
    """A metric that waits at a gate on one row, from a number of rows on."""

    def __init__(self, name: str, after: int) -> None:
        self.gate, self.left, self.inside = gate(name), after, threading.Event()

    def __call__(self, example: Any, prediction: Any) -> float:
        self.left -= 1
        if self.left < 0:
            self.inside.set()
            assert self.gate.wait(60)
        return worth(example, prediction)


def test_one_that_is_stopped_keeps_its_best_and_goes_on_as_if_nothing_had_been(jobs: Jobs, tmp_path: Path) -> None:
    def work(space: Space, metric: Any) -> Any:
        return tune(program, ["x", "k"], metric, ROWS, 8, space=space, parallel=1, concurrency=1, folder=tmp_path, again=True)

    whole = jobs.start(work(space_of(), worth), seed=3).result(60)
    space, metric = space_of(), Waits("tune stop", 4 * len(ROWS) + 3)
    job = jobs.start(work(space, metric), seed=3)
    assert metric.inside.wait(60)
    job.stop()
    metric.gate.set()
    found = job.wait(60).result()
    assert job.state == "stopped"
    assert [t.status for t in found.tried] == ["complete"] * 4 + ["unfinished"]
    assert found.tried[4].note == "Not finished: it ended after 4 of 8 rows."
    assert {name: space.get(name) for name in found.values} == found.values  # the best so far is kept
    assert space.leases() == ()
    job.resume()
    found = job.result(60)
    assert job.state == "complete"
    assert [t.status for t in found.tried] == ["complete"] * 4 + ["unfinished"] + ["complete"] * 4
    assert found.tried[5].origin == "repeated"
    assert found.tried[5].values == found.tried[4].values
    done = [t for t in found.tried if t.status == "complete"]
    assert [t.values for t in done] == [t.values for t in whole.tried]
    assert (found.score, job.progress.repeated, job.progress.done) == (whole.score, 1, 8)
    assert "It went on after 4 trials; trial 4 had not ended and began again." in found.note


def test_a_stopped_one_whose_study_is_gone_begins_anew_and_says_so(jobs: Jobs, tmp_path: Path) -> None:
    metric = Waits("tune gone", len(ROWS))
    work = tune(program, ["x"], metric, ROWS, 3, space=space_of(), parallel=1, concurrency=1, folder=tmp_path)
    job = jobs.start(work, seed=1)
    assert metric.inside.wait(60)
    job.stop()
    metric.gate.set()
    Path(job.wait(60).result().study).unlink()
    found = job.resume().result(60)
    assert len(found.tried) == 3
    assert "it began at the beginning" in found.note


def test_one_that_does_not_stop_in_time_leaves_what_it_had_told(jobs: Jobs, tmp_path: Path) -> None:
    space, metric = space_of(), Waits("tune deaf", 2 * len(ROWS))
    work = tune(program, ["x"], metric, ROWS, 5, space=space, parallel=1, concurrency=1, folder=tmp_path)
    job = jobs.start(work, seed=1)
    assert metric.inside.wait(60)
    job.stop(patience=0.01).wait(60)
    found = job.result()
    assert len(found.tried) == 2
    assert found.best is not None
    assert "nothing was committed" in found.note
    assert space.get("x") == 0.1
    metric.gate.set()
    with space.lease("x", owner="somebody", patience=60):  # the thread that was left behind gives it back
        pass


@pytest.fixture
def fake() -> Iterator[FakePool]:
    POOLS["tune"] = made = FakePool("optimizer", workers=1)
    yield made
    del POOLS["tune"]


class Answer:
    def __init__(self, label: int) -> None:
        self.label = label


def answer(text: str, k: int) -> Any:
    return Answer(int(text[1:]) % 2)


TEXTS = [{"text": f"t{at}", "label": at % 2} for at in range(4)]


def killed(place: Any, fake: FakePool, metric: Any, folder: Path) -> Any:
    jobs = place.jobs(pool=lambda name: fake)
    space = Space()
    space.int("k", 1, 3, default=1)
    work = tune(answer, None, metric, TEXTS, 1, space=space, inputs=["text"], folder=folder, concurrency=1)
    return jobs.start(work, pool="optimizer").wait(60)


def test_a_row_that_kills_its_workers_fails_alone(place: Any, fake: FakePool, tmp_path: Path) -> None:
    job = killed(place, fake, Killing("t2", "tune"), tmp_path)
    (tried,) = job.result().tried
    assert (tried.status, tried.rows, tried.failed) == ("complete", 4, 1)
    assert "1 of 4 rows failed, for instance: WorkerKilled" in (tried.note or "")
    assert set(tried.row_scores) == {0, 1, 3}
    assert job.progress.repeated >= 2


class KillsAlways(Killing):
    """On every row."""

    def __call__(self, example: Any, prediction: Any) -> bool:
        self.text = example.text
        return super().__call__(example, prediction)


def test_a_trial_that_kills_whatever_it_is_given_fails(place: Any, fake: FakePool, tmp_path: Path) -> None:
    job = killed(place, fake, KillsAlways("", "tune"), tmp_path)
    with pytest.raises(JobError, match="Not one of 1 trials is complete"):
        job.result()
    (tried,) = job.partial.tried
    assert tried.status == "failed"
    assert "WorkerKilled" in (tried.error or "")


def test_a_file_that_was_cut_in_the_middle_of_a_line_is_mended(jobs: Jobs, tmp_path: Path) -> None:
    work = tune(program, ["x"], worth, ROWS, 3, space=space_of(), parallel=1, folder=tmp_path)
    job = jobs.start(work, seed=1)
    path = Path(job.result(60).study)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    last = max(at for at, line in enumerate(lines) if b'"op_code":4' in line)  # a trial is created
    path.write_bytes(b"".join(lines[: last + 2]) + b'{"op_code": 5, "wor')
    os.symlink(path, f"{path}.lock")
    state = {"study": str(path)}
    home = jobs.around.shelf
    home.put(job.id, "state", (state, 2.0, None, None))
    other = Jobs(jobs.around.book, shelf=home)
    again = tune(program, ["x"], worth, ROWS, 3, space=space_of(), parallel=1, folder=tmp_path)
    from dspex_lab.jobs._reporter import Reporting
    from dspex_lab.jobs._told import Order

    told: list[Any] = []
    reporter = Reporting(Order(job.id, 2, 1, state), told.append, lambda: False, submit=_here, repeat=told.append)
    found = again.run(reporter)
    other.close()
    assert found is not None
    assert [t.status for t in found.tried] == ["complete", "complete", "unfinished", "complete"]
    assert found.tried[3].origin == "repeated"
    assert not os.path.lexists(f"{path}.lock")
    assert told[0] == 1 or 1 in told


def test_what_a_kernel_was_told_last_is_told_again_from_the_study(jobs: Jobs, tmp_path: Path) -> None:
    """It was not written down when that was killed: ``job.trials`` would have a hole."""
    job = jobs.start(tune(program, ["x"], worth, ROWS, 4, space=space_of(), parallel=1, folder=tmp_path), seed=1)
    first = job.result(60)
    from dspex_lab.jobs._reporter import Reporting
    from dspex_lab.jobs._told import Order, Tried

    sent: list[Any] = []
    order = Order(job.id, 2, 1, {"study": first.study}, known=frozenset({0, 1, 3}))
    again = tune(program, ["x"], worth, ROWS, 4, space=space_of(), parallel=1, folder=tmp_path)
    again.run(Reporting(order, sent.append, lambda: False, submit=_here))
    told = [message.trial for batch in sent for message in batch.messages if isinstance(message, Tried)]
    assert [(trial.number, trial.status, trial.values) for trial in told] == [(2, "complete", dict(first.tried[2].values))]


def _here(label: Any, function: Any, args: Any, told: Any) -> Any:
    from concurrent.futures import Future

    from dspex_lab.jobs._remote import Piece

    made: Future[Any] = Future()
    made.set_result(function(Piece(told, lambda: False), *args))
    return made


# ---- other processes -----------------------------------------------------------------------------------------------


def test_a_work_is_kept_and_sent_without_its_space_and_finds_it_again() -> None:
    space = space_of()
    work = tune(program, ["x"], worth, ROWS, 3, space=space, key="lab one")
    back = pickle.loads(pickle.dumps(work))  # noqa: S301 - our own
    assert back.space is None
    assert back.home is space
    del space, work
    gc.collect()
    with pytest.raises(JobError, match=r"The space 'lab one' .* is not open in this process"):
        _ = back.home
    other = space_of(name="named")
    assert know_space(other) == "named"
    assert known_space("named") is other


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    made = Pool(PoolSpec("optimizer", 2, MINIMUM_MEMORY, writable=(str(tmp_path_factory.getbasetemp()),)))
    yield made
    made.close()


def test_trials_run_on_workers_at_once_and_one_that_is_killed_costs_its_rows_alone(
    pool: Pool, place: Any, tmp_path: Path
) -> None:
    jobs = place.jobs(pool=lambda name: pool)
    space = space_of()
    metric = KillsOnce(5, str(tmp_path))  # kill -9 by itself
    work = tune(program, ["x", "k"], metric, ROWS, 6, space=space, concurrency=2, folder=tmp_path / "studies")
    job = jobs.start(work, pool="optimizer", seed=1)
    found = job.result(120)
    assert isinstance(found, Tuned)
    assert [t.status for t in found.tried] == ["complete"] * 6
    assert all(t.rows == 8 for t in found.tried)
    assert job.progress.repeated == 1
    assert (tmp_path / "dead").exists()
    assert "With 2 trials at once" in found.note
    assert {name: space.get(name) for name in found.values} == found.values


def test_a_tune_job_of_a_kernel_that_was_killed_goes_on_from_its_study(tmp_path: Path, until: Callable[..., Event]) -> None:
    kill_when("inside", ["-m", "tune_kernel"], tmp_path, Path(__file__).parent, Path(__file__).parent.parent)
    from tune_kernel import HOLDS

    HOLDS.set()
    with Store(tmp_path / "lab.duckdb") as store:
        book = JobTable(store)
        jobs = Jobs(book, shelf=Shelf(book, tmp_path / "jobs"), emit=store.write)
        (job,) = jobs
        assert job.state == "interrupted"
        space = space_of()
        know_space(space, "kernel")
        found = job.resume().result(60)
        assert [t.status for t in found.tried] == ["complete"] * 3 + ["unfinished"] + ["complete"] * 3
        assert found.tried[3].note == "Its process ended before it did."
        assert (found.tried[4].origin, found.tried[4].values) == ("repeated", found.tried[3].values)
        assert job.progress.repeated == 1
        assert {name: space.get(name) for name in found.values} == found.values
        assert len(read_study(found.study).trials) == 7
        store.flush()
        jobs.close()


def test_a_lease_that_would_wait_for_itself_is_refused() -> None:
    space = space_of()
    with space.lease("x", owner="me"), space.lease("k", owner="other"), pytest.raises(LeaseError, match="would have to wait"):
        leased(space, ["k"], "me", lambda: False)
