"""The job widget and thumbs: what they show, ten times a second at most, what their buttons do, and their pictures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dspex_lab import Lab
from dspex_lab.events import Event, LMCall, TrialRecord
from dspex_lab.jobs import Job, Reporter, Work
from dspex_lab.widgets import JobWidget
from dspex_lab.widgets._job_facts import candidate_of, curve, facts_of
from dspex_lab.widgets._job_static import job_html, job_text

EVIL = "<img src=x onerror=alert(1)>"
KEY = "sk-abcdefgh12345678901234"
GATES: dict[str, threading.Event] = {}


@dataclass(frozen=True)
class Tries(Work):
    """Tries candidates, then waits at a gate."""

    trials: tuple[tuple[Any, ...], ...] = ()
    gate: str = ""
    fails: str = ""
    kind: str = "optimize"
    continues: bool = True

    def run(self, reporter: Reporter) -> Any:
        for score, more in self.trials:
            reporter.trial(score, **more)
        reporter.progress(len(self.trials), 10, f"{EVIL} {KEY}")
        if self.gate:
            while not GATES[self.gate].wait(0.01):
                if reporter.stopping:
                    return "best"
        if self.fails:
            raise ValueError(self.fails)
        reporter.progress(10, 10)
        return "best"


CANDIDATES = (
    (0.5, {"candidate": {"t.instructions": "Say it.", "t.demos": [{"a": 1}]}, "cost": 0.01, "rows": 5}),
    (0.9, {"candidate": {"t.instructions": f"Say it well. {EVIL}", "t.demos": []}, "parent": 0, "note": KEY}),
    (0.4, {"candidate": {"t.instructions": "Shout it."}, "parent": 1, "status": "rejected", "note": "not better"}),
    (None, {"values": {"k": 3, "t": 0.25}, "status": "failed", "error": f"ValueError: {EVIL}"}),
)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(":memory:") as made:
        yield made
        for gate in GATES.values():
            gate.set()


def going(lab: Lab, gate: str = "", **more: Any) -> Job:
    """Return a job that has ended, or with a gate one that stands before it, with all told on the bus that came before."""
    GATES[gate] = threading.Event()
    told = threading.Event()
    unsubscribe = lab.bus.subscribe(lambda record: told.set() if getattr(record, "name", "") == "job.progress" else None)
    job = lab.jobs.start(Tries(CANDIDATES, gate=gate, **more), name=f"support {EVIL}")
    if gate:
        assert told.wait(60)
    else:
        job.wait(60)
    unsubscribe()
    return job


# ---- what is shown ---------------------------------------------------------------------------------------------------


def test_a_job_under_way_says_how_far_it_is(lab: Lab) -> None:
    job = going(lab, "a")
    shown = facts_of(job)
    head = shown["head"]
    assert (head["number"], head["kind"], head["state"], head["buttons"]) == (1, "optimize", "running", ["stop"])
    assert (head["done"], head["best"], head["trials"]) == ("4 of 10", "best 0.9", "4 trials")
    assert head["fraction"] == 0.4
    assert KEY not in json.dumps(shown)
    assert shown["candidate"]["number"] == 3, "the last one, as long as it goes on"


def test_a_job_at_rest_shows_its_best_candidate_as_what_it_changed(lab: Lab) -> None:
    shown = facts_of(going(lab))
    assert shown["head"]["buttons"] == ["adopt"]
    assert shown["candidate"]["said"] == "Trial 1, made from 0: 0.9"
    assert shown["candidate"]["lines"] == [
        ["@", "t.instructions"],
        ["-", "Say it."],
        ["+", f"Say it well. {EVIL}"],
        ["@", "t.demos"],
        ["-", 'demonstration {"a": 1}'],
    ]
    assert [row["best"] for row in shown["trials"]] == [False, True, False, False]
    assert shown["trials"][3]["said"] == f"k = 3, t = 0.25 · ValueError: {EVIL}"
    assert shown["lineage"].splitlines() == ["0 0.5", "  1 0.9 ★", "    2 0.4 rejected", "3 failed"]
    assert shown["rejected"] == [{"number": 2, "why": "not better", "text": "Shout it."}]


def test_the_candidate_of_any_trial_can_be_looked_at(lab: Lab) -> None:
    job = going(lab)
    assert facts_of(job, 0)["candidate"]["lines"][1] == ["+", "Say it."]
    assert candidate_of(job.trials, 3)["lines"] == [["+", "k = 3"], ["+", "t = 0.25"]]
    assert candidate_of(job.trials, 99) == {"number": None, "said": "", "lines": []}


def test_scores_lie_in_their_box_and_many_are_thinned() -> None:
    trials = [TrialRecord("j", n, None, "complete", 0.0, 1.0, float(n % 7)) for n in range(3_000)]
    drawn = curve(trials)
    assert len(drawn["dots"]) == 400
    assert drawn["dots"][-1]["said"] == f"trial 2999: {2999 % 7}"
    assert all(0 <= dot["x"] <= 320 and 0 <= dot["y"] <= 72 for dot in drawn["dots"])
    assert (drawn["low"], drawn["high"]) == ("0", "6")
    assert curve([]) == {"dots": [], "line": "", "low": "", "high": ""}


def test_of_many_trials_the_last_ones_are_listed(lab: Lab) -> None:
    job = lab.jobs.start(Tries(tuple((0.1, {}) for _ in range(250)))).wait(60)
    shown = facts_of(job)
    assert (len(shown["trials"]), shown["hidden"]) == (200, 50)
    assert "50 earlier trials" in job_html(shown)


def test_what_is_spent_and_left_is_said(lab: Lab) -> None:
    GATES["b"] = threading.Event()
    job = lab.jobs.start(Tries(CANDIDATES, gate="b"), budget="$2, 100 calls, 9k tokens")
    next(event for event in job.events() if event.name == "job.progress")
    head = facts_of(job)["head"]
    assert head["left"].endswith("$2.00 left to spend, 100 calls left, 9,000 tokens left")
    call = LMCall("c", None, job.id, None, "m", 0.0, 1.0, 10, 5, 0.5, False, False, None)
    from dspex_lab.jobs._told import Batch, Called

    job._account.take(Batch((Called(call), Called(call._replace(cache_hit=True)), Called(call._replace(cost=None)))), 1)
    head = facts_of(job)["head"]
    assert head["spent"] == "$0.500, 2 calls, 1 cached, 1 without a known price"
    GATES["b"].set()
    job.wait(60)


def test_a_failed_job_says_why(lab: Lab) -> None:
    shown = facts_of(going(lab, fails=f"no {EVIL}"))
    assert shown["head"]["error"] == f"no {EVIL}"
    assert shown["head"]["buttons"] == ["resume"]
    html = job_html(shown)
    assert "<img" not in html
    assert "no &lt;img" in html


# ---- live ------------------------------------------------------------------------------------------------------------


def test_it_follows_the_job_and_pushes_ten_times_a_second_at_most(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    job = going(lab, "c")
    widget = JobWidget(job, lab.bus)
    widget.INTERVAL = 3_600.0
    widget._pushed = time.monotonic()
    pushes: list[Any] = []
    widget.observe(lambda change: pushes.append(change), "facts")
    for n in range(50):
        lab.bus.emit(TrialRecord(job.id, n, None, "complete", 0.0, 1.0, 0.1))
    lab.bus.emit(Event("job.progress", 0.0, data={"job_id": "another"}))
    assert pushes == []
    assert widget._timer is not None
    GATES["c"].set()
    job.wait(60)
    widget.flush()
    assert len(pushes) == 1
    assert widget.facts["head"]["state"] == "complete"
    widget.flush()
    assert len(pushes) == 1, "what has not changed is not pushed"
    widget.close()
    widget.close()
    lab.bus.emit(TrialRecord(job.id, 99, None, "complete", 0.0, 1.0, 0.1))
    assert widget._timer is None


def test_its_last_state_is_pushed_by_itself(lab: Lab) -> None:
    job = going(lab, "d")
    widget = JobWidget(job, lab.bus)
    widget.INTERVAL = 0.0
    ended = threading.Event()
    widget.observe(lambda change: ended.set() if change["new"]["head"]["state"] == "complete" else None, "facts")
    GATES["d"].set()
    assert ended.wait(30)
    widget.close()


def test_the_stop_button_stops_the_job(lab: Lab) -> None:
    job = going(lab, "e")
    widget = JobWidget(job, lab.bus)
    widget._message(widget, {"type": "stop"}, [])
    job.wait(60)
    assert job.state == "stopped"
    assert widget._doing is not None
    widget._doing.join(30)
    assert widget.answered == {"n": 1, "deed": "stop", "error": ""}
    widget._changed()
    widget.flush()
    assert widget.facts["head"]["buttons"] == ["resume", "adopt"]
    GATES["e"].set()
    widget._message(widget, {"type": "resume"}, [])
    widget._doing.join(30)
    job.wait(60)
    assert job.state == "complete"
    widget.close()


def test_what_is_refused_is_said(lab: Lab) -> None:
    job = going(lab)
    widget = JobWidget(job, lab.bus)
    widget._message(widget, {"type": "adopt"}, [])
    assert widget._doing is not None
    widget._doing.join(30)
    assert "does not know" in widget.answered["error"]
    widget.close()


@pytest.mark.parametrize(
    "content",
    ["stop", {"type": "stop"}, {"type": "rollback"}, {"type": "look", "number": "1"}, {"type": "look", "number": True}, {}],
)
def test_nothing_else_that_a_browser_says_is_done(lab: Lab, content: Any) -> None:
    widget = JobWidget(going(lab), lab.bus)
    widget._message(widget, content, [])
    assert widget._doing is None
    assert widget.candidate["number"] == 1
    widget.close()
    widget._message(widget, {"type": "adopt"}, [])
    assert widget._doing is None


def test_another_trial_is_looked_at(lab: Lab) -> None:
    widget = JobWidget(going(lab), lab.bus)
    widget._message(widget, {"type": "look", "number": 0}, [])
    assert widget.candidate["number"] == 0
    widget._changed()
    widget.flush()
    assert widget.candidate["number"] == 0
    widget.close()


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_the_picture_has_no_script_and_no_request(lab: Lab) -> None:
    widget = JobWidget(going(lab), lab.bus)
    html = widget.to_html()
    assert "<img" not in html
    assert "<script" not in html
    assert KEY not in html
    for part in ("Job 1: optimize support", "complete", "Lineage", "Rejected (1)", "Trials (4)", "dspex-added", "<circle"):
        assert part in html, part
    data, _ = widget._repr_mimebundle_()  # type: ignore[misc]
    assert {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(data)
    widget.close()
    assert widget._repr_html_() == html
    assert repr(widget).startswith("Job 1: optimize support")
    assert "best 0.9" in job_text(widget.facts)


def test_demonstrations_that_were_tuned_are_counted_and_not_written_out() -> None:
    demos = [{"message": "a", "label": "b"}] * 3
    trial = TrialRecord("j", 0, None, "complete", 0.0, 1.0, 0.5, values={"p.demos": demos, "none": [], "k": 3})
    assert candidate_of([trial], 0)["lines"] == [
        ["+", "p.demos = 3 demonstrations"],
        ["+", "none = 0 demonstrations"],
        ["+", "k = 3"],
    ]


def test_a_job_that_was_rolled_back_does_not_say_that_it_is_in_use(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    job = going(lab)
    adopter = lab.jobs.around.adopter
    monkeypatch.setattr(adopter, "adopt", lambda *a, **k: {"said": "version 2 is in use"})
    monkeypatch.setattr(adopter, "rollback", lambda *a, **k: None)
    head = facts_of(job.adopt())["head"]
    assert (head["adopted"], head["note"], head["buttons"]) == ("version 2 is in use", "", ["rollback"]), "it is said once"
    head = facts_of(job.rollback())["head"]
    assert (head["adopted"], head["note"], head["buttons"]) == ("", "What it found was in use, and was taken back.", ["adopt"])
