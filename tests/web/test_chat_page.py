"""The chat page: what is asked there, what is seen of the answer, and what is said of it."""

from __future__ import annotations

import asyncio
import json

import dspy
import pytest
from chat_helpers import HOSTILE, Hands, answering, button, count, field, on_a_page, panes, press, read, until

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.testing import Gate, scripted_lm

__all__ = ["answering"]

MESSAGE = "Where is my new card?"


# ---- an answer -------------------------------------------------------------------------------------------------------


def test_tokens_appear_as_they_come(lab: Lab) -> None:
    gate = Gate()
    lab.use(scripted_lm({"reply": "one two three four five six seven"}, gate=gate))

    async def work(hands: Hands) -> None:
        hands.begin(MESSAGE, "support")
        await until(lambda: len(hands.messages) == 3)
        gate.open(8)
        await until(lambda: "one" in read(hands.messages[-1]))
        assert "seven" not in read(hands.messages[-1])
        assert hands.busy
        assert hands.page.chat._buttons["stop"].visible
        await until(lambda: "reply" in panes(hands.messages[-1])[1])  # the step that is under way
        gate.open()
        assert "one two three four five six seven" in read(await hands.answered(3))
        assert hands.page.chat._buttons["send"].visible

    on_a_page(lab, work)


def test_behind_an_answer_are_its_steps_and_what_it_cost(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        answer = await hands.ask(f" {MESSAGE} ")
        assert answer.user == "support"
        assert read(hands.messages[-2]).strip() == MESSAGE
        text, behind = panes(answer)[0], panes(answer)[1]
        assert "<strong>posted</strong>" in text
        assert behind.startswith("<details><summary>")  # folded
        told = read(answer)
        (run,) = lab.sql("SELECT run_id, prompt_tokens, completion_tokens FROM runs").itertuples(index=False)
        for part in (
            "2 steps",
            "by trim",
            "✓ complete",
            "by Predict",
            "it is most like the message: support",
            "simulated, no provider was asked",
            f"{run.prompt_tokens} sent, {run.completion_tokens} written",
            run.run_id,
        ):
            assert part in told

    on_a_page(lab, work)


def test_one_that_is_chosen_answers(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        assert list(hands.page.choice.options.values()) == ["auto", "support", "words"]
        answer = await hands.ask(MESSAGE, "words")
        assert answer.user == "words"
        assert panes(answer)[0].strip() == "<p>5</p>"
        assert "you chose it" in read(answer)
        assert "Count the words" in hands.page.head.object

    on_a_page(lab, work)


def test_a_text_goes_to_none_that_needs_more_than_a_text(lab: Lab) -> None:
    def card(number: int) -> str:
        """Say where a new card is."""
        return "here"

    lab.pipelines["card"] = dx.pipeline("card", where=dx.step(card))

    async def work(hands: Hands) -> None:
        assert (await hands.ask(MESSAGE)).user == "support"

    on_a_page(lab, work)


def test_pipelines_that_come_later_can_be_chosen(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        lab.pipelines["later"] = dx.pipeline("later", n=dx.step(count))
        del lab.pipelines["words"]
        hands.page.refresh()
        assert list(hands.page.choice.options.values()) == ["auto", "support", "later"]

    on_a_page(lab, work)


def test_what_was_said_before_is_handed_on_until_it_is_cleared(lab: Lab) -> None:
    seen = []

    def recall(message: str, history: list[dict[str, str]]) -> str:
        """Answer with what was said."""
        seen.append(history)
        return f"heard {message}"

    lab.pipelines["recall"] = dx.pipeline("recall", reply=dx.step(recall))

    async def work(hands: Hands) -> None:
        await hands.ask("a", "recall")
        await hands.ask("b", "recall")
        clear = hands.page.chat._buttons["clear"]
        clear.clicks += 1
        await until(lambda: hands.messages == [])
        await hands.ask("c", "recall")

    lab.pipelines["recall"] = dx.pipeline("recall", reply=dx.step(recall))
    on_a_page(lab, work)
    assert seen[1] == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "heard a"}]
    assert [len(turns) for turns in seen] == [0, 2, 0]


def test_what_a_model_wrote_cannot_run_wherever_it_is_shown(lab: Lab) -> None:
    lab.pipelines[HOSTILE] = dx.pipeline("both", a=dspy.Predict("message -> x"), b=dspy.Predict("message -> y"))
    lab.use(scripted_lm({"reply": HOSTILE, "x": HOSTILE, "y": HOSTILE}))

    async def work(hands: Hands) -> None:
        for name in ("support", HOSTILE):
            await hands.ask(HOSTILE, name)
            for message in hands.messages:
                shown = " ".join([*panes(message), message.user, hands.page.head.object]).lower()
                for bad in ("<img", "<script", "<iframe", 'href="javascript'):
                    assert bad not in shown
            assert "<iframe src=http://evil.example>" in " ".join(map(str, read(hands.messages[-1]).split("\n")))

    on_a_page(lab, work)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_stopping_ends_the_run(lab: Lab) -> None:
    gate, script = Gate(), {"reply": "one two three"}
    lm = scripted_lm(script, gate=gate)
    lab.use(lm)

    async def work(hands: Hands) -> None:
        hands.begin(MESSAGE, "support")
        gate.open(2)
        await asyncio.to_thread(gate.reached, 3)
        hands.page.chat._buttons["stop"].clicks += 1
        await until(lambda: "stopped" in read(hands.messages[2]))
        gate.open(1)  # the engine's thread looks up at its next piece
        assert await asyncio.to_thread(lm.engine.closed, 1)
        lab.use(scripted_lm(script))
        assert "one two three" in read(await hands.ask(MESSAGE, "support"))

    on_a_page(lab, work)
    assert lm.engine.streams.ended == 0
    assert sorted(lab.sql("SELECT status FROM runs").status) == ["cancelled", "complete"]


def test_a_failure_is_readable_and_tells_no_secret_and_no_trace(lab: Lab) -> None:
    def broken(message: str) -> str:
        raise ValueError("the password is hunter2")

    lab.pipelines["broken"] = dx.pipeline("broken", reply=dx.step(broken))

    async def work(hands: Hands) -> None:
        told = read(await hands.ask(MESSAGE, "broken"))
        assert "'broken' gave no answer: ValueError" in told
        assert "✗ failed" in told
        assert "hunter2" not in told
        assert "Traceback" not in told

    del lab.pipelines["support"], lab.pipelines["words"]
    on_a_page(lab, work)


def test_what_stood_in_for_a_failed_pipeline_is_said(lab: Lab) -> None:
    def broken(message: str) -> str:
        raise ValueError("no")

    lab.pipelines["broken"] = dx.pipeline("broken", reply=dx.step(broken))

    async def work(hands: Hands) -> None:
        answer = await hands.ask(MESSAGE, "broken")
        assert answer.user == "support"
        told = read(answer)
        assert "'broken' failed; 'support' is declared as its fallback" in told
        assert "broken: other: ValueError" in told

    on_a_page(lab, work, declared={"broken": ["support"]})


def test_a_message_that_nobody_can_answer_is_refused_in_words(lab: Lab) -> None:
    def price(amount: float, kind: str) -> float:
        return amount

    async def work(hands: Hands) -> None:
        assert "No pipeline is for this message. Choose one above" in read(await hands.ask("@@@@"))
        hands.page.choice.value = "words"
        del lab.pipelines["words"]
        assert "There is no pipeline 'words' any more; there are: support." in read(await hands.ask("a b", "words"))
        del lab.pipelines["support"]
        assert "There is no pipeline yet" in read(await hands.ask("a"))
        lab.pipelines["price"] = dx.pipeline("price", p=dx.step(price))
        told = read(await hands.ask("a"))
        assert "It takes more than a text: choose the pipeline above" in told
        assert "amount: is missing" in told

    on_a_page(lab, work)


def test_an_error_of_our_own_is_logged_and_the_page_goes_on(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    async def work(hands: Hands) -> None:
        lab.close()  # runs are refused from now on
        told = read(await hands.ask(MESSAGE, "words"))
        assert "An error of the server: " in told
        assert "Traceback" not in told
        assert not hands.busy

    on_a_page(lab, work)
    assert "could not be answered" in caplog.text


# ---- what is said of it ----------------------------------------------------------------------------------------------


def test_a_thumb_is_kept_and_the_routing_learns_of_it_at_once(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        assert list(hands.agent.memory.experience()) == []
        answer = await hands.ask(MESSAGE)
        press(button(answer, "Good"))
        await until(lambda: "✓ taken: good" in read(answer))
        assert button(answer, "Good").disabled
        assert [(e.offer, e.good) for e in hands.agent.memory.experience()] == [("support", True)]
        press(button(answer, "Bad"))
        await until(lambda: "✓ taken: bad" in read(answer))
        assert not button(answer, "Good").disabled

    on_a_page(lab, work)
    rows = lab.sql("SELECT f.verdict, f.who, r.name FROM feedback f JOIN runs r USING (run_id) ORDER BY f.time")
    assert rows.values.tolist() == [["good", "chat", "support"], ["bad", "chat", "support"]]


def test_a_correction_is_kept_and_makes_an_example(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        answer = await hands.ask(MESSAGE, "support")
        press(button(answer, "Correct"))
        assert field(answer).value == "It was **posted** on Monday."
        field(answer).value = "It comes tomorrow."
        press(button(answer, "Save"))
        await until(lambda: "✓ taken: your correction" in read(answer))

    on_a_page(lab, work)
    (example,) = lab.examples("support")
    assert (example.message, example.reply) == (MESSAGE, "It comes tomorrow.")


def test_a_correction_fits_the_type_of_the_output(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        answer = await hands.ask(MESSAGE, "words")
        press(button(answer, "Correct"))
        for wrong, told in (("many", "valid integer"), (" ", "is empty")):
            field(answer).value = wrong
            press(button(answer, "Save"))
            assert told in read(answer)
        field(answer).value = "6"
        press(button(answer, "Save"))
        await until(lambda: "✓ taken" in read(answer))

    on_a_page(lab, work)
    assert [json.loads(each) for each in lab.sql("SELECT correction FROM feedback").correction] == [{"n": 6}]


def test_of_several_outputs_any_can_be_corrected(lab: Lab) -> None:
    def parts(message: str) -> dict[str, object]:
        return {"size": 3, "tags": ["a"]}

    lab.pipelines["parts"] = dx.pipeline("parts", p=dx.step(parts, outputs=["size", "tags"]))

    async def work(hands: Hands) -> None:
        answer = await hands.ask(MESSAGE, "parts")
        assert "<th>tags</th><td>[&quot;a&quot;]</td>" in panes(answer)[0]
        press(button(answer, "Correct"))
        for wrong, told in (("{", "is no JSON"), ("[1]", "no JSON object"), ('{"colour": 1}', "colour")):
            field(answer).value = wrong
            press(button(answer, "Save"))
            await until(lambda told=told: told in read(answer))
        field(answer).value = '{"size": 4}'
        press(button(answer, "Save"))
        await until(lambda: "✓ taken" in read(answer))

    on_a_page(lab, work)
    assert [json.loads(each) for each in lab.sql("SELECT correction FROM feedback").correction] == [{"size": 4}]
