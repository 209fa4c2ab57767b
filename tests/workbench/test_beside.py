"""An optimizer beside a tune job: both write one space, each its own variables, and what gained what is said."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from adopting_helpers import own_state, ready
from job_helpers import ROWS, exact

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import ConfigurationError

MOVED = ["support.triage.temperature"]


__all__ = ["own_state", "ready"]


def _tuned(lab: Lab, x: Any = "support", **more: Any) -> Any:
    usual = {"variables": MOVED, "metric": exact, "data": ROWS[:8], "heldout": ROWS[8:], "trials": 3, "pool": None, "seed": 1}
    return lab.tune(x, **{**usual, "beside": {"optimizer": "labeled", "k": 2, "rounds": 2}, **more})


@pytest.mark.parametrize("kind", ["pipeline", "module"])
def test_demonstrations_are_written_while_a_temperature_is_searched(ready: Lab, kind: str) -> None:
    module = dspy.Predict("message -> label")
    if kind == "module":
        ready.expose(module, prefix="support.triage")
    before = ready.variables.values() if kind == "module" else None
    job = _tuned(ready, "support" if kind == "pipeline" else module)
    found = job.result(120)
    assert [each.status for each in found.rounds] == ["committed", "rejected"]
    assert (found.rounds[0].before, found.rounds[0].after) == (0.0, 1.0)
    assert found.attribution.means == {"neither": 0.0, "first": 0.0, "second": 1.0, "both": 1.0}
    assert found.attribution.rows == len(ROWS[8:]), "what each gained is measured on the held-out rows"
    assert len(ready.variables["support.triage.demos"].value) == 2
    assert {row.who for row in ready.variables.history("support.triage.demos")} >= {"optimizer"}
    assert job.settings["settings"]["beside"] == "labeled"
    assert "unkept" not in job.settings, "it goes on after a restart"
    assert ready.run("support", message="x").outputs["label"] == ("right" if kind == "pipeline" else "wrong")
    if before is not None:
        ready.variables.rollback(1)
        assert ready.variables.values() == before


def test_the_optimizer_may_learn_from_rows_of_its_own(ready: Lab) -> None:
    ready.dataset("tickets", [{**row, "message": f"own {n}"} for n, row in enumerate(ROWS)], split={"train": 0.5, "val": 0.5})
    job = _tuned(ready, beside={"optimizer": "labeled", "k": 2, "trainset": "tickets.train", "valset": "tickets.val"})
    assert [each.status for each in job.result(120).rounds] == ["committed"]
    messages = [demo["message"] for demo in ready.variables["support.triage.demos"].value]
    assert len(messages) == 2
    assert all(message.startswith("own ") for message in messages), "and not from those that the trials are scored on"
    with pytest.raises(ConfigurationError, match="no data set 'ticktes'"):
        _tuned(ready, beside={"optimizer": "labeled", "trainset": "ticktes"})


def test_the_optimizer_is_given_by_its_name_too(ready: Lab) -> None:
    job = _tuned(ready, beside="bootstrap")
    assert [each.status for each in job.result(120).rounds] == ["committed"]


def test_it_has_rows_of_its_own(ready: Lab) -> None:
    ready.dataset("lessons", [{"message": f"lesson {n}", "label": "right"} for n in range(3)])
    job = _tuned(ready, beside={"optimizer": "labeled", "k": 3, "trainset": "lessons", "valset": ROWS[:2]})
    assert [each.status for each in job.result(120).rounds] == ["committed"]
    shown = {demo["message"] for demo in ready.variables["support.triage.demos"].value}
    assert shown == {"lesson 0", "lesson 1", "lesson 2"}


@pytest.mark.parametrize(
    ("beside", "variables", "words"),
    [
        ("nothing_of_the_kind", MOVED, r"no optimizer"),
        ({"optimizer": "labeled", "k": 2, "candy": 1}, MOVED, r"candy"),
        ({"optimizer": "labeled", "k": 2, "rounds": 0}, MOVED, r"rounds=0 is no whole number, 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_run(ready: Lab, beside: Any, variables: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        _tuned(ready, beside=beside, variables=variables)
    assert list(ready.jobs) == []


def test_a_function_has_nothing_that_an_optimizer_could_write(ready: Lab) -> None:
    ready.variables.add("k", dx.variables.Int(1, 5))

    def answer(message: str, k: int = 1) -> dict[str, str]:
        return {"label": "right"}

    with pytest.raises(ConfigurationError, match=r"no instructions and demonstrations") as refused:
        _tuned(ready, answer, variables=["k"], beside="gepa")
    assert refused.value.key == "beside"
