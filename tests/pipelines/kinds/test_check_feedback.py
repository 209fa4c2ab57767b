"""Checks with re-asking: who sees the feedback, and how it comes into the messages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from check_helpers import Guess, one

import dspex_lab as dx
from dspex_lab.lms import FEEDBACK_KEY, asking_again, current_feedback, install_feedback, with_feedback
from dspex_lab.pipelines._step import step
from dspex_lab.pipelines.kinds._check import assert_, suggest
from dspex_lab.testing import scripted_lm

# --- who sees the feedback ------------------------------------------------------------------------------------


class Watched:
    """A model that answers in turn and keeps the last user message of each call."""

    def __init__(self, *answers: Any, **options: Any) -> None:
        self.asked: list[str] = []
        self.answers = answers
        self.lm = scripted_lm(self.answer, **options)

    def answer(self, prompt: Any) -> Any:
        self.asked.append(prompt.text)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def told_again(texts: list[str]) -> list[bool]:
    return ["not accepted" in text for text in texts]


def test_every_predictor_of_a_module_sees_it_and_the_signature_does_not(lab: dx.Lab) -> None:
    import dspy

    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.draft = dspy.Predict("question -> draft")
            self.reply = dspy.ChainOfThought("draft -> answer")

        def forward(self, question: str) -> Any:
            return self.reply(draft=self.draft(question=question).draft)

    program = Two()
    before = [(n, p.signature, list(p.demos)) for n, p in program.named_predictors()]
    good = {"reasoning": "r", "answer": "yes", "draft": "d"}
    model = Watched(*[{**good, "answer": "no"}] * 2, *[good] * 2)
    with dspy.context(lm=model.lm):
        found = lab.run(one(assert_(program, "answer == 'yes'", "Say yes.")), question="a")
    assert found.outputs["answer"] == "yes"
    assert told_again(model.asked) == [False, False, True, True]
    assert 'answer: "no"' in model.asked[2]
    assert "- Say yes." in model.asked[3]
    assert [(n, p.signature, list(p.demos)) for n, p in program.named_predictors()] == before
    assert current_feedback() is None


def test_a_check_may_read_the_reasoning_a_module_adds(lab: dx.Lab) -> None:
    import dspy

    model = Watched({"reasoning": "x", "answer": "a"}, {"reasoning": "because", "answer": "a"})
    p = one(assert_(dspy.ChainOfThought("question -> answer"), "len(reasoning) > 3"))
    assert list(p.inputs) == ["question"]
    with dspy.context(lm=model.lm):
        assert lab.run(p, question="a").status == "complete"
    assert len(model.asked) == 2


@pytest.mark.parametrize("make", [dx.predict, dx.chain_of_thought])
def test_routed_operations_see_it(lab: dx.Lab, make: Any) -> None:
    import dspy

    model = Watched({"reasoning": "r", "answer": "no"}, {"reasoning": "r", "answer": "yes"})
    with dspy.context(lm=model.lm):
        found = lab.run(one(assert_(make("question -> answer"), "answer == 'yes'")), question="a")
    assert found.outputs["answer"] == "yes"
    assert told_again(model.asked) == [False, True]


def test_dspys_own_threads_see_it(lab: dx.Lab) -> None:
    import dspy

    class Side(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            example = dspy.Example(question=question).with_inputs("question")
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)([(self.one, example)] * 2)[0]

    model = Watched({"answer": "no"}, {"answer": "no"}, {"answer": "yes"})
    inner = step(Side(), outputs=["answer"])
    with dspy.context(lm=model.lm):
        found = lab.run(one(assert_(inner, "answer == 'yes'")), question="a")
    assert found.outputs["answer"] == "yes"
    assert told_again(model.asked) == [False, False, True, True]


def test_a_function_that_calls_a_model_itself_asks_it_with_the_feedback(lab: dx.Lab) -> None:
    import dspy

    def ask(question: str) -> str:
        return str(dspy.settings.lm(question)[0])

    model = Watched("no", "yes")
    with dspy.context(lm=model.lm):
        found = lab.run(one(assert_(ask, "reply == 'yes'")), question="a")
    assert found.outputs == {"reply": "yes"}
    assert told_again(model.asked) == [False, True]


def test_neither_cache_gives_the_same_wrong_answer_again(lab: dx.Lab) -> None:
    import dspy

    model = Watched({"answer": "no"}, {"answer": "yes"}, cache=True)
    item = assert_(step(dspy.Predict("question -> answer"), cache=True), "answer == 'yes'")
    with dspy.context(lm=model.lm):
        assert lab.run(one(item), question="a").outputs == {"answer": "yes"}
        assert lab.run(one(item), question="a").outputs == {"answer": "yes"}
    assert told_again(model.asked) == [False, True]


def test_a_check_within_a_check_is_told_both(lab: dx.Lab) -> None:
    import dspy

    answers = [{"answer": "c"}, {"answer": "b c"}, {"answer": "c"}, {"answer": "a b"}]
    model = Watched(*answers)
    inner = assert_(dspy.Predict("question -> answer"), "'b' in answer", "Say b.")
    with dspy.context(lm=model.lm):
        found = lab.run(one(assert_(inner, "'a' in answer", "Say a.")), question="a")
    assert found.outputs == {"answer": "a b"}
    assert [("Say a." in t, "Say b." in t) for t in model.asked] == [(False, False), (False, True), (True, False), (True, True)]


def test_answers_shown_are_data_and_not_endless(lab: dx.Lab) -> None:
    guess = Guess("x" * 10_000 + "\n[[ ## answer ## ]]", {1, 2}, "good")
    lab.run(one(assert_(guess.function(), "reply == 'good'", "No.", attempts=3)), question="a")
    assert len(guess.heard[1]) < 2_000
    assert "10,022 characters" in guess.heard[1]
    assert "\n[[" not in guess.heard[1]
    assert 'reply: "{1, 2}"' in guess.heard[2]
    assert guess.heard[2].startswith("Earlier answers")


def test_optimizers_see_the_step_that_is_checked_and_can_replace_it() -> None:
    import dspy

    predict, other = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
    item = assert_(predict, "answer == 'yes'", attempts=3)
    assert {n: s.target for n, s in item.how.parts(item).items()} == {"try": predict}
    replaced = item.how.with_parts(item, {"try": step(other)})
    assert replaced.step.target is other
    assert (replaced.attempts, replaced.strict, replaced.check) == (3, True, "answer == 'yes'")
    assert item.how.asks(item) == (0, 4)
    assert item.how.label(item) == "answer == 'yes'"
    assert assert_(dspy.ReAct("question -> answer", tools=[]), "True").how.asks(item) is not None
    assert suggest(step(predict, name="inner"), "answer == 'yes'").target.part == "inner"

    class Own(dspy.Module):
        def forward(self, question: str) -> Any:
            return dspy.Prediction(answer=question)

    unknown = assert_(step(Own(), outputs=["answer"]), "answer == 'yes'")
    assert unknown.how.asks(unknown) is None


# --- the messages ---------------------------------------------------------------------------------------------


def test_the_feedback_ends_the_last_message_of_the_user() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert with_feedback(messages, "F") == [{"role": "user", "content": "a\n\nF"}, {"role": "assistant", "content": "b"}]
    assert messages[0]["content"] == "a"
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert with_feedback(parts, "F")[0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "F"}]
    assert with_feedback([{"role": "system", "content": "s"}], "F")[-1] == {"role": "user", "content": "F"}


def test_every_way_to_call_a_model_carries_it() -> None:
    import dspy
    from dspy.lm15 import Message, Request, TextPart

    model = Watched("a")
    install_feedback()
    install_feedback()

    def request(role: Any) -> Request:
        return Request(model=model.lm.model, messages=(Message(role=role, parts=(TextPart(text="ask"),)),))

    with asking_again("FEED"):
        model.lm("ask")
        model.lm(request("user"))
        model.lm(request=request("user"))
        with pytest.warns(DeprecationWarning, match="OpenAI-style"):
            model.lm(messages=[{"role": "user", "content": "ask"}])
        asyncio.run(model.lm.acall("ask"))
        asyncio.run(model.lm.acall(request("user")))
        dspy.Predict("question -> answer")
    model.lm("ask")
    assert ["FEED" in text and "ask" in text for text in model.asked] == [True] * 6 + [False]
    with dspy.context(**{FEEDBACK_KEY: "from the settings"}):
        assert current_feedback() == "from the settings"
        model.lm()
    assert model.asked[-1] == "from the settings"


def test_a_request_that_ends_with_the_model_gets_a_message_of_its_own() -> None:
    from dspy.lm15 import Message, Request, TextPart

    from dspex_lab.lms.calls._feedback import _with_feedback

    turns = (Message(role="user", parts=(TextPart(text="a"),)), Message(role="assistant", parts=(TextPart(text="b"),)))
    found = _with_feedback(Request(model="m", messages=turns), "F")
    assert [m.role for m in found.messages] == ["user", "assistant", "user"]
