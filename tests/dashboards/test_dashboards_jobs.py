"""The page on jobs: all of them, one with its scores, candidates and what they changed; nothing in it is run."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from guarded import EVIL, KEY
from page_helpers import opened_at, there_and_back

from dspex_lab.dashboards._jobs import drawn
from dspex_lab.dashboards._pages import JOBS, PAGES
from dspex_lab.events import TrialRecord
from dspex_lab.store import JobRow, JobTable, ProgramRow, ProgramTable, Store

opened = partial(opened_at, JOBS)


def added(lab: Any, name: str, **more: Any) -> JobRow:
    given = {"kind": "optimize", "state": "complete", "created": time.time(), "started": time.time() - 5, **more}
    row: JobRow = JobTable(lab.store).add(JobRow(job_id=f"id-{name}", name=name, **given))
    return row


def tried(lab: Any, name: str, *trials: TrialRecord) -> None:
    lab.store.write_many([trial._replace(job_id=f"id-{name}") for trial in trials])
    lab.store.flush()


def trial(number: int, score: float | None, parent: int | None = None, **more: Any) -> TrialRecord:
    given = {"status": "complete", "candidate": {"t.instructions": f"Say {number}."}, "cost": 0.01, **more}
    return TrialRecord("", number, parent, given.pop("status"), time.time(), 1.0, score, **given)


def test_without_jobs_the_page_says_so(lab: Any) -> None:
    page = opened(lab)
    assert "No jobs in this window" in page.jobs.view.object
    assert page.job.view.visible is False
    assert page.job_detail.view.object == ""
    assert page.job_scores.chart.chart is None
    assert "Jobs" in PAGES


def test_a_person_goes_to_the_page_and_back(lab: Any) -> None:
    there_and_back(JOBS, lab, "jobs")


def test_jobs_have_a_row_each_with_what_is_known(lab: Any) -> None:
    added(lab, "first", done=3, total=9, best=0.75, cost=0.5, calls=12, repeated=2, note=f"{EVIL} {KEY}")
    added(lab, "broken", state="failed", error=f"ValueError: {EVIL}")
    tried(lab, "first", trial(0, 0.5), trial(1, None, status="failed"), trial(2, 0.4, status="rejected"))
    html = opened(lab).jobs.view.object
    assert "<img" not in html
    assert KEY not in html
    for part in ("3 of 9", "0.75", "12 calls", "first", "failed", "ValueError"):
        assert part in html, part
    assert html.index("broken") < html.index("first"), "the newest first"


def test_a_job_whose_process_has_ended_under_it_is_interrupted(lab: Any) -> None:
    with Store(":memory:") as other:
        gone = JobTable(other).lab_id
    added(lab, "gone", state="running")
    book = JobTable(lab.store)
    book.lab_id = gone
    kept = book.row("id-gone")
    assert kept is not None
    assert book.save(replace(kept, version=1), ("running",))
    page = opened(lab)
    assert "interrupted" in page.jobs.view.object
    assert "(interrupted)" in next(iter(page.job._select.options))


def test_the_best_candidate_its_change_the_lineage_and_what_was_rejected_are_shown(lab: Any) -> None:
    added(lab, "one")
    tried(
        lab,
        "one",
        trial(0, 0.5, candidate={"t.instructions": "Say it."}),
        trial(1, 0.9, 0, candidate={"t.instructions": f"Say it well. {EVIL}"}, values={"k": 3}),
        trial(2, 0.4, 1, status="rejected", note="not better", candidate={"t.instructions": "Shout it."}),
    )
    html = opened(lab).job_detail.view.object
    assert "<img" not in html
    assert "The best: trial 1, 0.9" in html
    assert "+Say it well." in html
    assert "-Say it." in html
    assert "k = 3" in html
    assert "Lineage" in html
    assert "Rejected (1)" in html
    assert "not better" in html
    assert html.count("<td") == 24


def test_another_job_is_looked_at_when_a_person_chooses_it(lab: Any) -> None:
    added(lab, "one")
    added(lab, "two")
    tried(lab, "one", trial(0, 0.25))
    page = opened(lab)
    assert page.job.value == 2
    assert "Job 2: optimize two" in page.job_detail.view.object
    page.job._select.value = 1
    assert "Job 1: optimize one" in page.job_detail.view.object
    assert "0.25" in page.job_detail.view.object
    added(lab, "three")
    page.update()
    assert page.job.value == 1, "a new job does not take the place of the one that is looked at"


def test_scores_are_drawn_with_the_best_until_each(lab: Any) -> None:
    trials = [trial(0, 0.5), trial(1, 0.8, status="rejected"), trial(2, None, status="failed"), trial(3, 0.6)]
    frame = drawn(trials)
    assert list(frame["trial"]) == [0, 1, 3]
    assert list(frame["best"]) == [0.5, 0.5, 0.6]
    added(lab, "one")
    tried(lab, "one", *trials)
    chart = json.dumps(opened(lab).job_scores.chart.chart)
    assert "step-after" in chart
    assert chart.count('"trial"') > 3


def test_what_was_adopted_is_listed(lab: Any) -> None:
    programs = ProgramTable(lab.store)
    programs.add(ProgramRow("support", "a", {}, time.time(), reason="as it was"))
    programs.add(ProgramRow("support", "b", {}, time.time(), score=0.9, reason=f"job 1 {EVIL}"))
    programs.adopt("support", 2, time.time())
    html = opened(lab).jobs.view.object
    assert "<img" not in html
    assert html.index("in use") < html.index("as it was")


@pytest.mark.parametrize("number", [None, 7])
def test_a_number_that_is_not_listed_shows_the_newest(lab: Any, number: int | None) -> None:
    from dspex_lab.dashboards._jobs_facts import job_facts

    added(lab, "one")
    found = job_facts(lab.store, None, number)
    assert found.chosen is not None
    assert found.chosen.number == 1
