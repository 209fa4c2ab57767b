"""What a stream hands out is the answer, once: also where a model begins again, or where its text is not yet the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from web_helpers import chat, events

import dspex_lab as dx
from dspex_lab.lms import embed_text
from dspex_lab.pipelines import StreamEvent, assert_
from dspex_lab.testing import scripted_lm
from dspex_lab.web._agent import Agent, Heard
from dspex_lab.web._chat_answer import Telling
from dspex_lab.web._completions import Said
from dspex_lab.web._offers import Catalogue
from dspex_lab.web._server import Served

PREDICT = dspy.Predict("question -> answer")


def streamed(served: Served, model: str) -> tuple[str, dict[str, Any]]:
    """Return the text of a stream and what its last piece says beside it."""
    data = [event["data"] for event in events(chat(served, "x", model=model, stream=True)[2])]
    assert data[-1] == "[DONE]"
    pieces = [json.loads(each) for each in data[:-1]]
    assert pieces[-1]["choices"][0]["finish_reason"] == "stop"
    return "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces), pieces[-1]["dspex"]


@pytest.mark.parametrize(
    ("kind", "written"), [("bool", "True"), ("list[str]", '["a", "b"]'), ("dict[str, int]", '{"a": 1}'), ("float", "2")]
)
def test_what_is_no_text_is_streamed_as_it_is_answered_whole(
    lab: dx.Lab, serving: Callable[..., Served], kind: str, written: str
) -> None:
    lab.use(scripted_lm({"out": written}))
    served = serving({"typed": dx.pipeline("typed", out=dspy.Predict(f"question -> out: {kind}"))})
    whole = chat(served, "x", model="typed")[2]["choices"][0]["message"]["content"]
    text, about = streamed(served, "typed")
    assert text == whole
    assert "corrected" not in about


@pytest.mark.parametrize(
    "step",
    [
        assert_(PREDICT, "len(answer) < 8"),
        dx.suggest(PREDICT, "len(answer) < 8"),
        dx.loop(PREDICT, until="len(answer) < 8"),
        dx.pipeline("inner", inner=assert_(PREDICT, "len(answer) < 8")),
    ],
)
def test_an_answer_that_was_not_taken_is_not_handed_out(lab: dx.Lab, serving: Callable[..., Served], step: Any) -> None:
    lab.use(scripted_lm([{"answer": "a first long answer"}, {"answer": "short"}]))
    text, about = streamed(serving({"checked": dx.pipeline("checked", reply=step)}), "checked")
    assert (text, about["outputs"]["answer"]) == ("short", "short")
    assert "corrected" not in about


class Twice(dspy.Module):
    """Writes a draft, and then the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.draft, self.final = dspy.Predict("question -> answer"), dspy.Predict("question, draft -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.final(question=question, draft=self.draft(question=question).answer)


def test_a_draft_of_the_answer_is_not_handed_out(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    lab.use(scripted_lm([{"answer": "a draft"}, {"answer": "an answer"}]))
    assert streamed(serving({"twice": dx.pipeline("twice", reply=Twice())}), "twice")[0] == "an answer"


def retried() -> dx.Pipeline:
    return dx.pipeline("again", reply=dx.step(PREDICT, retries=1, idempotent=True))


def test_a_model_that_begins_again_is_not_heard_twice(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    lab.use(scripted_lm({"answer": "one two three four"}, breaks={1: (11, ConnectionError("gone"))}))
    text, about = streamed(serving({"again": retried()}), "again")
    assert text == "one two three four"
    assert "corrected" not in about


def test_a_model_that_begins_again_with_something_else_is_corrected_at_the_end(
    lab: dx.Lab, serving: Callable[..., Served]
) -> None:
    answers = [{"answer": "one two three four"}, {"answer": "another answer"}]
    lab.use(scripted_lm(answers, breaks={1: (11, ConnectionError("gone"))}))
    text, about = streamed(serving({"again": retried()}), "again")
    assert text
    assert "one two three four".startswith(text)
    assert about["corrected"] == "another answer"


def token(text: str, call: int, attempt: int = 1) -> StreamEvent:
    return StreamEvent("token", "reply", "answer", text, data={"call_id": call, "attempt": attempt})


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ([token("one", 1), token(" two", 1)], ["one", " two"]),
        (
            [token("one", 1), token("o", 2), token("ne", 2), token(" two", 2), token(" three", 2)],
            ["one", "", "", " two", " three"],
        ),
        ([token("one", 1), token("one two", 1, 2)], ["one", " two"]),
        ([token("one", 1), token("other", 2), token("one", 2)], ["one", "", ""]),
        ([token("one", 1), token("other", 2), token("one two", 3)], ["one", "", " two"]),
    ],
)
def test_of_each_token_only_what_is_new_is_told(tokens: list[StreamEvent], told: list[str]) -> None:
    said = Said()
    assert [said.take(each) for each in tokens] == told
    assert said.text == "".join(told)


def test_the_chat_page_begins_anew_with_a_model_that_does(lab: dx.Lab) -> None:
    async def go() -> str:
        telling = Telling(Agent(lab, Catalogue(dict), embed=embed_text))
        for each in (token("one two", 1), token("three", 2), token(" four", 2)):
            telling.hear(Heard(each, spoken=True))
        telling.stop()
        return str(telling.view.objects[0].object)

    assert asyncio.run(go()) == "<p>three four</p>\n"
