"""Every optimizer of DSPy, really run once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.teleprompt.teleprompt import Teleprompter
from optimize_cases import SMALL, program, rows

from dspex_lab.jobs import Models, fingerprint_program
from dspex_lab.jobs.optimize import Optimized, names
from dspex_lab.lms import make_lm
from dspex_lab.pools import dumps
from dspex_lab.testing import scripted_lm

Start = Callable[..., Any]
EACH = pytest.mark.parametrize("name", SMALL)


def test_all_of_them_are_tried_here_or_by_themselves() -> None:
    assert {*SMALL, "finetune", "grpo", "avatar"} == set(names())


@EACH
def test_it_runs_and_tells_of_it(start: Start, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    student = program()
    before = fingerprint_program(student)
    job = start(name, program=student, **SMALL[name])
    found: Optimized = job.result(60)
    assert job.state == "complete"
    assert (found.optimizer, found.stopped, found.failed, found.repeated) == (name, False, 0, 0)
    # What it tried
    assert [trial.number for trial in job.trials] == list(range(len(found.trials)))
    assert len(job.trials) >= 2
    first = job.trials[0]
    assert (first.parent, first.rows, first.candidate) == (None, 6, {"self.instructions": "Give the code."})
    assert all(t.candidate and t.score is not None and t.seconds >= 0 for t in job.trials if t.status == "complete")
    assert all(t.parent is not None and t.parent < t.number for t in job.trials[1:])
    assert {n: sum(s) / len(s) for n, s in found.row_scores.items()} == pytest.approx(
        {n: found.trials[n].score for n in found.row_scores}
    )
    assert first.calls == 6
    assert sum(t.calls or 0 for t in job.trials) <= found.calls == job.progress.spent.calls
    # What came of it
    assert found.before == first.score
    assert found.after is not None
    assert found.gain == pytest.approx(found.after - found.before)
    assert found.best is not None
    assert job.settings["result"]["before"] == found.before
    html = found._repr_html_()
    assert f"Optimized by {name}" in html
    assert f">{found.before:.4g}<" in html or f">{found.before:.0f}<" in html
    assert job.progress.done <= (job.settings["plan"]["total"] or 0)
    # The program that was given is as it was; nothing was printed.
    assert fingerprint_program(student) == before
    assert capsys.readouterr() == ("", "")
    travels(found, tmp_path)


def travels(found: Optimized, folder: Path) -> None:
    """It can be pickled and saved, and answers as before."""
    again = pickle.loads(dumps(found))  # noqa: S301 - our own
    assert again.summary() == found.summary()
    questions = rows(6, 2)
    with dspy.context(lm=make_lm("offline")):
        answers = [found.program(message=row["message"]).code for row in questions]
        assert [again.program(message=row["message"]).code for row in questions] == answers
        state = found.program.dump_state()
        assert len(state) >= 1
        fresh = pickle.loads(dumps(found.program)).reset_copy()  # noqa: S301 - our own
        found.program.save(folder / "state.json")
        if found.optimizer != "infer_rules":
            fresh.load(folder / "state.json")
            assert [fresh(message=row["message"]).code for row in questions] == answers


@EACH
def test_the_same_seed_gives_the_same(start: Start, name: str) -> None:
    one, other = (start(name, seed=11, **SMALL[name]).result(60) for _ in range(2))
    told = [[(t.parent, t.status, t.score, t.rows, t.candidate) for t in each.trials] for each in (one, other)]
    if name == "simba":  # in threads; which candidate is through first may differ
        told = [sorted((each[1:] for each in trials), key=str) for trials in told]
    assert told[0] == told[1]
    assert fingerprint_program(one.program) == fingerprint_program(other.program)
    assert (one.before, one.after) == (other.before, other.after)


def test_another_seed_draws_others(start: Start) -> None:
    demos = {seed: start("labeled", seed=seed, k=3).result(60).program.demos for seed in (1, 2, None)}
    assert demos[1] != demos[2]
    assert demos[None] != demos[1]


def test_where_none_is_promised_it_says_so(start: Start) -> None:
    assert "The same seed may give another result" in start("ensemble", **SMALL["ensemble"]).result(60).note
    assert "same seed" not in start("labeled").result(60).note


def test_what_optimizers_print_and_log_is_in_the_log(start: Start) -> None:
    found = start("random_search", **SMALL["random_search"]).result(60)
    assert any(line.startswith("Scores so far") for line in found.log)  # printed
    assert any("Average Metric" in line for line in found.log)  # logged
    assert not any("%|" in line for line in found.log)  # drawn


def test_mipro_tells_minibatches_from_whole_evaluations(start: Start) -> None:
    settings = SMALL["miprov2"] | {"num_trials": 4, "minibatch": True, "minibatch_size": 3, "minibatch_full_eval_steps": 2}
    found = start("miprov2", **settings).result(60)
    parts = [t for t in found.trials if t.rows == 3]
    assert {t.note for t in parts} == {"on 3 rows of 6"}
    assert len(parts) == 4
    whole = [t for t in found.trials if t.rows == 6]
    assert {t.note for t in whole} == {None}
    # One that did well on a part does not pass for the best.
    assert found.best is not None
    assert found.best.rows == 6
    # A whole evaluation comes of the one on a part.
    assert any(found.trials[t.parent].rows == 3 and found.trials[t.parent].candidate == t.candidate for t in whole[1:])


def test_without_validation_rows_it_says_what_it_took(start: Start) -> None:
    same = start("random_search", valset=None, **SMALL["random_search"])
    assert "scores are those of the rows of training" in same.result(60).note
    divided = start("miprov2", valset=None, **SMALL["miprov2"])
    found = divided.result(60)
    assert found.trials[0].rows == 7
    assert "Of 9 rows it takes 7 for validation." in divided.settings["plan"]["notes"]
    assert "rows of training" not in found.note
    halves = start("infer_rules", valset=None, **SMALL["infer_rules"])
    assert halves.result(60).trials[0].rows == 5


def test_what_was_optimized_can_be_optimized_again(start: Start) -> None:
    first = start("bootstrap").result(60).program
    again = start("bootstrap", program=first).result(60)
    assert again.after is not None
    assert again.before == start("bootstrap").result(60).after


def test_a_part_that_is_marked_as_compiled_is_left_alone_and_not_lost(start: Start, tmp_path: Path) -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.open = dspy.ChainOfThought(program().signature), program()

        def forward(self, message: str) -> Any:
            self.frozen(message=message)
            return self.open(message=message)

    whole = Two()
    whole.frozen.predict.demos = [dspy.Example(**rows(1)[0])]
    whole.frozen._compiled = True
    job = start("labeled", program=whole, k=2)
    found = job.result(60)
    assert "frozen: marked as compiled" in job.settings["plan"]["notes"][0]
    assert len(found.program.frozen.predict.demos) == 1
    assert len(found.program.open.demos) == 2
    assert set(found.program.dump_state()) == {"frozen.predict", "open"}
    assert [part.path for part in found.diff] == ["open"]
    assert whole.frozen._compiled


def test_infer_rules_leaves_the_class_of_a_signature_alone(place: Any, start: Start) -> None:
    class Coded(dspy.Signature):
        """Give the code."""

        message: str = dspy.InputField()
        code: str = dspy.OutputField()

    drawn = iter(range(100))

    def answer(prompt: Any) -> dict[str, str]:
        if "examples_text" in prompt.question:
            return {"reasoning": "", "natural_language_rules": f"Rule {next(drawn)}."}
        return {"code": "K7"}

    jobs = place.jobs(surroundings=lambda: Models(scripted_lm(answer)))
    found = start("infer_rules", program=dspy.Predict(Coded), jobs=jobs, **SMALL["infer_rules"]).result(60)
    assert Coded.instructions == "Give the code."
    assert "Please adhere" in found.program.signature.instructions
    texts = {t.candidate["self.instructions"] for t in found.trials if t.candidate}
    assert len(texts) == 3  # its candidates do not overwrite one another


def test_knn_is_a_program_that_can_be_copied_changed_and_awaited(start: Start) -> None:
    import asyncio

    found = start("knn", **SMALL["knn"]).result(60)
    assert found.diff == ()
    copied = found.program.deepcopy()
    copied.student.signature = copied.student.signature.with_instructions("Always K7.")
    assert found.program.student.signature.instructions == "Give the code."
    with dspy.context(lm=make_lm("offline")):
        message = rows(1, 4)[0]["message"]
        assert asyncio.run(found.program.acall(message=message)).code == found.program(message=message).code


def test_an_ensemble_of_given_programs(start: Start) -> None:
    members = [start("labeled", k=k).result(60).program for k in (2, 4)]
    found = start("ensemble", programs=members, size=1, reduce_fn=lambda answers: answers[0]).result(60)
    assert len(found.program.programs) == 2
    assert set(found.program.dump_state()) == {"programs[0]", "programs[1]"}
    assert [t.note for t in found.trials] == [None, None]


def test_subclasses_do_as_they_do(start: Start) -> None:
    class Mine(dspy.teleprompt.BootstrapFewShotWithOptuna):
        def compile(self, student: Any, *, trainset: Any, max_demos: int) -> Any:
            return student.reset_copy()

    found = start(Mine, num_candidate_programs=2).result(60)
    assert (found.optimizer, found.gain) == ("optuna", 0.0)
    given = dspy.Ensemble(reduce_fn=dspy.majority)
    assert start(given).result(60).optimizer == "ensemble"  # the best of a random search


def test_better_together_holds_rows_back_where_none_are_given(start: Start) -> None:
    found = start("better_together", valset=None, p="labeled").result(60)
    assert found.trials[0].rows == 1
    one = start("gepa", valset=None, max_metric_calls=20)
    one.wait(60)
    assert any("what it gains may not hold on others" in note for note in one.settings["plan"]["notes"])


class Failing(Teleprompter):
    def compile(self, student: Any, *, trainset: Any) -> Any:
        raise ValueError("out of ideas")


def test_better_together_takes_optimizers_of_its_own(start: Start) -> None:
    one = start("better_together").result(60)  # a random search
    assert one.after is not None
    assert one.program.lm is None
    gepa = {"optimizer": "gepa", "max_metric_calls": 20}
    other = start("better_together", p=gepa, seed=2).result(60)
    assert other.before == one.before
    made = dspy.BetterTogether(metric=None, x=dspy.LabeledFewShot(k=2))  # type: ignore[arg-type]
    third = start(made, strategy="x").result(60)
    assert third.after is not None
    failing = dspy.BetterTogether(metric=None, x=Failing())  # type: ignore[arg-type]
    assert "A step of it failed" in start(failing, strategy="x").result(60).note


def test_a_pipeline_is_optimized_as_a_module(start: Start) -> None:
    import dspex_lab as dx

    line = dx.pipeline("codes", shout=dx.step(shout, replaces=True), code=program())
    student = line.as_module()
    found = start("miprov2", program=student, **SMALL["miprov2"]).result(60)
    assert set(found.trials[0].candidate or {}) == {"code.instructions"}
    assert found.after is not None
    assert [name for name, _ in found.program.named_predictors()] == ["code"]


def shout(message: str) -> dict[str, str]:
    return {"message": message.upper()}
