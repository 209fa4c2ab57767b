"""What people say of answers: kept, used by the router and as examples, shown where runs are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from web_helpers import LONG, Held, ask, chat, same

import dspex_lab as dx
from dspex_lab.store import recorded_runs
from dspex_lab.web import _experience
from dspex_lab.web._experience import FRESH, Memory
from dspex_lab.web._server import Served


def shout(text: str) -> str:
    """Shout a text in capitals."""
    return text.upper()


def whisper(text: str) -> str:
    """Whisper a text in small letters."""
    return text.lower()


@pytest.fixture
def served(serving: Callable[..., Served]) -> Served:
    return serving({"shout": dx.pipeline("shout", out=dx.step(shout)), "whisper": dx.pipeline("whisper", out=dx.step(whisper))})


def judge(served: Served, run: str, **said: Any) -> tuple[int, Any]:
    status, _, body = ask(served, "POST", f"/api/runs/{run}/feedback", said)
    return status, body


def test_a_thumb_up_brings_the_next_request_like_it_to_the_same_pipeline(served: Served) -> None:
    text = "say hello to everybody in the room"
    first = chat(served, "whisper: hello to all of you in this room", model="auto")[2]["dspex"]["pipeline"]
    assert first == "whisper"
    usual = chat(served, text, model="auto")[2]["dspex"]["pipeline"]
    other = {"shout": "whisper", "whisper": "shout"}[usual]
    liked = chat(served, text, model=other)[2]["dspex"]
    status, body = judge(served, liked["request_id"], verdict="up")
    assert (status, body["object"], body["run_id"]) == (201, "feedback", liked["run_id"])
    assert chat(served, text, model="auto")[2]["dspex"]["pipeline"] == other
    judge(served, liked["request_id"], verdict="down")  # the last word counts
    assert chat(served, text, model="auto")[2]["dspex"]["pipeline"] == usual


def test_feedback_is_known_by_the_id_of_the_request_or_of_the_run(lab: dx.Lab, served: Served) -> None:
    about = chat(served, "Hello", model="shout")[2]["dspex"]
    assert judge(served, about["request_id"], verdict="down", note="too loud", who="anna")[0] == 201
    assert judge(served, about["run_id"], verdict="up")[0] == 201
    said = lab.sql("SELECT verdict, note, who FROM feedback ORDER BY time")
    assert said["verdict"].tolist() == ["bad", "good"]
    assert said["who"].tolist() == ["anna", "web"]


def test_corrections_are_examples(lab: dx.Lab, served: Served) -> None:
    wrong = chat(served, "straße", model="shout")[2]["dspex"]
    right = chat(served, "hello", model="shout")[2]["dspex"]
    chat(served, "bad", model="shout")
    bad = chat(served, "worse", model="shout")[2]["dspex"]
    assert judge(served, wrong["request_id"], correction={"out": "STRAẞE"})[0] == 201
    assert judge(served, right["request_id"], verdict="up")[0] == 201
    assert judge(served, bad["request_id"], verdict="down")[0] == 201
    found = {example.text: example.out for example in lab.examples("shout")}
    assert found == {"straße": "STRAẞE", "hello": "HELLO", "bad": "BAD"}
    liked = lab.examples("shout", verdict="good")
    assert sorted(example.text for example in liked) == ["hello", "straße"]


def test_a_correction_after_a_thumb_takes_the_thumb_not_back(lab: dx.Lab, served: Served) -> None:
    run = chat(served, "Hello", model="shout")[2]["dspex"]["run_id"]
    assert judge(served, run, verdict="down")[0] == 201
    assert judge(served, run, correction={"out": "HALLO"})[0] == 201
    assert judge(served, run, note="in German")[0] == 201
    assert [(each.offer, each.good) for each in Memory(lab.store).experience()] == [("shout", False)]


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({}, 422, "invalid_feedback"),
        ({"verdict": "maybe"}, 422, "invalid_request"),
        ({"correction": {"ot": "x"}}, 422, "invalid_feedback"),
        ({"correction": ["x"]}, 422, "invalid_request"),
        ({"verdict": "up", "more": 1}, 422, "invalid_request"),
        ({"note": "x" * 10_001}, 422, "invalid_request"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(
    lab: dx.Lab, served: Served, said: dict[str, Any], status: int, code: str
) -> None:
    about = chat(served, "Hello", model="shout")[2]["dspex"]
    found, body = judge(served, about["request_id"], **said)
    assert (found, body["error"]["code"]) == (status, code)
    assert len(lab.sql("SELECT * FROM feedback")) == 0


def test_nothing_can_be_said_of_a_run_that_is_not_there_or_not_over(serving: Callable[..., Served]) -> None:
    held = Held()
    served = serving({"held": dx.pipeline("held", out=dx.step(held.step))})
    status, body = judge(served, "nobody", verdict="up")
    assert (status, body["error"]["code"]) == (404, "run_not_found")
    run = ask(served, "POST", "/api/runs", {"text": "x"})[2]["id"]
    held.begun.get(timeout=LONG)
    status, body = judge(served, run, verdict="up")
    assert (status, body["error"]["code"]) == (409, "run_not_ended")
    held.let_go()
    ask(served, "GET", f"/api/runs/{run}/events")
    assert judge(served, run, verdict="up")[0] == 201


def test_what_was_judged_is_read_again_after_a_while_or_at_once_when_told(lab: dx.Lab) -> None:
    now = 1_000.0
    memory = Memory(lab.store, clock=lambda: now)
    assert memory.experience() == ()
    lab.pipelines["echo"] = dx.pipeline("echo", out=dx.step(same))
    for text, tags in (("mine", ("web",)), ("not asked over the web", ())):
        result = lab.run("echo", text=text, options=dx.RunOptions(tags=tags))
        lab.feedback(result, "up")
    assert memory.experience() == ()
    now += FRESH
    assert [(each.text, each.offer, each.good) for each in memory.experience()] == [("mine", "echo", True)]
    lab.feedback(recorded_runs(lab.store, tags=["web"])[0].run_id, "down")
    assert memory.experience()[0].good
    memory.forget()
    assert not memory.experience()[0].good


def test_the_newest_of_what_was_judged_counts(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.pipelines["echo"] = dx.pipeline("echo", out=dx.step(same))
    for text in ("first", "second", "third"):
        lab.feedback(lab.run("echo", text=text, options=dx.RunOptions(tags=("web",))), "up")
    monkeypatch.setattr(_experience, "MOST", 2)
    assert [each.text for each in Memory(lab.store).experience()] == ["second", "third"]
