"""What was adopted is watched, and taken back where it is found bad."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from adopting_helpers import opened, own_state, ready, says
from hypothesis import given, settings
from hypothesis import strategies as st
from job_helpers import ROWS, exact, found, model, support

from dspex_lab import Lab
from dspex_lab.errors import ConfigurationError
from dspex_lab.workbench._watching import ALPHA, evidence

__all__ = ["own_state", "ready"]


def test_when_people_find_it_bad_the_version_before_comes_back_by_itself(ready: Lab) -> None:
    found(ready, "support", ROWS).adopt(guard="auto")
    for n in range(30):
        ready.feedback(ready.run("support", message=f"m{n}"), "down")
        if says(ready) == "wrong":
            break
    assert 2 <= n <= 10
    row = ready.programs.in_use("support")
    assert row is not None
    assert row.version == 1
    assert "version 2 was taken back: its live score has fallen" in (row.reason or "")
    assert "what people said" in (row.reason or "")
    told = ready.sql("SELECT data FROM events WHERE name = 'job.adopt' AND data->>'evidence' IS NOT NULL")
    kept = json.loads(told["data"][0])
    assert (kept["program"], kept["version"], kept["good"], kept["guard"]) == ("support", 2, 1, "auto")
    assert kept["mean"] == 0.0
    assert kept["baseline"] > 0.7
    with pytest.raises(ConfigurationError, match="Nothing that a job found is in use"):
        ready.guard("support")


def test_it_is_only_suggested_where_that_was_said_and_once(ready: Lab, caplog: pytest.LogCaptureFixture) -> None:
    found(ready, "support", ROWS).adopt()
    assert ready.guard("support").mode == "suggest"
    for n in range(12):
        ready.feedback(ready.run("support", message=f"m{n}"), "down")
    assert says(ready) == "right"
    said = [r.message for r in caplog.records if "has fallen" in r.message]
    assert len(said) == 1
    assert "lab.programs.use('support', 1) brings version 1 back" in said[0]


def test_good_runs_keep_it_and_off_is_off(ready: Lab) -> None:
    found(ready, "support", ROWS).adopt(guard="auto")
    for n in range(10):
        ready.feedback(ready.run("support", message=f"m{n}"), "up")
    assert says(ready) == "right"
    watch = ready.guard("support", "off")
    for n in range(40):
        ready.feedback(ready.run("support", message=f"n{n}"), "down")
    assert watch.evidence is not None
    assert watch.evidence.fallen
    assert says(ready) == "right"
    ready.guard("support", "auto")
    assert says(ready) == "wrong"


def test_a_metric_on_its_runs_watches_it_too(ready: Lab) -> None:
    job = found(ready, "support", ROWS)
    job.adopt(guard="auto")

    def short(example: Any, prediction: Any) -> float:
        if example.message == "broken":
            raise ValueError("no score")
        return float(len(example.message) < 5)

    back: list[Any] = []
    done = threading.Event()

    def told(record: Any) -> None:
        if getattr(record, "name", "") == "job.adopt" and (record.data or {}).get("back"):
            back.append(record)
            done.set()

    ready.bus.subscribe(told)
    watch = ready.guard("support", metric=short)
    assert "the metric short on its runs" in repr(watch)
    ready.run("support", message="broken")
    ready.run("support", message="ok")
    assert watch.scores == [1.0], "a metric that fails says nothing"
    ready.feedback(None, "down")
    assert watch.scores == [1.0], "one source at once"
    for _ in range(12):
        ready.run("support", message="much too long")
        if done.is_set():
            break
    assert done.wait(30)
    assert says(ready) == "wrong"


def test_what_was_said_before_a_restart_counts(tmp_path: Path) -> None:
    store = tmp_path / "lab.duckdb"
    with Lab(store) as lab:
        opened(lab)
        found(lab, "support", ROWS).adopt(guard="auto")
        lab.feedback(lab.run("support", message="x"), "down")
        early = lab.guard("support").scores
    with Lab(store) as lab:
        opened(lab)
        watch = lab.guard("support")
        assert watch.scores == early == [0.0]
        assert watch.mode == "auto"


def test_a_score_that_is_none_of_0_to_1_needs_a_baseline(ready: Lab) -> None:
    found(ready, "support", score=42.0).adopt()
    assert "give baseline=" in repr(ready.guard("support"))
    assert ready.guard("support").evidence is None
    watch = ready.guard("support", baseline=0.5)
    assert "no live score yet" in repr(watch)


def test_without_a_version_before_it_is_said(ready: Lab, caplog: pytest.LogCaptureFixture) -> None:
    found(ready, "support", ROWS).adopt(guard="auto")
    guards = ready._adopting.guards
    guards._table = type("Table", (), {"last_good": lambda self, name: None})()
    for n in range(12):
        ready.feedback(ready.run("support", message=f"m{n}"), "down")
    assert "there is no version before it" in caplog.text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0, 1))
def test_the_evidence_never_takes_an_alarm_back_and_says_nothing_of_good_scores(scores: list[float], baseline: float) -> None:
    found = evidence(scores, baseline)
    more = evidence([*scores, 1.0], baseline)
    assert more.wealth >= found.wealth
    assert evidence([1.0] * len(scores), baseline).fallen is False
    assert (found.mean is None) == (not scores)
    assert str(found)


def test_false_alarms_are_as_rare_as_they_are_said_to_be() -> None:
    draw = random.Random(7)
    alarms = sum(evidence([float(draw.random() < 0.8) for _ in range(150)], 0.8).fallen for _ in range(200))
    assert alarms / 200 <= 2 * ALPHA
    assert all(evidence([float(draw.random() < 0.3) for _ in range(60)], 0.8).fallen for _ in range(50))


def test_people_are_heard_after_a_restart_before_anybody_has_asked_for_the_jobs(tmp_path: Path) -> None:
    store = tmp_path / "lab.duckdb"
    with Lab(store) as lab:
        found(opened(lab), "support", ROWS).adopt(guard="auto")
    with Lab(store) as lab:
        lab.use(model())
        lab.feedback(lab.run(support(), message="x"), "down")
        assert lab._jobs is not None
        assert lab.guard("support").scores == [0.0]


def test_one_thumb_down_does_not_take_back_what_was_right_on_a_few_rows(ready: Lab) -> None:
    job = ready.optimize("support", optimizer="labeled", trainset=ROWS[:6], metric=exact, pool=None, seed=1).wait(60)
    job.adopt(guard="auto")
    assert ready.guard("support").baseline == pytest.approx(0.6097, abs=0.001), "the lower end of 6 of 6"
    ready.feedback(ready.run("support", message="x"), "down")
    assert says(ready) == "right"
