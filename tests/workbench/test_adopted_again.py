"""What is in use is not adopted twice, and is found again when its pipeline is defined again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dspy
import pytest
from adopting_helpers import own_state, ready, says
from job_helpers import GATES, ROWS, Finds, better, clean, exact, found, support, taught

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import JobError
from dspex_lab.jobs import Reporter, Work
from dspex_lab.testing import scripted_lm

__all__ = ["own_state", "ready"]


def test_rows_held_out_later_are_scored_by_the_jobs_own_metric(ready: Lab) -> None:
    job = ready.optimize("support", optimizer="labeled", trainset=ROWS, metric=exact, pool=None, seed=1).wait(60)
    job.adopt(heldout=ROWS)
    row = ready.programs.in_use("support")
    assert row is not None
    assert "held-out rows: better: +1" in (row.reason or "")


def test_what_is_in_use_already_is_not_adopted_again(ready: Lab) -> None:
    job = found(ready, "support")
    job.adopt()
    with pytest.raises(JobError, match=r"What job 1 found is in use already, as version 2 of 'support'"):
        job.adopt()
    assert [row.version for row in ready.programs["support"]] == [2, 1]
    job.rollback()
    assert says(ready) == "wrong", "what was in use before is back"
    assert "was taken back" in job.progress.note
    job.adopt()
    assert says(ready) == "right"


def test_the_values_of_a_function_are_not_adopted_again(ready: Lab) -> None:
    ready.variables.int("k", 0, 9, default=1)
    job = ready._start(Finds(values={"k": 7}), ready._program(clean, None)[1], None, settings={}).wait(60)
    job.adopt()
    with pytest.raises(JobError, match="in use already"):
        job.adopt()
    job.rollback()
    assert ready.variables.get("k") == 1


def test_a_cell_that_runs_again_finds_what_was_adopted(ready: Lab, caplog: pytest.LogCaptureFixture) -> None:
    job = found(ready, "support")
    job.adopt()
    ready.pipelines["support"] = support()
    assert says(ready) == "right"
    job.rollback()
    ready.pipelines["support"] = support()
    assert says(ready) == "wrong"
    job.adopt()
    own = ready.pipelines["support"].with_modules(better(ready, "support", "By hand."))
    ready.pipelines["support"] = own
    assert ready.pipelines["support"] is own, "what was changed by hand stays"
    assert "version 3 of support is not in use any more: it is defined in another way" in caplog.text
    ready.pipelines.update(support=support())
    assert says(ready) == "right"


def test_a_pipeline_whose_variables_have_the_values_is_defined_again_as_it_is(ready: Lab) -> None:
    ready.expose("support")
    found(ready, "support").adopt()
    ready.variables.commit({"support.triage.instructions": "Carefully, and by hand."})
    ready.pipelines["support"] = support()
    assert says(ready) == "right"
    assert ready.variables["support.triage.instructions"].value == "Carefully, and by hand."


def _limited(message: str, words: int = 5) -> str:
    return " ".join(message.split()[:words])


def _desk() -> Any:
    return dx.pipeline("desk", message=dx.step(_limited, replaces=True), triage=dx.predict("message -> label"))


def test_parameters_of_native_steps_come_back_with_the_pipeline(tmp_path: Any) -> None:
    store = tmp_path / "lab.duckdb"
    with Lab(store) as lab:
        lab.pipelines["desk"] = _desk()
        lab.expose("desk")
        work = Finds(values={"desk.message.words": 3})
        lab._start(work, lab._program("desk", None)[1], None, settings={}).wait(60).adopt()
    with Lab(store) as lab:
        lab.pipelines["desk"] = _desk()
        assert lab.pipelines["desk"].steps["message"].target(message="a b c d e f") == "a b c", "as it was adopted"
        own = _desk().with_steps({"message": dx.step(_others, replaces=True)})
        lab.pipelines["desk"] = own
        assert lab.pipelines["desk"] is own, "another default was written by hand"


def _others(message: str, words: int = 7) -> str:
    return " ".join(message.split()[:words])


# ---- versions that differ by their variables alone -------------------------------------------------------------------


def _adopted(lab: Lab, values: dict[str, Any]) -> Any:
    work = Finds(values=values, kind="tune")
    return lab._start(work, lab._program("desk", None)[1], None, settings={}).wait(60).adopt()


@dataclass(frozen=True)
class Words(Work):
    """Finds three words until it is stopped, and fewer when it goes on."""

    kind: str = "tune"

    def run(self, reporter: Reporter) -> Any:
        while reporter.attempt == 1 and not reporter.stopping:
            GATES["never"].wait(0.01)
        return Finds(values={"desk.message.words": 4 - reporter.attempt}, kind="tune")


def test_values_that_a_job_found_when_it_went_on_are_adopted_too(ready: Lab) -> None:
    GATES["never"].clear()
    ready.pipelines["desk"] = _desk()
    ready.expose("desk")
    job = ready._start(Words(), ready._program("desk", None)[1], None, settings={})
    job.stop(wait=True).adopt()
    assert ready.variables["desk.message.words"].value == 3
    job.resume().wait(60).adopt()
    assert ready.variables["desk.message.words"].value == 2
    with pytest.raises(JobError, match="in use already, as version 3"):
        job.adopt()


def test_a_variable_that_was_set_by_hand_since_is_brought_back_too(ready: Lab) -> None:
    ready.pipelines["desk"] = _desk()
    found(ready, "desk").adopt()
    ready.expose("desk")
    ready.variables.commit({"desk.message.words": 2})
    job = _adopted(ready, {"desk.message.words": 4})
    assert [row.reason for row in ready.programs["desk"]][1] == "version 2, with its variables"
    assert ready.run("desk", message="a b c d e")["message"] == "a b c d"
    job.rollback()
    assert ready.run("desk", message="a b c d e")["message"] == "a b"


def test_a_pipeline_that_is_found_again_was_not_changed_by_hand(tmp_path: Any) -> None:
    store = tmp_path / "lab.duckdb"
    with Lab(store) as lab:
        lab.pipelines["desk"] = _desk()
        lab.expose("desk")
        _adopted(lab, {"desk.message.words": 3})
    with Lab(store) as lab:
        lab.pipelines["desk"] = _desk()
        found(lab, "desk").adopt()
        assert [row.parent for row in lab.programs["desk"]] == [2, 1, None]


# ---- what is in use, and what is at hand -----------------------------------------------------------------------------


def test_who_runs_a_pipeline_that_was_replaced_is_told_once(ready: Lab, caplog: pytest.LogCaptureFixture) -> None:
    held = ready.pipelines["support"]
    job = found(ready, "support")
    job.adopt()
    said = "the pipeline 'support' that runs here is not its version 2, which is in use"
    for _ in range(2):
        assert ready.run(held, message="a")["label"] == "wrong"
    assert caplog.text.count(said) == 1
    ready.pipelines["support"] = made = support()
    ready.run(made, message="a")
    assert caplog.text.count(said) == 2
    caplog.clear()
    assert ready.run(ready.pipelines["support"], message="a")["label"] == "right"
    job.rollback()
    assert ready.run("support", message="a")["label"] == "wrong"
    assert said not in caplog.text


def test_every_way_to_define_a_pipeline_finds_what_was_adopted(ready: Lab) -> None:
    found(ready, "support").adopt()
    ready.pipelines.update(support=support())
    assert says(ready) == "right"
    del ready.pipelines["support"]
    ready.pipelines.setdefault("support", support())
    assert says(ready) == "right"
    with pytest.raises(TypeError, match="unsupported operand"):
        ready.pipelines |= {"support": support()}  # type: ignore[operator]
    assert (list(ready.pipelines), len(ready.pipelines)) == (["support"], 1)
    assert repr(ready.pipelines).startswith("{'support': Pipeline('support'")


def test_a_program_whose_model_has_an_engine_without_a_state_is_adopted(ready: Lab) -> None:
    module = dspy.Predict("message -> label")
    module.lm = scripted_lm(taught)  # whose engine has a function
    job = found(ready, module, name="mine")
    job.adopt()
    assert module.signature.instructions == "Carefully!"
    ready.pipelines["own"] = dx.pipeline("own", triage=dx.step(dx.predict("message -> label"), lm=scripted_lm(taught)))
    found(ready, "own").adopt()
    assert ready.run("own", message="a")["label"] == "right"
