"""What goes wrong on the way, stopping, budgets, resuming, and optimizers of third parties."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from optimize_cases import (
    GATES,
    SMALL,
    ByHand,
    HalfHearted,
    Silent,
    Waiting,
    broken,
    program,
    reached,
    right,
    right_but,
    rows,
)

from dspex_lab.errors import JobError
from dspex_lab.jobs import Found, Job, Models
from dspex_lab.jobs.optimize import Optimized, optimize
from dspex_lab.lms import make_lm
from dspex_lab.testing import scripted_lm

Start = Callable[..., Any]
WHERE = pytest.mark.parametrize("pool", [None, "optimizer"], ids=["kernel", "worker"])


# ---- metrics and programs that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random_search", "gepa", "simba"])
def test_a_metric_that_fails_on_some_rows_is_counted_and_said(start: Start, name: str) -> None:
    found = start(name, metric=right_but, **SMALL[name]).result(60)
    assert found.failed > 0
    assert "The metric failed on" in found.note
    assert "which count 0; first: " in found.note
    assert "no opinion on Z9" in found.note or "The metric gave nan" in found.note
    assert found.after is not None


@pytest.mark.parametrize("name", ["miprov2", "gepa", "simba", "bootstrap", "better_together", "knn"])
def test_one_that_fails_on_every_row_fails_the_job_by_name(start: Start, name: str) -> None:
    job = start(name, metric=broken, **SMALL[name])
    with pytest.raises(JobError, match="The metric failed on every row: KeyError: 'gold'"):
        job.result(60)


class Failing(dspy.Module):
    def __init__(self, on: str) -> None:
        super().__init__()
        self.inner, self.on = program(), on

    def forward(self, message: str) -> Any:
        if self.on in message:
            raise RuntimeError("too hard")
        return self.inner(message=message)


@pytest.mark.parametrize("name", ["copro", "gepa"])
def test_a_program_that_fails_on_some_rows_is_counted_and_said(start: Start, name: str) -> None:
    found = start(name, program=Failing("case 15:"), **SMALL[name]).result(60)
    assert "The program failed on" in found.note
    assert "first: RuntimeError: too hard" in found.note
    assert found.row_scores[0].count(0.0) >= 1


def test_one_that_fails_on_every_row_fails_the_job(start: Start) -> None:
    with pytest.raises(JobError, match="The program failed on every row: RuntimeError: too hard"):
        start("copro", program=Failing("case"), **SMALL["copro"]).result(60)


def test_what_an_optimizer_raises_is_what_the_job_fails_by(start: Start) -> None:
    class Broken:
        def compile(self, student: Any) -> Any:
            raise RuntimeError("out of ideas")

    job = start(Broken())
    with pytest.raises(JobError, match="RuntimeError: out of ideas"):
        job.result(60)
    assert len(job.trials) == 1  # the program as it was


# ---- stopping ------------------------------------------------------------------------------------------------------


@WHERE
@pytest.mark.parametrize("name", ["miprov2", "gepa", "simba", "copro", "bootstrap"])
def test_one_that_is_stopped_keeps_the_best_so_far(start: Start, name: str, pool: str | None) -> None:
    gate = f"stop-{name}-{pool}"
    at = 8 if name == "bootstrap" else 19  # in the midst of what comes after the first evaluation
    job = start(name, metric=Waiting(gate, at), pool=pool, **SMALL[name])
    first_trial(job)
    reached(gate)
    job.stop()
    GATES[gate].set()
    found = job.result(60)
    assert job.state == "stopped"
    assert found.stopped
    assert found.before == job.trials[0].score
    assert "the best candidate until then is the result" in found.note or name == "bootstrap"
    assert "Stopped" in found.note
    with dspy.context(lm=make_lm("offline")):
        assert found.program(message="My card").code in ("K7", "Q2", "Z9")


@pytest.mark.parametrize(("name", "at"), [("miprov2", 2), ("gepa", 2), ("simba", 19), ("labeled", 402)])
def test_rows_that_had_not_begun_when_it_was_stopped_are_not_paid_for(
    place: Any, start: Start, capsys: pytest.CaptureFixture[str], name: str, at: int
) -> None:
    """DSPy leaves them in the queue of its threads, which go on."""
    lm = scripted_lm(by_words)
    gate, before = f"queue-{name}", set(threading.enumerate())
    jobs = place.jobs(surroundings=lambda: Models(lm))
    job = start(name, jobs=jobs, metric=Waiting(gate, at), valset=rows(400, 1), **SMALL[name])
    reached(gate)
    job.stop()
    GATES[gate].set()
    job.wait(60)
    assert job.state == "stopped"
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(60)
            assert not thread.is_alive()
    # Those under way, and those that began before it looked again.
    assert lm.engine.calls < at + 200
    if name == "labeled":  # halted while what it had found was measured
        assert "before the result was measured" in job.result().note
        with dspy.context(lm=lm):
            assert job.result().program(message="My card").code == "Q2"
    gc.collect()
    assert "%|" not in "".join(capsys.readouterr()), "no bar that was broken off is drawn when it is collected"


def first_trial(job: Job) -> None:
    assert any(event.name == "job.trial" for event in job.events())


def test_one_that_had_measured_nothing_has_no_result(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.jobs.optimize._course._LOOK", 0.0)  # all rows are done in less
    job = start("miprov2", metric=Waiting("nothing", 2), num_threads=1, **SMALL["miprov2"])  # one row is under way
    reached("nothing")
    job.stop()
    GATES["nothing"].set()
    with pytest.raises(JobError, match="stopped before it had found anything"):
        job.result(60)


@WHERE
def test_a_budget_stops_it_with_the_best_so_far(offline: Any, pool: str | None) -> None:
    work = optimize(program(), "copro", metric=right, trainset=rows(9), valset=rows(6, 1), breadth=2, depth=3)
    job = offline.start(work, budget="30 calls", pool=pool)
    found = job.result(60)
    assert job.state == "stopped"
    assert found.stopped
    assert found.calls <= 30
    assert "Stopped by its budget" in job.progress.note
    # Rows that were refused are no scores of a candidate.
    assert [trial.rows for trial in found.trials][:2] == [6, 9]
    assert all(trial.calls == trial.rows for trial in found.trials)


# ---- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["miprov2", "copro", "random_search", "infer_rules"])
def test_what_is_resumed_is_replayed_from_the_cache_and_ends_as_if_never_stopped(place: Any, start: Start, name: str) -> None:
    lm = scripted_lm(by_words, cache=True)
    jobs = place.jobs(surroundings=lambda: Models(lm))
    whole = start(name, jobs=jobs, **SMALL[name]).result(60)
    other = scripted_lm(by_words, cache=True)
    jobs = place.jobs(surroundings=lambda: Models(other))
    gate = f"resume-{name}"
    job = start(name, jobs=jobs, metric=Waiting(gate, 22), **SMALL[name])
    reached(gate)
    job.stop()
    GATES[gate].set()
    job.wait(60)
    before = other.engine.calls
    tried = len(job.trials)
    found = job.resume().result(60)
    assert (job.state, found.stopped) == ("complete", False)
    assert [(t.score, t.rows, t.parent) for t in found.trials] == [(t.score, t.rows, t.parent) for t in whole.trials]
    assert [t.status for t in job.trials] == ["repeated"] * tried + ["complete"] * (len(whole.trials) - tried)
    assert found.repeated == tried
    assert "Resumed by running again from the beginning with the same seed." in found.notes
    assert any("done before and again" in note and "answered by the cache" in note for note in found.notes)
    assert job.progress.repeated > 0
    # Nothing was asked twice.
    assert other.engine.calls < before + lm.engine.calls
    assert other.engine.calls <= lm.engine.calls + 8  # rows that were under way in threads


def by_words(prompt: Any) -> dict[str, Any]:
    """The offline model's answers, from a script that counts."""
    question = str(prompt.question)
    if "examples_text" in question:
        return {"reasoning": "", "natural_language_rules": f"Rule {len(prompt.text)}."}
    if "basic_instruction" in question or "attempted_instructions" in question:
        return {"proposed_instruction": f"Better {len(prompt.text)}.", "proposed_prefix_for_output_field": "Code:"}
    if "observations" in question or "examples" in question:
        return {"observations": "COMPLETE", "summary": "Codes."}
    if "program_code" in question and "message" not in prompt.task:
        return {
            "program_description": "Codes.",
            "module_description": "Codes.",
            "proposed_instruction": f"Try {len(prompt.text)}.",
        }
    for code, words in {"K7": ("refund",), "Q2": ("card", "pin")}.items():
        if any(word in question for word in words):
            return {"code": code}
    return {"code": "Z9"}


@WHERE
def test_an_optimizer_that_cannot_go_on_begins_with_the_best_and_says_so(start: Start, pool: str | None) -> None:
    gate = f"best-{pool}"
    job = start(HalfHearted, metric=Waiting(gate, 6 + 6 + 6 + 1), pool=pool, tries=4)
    reached(gate)
    job.stop()
    GATES[gate].set()
    first = job.wait(60).result()
    assert first.stopped
    found = job.resume().result(60)
    assert "Resumed with the best candidate so far (trial 0) as the student." in found.note
    assert "it is not known here what it draws its choices from" in found.note
    assert len(job.trials) > len(first.trials)
    assert found.before == first.before
    assert found.seconds >= first.seconds
    assert found.calls > first.calls


# ---- third parties -------------------------------------------------------------------------------------------------


@WHERE
def test_a_third_partys_optimizer_is_followed_by_its_evaluations(start: Start, pool: str | None) -> None:
    job = start(HalfHearted, hint="Look at the words.", pool=pool)
    found = job.result(60)
    assert found.optimizer == "HalfHearted"
    assert [t.rows for t in found.trials] == [6, 6, 6]
    assert found.trials[1].candidate == {"self.instructions": "Give the code. Try 0. Look at the words."}
    assert "half-hearted at work" in found.log
    assert [part.path for part in found.diff] == ["self"]


def test_one_that_scores_rows_by_itself_is_followed_too(start: Start) -> None:
    found = start(ByHand()).result(60)
    assert [(t.rows, t.parent) for t in found.trials] == [(6, None), (6, 0), (9, 1), (6, 1)] or [
        (t.rows, t.parent) for t in found.trials
    ] == [(6, None), (9, 0), (6, 1)]
    assert found.program.signature.instructions == "By hand."


def test_one_that_knows_nothing_is_given_what_it_takes(start: Start) -> None:
    given = Silent()
    found = start(given).result(60)
    assert (found.before, found.gain, found.diff) == (found.after, 0.0, ())
    assert found.best is not None
    assert found.best.number == 0
    assert start(dspy.LabeledFewShot(k=2)).result(60).optimizer == "labeled"


def test_an_instance_has_the_jobs_metric_and_stays_as_it_is(start: Start) -> None:
    def mine(example: Any, prediction: Any, trace: Any = None) -> float:
        raise AssertionError("it is not asked")

    given = dspy.BootstrapFewShotWithRandomSearch(mine, num_candidate_programs=1, max_labeled_demos=2)
    assert start(given).result(60).after is not None
    assert given.metric is mine


def test_a_program_with_a_forward_of_its_own_is_measured_by_itself(start: Start) -> None:
    class Patching:
        def compile(self, student: Any) -> Any:
            made = student.deepcopy()
            made.forward = lambda **inputs: dspy.Prediction(code="none")
            return made

    found = start(Patching()).result(60)
    assert found.after == 0.0
    assert found.before is not None
    assert found.before > 0


# ---- prints --------------------------------------------------------------------------------------------------------


def test_what_others_print_meanwhile_is_theirs(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    job = start("random_search", metric=Waiting("prints", 8), **SMALL["random_search"])
    reached("prints")
    print("from a cell")
    sys.stderr.writelines(["to ", "err\n"])
    sys.stdout.flush()
    assert sys.stdout.encoding
    GATES["prints"].set()
    assert job.result(60).log
    assert capsys.readouterr() == ("from a cell\n", "to err\n")


def test_the_log_is_a_file_in_the_jobs_folder(place: Any, start: Start, offline: Any) -> None:
    job = start("random_search", **SMALL["random_search"])
    found = job.result(60)
    file = offline.around.shelf.home(job.id) / "optimizer.log"
    assert file.read_text().splitlines()[-len(found.log) :] == list(found.log)


def test_one_that_is_killed_leaves_what_it_had(place: Any, start: Start) -> None:
    job = start("copro", metric=Waiting("killed", 6 + 9 + 9 + 2), eval_kwargs={"num_threads": 1}, **SMALL["copro"])
    reached("killed")
    job.stop(wait=True, patience=0.01)
    found = job.result()
    assert job.state == "stopped"
    assert found.stopped
    assert "Ended from outside" in found.note
    assert found.best is not None
    assert found.after == found.best.score
    assert found.calls > 0
    assert found.before is not None
    GATES["killed"].set()


# ---- what is spent, and where ----------------------------------------------------------------------------------------


def test_what_a_call_costs_is_said_or_not_known(place: Any, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.lms import set_price
    from dspex_lab.lms.choice import _prices

    monkeypatch.setattr(_prices, "_own", {})
    lm = scripted_lm({"code": "K7"}, model="vllm/priced")
    lm.engine.simulated = False
    jobs = place.jobs(surroundings=lambda: Models(lm))
    unknown = start("labeled", jobs=jobs).result(60)
    assert unknown.cost is None
    set_price("vllm/priced", input=1.0, output=1.0)
    known = start("labeled", jobs=jobs).result(60)
    assert known.cost > 0
    assert sum(t.cost for t in known.trials) == pytest.approx(known.cost)


class Relay:
    """A reporter without a folder, and without anything that records: as where one work runs within another."""

    job_id, seed, attempt, state, workers = "inner", 3, 1, None, 1
    stopping = False

    def __init__(self) -> None:
        self.kept: Any = None
        self.trials: list[int] = []

    def trial(self, score: Any = None, **fields: Any) -> int:
        self.trials.append(fields["number"])
        return int(fields["number"])

    def progress(self, *given: Any, **more: Any) -> None: ...
    def best(self, *given: Any) -> None: ...
    def again(self, count: int) -> None: ...
    def keep(self, state: Any) -> None:
        self.kept = state


@pytest.mark.parametrize("name", ["gepa", "labeled"])
def test_it_runs_where_nobody_records_and_nothing_may_be_written(name: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = optimize(program(), name, metric=right, trainset=rows(9), valset=rows(6, 1), **SMALL[name])
    relay = Relay()
    with dspy.context(lm=make_lm("offline")):
        found = work.run(relay)  # type: ignore[arg-type]
    assert found is not None
    assert (found.calls, found.cost) == (0, 0.0)  # nobody counted
    assert relay.trials[:1] == [0]
    assert list(tmp_path.glob("dspex-optimize-*")) == []  # what it wrote is gone
    assert repr(found).startswith(f"<Optimized by {name}: ")
    assert found.lineage.best is not None
    assert work.partial(Found()) is None


def test_one_that_fails_leaves_no_folder_of_its_own_behind(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = optimize(program(), "labeled", metric=lambda example, prediction: 1 / 0, trainset=rows(9))
    with dspy.context(lm=make_lm("offline")), pytest.raises(JobError, match="ZeroDivisionError"):
        work.run(Relay())  # type: ignore[arg-type]
    assert list(tmp_path.glob("dspex-optimize-*")) == []


def test_without_scores_a_result_says_so() -> None:
    assert repr(Optimized(None, "x")) == "<Optimized by x: ? → ?, 0 trials, 0.0 s>"
    assert Optimized(None, "x").gain is None
