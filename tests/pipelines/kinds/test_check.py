"""Checks with re-asking: what counts as wrong, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from check_helpers import Guess, one, parts

import dspex_lab as dx
from dspex_lab.errors import PipelineError, SignatureError
from dspex_lab.pipelines._step import step
from dspex_lab.pipelines.kinds._check import assert_, suggest
from dspex_lab.testing import scripted_lm

# --- what counts as wrong -------------------------------------------------------------------------------------


def test_a_condition_that_holds_leaves_the_answer_alone(lab: dx.Lab) -> None:
    guess = Guess("yes")
    found = lab.run(one(assert_(guess.function(), "len(reply) < 10")), question="a")
    assert (found.status, found.outputs, guess.heard) == ("complete", {"reply": "yes"}, [None])
    assert parts(found.steps["reply"]) == [("try[1]", "complete")]


def test_a_function_hears_what_was_wrong(lab: dx.Lab) -> None:
    guess = Guess("much too long", "short")
    found = lab.run(one(assert_(guess.function(), "len(reply) < 10")), question="a")
    assert (found.status, found.outputs) == ("complete", {"reply": "short"})
    assert guess.heard == [
        None,
        "An earlier answer to this was not accepted.\n"
        "It was:\n"
        'reply: "much too long"\n'
        "What is wrong with it:\n"
        "- it must hold that len(reply) < 10 (reply = 'much too long' (str))\n"
        "Answer again, in the form asked for, and put this right.",
    ]
    assert parts(found.steps["reply"]) == [("try[1]", "complete"), ("try[2]", "complete")]


def test_each_try_has_a_span_of_its_own_within_the_step(lab: dx.Lab) -> None:
    lab.run(one(assert_(Guess("aa", "a").function(), "len(reply) == 1")), question="a")
    found = lab.sql("select span_id, parent_id, name, status from spans where kind = 'step' order by started")
    step_id = found.loc[found["name"] == "reply", "span_id"].item()
    tries = found[found["name"] == "reply.try"]
    assert list(tries["parent_id"]) == [step_id, step_id]


def test_a_required_feedback_is_none_the_first_time(lab: dx.Lab) -> None:
    heard: list[Any] = []

    def guess(feedback: str | None) -> str:
        heard.append(feedback)
        return "no"

    p = one(suggest(guess, "reply == 'yes'", "Say yes."))
    assert p.inputs == {}
    lab.run(p)
    assert heard[0] is None
    assert "- Say yes." in heard[1]


async def later(reply: str) -> bool:
    await asyncio.sleep(0)
    return reply == "good"


def told(reply: str) -> str | None:
    return None if reply == "good" else f"{reply!r} is not good"


def many(reply: str) -> list[str]:
    return [] if reply == "good" else ["not good", "", "not kind"]


def documented(reply: str) -> bool:
    """The reply must be good.

    More is not said.
    """
    return reply == "good"


@pytest.mark.parametrize(
    ("check", "message", "problems"),
    [
        ("reply == 'good'", None, ["it must hold that reply == 'good'"]),
        ("reply == 'good'", "Be good.", ["Be good."]),
        (later, None, ["the check later failed"]),
        (told, None, ["'bad' is not good"]),
        (many, None, ["not good", "not kind"]),
        (documented, None, ["The reply must be good."]),
        (documented, "Be good.", ["Be good."]),
        (lambda reply: np.bool_(reply == "good"), "Be good.", ["Be good."]),
        ([told, "reply == 'good'", lambda reply: reply == "good"], "Be good.", ["'bad' is not good", "Be good."]),
    ],
)
def test_checks_say_what_is_wrong_in_their_own_way(lab: dx.Lab, check: Any, message: str | None, problems: list[str]) -> None:
    guess = Guess("bad", "good")
    found = lab.run(one(assert_(guess.function(), check, message)), question="a")
    assert found.outputs == {"reply": "good"}
    lines = [line.removeprefix("- ") for line in guess.heard[1].splitlines() if line.startswith("- ")]
    assert [line[: len(p)] for line, p in zip(lines, problems, strict=True)] == problems


def test_with_on_a_function_gets_one_value(lab: dx.Lab) -> None:
    async def soon(value: str, /) -> bool:
        return value == "b"

    guess = Guess({"x": 1, "label": "a"}, {"x": 1, "label": "b"})
    inner = step(guess.function(), outputs=["x", "label"])
    found = lab.run(one(assert_(inner, ["x == 1", str.islower, soon], on="label")), question="a")
    assert found.outputs == {"x": 1, "label": "b"}
    with pytest.raises(PipelineError, match=r"no field 'labl' to check; there are .* Did you mean 'label'\?"):
        one(assert_(inner, str.islower, on="labl"))


def test_a_validator_checks_the_only_output(lab: dx.Lab) -> None:
    from dspex_lab.native import validator

    guess = Guess("one two three", "one")
    found = lab.run(one(assert_(guess.function(), [validator("max_words", 2), "len(reply) > 1"])), question="a")
    assert found.outputs == {"reply": "one"}
    assert "- It has 3 words, and may have at most 2." in guess.heard[1]
    assert str(assert_(guess.function(), validator("max_words", 2)).target.requirements[0]) == "max_words(2)"
    two = step(Guess({"a": "x", "b": "one two three"}).function(), outputs=["a", "b"])
    with pytest.raises(PipelineError, match=r"which of the fields 'a', 'b' is checked cannot be told"):
        one(assert_(two, validator("max_words", 2)))
    assert lab.run(one(assert_(two, validator("max_words", 2), on="b", attempts=1)), question="a").status == "failed"


def test_a_check_may_read_inputs_and_fields_of_other_steps(lab: dx.Lab) -> None:
    guess = Guess("aaaa", "aa")
    p = dx.pipeline("p", limit=lambda n: n + 1, reply=assert_(guess.function(), "len(reply) < limit and question == 'a'"))
    assert list(p.inputs) == ["n", "question"]
    assert lab.run(p, n=2, question="a").outputs == {"limit": 3, "reply": "aa"}


def test_a_check_that_gives_no_answer_fails_the_step(lab: dx.Lab) -> None:
    for answer in (0.7, 1, {"a": 1}, [1]):
        found = lab.run(one(suggest(Guess("a").function(), lambda reply, given=answer: given)), question="a")
        with pytest.raises(PipelineError, match=r"'reply': the check <lambda> returned \w+, not whether the answer is right"):
            found.raise_for_status()


def test_a_check_that_raises_fails_the_step(lab: dx.Lab) -> None:
    def broken(reply: str) -> bool:
        raise ZeroDivisionError("broken check")

    found = lab.run(one(suggest(Guess("a").function(), broken)), question="a")
    assert found.status == "failed"
    assert isinstance(found.error, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("len(",), {}, r"condition"),
        ((7,), {}, r"7 is no condition"),
        (([],), {}, r"nothing to check"),
        (("a == 1", ""), {}, r"message='' says nothing"),
        (("a == 1", 7), {}, r"message=7 says nothing"),
        (("a == 1",), {"attempts": 0}, r"attempts=0 is not 1 or more"),
        (("a == 1",), {"attempts": True}, r"attempts=True is not 1 or more"),
        ((lambda *args: True,), {}, r"cannot be matched to a field"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        assert_(Guess("a").function(), *arguments, **options)


# --- how it ends ----------------------------------------------------------------------------------------------


def test_an_assertion_that_never_holds_fails_and_keeps_its_answers_to_itself(lab: dx.Lab) -> None:
    found = lab.run(one(assert_(Guess("a", "b", "c").function(), "reply == 'x'", "Say x.", attempts=3)), question="a")
    outcome = found.steps["reply"]
    assert (found.status, outcome.status) == ("failed", "failed")
    assert isinstance(outcome.error, PipelineError)
    assert outcome.error.message == "Step 'reply': Say x. (asked 3 times)."
    assert (found.outputs, outcome.outputs) == ({}, {}), "what was not accepted goes no further"
    assert [o.outputs["reply"] for o in outcome.parts.values()] == ["a", "b", "c"]
    once = lab.run(one(assert_(Guess("a").function(), "reply == 'x'", "Say x.", attempts=1)), question="a")
    assert "Say x. (asked once)." in str(once.error)


def test_a_suggestion_that_never_holds_gives_its_best_answer_and_says_so(lab: dx.Lab) -> None:
    checks = ["len(reply) > 1", "reply == 'x'"]
    found = lab.run(one(suggest(Guess("a", "bb", "cc", "d").function(), checks, attempts=4)), question="a")
    outcome = found.steps["reply"]
    assert (found.status, outcome.status) == ("partial", "partial")
    assert found.outputs == {"reply": "cc"}
    assert outcome.note is not None
    assert outcome.note.startswith("it must hold that reply == 'x'")
    assert outcome.note.endswith("(asked 4 times)")


def test_what_fails_for_another_reason_is_not_asked_again(lab: dx.Lab) -> None:
    guess = Guess(OSError("gone"), "a")
    found = lab.run(one(suggest(guess.function(), "reply == 'a'")), question="a")
    assert guess.heard == [None]
    assert found.status == "failed"
    assert "gone" in str(found.error)


def test_a_step_that_gives_up_by_itself_is_not_checked(lab: dx.Lab) -> None:
    inner = step(Guess(OSError("gone")).function(), on_error="continue")
    found = lab.run(one(assert_(inner, "reply == 'a'")), question="a")
    assert found.steps["reply"].status == "partial"
    assert found.outputs == {"reply": None}


def test_a_fallback_is_checked_and_the_step_says_it_was_one(lab: dx.Lab) -> None:
    inner = step(Guess(OSError("gone")).function(), on_error="fallback", fallback={"reply": "a"})
    found = lab.run(one(assert_(inner, "reply == 'a'")), question="a")
    assert (found.outputs, found.steps["reply"].status) == ({"reply": "a"}, "partial")
    assert "gone" in (found.steps["reply"].note or "")


def test_an_earlier_short_answer_is_not_said_of_a_good_one(lab: dx.Lab) -> None:
    answers = iter(["bad", "good"])

    def guess(question: str) -> str:
        return next(answers)

    assert lab.run(one(suggest(guess, "reply == 'good'")), question="a").status == "complete"


def test_an_answer_that_cannot_be_read_is_asked_for_again(lab: dx.Lab) -> None:
    import dspy

    lm = scripted_lm(["no fields", "no json", {"n": 7}])
    with dspy.context(lm=lm):
        found = lab.run(one(assert_(dspy.Predict("question -> n: int"), "n > 0")), question="a")
    assert found.outputs == {"n": 7}
    assert parts(found.steps["reply"]) == [("try[1]", "failed"), ("try[2]", "complete")]
    sent = json.dumps(lm.history[-1]["messages"])
    assert "It could not be read:" in sent
    assert "no json" in sent


def test_an_answer_that_can_never_be_read_is_the_steps_failure(lab: dx.Lab) -> None:
    guess = Guess(SignatureError("no number", field="reply"), SignatureError("no number", field="reply"))
    found = lab.run(one(suggest(guess.function(), "reply == 'a'")), question="a")
    assert found.status == "failed"
    assert "no number" in str(found.error)
    assert len(guess.heard) == 2


def test_where_the_last_answer_cannot_be_read_an_earlier_one_is_the_best(lab: dx.Lab) -> None:
    guess = Guess("bad", SignatureError("no text"))
    found = lab.run(one(suggest(guess.function(), "reply == 'a'")), question="a")
    assert (found.status, found.outputs) == ("partial", {"reply": "bad"})


def test_a_wrong_input_is_not_asked_for_again(lab: dx.Lab) -> None:
    guess = Guess(SignatureError("wrong question", field="question"), "a")
    assert lab.run(one(suggest(guess.function(), "reply == 'a'")), question="a").status == "failed"
    assert len(guess.heard) == 1


@pytest.mark.parametrize(("check", "plain"), [("reply == 'a'", True), (told, True), (later, False)])
def test_it_runs_in_one_thread_where_all_of_it_can(check: Any, plain: bool) -> None:
    assert assert_(Guess("a").function(), check).plain is plain
