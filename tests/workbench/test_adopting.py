"""What a job found is put to use if it is shown to be better, and is there after a restart."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from adopting_helpers import opened, own_state, ready, says
from job_helpers import GATES, ROWS, Finds, better, clean, exact, found

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import ConfigurationError, JobError, StoreError, VariableError
from dspex_lab.testing import scripted_lm
from dspex_lab.workbench._programs import imprint, put_state, state_of

__all__ = ["own_state", "ready"]

# ---- adopting --------------------------------------------------------------------------------------------------------


def test_what_is_shown_to_be_better_is_put_to_use_and_taken_back(ready: Lab) -> None:
    job = found(ready, "support", ROWS)
    job.adopt()
    assert says(ready) == "right"
    row = ready.programs.in_use("support")
    assert row is not None
    assert (row.version, row.parent, row.job_id, row.score) == (2, 1, job.id, 1.0)
    assert row.interval is not None
    assert row.interval[0] > 0.7
    assert "held-out rows: better: +1" in (row.reason or "")
    assert row.source is not None
    assert "Carefully!" in row.source
    assert ready.adoption is not None
    assert "+Carefully!" in repr(ready.adoption)
    assert "Carefully!" in ready.adoption._repr_html_()
    assert "it changed triage (lab.adoption shows how)" in repr(job)
    told = ready.sql("SELECT data->>'adopted' AS adopted FROM events WHERE name = 'job.adopt'")
    assert list(told["adopted"]) == ["true"]
    job.rollback()
    assert says(ready) == "wrong"
    assert [r.in_use for r in ready.programs["support"]] == [False, True]
    with pytest.raises(JobError, match="was not adopted"):
        job.rollback()


def test_what_is_not_shown_to_be_better_is_refused_with_the_figures(ready: Lab) -> None:
    job = found(ready, "support", ROWS, program=better(ready, "support", "Carelessly!"))
    with pytest.raises(
        JobError, match=r"Job 1 is not adopted.*on the held-out rows no difference is shown: \+0 .*12 rows.*0 against 0"
    ) as refused:
        job.adopt()
    assert "force=True" in str(refused.value)
    assert len(ready.programs) == 0
    job.adopt(force=True, why="a try")
    row = ready.programs.in_use("support")
    assert row is not None
    assert (row.reason or "").startswith("a try (job 1, held-out rows: no difference shown")


def test_other_rows_can_be_held_out_later(ready: Lab) -> None:
    job = found(ready, "support")
    worse = [{**row, "label": "wrong"} for row in ROWS]
    with pytest.raises(JobError, match="worse: -1"):
        job.adopt(heldout=worse, metric=exact)
    with pytest.raises(JobError, match="no metric"):
        job.adopt(heldout=worse)
    job.adopt()
    row = ready.programs.in_use("support")
    assert row is not None
    assert "without held-out rows" in (row.reason or "")
    assert row.interval is None
    assert row.score == 1.0


def test_the_comparison_is_a_job_of_its_own(ready: Lab) -> None:
    job = found(ready, "support", ROWS)
    job.adopt()
    compared = ready.jobs.get("support: held out")
    assert compared.kind == "compare"
    assert compared.settings["parent"] == job.id


def test_a_module_is_changed_in_place(ready: Lab) -> None:
    module = dspy.ChainOfThought("message -> label")
    job = found(ready, module, ROWS, name="mine")
    before = module.predict.signature.instructions
    job.adopt()
    assert module.predict.signature.instructions == "Carefully!"
    assert ready.run(module, message="a")["label"] == "right"
    assert ready.programs.names == ["mine"]
    job.rollback()
    assert module.predict.signature.instructions == before


def test_values_of_an_exposed_program_are_committed_by_the_job(ready: Lab) -> None:
    ready.expose("support")
    job = found(ready, "support", ROWS)
    job.adopt()
    name = "support.triage.instructions"
    assert ready.variables[name].value == "Carefully!"
    last = ready.variables.history(name)[0]
    assert (last.who, last.author) == ("job", "optimize 1")
    assert last.score == 1.0
    assert ready.adoption is not None
    assert ready.adoption.values == {name: "Carefully!"}
    assert f"{name} = 'Carefully!'" in repr(ready.adoption)
    assert "Carefully!" in ready.adoption._repr_html_()
    assert says(ready) == "right"
    job.rollback()
    assert says(ready) == "wrong"


def test_what_is_no_setting_of_the_program_is_named(ready: Lab) -> None:
    ready.expose("support")
    ready.variables.int("mine.k", 0, 9, default=1)
    values = {"support.triage.instructions": "Carefully!", "mine.k": 5, "mine.b": 1}
    work = Finds(None, values=values, kind="tune")
    job = ready._start(work, ready._program("support", None)[1], None, settings={}).wait(60)
    job.adopt()
    assert "mine.k, mine.b are no settings of it and stay as before" in job.progress.note
    assert ready.variables["mine.k"].value == 1
    adoption = ready.adoption
    assert adoption is not None
    assert "it changed support.triage.instructions; mine.k" in adoption.said
    assert "lab.adoption" not in repr(adoption), "it is that"


def test_an_exposed_module_too(ready: Lab) -> None:
    module = dspy.Predict("message -> label")
    ready.expose(module, "own")
    job = found(ready, module)
    job.adopt()
    assert ready.variables["own.instructions"].value == "Carefully!"
    assert module.signature.instructions == "Carefully!"
    assert ready.programs.names == ["own"]


def test_a_variable_that_is_leased_or_pinned_is_not_written(ready: Lab) -> None:
    ready.expose("support")
    job = found(ready, "support")
    ready.variables.pin("support.triage.instructions")
    with pytest.raises(VariableError, match="pinned"):
        job.adopt()
    ready.variables.unpin("support.triage.instructions")
    with (
        ready.variables.lease("support.triage.instructions", owner="another"),
        pytest.raises(dx.VariableError, match="another"),
    ):
        job.adopt()
    assert says(ready) == "wrong"
    assert [row.version for row in ready.programs["support"] if row.in_use] == [1]


def test_what_was_changed_by_hand_since_is_kept_too(ready: Lab) -> None:
    found(ready, "support").adopt()
    own = ready.pipelines["support"]
    ready.pipelines["support"] = own.with_modules(better(ready, "support", "By hand."))
    job = found(ready, "support", ROWS)
    job.adopt()
    assert [row.reason for row in ready.programs["support"]][1] == "changed by hand since version 2"
    job.rollback()
    assert ready.pipelines["support"].as_module().triage.signature.instructions == "By hand."


def test_what_cannot_be_adopted_is_refused(ready: Lab) -> None:
    evaluation = ready.evaluate("support", data=ROWS[:1], metric=exact).wait(60)
    with pytest.raises(JobError, match="finds nothing that could be adopted"):
        evaluation.adopt()
    GATES["on"] = threading.Event()
    _, target = ready._program("support", None)
    going = ready._start(Finds(better(ready, "support"), gate="on"), target, None, settings={})
    with pytest.raises(JobError, match=r"is (waiting|running)"):
        going.adopt()
    GATES["on"].set()
    going.wait(60)
    with pytest.raises(ConfigurationError, match=r"A guard cannot be 'aut'.*auto"):
        going.adopt(guard="aut")
    wrapped = better(ready, "support")
    object.__setattr__(wrapped, "forward", lambda **fields: None)
    with pytest.raises(JobError, match=r"another forward\(\)"):
        found(ready, "support", program=wrapped).adopt()
    with pytest.raises(JobError, match="no program that could be adopted"):
        found(ready, "support", program=3).adopt()
    with pytest.raises(JobError, match=r"nothing that could be adopted"):
        ready._start(Finds(), ready._program(clean, None)[1], None, settings={}).wait(60).adopt()


def test_a_program_of_another_shape_is_refused_and_nothing_is_changed(ready: Lab) -> None:
    module = dspy.Predict("message -> label")
    with pytest.raises(JobError, match="state of another program"):
        found(ready, module, program=dspy.ChainOfThought("message -> label")).adopt()
    with pytest.raises(JobError, match="fields of 'self' are others"):
        found(ready, module, program=dspy.Predict("text -> label")).adopt()
    assert list(module.signature.input_fields) == ["message"]


def test_a_program_that_is_gone_is_named(ready: Lab) -> None:
    job = found(ready, "support")
    del ready.pipelines["support"]
    ready._adopting.targets._known.clear()
    with pytest.raises(JobError, match="does not know the pipeline 'support'"):
        job.adopt()
    module = dspy.Predict("message -> label")
    job = found(ready, module)
    ready._adopting.targets._known.clear()
    with pytest.raises(JobError, match=r"does not know the module 'predict'.*into=program"):
        job.adopt()
    other = dspy.Predict("message -> label")
    job.adopt(into=other)
    assert other.signature.instructions == "Carefully!"


def test_a_module_in_a_program_that_was_optimized_before_is_not_lost(ready: Lab) -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = dspy.Predict("message -> note"), dspy.Predict("note -> label")

        def forward(self, message: str) -> Any:
            return self.second(note=self.first(message=message).note)

    program, other = Two(), Two()
    other.first.signature = other.first.signature.with_instructions("Note.")
    other.first._compiled = True
    other.second.config = {"temperature": 0.5}
    other.second.demos = [dspy.Example(note="n", label="l")]
    kept = json.loads(json.dumps(state_of(other)))
    put_state(program, kept)
    assert program.first.signature.instructions == "Note."
    assert program.second.config == {"temperature": 0.5}
    assert [dict(demo) for demo in program.second.demos] == [{"note": "n", "label": "l"}]
    third = Two()
    imprint(third, other)
    assert (third.first.signature.instructions, third.second.config) == ("Note.", {"temperature": 0.5})


def test_of_a_model_of_its_own_only_the_name_is_kept() -> None:
    program, other = dspy.Predict("a -> b"), dspy.Predict("a -> b")
    lm = scripted_lm({"b": "x"})
    program.lm = lm
    kept = state_of(program)
    assert kept["self"]["lm"] is not None
    other.lm = lm
    put_state(other, kept)
    assert other.lm is lm
    put_state(other, state_of(dspy.Predict("a -> b")))
    assert other.lm is None
    put_state(other, {"self": {**kept["self"], "lm": "offline"}})
    assert other.lm is not None


# ---- after a restart -------------------------------------------------------------------------------------------------


def test_versions_are_there_after_a_restart_to_be_used_and_rolled_back(tmp_path: Path) -> None:
    store = tmp_path / "lab.duckdb"
    with Lab(store) as lab:
        opened(lab)
        found(lab, "support", ROWS).adopt(guard="auto")
        module = dspy.Predict("message -> label")
        found(lab, module, name="mine").adopt()
    with Lab(store) as lab:
        opened(lab)
        assert says(lab) == "right", "the cell that makes the pipeline finds what was adopted for it"
        assert lab.guard("support").mode == "auto"
        assert lab.programs.use("support").version == 2
        assert says(lab) == "right"
        lab.jobs[1].rollback()
        assert says(lab) == "wrong"
        other = dspy.Predict("message -> label")
        with pytest.raises(JobError, match="does not know"):
            lab.jobs["mine"].rollback()
        lab.jobs["mine"].rollback(into=other)
        assert other.signature.instructions != "Carefully!"
        assert "was rolled back" in repr(lab.programs)
        third = dspy.Predict("message -> label")
        lab.programs.use("mine", 2, into=third)
        assert third.signature.instructions == "Carefully!"


def test_the_table_of_programs_says_what_there_is(ready: Lab) -> None:
    assert "No versions" in repr(ready.programs)
    assert "No versions" in ready.programs._repr_html_()
    found(ready, "support", ROWS).adopt()
    assert list(ready.programs) == ["support"]
    lines = repr(ready.programs).splitlines()
    assert lines[0].split() == ["program", "version", "of", "score", "interval", "adopted", "state", "why"]
    assert "in use" in lines[1]
    assert "<table" in ready.programs._repr_html_()
    with pytest.raises(StoreError, match=r"No version of a program 'suport'.*support"):
        ready.programs["suport"]
    assert ready.programs.use("support", 1).version == 1
    assert says(ready) == "wrong"


def test_a_version_that_was_kept_masked_is_not_put_back(ready: Lab) -> None:
    secret = better(ready, "support", "Carefully! The key is sk-abcdefgh12345678901234.")
    job = found(ready, "support", program=secret)
    job.adopt()
    assert "sk-abcdefgh" in ready.pipelines["support"].as_module().triage.signature.instructions
    job.rollback()
    with pytest.raises(JobError, match="holds a secret and was kept masked"):
        ready.programs.use("support", 2)
    assert says(ready) == "wrong"
