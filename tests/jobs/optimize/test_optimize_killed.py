"""Optimizers on a real worker that is killed in the midst, and in a kernel that is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed_kernels import kill_when
from optimize_cases import COUNTS, GATES, SMALL, Dying, program, right, rows

from dspex_lab import Lab
from dspex_lab.jobs import Job, Jobs, MemoryBook, Models, Shelf
from dspex_lab.jobs.optimize import optimize
from dspex_lab.lms import make_lm
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def pool(home: Path) -> Iterator[Pool]:
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage is not None else None
    measured = () if current is None else (str(Path(current.config.data_file).absolute().parent),)
    made = Pool(PoolSpec("optimizer", 1, MINIMUM_MEMORY, writable=(str(home), *measured)))
    yield made.warm()
    made.close()


@pytest.fixture
def jobs(pool: Pool, home: Path) -> Iterator[Jobs]:
    book = MemoryBook()
    lm = make_lm("offline", cache=True)
    made = Jobs(book, shelf=Shelf(book, home, b"k" * 32), pool=lambda name: pool, surroundings=lambda: Models(lm))
    yield made
    made.close()
    pool.pardon()


def test_the_same_code_is_in_the_worker(jobs: Jobs) -> None:
    """Before a worker is killed for it: a plain run."""
    work = optimize(program(), "labeled", metric=right, trainset=rows(9), valset=rows(6, 1), k=2)
    found = jobs.start(work, pool="optimizer", seed=1).result(120)
    assert (found.before, found.after is not None, len(found.trials)) == (found.trials[0].score, True, 2)


def goes_on_from(job: Job, what: str) -> Any:
    """Return what is here of what the job's worker has kept."""
    return (job._account.state_kept or {}).get(what)


@pytest.mark.parametrize(("name", "at"), [("miprov2", 34), ("gepa", 40)])
def test_a_killed_worker_costs_what_was_under_way(jobs: Jobs, home: Path, name: str, at: int) -> None:
    settings: dict[str, Any] = {**SMALL[name], **({"num_trials": 5} if name == "miprov2" else {"max_metric_calls": 70})}
    data: dict[str, Any] = {"trainset": rows(9), "valset": rows(6, 1)}
    dying = Dying(str(home / f"{name}.died"), at)
    job = jobs.start(optimize(program(), name, metric=dying, **data, **settings), pool="optimizer", seed=5)
    while not goes_on_from(job, "own" if name == "gepa" else "numbers"):
        assert not job._account.rests.wait(0.01), job
    Path(f"{dying.mark}.may").touch()
    found = job.result(120)
    whole = jobs.start(optimize(program(), name, metric=right, **data, **settings), pool="optimizer", seed=5).result(120)
    assert Path(dying.mark).exists()
    assert job.state == "complete"
    assert job._account.attempts == 2
    assert [event.name for event in job.events()].count("job.error") == 1
    assert found.before == whole.before
    assert found.repeated >= 1
    assert job.progress.repeated >= 1
    assert any("done before and again" in note for note in found.notes)
    statuses = [trial.status for trial in job.trials]
    assert statuses[0] == "repeated"
    if name == "miprov2":  # the same as if nothing had happened, from the cache
        assert [(t.score, t.parent) for t in found.trials] == [(t.score, t.parent) for t in whole.trials]
        assert found.after == whole.after
        assert any("answered by the cache" in note for note in found.notes)
    else:
        assert "GEPA went on from its state" in found.note
        assert found.after is not None
        assert found.after >= found.before


KERNEL = """
import sys
from optimize_cases import REACHED, SMALL, Waiting, program, rows
from dspex_lab import Lab
from dspex_lab.lms import make_lm

name, at = sys.argv[1], int(sys.argv[2])
lab = Lab("lab.duckdb")
lab.use(make_lm("offline", cache=True))
data = {"trainset": rows(9), "valset": rows(6, 1)}
job = lab.optimize(program(), optimizer=name, metric=Waiting("kernel", at), **data, seed=5, pool=None, **SMALL[name])
assert REACHED["kernel"].wait(60), job
job._account.write()
lab.store.flush()
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("name", "at"), [("miprov2", 20), ("gepa", 40), ("random_search", 20)])
def test_a_killed_kernel_keeps_the_best_and_its_job_goes_on_in_another(tmp_path: Path, name: str, at: int) -> None:
    kill_when("there", ["-c", KERNEL, name, str(at)], tmp_path, Path(__file__).parent)
    COUNTS["kernel"] = 0
    GATES["kernel"] = threading.Event()
    GATES["kernel"].set()
    with Lab(tmp_path / "lab.duckdb") as lab:
        lab.use(make_lm("offline", cache=True))
        (job,) = lab.jobs
        assert job.state == "interrupted"
        before = {trial.number: trial.score for trial in job.trials}
        best, done = max(score for score in before.values() if score is not None), job.progress.done
        found = lab.jobs.resume(job.number).result(120)
        assert job.state == "complete"
        assert found.after is not None
        assert found.after >= best, "the best so far is kept"
        trials = {trial.number: trial for trial in job.trials}
        assert {number: trials[number].score for number in before} == before, "what was tried is there still"
        assert job.progress.done > done
        assert any("Resumed by running again" in note or "GEPA went on from its state" in note for note in found.notes)
        if name == "gepa":
            return  # its random choices are not those of an undisturbed run
        assert len(trials) > len(before)
        assert {trials[number].status for number in before} == {"repeated"}
        assert job.progress.repeated > 0
        asked = {"metric": right, "trainset": rows(9), "valset": rows(6, 1), "seed": 5, "pool": None}
        whole = lab.optimize(program(), optimizer=name, **asked, **SMALL[name]).result(120)
        assert [(t.score, t.parent) for t in found.trials] == [(t.score, t.parent) for t in whole.trials]
        assert (found.after, found.diff) == (whole.after, whole.diff)
