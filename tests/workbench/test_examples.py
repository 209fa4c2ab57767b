"""Feedback on runs, examples made of them, and data sets."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from job_helpers import ROWS, exact

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import ConfigurationError, StoreError
from dspex_lab.jobs import Dataset
from dspex_lab.testing import scripted_lm


def label(message: str) -> dict[str, Any]:
    if "fail" in message:
        raise ValueError(message)
    return {"label": "wrong" if "bad" in message else "right", "size": len(message)}


@pytest.fixture
def ready(lab: Lab) -> Lab:
    lab.pipelines["support"] = dx.pipeline("support", triage=dx.step(label, outputs=["label", "size"]))
    return lab


def messages(examples: Any) -> list[str]:
    return [example.message for example in examples]


# ---- feedback --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kept"),
    [(1, "good"), ("up", "good"), (True, "good"), ("👎", "bad"), (-1, "bad"), (" Down ", "bad"), (False, "bad")],
)
def test_a_thumb_is_kept(ready: Lab, said: Any, kept: str) -> None:
    result = ready.run("support", message="a")
    row = ready.feedback(result, said, note="because", who="ada")
    assert (row.verdict, row.run_id, row.note, row.who) == (kept, result.run_id, "because", "ada")
    found = ready.sql("SELECT verdict, note, who FROM feedback")
    assert found.values.tolist() == [[kept, "because", "ada"]]


def test_the_last_run_is_meant_where_none_is_named(ready: Lab) -> None:
    with pytest.raises(ConfigurationError, match="no run yet"):
        ready.feedback(verdict="up")
    result = ready.run("support", message="a")
    assert ready.feedback(verdict="up").run_id == result.run_id
    assert ready.feedback(result.run_id, correction={"label": "x"}, step="triage").correction == {"label": "x"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"verdict": "perhaps"}, "'perhaps' is no verdict"),
        ({"verdict": 2}, "2 is no verdict"),
        ({}, "Nothing was said"),
        ({"correction": {"lable": "x"}}, "no field 'lable'.*Did you mean 'label'"),
        ({"verdict": "up", "step": "triag"}, "no step 'triag'"),
    ],
)
def test_what_makes_no_sense_is_refused(ready: Lab, arguments: dict[str, Any], message: str) -> None:
    ready.run("support", message="a")
    with pytest.raises(ConfigurationError, match=message):
        ready.feedback(**arguments)
    assert len(ready.sql("SELECT * FROM feedback")) == 0


def test_there_is_no_feedback_on_a_run_that_there_is_not(ready: Lab) -> None:
    with pytest.raises(StoreError, match="no run 'nowhere'"):
        ready.feedback("nowhere", "up")


# ---- examples --------------------------------------------------------------------------------------------------------


def test_runs_become_examples_with_their_inputs_said(ready: Lab) -> None:
    for message in ("one", "two"):
        ready.run("support", message=message)
    found = ready.examples("support")
    assert messages(found) == ["one", "two"]
    assert found[0].inputs().toDict() == {"message": "one"}
    assert found[0].labels().toDict() == {"label": "right", "size": 3}
    assert messages(ready.examples(ready.pipelines["support"])) == ["one", "two"]
    ready.map("support", [{"message": "three"}])
    assert messages(ready.examples("support")) == ["one", "two", "three"]


def test_failed_runs_are_never_examples(ready: Lab) -> None:
    ready.run("support", message="fail")
    ready.feedback(None, "up")
    assert ready.examples("support") == []
    with pytest.raises(ConfigurationError, match="not made of runs that are 'failed'"):
        ready.examples("support", status="failed")


def test_a_run_that_was_found_bad_is_left_out_unless_it_was_corrected(ready: Lab) -> None:
    for message in ("one", "bad", "worse bad"):
        ready.run("support", message=message)
        if "bad" in message:
            ready.feedback(None, "down")
    ready.feedback(None, correction={"label": "right"})
    found = ready.examples("support")
    assert [(e.message, e.label) for e in found] == [("one", "right"), ("worse bad", "right")]
    assert found[1].size == 9, "what was not corrected is as it was"


def test_a_correction_holds_whatever_is_said_after_it(ready: Lab) -> None:
    ready.run("support", message="bad")
    ready.feedback(None, "down", {"label": "a"})
    ready.feedback(None, None, {"size": 1})
    ready.feedback(None, "down")
    [found] = ready.examples("support")
    assert (found.label, found.size) == ("a", 1)


def test_the_last_verdict_counts(ready: Lab) -> None:
    ready.run("support", message="one")
    ready.feedback(None, "down")
    assert ready.examples("support") == []
    ready.feedback(None, "up")
    assert len(ready.examples("support")) == 1


def test_of_runs_with_the_same_inputs_the_last_one_is_taken(ready: Lab) -> None:
    for _ in range(3):
        ready.run("support", message="one")
    ready.feedback(None, None, {"label": "newest"})
    assert [e.label for e in ready.examples("support")] == ["newest"]
    assert len(ready.examples("support", unique=False)) == 3


def test_examples_are_filtered(ready: Lab) -> None:
    ready.run("support", message="one", options=dx.RunOptions(tags=("a", "b")))
    ready.run("support", message="three", options=dx.RunOptions(session="s"))
    ready.run("support", message="bad")
    ready.feedback(None, "up")
    assert messages(ready.examples("support", tags="a")) == ["one"]
    assert messages(ready.examples("support", tags=["a", "c"])) == []
    assert messages(ready.examples("support", session="s")) == ["three"]
    assert messages(ready.examples("support", verdict="good")) == ["bad"]
    assert messages(ready.examples("support", {"size": 5})) == ["three"]
    assert messages(ready.examples("support", lambda run: len(run.inputs["message"]) < 4)) == ["one", "bad"]
    assert messages(ready.examples("support", where={"nothing": 1})) == []
    assert messages(ready.examples("support", limit=1)) == ["one"]


def test_examples_are_filtered_by_time(ready: Lab) -> None:
    ready.run("support", message="one")
    for ever in (timedelta(hours=1), time.time() - 60, datetime.now(UTC) - timedelta(hours=1)):
        assert len(ready.examples("support", since=ever)) == 1
    naive = datetime.now(UTC).replace(tzinfo=None)
    assert ready.examples("support", since=naive + timedelta(hours=1)) == []
    for wrong in ("today", float("nan"), True):
        with pytest.raises(ConfigurationError, match="no time"):
            ready.examples("support", since=wrong)


def test_a_metric_says_which_are_good_enough(ready: Lab) -> None:
    for message in ("one", "bad"):
        ready.run("support", message=message)

    def good(example: Any, prediction: Any) -> float:
        return float(prediction.label == "right")

    assert messages(ready.examples("support", min_score=0.5, metric=good)) == ["one"]
    with pytest.raises(ConfigurationError, match="go together"):
        ready.examples("support", min_score=0.5)
    with pytest.raises(ConfigurationError, match="where="):
        ready.examples("support", where=3)


def test_partial_runs_are_examples_only_when_they_are_asked_for_and_whole(ready: Lab) -> None:
    def other(message: str) -> str:
        raise ValueError("no")

    ready.pipelines["two"] = dx.pipeline("two", triage=dx.step(label, outputs=["label", "size"]), note=dx.step(other))
    ready.run("two", message="one")
    assert ready.examples("two") == []
    assert ready.examples("two", status=("complete", "partial")) == [], "an output is missing"
    ready.feedback(None, None, {"label": "x"})
    assert ready.examples("two", status=("complete", "partial")) == []


def test_what_the_store_has_cut_teaches_nobody(ready: Lab) -> None:
    ready.run("support", message="x" * 70_000)
    assert ready.examples("support") == []


def test_runs_of_another_kernel_need_no_pipeline_here(ready: Lab) -> None:
    ready.run("support", message="one")
    del ready.pipelines["support"]
    [found] = ready.examples("support")
    assert found.inputs().toDict() == {"message": "one"}


def test_a_split_gives_a_data_set_in_parts_that_share_no_inputs(ready: Lab) -> None:
    for n in range(40):
        ready.run("support", message=f"message {n % 20}")
    found = ready.examples("support", split={"train": 0.5, "test": 0.5})
    assert isinstance(found, Dataset)
    assert len(found) == 20
    assert found.inputs == ("message",)
    assert {row["message"] for row in found["train"]}.isdisjoint(row["message"] for row in found["test"])
    assert found.check() is found
    assert len(found.fingerprint) == 32
    assert found.source["runs_of"] == "support"
    with pytest.raises(ConfigurationError, match="no rows"):
        ready.examples("nowhere", split={"train": 1.0})


def test_examples_train_an_optimizer(ready: Lab) -> None:
    for n in range(4):
        ready.run("support", message=f"bad {n}")
        ready.feedback(None, "down", {"label": "right"})
    ready.use(scripted_lm(lambda prompt: {"label": "right" if prompt.demonstrations else "wrong"}))
    student = dx.pipeline("student", answer=dx.predict("message -> label"))
    train = ready.examples("support")
    job = ready.optimize(student, optimizer="labeled", metric=exact, trainset=train, pool=None, seed=1, k=2)
    assert job.result(60).after == 1.0


# ---- data sets -------------------------------------------------------------------------------------------------------


def test_a_data_set_is_kept_with_version_and_fingerprint(ready: Lab) -> None:
    first = ready.dataset("tickets", ROWS, split={"train": 0.75, "test": 0.25}, inputs=("message",), seed=3)
    assert first.version == 1
    assert ready.dataset("tickets", ROWS, split={"train": 0.75, "test": 0.25}, inputs=("message",), seed=3).version == 1
    second = ready.dataset("tickets", [*ROWS, {"message": "new", "label": "x"}])
    assert second.version == 2
    kept = ready.dataset("tickets", version=1)
    assert kept.fingerprint == first.fingerprint
    assert kept.inputs == ("message",)
    assert kept["train"] == first["train"]
    assert len(ready.dataset("tickets")) == 13
    with pytest.raises(StoreError, match="no data set 'tikets'"):
        ready.dataset("tikets")


def test_a_data_set_takes_another_name_and_examples(ready: Lab) -> None:
    ready.run("support", message="one")
    made = ready.dataset("from runs", ready.examples("support"))
    assert made.inputs == ("message",)
    parts = ready.dataset("a", ROWS, split={"x": 0.5, "y": 0.5})
    copied = ready.dataset("b", parts, inputs=("message",))
    assert (copied.name, copied.version, copied.inputs, copied.fingerprint) == ("b", 1, ("message",), parts.fingerprint)
    again = ready.dataset("c", parts, split={"all": 1.0})
    assert list(again.parts) == ["all"]


def test_a_data_set_that_leaks_is_refused(ready: Lab) -> None:
    rows = [{"message": "a", "label": "x", "part": "train"}, {"message": "a", "label": "x", "part": "test"}]
    with pytest.raises(ConfigurationError, match="leaks"):
        ready.dataset("leaking", rows, split="part")
