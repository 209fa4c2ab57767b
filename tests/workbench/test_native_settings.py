"""Settings that are no part of a DSPy module, in jobs: tuned, adopted, taken back, and kept with each version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest
from adopting_helpers import own_state
from job_helpers import exact, model

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import VariableError
from dspex_lab.testing import scripted_lm

__all__ = ["own_state"]

ROWS = [{"message": f"message number {n}", "label": "right"} for n in range(12)]
WORDS, DEMOS, MODULE = "support.message.words", "support.triage.demos", "support.triage.module"


def first_words(message: str, words: int = 5) -> str:
    if not message.strip():
        raise ValueError("this message is empty")
    return " ".join(message.split()[:words])


def support() -> Any:
    return dx.pipeline("support", message=dx.step(first_words, replaces=True), triage=dspy.Predict("message -> label"))


@pytest.fixture
def ready(lab: Lab) -> Lab:
    lab.use(model())
    lab.pipelines["support"] = support()
    lab.expose("support")
    lab.variables.demos(DEMOS, candidates=[[], [{"message": "a", "label": "right"}]])
    return lab


def tuned(lab: Lab, names: list[str], pool: str | None = None) -> Any:
    job = lab.tune("support", variables=names, metric=exact, data=ROWS, trials=8, seed=1, pool=pool, parallel=1)
    job.wait(120)
    assert job.state == "complete", job.error
    return job


def test_taking_back_what_was_tuned_takes_back_a_parameter_of_a_native_step_too(ready: Lab) -> None:
    space = ready.variables
    job = tuned(ready, [DEMOS, WORDS])
    best = job.result().values
    assert best[WORDS] != 5
    assert len(best[DEMOS]) == 1
    job.adopt()
    assert (space[WORDS].value, len(space[DEMOS].value)) == (best[WORDS], 1)
    job.rollback()
    assert (space[WORDS].value, len(space[DEMOS].value)) == (5, 0)
    ready.programs.use("support", 2)
    assert (space[WORDS].value, len(space[DEMOS].value)) == (best[WORDS], 1)


def test_a_parameter_that_was_set_by_hand_is_a_version_of_its_own(ready: Lab) -> None:
    job = tuned(ready, [DEMOS])
    job.adopt()
    ready.variables[WORDS].set(2)
    tuned(ready, [DEMOS]).adopt()
    reasons = [row.reason for row in ready.programs["support"]]
    assert "changed by hand since version 2" in reasons
    ready.programs.use("support", 1)
    assert ready.variables[WORDS].value == 5


def test_a_version_comes_back_with_its_module(ready: Lab) -> None:
    space = ready.variables
    job = tuned(ready, [DEMOS])
    job.adopt()
    space[MODULE].set("ChainOfThought")
    job.rollback()
    assert (space[MODULE].value, len(space[DEMOS].value)) == ("Predict", 0)


@pytest.mark.parametrize("pool", [None, "general"])
def test_a_pipeline_whose_module_was_chosen_anew_can_be_tuned(ready: Lab, pool: str | None) -> None:
    ready.use(scripted_lm([{"reasoning": "so", "label": "right"}] * 100))  # one that travels
    ready.variables[MODULE].set("ChainOfThought")
    job = tuned(ready, [DEMOS, MODULE], pool)
    assert job.result().score == 1.0
    assert {each.values[MODULE] for each in job.result().tried} == {"Predict", "ChainOfThought"}


def test_a_value_that_may_not_be_any_more_is_named(ready: Lab) -> None:
    job = tuned(ready, [DEMOS])
    job.adopt()
    ready.variables[WORDS].set(3)
    ready.variables.int(WORDS, 1, 4)
    with pytest.raises(VariableError, match=WORDS):
        job.rollback()
    assert len(ready.variables[DEMOS].value) == 1


def test_after_a_restart_a_version_brings_its_parameters_back(tmp_path: Path) -> None:
    path = tmp_path / "lab.duckdb"
    with dx.Lab(path) as lab:
        lab.use(model())
        lab.pipelines["support"] = support()
        lab.expose("support")
        lab.variables[WORDS].set(3)
        lab.variables.demos(DEMOS, candidates=[[], [{"message": "a", "label": "right"}]])
        tuned(lab, [DEMOS, WORDS]).adopt()
        assert lab.variables[WORDS].value != 3
    with dx.Lab(path) as lab:
        lab.use(model())
        lab.pipelines["support"] = support()
        lab.programs.use("support", 1)
        assert lab.variables[WORDS].value == 3
        assert lab.run("support", message="one two three four")["message"] == "one two three"


def test_demonstrations_are_told_by_their_number(ready: Lab) -> None:
    job = tuned(ready, [DEMOS])
    assert f"{DEMOS} = 1 demonstration" in repr(job.result())
    assert f"{DEMOS} = 1 demonstration" in job.progress.note
    job.adopt()
    assert f"{DEMOS} = 1 demonstration" in repr(ready.adoption).splitlines()
    assert "<details open>" in ready.adoption._repr_html_()


def test_many_changed_demonstrations_are_folded_up(ready: Lab) -> None:
    many = [{"message": f"message {n}", "label": "right"} for n in range(30)]
    ready.variables.demos(DEMOS, candidates=[[], many])
    tuned(ready, [DEMOS]).adopt()
    assert "<details><summary>what changed in triage</summary>" in ready.adoption._repr_html_()


def test_rows_that_fail_in_a_step_in_the_same_way_count_as_one_error(ready: Lab) -> None:
    broken = [{"message": "  ", "label": "right"}, {"message": "", "label": "right"}, *ROWS]
    found = ready.evaluate("support", data=broken, metric=exact).result(60)
    assert found.errors == {"step 'message' failed: ValueError: this message is empty": 2}
    assert found.note == "2 of 14 rows failed: step 'message' failed: ValueError: this message is empty"
    assert repr(found).startswith("support: ")
