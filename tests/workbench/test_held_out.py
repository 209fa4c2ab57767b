"""Rows that a job does not see: they are looked at before it is paid for, and nothing is adopted past them without a word."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from adopting_helpers import own_state, ready, says
from job_helpers import GATES, ROWS, Finds, better, exact, found, support

from dspex_lab import Lab
from dspex_lab.errors import ConfigurationError, JobError
from dspex_lab.testing import scripted_lm

__all__ = ["own_state", "ready"]

MOVED = ["support.triage.temperature"]
SECRET = "sk-" + "aB3" * 16


# ---- before it begins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heldout", "said"),
    [
        ([{"text": "a", "label": "right"}], r"Row 0 of 'heldout' has no field 'message'"),
        ([*ROWS[:2], {"message": "a"}], r"Row 2 of 'heldout' has no field 'label'"),
        ([{"message": "a"}], r"Row 0 of 'heldout' has no field 'label'"),
        ([], "heldout has no rows"),
    ],
)
def test_held_out_rows_on_which_nothing_could_be_compared_are_refused_at_once(ready: Lab, heldout: Any, said: str) -> None:
    how = {"metric": exact, "heldout": heldout, "pool": None}
    with pytest.raises(ConfigurationError, match=said):
        ready.optimize("support", optimizer="labeled", trainset=ROWS, **how)
    with pytest.raises(ConfigurationError, match=said):
        ready.tune("support", variables=MOVED, data=ROWS, **how)
    with pytest.raises(ConfigurationError, match=said):
        ready.tune("support", variables=MOVED, data=ROWS, beside="labeled", **how)
    assert len(ready.jobs) == 0


def test_for_a_function_there_is_nothing_to_compare(ready: Lab) -> None:
    def guess(message: str, level: float) -> Any:
        return dspy.Prediction(label="right" if level > 0.5 else "wrong")

    ready.variables.float("level", 0.0, 1.0, default=0.0, step=0.5)
    how: dict[str, Any] = {"variables": ["level"], "metric": exact, "data": ROWS[:2], "trials": 2, "pool": None}
    with pytest.raises(ConfigurationError, match="only the values of variables are adopted"):
        ready.tune(guess, heldout=ROWS, **how)
    job = ready.tune(guess, **how).wait(60)
    with pytest.raises(ConfigurationError, match="only the values of variables are adopted"):
        job.adopt(heldout=ROWS)


def test_a_file_of_held_out_rows_is_read_before_the_job_begins(ready: Lab, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("message,label\n" + "".join(f"{row['message']},right\n" for row in ROWS))
    job = ready.optimize("support", optimizer="labeled", metric=exact, trainset=ROWS, heldout=str(file), pool=None, seed=1)
    file.unlink()
    job.wait(60).adopt()
    assert "held-out rows: better: +1" in str(job.progress.note)
    assert job.settings["settings"]["heldout"] == "12 rows"


# ---- when its result is adopted --------------------------------------------------------------------------------------


def test_what_was_to_be_compared_is_not_adopted_where_the_rows_are_not_kept(ready: Lab) -> None:
    rows = [{**row, "message": f"my key is {SECRET}"} for row in ROWS]
    job = found(ready, "support", rows)
    with pytest.raises(JobError, match=r"rows that were held out for it are not kept: it holds a secret\. Give them"):
        job.adopt()
    assert says(ready) == "wrong"
    assert len(ready.programs) == 0
    job.adopt(heldout=rows, metric=exact)
    assert says(ready) == "right"


def test_held_out_rows_that_were_lost_are_missed(ready: Lab) -> None:
    _, target = ready._program("support", None)
    job = ready._start(Finds(better(ready, "support")), target, None, settings={"heldout": "12 rows"}).wait(60)
    with pytest.raises(JobError, match="rows that were held out for it are not kept"):
        job.adopt()
    job.adopt(force=True)
    assert "without held-out rows to compare on" in job.progress.note


def test_who_adopts_does_not_wait_for_other_jobs(ready: Lab) -> None:
    job = found(ready, "support", ROWS)
    GATES["busy"] = threading.Event()
    _, target = ready._program("support", None)
    busy = [ready._start(Finds(gate="busy"), target, None, settings={}) for _ in range(ready.jobs.limit)]
    job.adopt()
    assert says(ready) == "right"
    assert {each.state for each in busy} == {"running"}
    GATES["busy"].set()
    for each in busy:
        each.wait(60)


def test_what_was_changed_while_it_was_compared_is_compared_anew(ready: Lab) -> None:
    one, other = found(ready, "support", program=better(ready, "support", "Carefully, first!")), found(ready, "support")

    first = threading.Lock()

    def meanwhile(example: Any, prediction: Any) -> float:
        with first:
            if "adopted" not in one.settings:
                one.adopt()
        return exact(example, prediction)

    with pytest.raises(JobError, match=r"'support' was changed while it was compared with it\. .*in use now"):
        other.adopt(heldout=ROWS, metric=meanwhile)
    assert [(row.version, row.in_use, row.job_id) for row in ready.programs["support"]] == [
        (2, True, one.id),
        (1, False, None),
    ]
    other.adopt()
    assert [row.parent for row in ready.programs["support"]] == [2, 1, None]


def test_a_program_that_fails_on_all_rows_can_be_replaced(lab: Lab) -> None:
    def only_carefully(prompt: Any) -> Any:
        return {"label": "right"} if "Carefully" in prompt.task.instructions else "no field at all"

    lab.use(scripted_lm(only_carefully))
    lab.pipelines["support"] = support()
    job = found(lab, "support", ROWS)
    with pytest.raises(JobError, match=r"Job 1 is not adopted: it was not compared.*All 12 rows failed(.|\n)*force=True"):
        job.adopt()
    job.adopt(force=True)
    assert says(lab) == "right"
    assert "not compared on the held-out rows: job 3, which was to, failed" in job.progress.note
