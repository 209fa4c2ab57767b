"""GEPA: lineage, rejected proposals that are remembered, its state, and what users give it themselves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy.teleprompt.gepa import InstructionProposer
from optimize_cases import COUNTS, GATES, Waiting, program, reached, right, rows

from dspex_lab.jobs import Jobs, Models, lineage
from dspex_lab.jobs.optimize import Rejected, optimize, rejected_in, remembered
from dspex_lab.jobs.optimize._gepa_memory import LONGEST, MOST, same, words
from dspex_lab.jobs.optimize._gepa_watch import Following
from dspex_lab.testing import scripted_lm

Start = Callable[..., Any]


class Reflecting:
    """A model that answers as well as its instruction is, and proposes instructions in turn, keeping what it was asked."""

    def __init__(self, *proposals: str) -> None:
        self.proposals, self.asked, self.lock = list(proposals), list[str](), threading.Lock()

    def __call__(self, prompt: Any) -> dict[str, str]:
        question = str(prompt.question)
        if "examples_with_feedback" in question:
            with self.lock:
                self.asked.append(prompt.text)
                return {"new_instruction": self.proposals[min(len(self.asked), len(self.proposals)) - 1]}
        case = int(question.split("case ")[1].split(":")[0])
        right_one = next(row["code"] for shift in range(3) for row in rows(20, shift) if f"case {case}:" in row["message"])
        task = str(prompt.task)
        known = ("K7", "Q2", "Z9") if "BEST" in task else ("K7", "Q2") if "GOOD" in task else ("K7",)
        return {"code": right_one if right_one in known else "?"}


def jobs_with(place: Any, model: Reflecting) -> Jobs:
    lm = scripted_lm(model)
    made: Jobs = place.jobs(surroundings=lambda: Models(lm))
    return made


def open_program() -> Any:
    return dspy.Predict(dspy.Signature("message -> code", "Give the code."))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_what_it_may_take_at_most_is_never_exceeded(place: Any, start: Start, size: int) -> None:
    model = Reflecting("GOOD one", "GOOD two", "BEST of all")
    asked = {"max_metric_calls": 25, "reflection_minibatch_size": size, "program": open_program(), "use_merge": False}
    job = start("gepa", jobs=jobs_with(place, model), **asked)
    total = job.settings["plan"]["total"]
    assert job.wait(120).state == "complete"
    assert 25 < job.progress.done <= total
    assert f"at most {total} evaluations of rows" in job.progress.note


@pytest.fixture
def go(place: Any, start: Start) -> Callable[..., Any]:
    def run(model: Reflecting, **more: Any) -> Any:
        asked = {"max_metric_calls": 60, "program": open_program(), "use_merge": False, **more}
        return start("gepa", jobs=jobs_with(place, model), **asked)

    return run


def texts(trials: Any, status: str) -> list[str]:
    return [t.candidate["self.instructions"] for t in trials if t.status == status]


# ---- lineage -------------------------------------------------------------------------------------------------------


def test_candidates_have_their_parents_and_rejected_ones_are_kept(go: Callable[..., Any]) -> None:
    job = go(Reflecting("BAD 1.", "GOOD 1.", "BAD 2.", "BEST 1."))
    found = job.result(60)
    assert texts(job.trials, "complete") == ["Give the code.", "GOOD 1.", "BEST 1."]
    rejected = [t for t in job.trials if t.status == "rejected"]
    assert {t.candidate["self.instructions"] for t in rejected} >= {"BAD 1.", "BAD 2."}
    first = rejected[0]
    assert (first.parent, first.rows) == (0, 3)
    assert "on a minibatch, and" in first.note
    assert first.score is not None
    assert first.calls is not None
    assert first.calls > 0
    tree = lineage(job.trials)
    assert tree.best is not None
    best = tree.best.number
    assert [t.candidate["self.instructions"] for t in tree.ancestry(best)] == ["Give the code.", "GOOD 1.", "BEST 1."]
    assert "+BEST 1." in str(tree.changes(best)[0])
    assert found.best == found.trials[best]._replace(started=found.best.started)
    assert found.program.signature.instructions == "BEST 1."
    assert (found.before, found.after) == (pytest.approx(1 / 3), 1.0)
    assert 0 < sum(t.calls or 0 for t in found.trials) <= found.calls


# ---- what was rejected ---------------------------------------------------------------------------------------------


def test_what_was_rejected_is_told_to_the_model_that_reflects(go: Callable[..., Any]) -> None:
    model = Reflecting("BAD 1.", "BAD 2.", "GOOD 1.")
    found = go(model).result(60)
    assert "BAD 1." not in model.asked[0]
    assert "not better. Do not propose any of them again" in model.asked[1]
    assert "BAD 1." in model.asked[1]
    assert "BAD 2." in model.asked[2]
    assert [each.text for each in found.rejected][:2] == ["BAD 1.", "BAD 2."]
    assert found.rejected[0].part == "self"
    assert "on a minibatch" in found.rejected[0].why


def test_one_that_comes_again_is_asked_for_anew(go: Callable[..., Any]) -> None:
    model = Reflecting("BAD 1.", "bad  1.", "GOOD 1.", "BEST 1.")
    job = go(model)
    job.wait(60)
    tried = [*texts(job.trials, "rejected"), *texts(job.trials, "complete")]
    assert "bad  1." not in tried  # the same but for case and space: it was asked once more
    assert "GOOD 1." in tried


def test_later_jobs_of_the_program_remember(place: Any, start: Start) -> None:
    model = Reflecting("BAD 1.", "GOOD 1.", "BEST 1.")
    jobs = jobs_with(place, model)
    settings = {"max_metric_calls": 40, "use_merge": False}
    start("gepa", program=open_program(), jobs=jobs, **settings).result(60)
    other = open_program()
    other.signature = other.signature.with_instructions("Another version.")
    known = remembered(jobs, other)
    assert known[0].text == "BAD 1."
    assert remembered(jobs, dspy.Predict("a -> b")) == ()
    asked = len(model.asked)
    later = start("gepa", program=other, jobs=jobs, rejected=known, **settings).result(60)
    assert "BAD 1." in model.asked[asked]
    assert later.rejected[0] == known[0]


def test_rejected_instructions_are_those_that_differ_from_their_parents(go: Callable[..., Any]) -> None:
    job = go(Reflecting("BAD 1.", "GOOD 1."))
    job.wait(60)
    assert "GOOD 1." in texts(job.trials, "rejected")  # proposed once more, to itself
    assert [each.text for each in rejected_in(job.trials)] == ["BAD 1."]
    assert rejected_in([]) == ()


def test_words_are_few() -> None:
    bad = [Rejected("p", f"{at} " + "x" * 2000, "worse") for at in range(20)]
    said = words(bad)
    assert said.count("<rejected why='worse'>") == MOST
    assert len(said) < MOST * (LONGEST + 100) + 300
    assert "19 x" in said
    assert same("A b", " a\nB ")
    assert not same("a", "b")


# ---- what users give it --------------------------------------------------------------------------------------------


def test_a_proposer_of_the_users_own_is_told_by_the_feedback(go: Callable[..., Any]) -> None:
    seen: list[str] = []
    turns = iter(["BAD 1.", "GOOD 1.", "BEST 1.", *["BAD 9."] * 50])

    def propose(candidate: Any, reflective_dataset: Any, components_to_update: Any) -> dict[str, str]:
        (name,) = components_to_update
        seen.append(reflective_dataset[name][-1]["Feedback"])
        assert all("tried already" not in each["Feedback"] for each in reflective_dataset[name][:-1])
        return {name: next(turns)}

    found = go(Reflecting("unused"), instruction_proposer=propose).result(60)
    assert "tried already" not in seen[0]
    assert "code should be" in seen[0] or "code is right" in seen[0]
    assert "BAD 1." in seen[1]
    assert found.program.signature.instructions == "BEST 1."


def test_the_built_in_proposer_keeps_its_options(go: Callable[..., Any]) -> None:
    model = Reflecting("BAD 1.", "GOOD 1.")
    mine = InstructionProposer(additional_instructions="Be brief.")
    go(model, instruction_proposer=mine).wait(60)
    assert "Be brief." in model.asked[0]
    assert "Be brief." in model.asked[1]
    assert "BAD 1." in model.asked[1]
    assert mine.additional_instructions == "Be brief."


def test_an_instance_keeps_its_callbacks_and_stoppers(place: Any, start: Start) -> None:
    class Mine:
        accepted = 0

        def on_candidate_accepted(self, event: Any) -> None:
            self.accepted += 1

    def feedback(gold: Any, pred: Any, trace: Any, name: Any, part: Any) -> Any:
        raise AssertionError("the job's metric is asked")

    mine, model = Mine(), Reflecting("GOOD 1.", "BEST 1.")
    ends = {"callbacks": [mine], "stop_callbacks": lambda state: max(state.program_full_scores_val_set) > 0.5}
    given = dspy.GEPA(feedback, max_metric_calls=200, reflection_lm=scripted_lm(model), gepa_kwargs=ends)
    found = start(given, program=open_program(), jobs=jobs_with(place, model)).result(60)
    assert mine.accepted == 1
    assert found.program.signature.instructions == "GOOD 1."
    assert not found.stopped  # it ended by itself
    assert given.gepa_kwargs is ends
    assert given.log_dir is None


def test_metrics_with_feedback_reach_the_prompt(go: Callable[..., Any]) -> None:
    def judged(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        return dspy.Prediction(score=float(right(gold, pred)), feedback=f"Look at {gold.code} in {pred_name}.")

    model = Reflecting("GOOD 1.")
    go(model, metric=judged).wait(60)
    assert "Look at Z9 in self." in "".join(model.asked)


# ---- stopping and resuming -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [None, "optimizer"], ids=["kernel", "worker"])
def test_it_goes_on_from_its_state(start: Start, pool: str | None) -> None:
    gate = f"gepa-{pool}"
    job = start("gepa", metric=Waiting(gate, 30), pool=pool, max_metric_calls=70)
    reached(gate)
    job.stop()
    GATES[gate].set()
    first = job.wait(60).result()
    assert first.stopped
    tried, rows_before = len(job.trials), job.progress.done
    found = job.resume().result(60)
    assert job.state == "complete"
    assert "GEPA went on from its state" in found.note
    assert found.repeated == 1  # it evaluates the first program again
    assert [t.status for t in job.trials].count("complete") >= tried - 2
    assert found.before == first.before
    assert job.progress.done > rows_before
    assert COUNTS[gate] < 70 + 30  # and not all of it again


def test_the_jobs_folder_has_what_gepa_wrote(offline: Jobs, start: Start) -> None:
    job = start("gepa", max_metric_calls=30)
    job.wait(60)
    home = offline.around.shelf.home(job.id)
    assert (home / "gepa" / "gepa_state.bin").exists()
    # Each iteration once, and not all of them again after each.
    log = [json.loads(line) for line in (home / "gepa" / "run_log.jsonl").read_text().splitlines()]
    assert [each["i"] for each in log] == list(range(len(log)))
    assert all(each["subsample_ids"] for each in log)
    assert not (home / "gepa" / "run_log.json").exists()
    # A state that is not of this job is not read: pickles run.
    other = start("gepa", max_metric_calls=30)
    stale = offline.around.shelf.home(other.id) / "gepa"
    other.wait(60)
    assert (stale / "gepa_state.bin").exists()


# ---- events that a small run does not have -------------------------------------------------------------------------


class Course:
    """As much of a run as events need."""

    def __init__(self, tmp_path: Any) -> None:
        from dspex_lab.jobs.optimize._meter import Meter
        from dspex_lab.jobs.optimize._quiet import JobLog
        from dspex_lab.jobs.optimize._tried import Tried

        self.folder, self.meter, self.log = tmp_path, Meter(), JobLog()
        self.told: list[Any] = []
        self.kept: Any = None
        self.work = optimize(program(), "gepa", metric=right, trainset=rows(3), rejected=[Rejected("self", "old")])
        self.tried = Tried(self, self.meter)  # type: ignore[arg-type]
        self.job_id, self.attempt = "j", 1

    def built(self, texts: Any) -> Any:
        made = program()
        made.signature = made.signature.with_instructions(texts["self"])
        return made

    def measured(self) -> None: ...
    def note(self, text: str) -> None: ...
    def best(self, candidate: Any, score: float) -> None: ...
    def again(self, count: int) -> None: ...
    def keep(self, state: Any) -> None:
        self.kept = state

    def trial(self, score: float | None, **fields: Any) -> int:
        self.told.append((score, fields))
        return int(fields["number"])


def test_merges_are_told_of_too(tmp_path: Any) -> None:
    course = Course(tmp_path)
    follow = Following(course)  # type: ignore[arg-type]
    (tmp_path / "gepa").mkdir()
    (tmp_path / "gepa" / "left.txt").touch()
    follow.restore()
    assert list((tmp_path / "gepa").iterdir()) == []

    def candidate(at: int, text: str, parents: list[int], scores: dict[int, float]) -> None:
        follow.on_valset_evaluated(
            {
                "candidate_idx": at,
                "candidate": {"self": text},
                "parent_ids": parents,
                "scores_by_val_id": scores,
                "total_valset_size": 2,
            }
        )

    candidate(0, "a", [], {0: 0.0, 1: 0.0})
    candidate(1, "b", [0], {0: 1.0, 1: 0.0})
    candidate(2, "c", [0], {0: 0.0, 1: 1.0})
    follow.on_iteration_start({})
    follow.on_merge_attempted({"parent_ids": [1, 2], "merged_candidate": {"self": "b c"}})
    follow.on_merge_rejected({"reason": "worse"})
    candidate(3, "b and c", [1, 2], {0: 1.0, 1: 1.0})
    follow.on_candidate_rejected({"new_score": 1.0})  # without a proposal there is nothing to tell
    told = [(f["number"], f["parent"], f.get("status"), score, f.get("note")) for score, f in course.told]
    assert told == [
        (0, None, "complete", 0.0, None),
        (1, 0, "complete", 0.5, None),
        (2, 0, "complete", 0.5, None),
        (3, 2, "rejected", None, "merged: worse"),
        (4, 2, "complete", 1.0, "merged from trials 1 and 2"),
    ]
    follow.on_error({"iteration": 3, "exception": ValueError("odd")})
    assert course.log.lines == ("GEPA, iteration 3: odd",)
    (tmp_path / "gepa" / "gepa_state.bin").write_bytes(b"state")
    follow.on_state_saved({})
    assert course.kept["own"]["state"] == b"state"
    assert course.kept["own"]["rejected"] == (Rejected("self", "old"),)
    # And from there it goes on.
    course.tried.own = course.kept["own"]
    (tmp_path / "gepa" / "gepa_state.bin").write_bytes(b"planted")
    (tmp_path / "gepa" / "gepa.stop").touch()
    Following(course).restore()  # type: ignore[arg-type]
    assert (tmp_path / "gepa" / "gepa_state.bin").read_bytes() == b"state"
    assert not (tmp_path / "gepa" / "gepa.stop").exists()


def test_several_proposals_of_one_iteration_are_told_apart(tmp_path: Any) -> None:
    course = Course(tmp_path)
    follow = Following(course)  # type: ignore[arg-type]
    follow.on_iteration_start({})
    for at in (0, 1):
        follow.on_candidate_selected({"candidate_idx": at, "candidate": {"self": f"parent {at}"}})
        follow.on_evaluation_end({"candidate_idx": at, "scores": [1.0, 0.0]})
    for at in (0, 1):
        follow.on_proposal_end({"new_instructions": {"self": f"child {at}"}})
    follow.on_evaluation_end({"candidate_idx": None, "scores": [0.0, 0.5]})
    follow.on_evaluation_end({"candidate_idx": None, "scores": [0.0, 0.0]})
    follow.on_candidate_rejected({"new_score": 0.0})
    follow.on_candidate_rejected({"new_score": 0.5})
    assert [each.text for each in follow.rejected] == ["old", "child 1", "child 0"]
    assert [f["candidate"] for _, f in course.told] == [{"self.instructions": "child 1"}, {"self.instructions": "child 0"}]
