"""What feedback and instructions demand of an answer, read and met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.lms import asking_again, make_lm
from dspex_lab.lms.exemplar._constraints import NONE, Constraints, constraints_in, merged
from dspex_lab.lms.exemplar._fitting import fitted_list, fitted_number, fitted_text, open_options
from dspex_lab.lms.exemplar._prompt import split_feedback
from dspex_lab.native import _validators as validators

TEXT = "The delivery came much too late for the party. We were all very angry. Order A-17 is still missing."


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    with dspy.context(lm=make_lm("offline")):
        yield


def read(text: str, reported: bool = True) -> Constraints:
    return constraints_in(text, "answer", ("answer", "reasoning"), reported)


@pytest.mark.parametrize(
    ("text", "unit", "least", "most"),
    [
        ("Answer in at most 10 words.", "words", None, 10),
        ("no more than three sentences", "sentences", None, 3),
        ("fewer than 5 words, please", "words", None, 4),
        ("It has 12 words, and may have at most 10.", "words", None, 10),
        ("It has 2 items, and needs at least 3.", "items", 3, None),
        ("at least 20 characters", "characters", 20, None),
        ("more than 2 lines", "lines", 3, None),
        ("5 words or less", "words", None, 5),
        ("5 words or more", "words", 5, None),
        ("exactly two words", "words", 2, 2),
        ("answer with a single word", "words", 1, 1),
        ("len(pred.answer.split()) <= 3", "words", None, 3),
        ("len(answer) < 200", "characters", None, 199),
        ("len(answer.splitlines()) == 1", "lines", 1, 1),
        ("len(answer) > 4", "characters", 5, None),
        ("2 <= len(answer.split()) and len(answer.split()) >= 3", "words", 3, None),
    ],
)
def test_lengths_are_read(text: str, unit: str, least: int | None, most: int | None) -> None:
    assert read(text).limit(unit) == (least, most)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("It must contain 'tea' and \"milk\".", "contains", ("tea", "milk")),
        ("It does not contain 'tea', 'milk'.", "contains", ("tea", "milk")),
        ("must mention refund", "contains", ("refund",)),
        ("It must contain the order number.", "described", ("the order number",)),
        ("'tea' in answer", "contains", ("tea",)),
        ("'tea' not in answer", "without", ("tea",)),
        ("It contains 'tea'.", "without", ("tea",)),
        ("do not use 'tea'", "without", ("tea",)),
        ("It does not begin with 'Dear'.", "begins", ("Dear",)),
        ("answer.endswith('!')", "ends", ("!",)),
        ("It must end with a full stop.", "ends", (".",)),
        ("must be one of 'a', 'b' or 'c'", "allowed", ("a", "b", "c")),
        ("must be one of: red, green or blue", "allowed", ("red", "green", "blue")),
        ("answer in ['a', \"b\"]", "allowed", ("a", "b")),
        ("answer == 'a'", "allowed", ("a",)),
        ("it should be 'tea'", "allowed", ("tea",)),
        ("expected 'tea'", "allowed", ("tea",)),
        ("'x' is none of 'a', 'b'.", "refused", ("x",)),
        ("not 'x'", "refused", ("x",)),
        ("'x' is wrong", "refused", ("x",)),
        ("answer != 'x'", "refused", ("x",)),
        ("7 is not from 1 to 5.", "high", 5.0),
        ("0.1 is not at least 0.5.", "low", 0.5),
        ("answer <= 3", "high", 3.0),
        ("answer > 3", "low", 3.0),
        ("must be lower case", "case", "lower"),
        ("answer.isupper()", "case", "upper"),
        ("too long", "shorter", True),
        ("too short", "longer", True),
    ],
)
def test_demands_are_read(text: str, name: str, value: Any) -> None:
    assert getattr(read(text), name) == value


@pytest.mark.parametrize(
    "text",
    [
        "Send the message to its queue.",
        "K4: loans, not 'rooms'",
        "Find the errors in a sentence.",
        "x is one of many",
        "",
        "Use `tea`.",
    ],
)
def test_instructions_that_demand_no_form_are_none(text: str) -> None:
    assert read(text, reported=False) == NONE
    assert not NONE


def test_a_sentence_about_another_field_is_left_alone() -> None:
    assert read("The reasoning must have at most 3 words.") == NONE
    assert read("The answer must have at most 3 words, and the reasoning too.").limit("words") == (None, 3)


def test_earlier_answers_are_read_and_demands_added_up() -> None:
    found = read('It was:\nanswer: "tea"\nreasoning: "so"\nWhat is wrong with it:\n- at most 3 words\n- at most 2 words')
    assert found.earlier == ("tea",)
    assert found.limit("words") == (None, 2)
    assert merged(found, read('answer: "milk"')).earlier == ("tea", "milk")
    assert read("answer: [broken").earlier == ("[broken",)
    assert read("answer: [1]").earlier == ("[1]",)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    fitted_text("some words", read(text), text)


@pytest.mark.parametrize(
    ("demand", "found"),
    [
        (Constraints(limits=(("words", None, 4),)), "The delivery came much"),
        (Constraints(limits=(("characters", None, 12),)), "The delivery"),
        (Constraints(limits=(("characters", None, 3),)), "The"),
        (Constraints(limits=(("characters", None, 2),)), "Th"),
        (Constraints(limits=(("sentences", None, 1),)), "The delivery came much too late for the party."),
        (Constraints(limits=(("words", None, 14),)), "The delivery came much too late for the party. We were all very angry."),
        (Constraints(limits=(("words", None, 8),)), "The delivery came much too late"),
        (Constraints(contains=("refund",), limits=(("words", None, 4),)), "The delivery came refund"),
        (Constraints(without=("delivery",), limits=(("sentences", None, 1),)), "The came much too late for the party."),
        (Constraints(begins=("Dear Bo,",), limits=(("words", None, 2),)), "Dear Bo,The delivery"),
        (Constraints(begins=("So",), limits=(("words", None, 2),)), "So The delivery"),
        (Constraints(ends=("!",), limits=(("words", None, 2),)), "The delivery!"),
        (Constraints(ends=("thanks",), limits=(("words", None, 2),)), "The delivery thanks"),
        (Constraints(case="upper", limits=(("words", None, 2),)), "THE DELIVERY"),
        (Constraints(case="lower", limits=(("words", None, 2),)), "the delivery"),
    ],
)
def test_a_text_is_brought_into_form(demand: Constraints, found: str) -> None:
    text = fitted_text(TEXT, demand, TEXT)
    assert text == found or text == found + "."


def test_a_text_is_lengthened_from_what_was_asked_about() -> None:
    assert len(fitted_text("Late.", Constraints(limits=(("words", 12, None),)), TEXT).split()) >= 12
    assert len(fitted_text("Late.", Constraints(longer=True, earlier=("Late.",)), TEXT)) > len("Late.")
    assert fitted_text("a\nb\nc", Constraints(limits=(("lines", None, 2),)), "") == "a\nb"


def test_a_described_part_is_taken_from_the_text() -> None:
    assert "A-17" in fitted_text("It was late.", read("It must contain the order number."), TEXT)


def test_lists_numbers_and_options_are_fitted() -> None:
    assert fitted_list(["a", "b", "c"], Constraints(limits=(("items", None, 2),))) == ["a", "b"]
    assert fitted_list(["a"], Constraints(limits=(("items", 3, None),)), ["a", "b", "c", "d"]) == ["a", "b", "c"]
    assert fitted_list(["a"], Constraints(contains=("z",), without=("a",))) == ["z"]
    assert fitted_number(9, Constraints(high=5)) == 5
    assert fitted_number(-9, Constraints(low=0)) == 0
    assert open_options(["a", "b"], Constraints(refused=("A",)), False) == [1]
    assert open_options(["a", "b"], Constraints(refused=("a", "b")), False) == [0, 1]
    assert open_options(["a", "b"], Constraints(allowed=("b",)), False) == [1]
    assert open_options(["a", "b"], Constraints(earlier=("b",)), True) == [0]


def told(problem: str, earlier: str) -> Any:
    return asking_again(
        f"An earlier answer to this was not accepted.\nIt was:\n{earlier}\nWhat is wrong with it:\n- {problem}\n"
        "Answer again, in the form asked for, and put this right."
    )


FIRST = "The delivery came much too late for the party."
ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter(), dspy.TwoStepAdapter(make_lm("offline"))]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_feedback_reaches_the_answer_through_every_adapter(adapter: Any) -> None:
    program = dspy.Predict("text -> summary")
    with dspy.context(adapter=adapter):
        assert program(text=TEXT).summary == FIRST
        with told("It has 9 words, and may have at most 4.", f'summary: "{FIRST}"'):
            assert len(program(text=TEXT).summary.split()) <= 4


def test_what_was_refused_is_not_said_again() -> None:
    program = dspy.Predict("text -> summary")
    with told("That will not do.", f'summary: "{FIRST}"'):
        assert program(text=TEXT).summary != FIRST
    with told("It does not contain 'angry'.", f'summary: "{FIRST}"'):
        assert program(text=TEXT).summary == "We were all very angry."


def test_a_choice_that_was_refused_is_another_one() -> None:
    program = dspy.Predict("text -> label: Literal['coffee', 'tea', 'milk']")
    asked = {"text": "coffee, coffee beans and tea"}
    assert program(**asked).label == "coffee"
    for problem, label in [
        ("not 'coffee'", "tea"),
        ("'coffee' is none of 'milk', 'water'.", "milk"),
        ("the correct label is 'milk'", "milk"),
        ("try harder", "tea"),
    ]:
        with told(problem, 'label: "coffee"'):
            assert program(**asked).label == label


def test_feedback_on_the_reasons_leaves_the_choice() -> None:
    program = dspy.ChainOfThought("text -> label: Literal['coffee', 'tea']")
    with told("the reasoning is thin", 'reasoning: "so"\nlabel: "coffee"'):
        assert program(text="coffee beans").label == "coffee"


def test_truth_and_numbers_heed_feedback() -> None:
    program = dspy.Predict("text -> urgent: bool")
    assert program(text="this is urgent").urgent is True
    with told("urgent was wrong", "urgent: true"):
        assert program(text="this is urgent").urgent is False
    program.demos = [dspy.Example(text="this is urgent", urgent=True)]
    with told("urgent was wrong", "urgent: true"):
        assert program(text="this is urgent").urgent is False
    with told("7 is not from 1 to 5.", "stars: 7"):
        assert dspy.Predict("text -> stars: int")(text="I give 7 stars").stars == 5


def test_texts_may_be_limited_to_given_ones() -> None:
    with told("must be one of 'late', 'early'", 'word: "x"'):
        assert dspy.Predict("text -> word")(text="it came much too late").word == "late"


def test_instructions_set_the_form_of_answers() -> None:
    short = dspy.Signature("text -> summary", "Summarise in at most 5 words.")
    assert len(dspy.Predict(short)(text=TEXT).summary.split()) <= 5
    tags = dspy.Signature("text -> tags: list[str]", "Give exactly 2 keywords.")
    assert len(dspy.Predict(tags)(text=TEXT).tags) == 2


def test_suggestions_of_a_pipeline_are_met_when_asked_again() -> None:
    with dx.Lab(":memory:") as lab:
        lab.use("offline")
        brief = dx.suggest(dspy.Predict("text -> summary"), validators.max_words(4), attempts=2)
        condition = dx.assert_(  # noqa: PT009 - a step of a pipeline
            dspy.Predict("text -> summary"), "len(summary) < 30"
        )
        for step in (brief, condition):
            result = lab.run(dx.pipeline("brief", summary=step), text=TEXT)
            assert result.status == "complete"
            assert len(result.outputs["summary"]) < 30


def two_words(args: Any, pred: Any) -> float:
    return 1.0 if len(pred.answer.split()) <= 2 else 0.0


def mentions(args: Any, pred: Any) -> float:
    if "angry" not in pred.answer:
        return 0.0
    return 1.0


@pytest.mark.parametrize("reward", [two_words, mentions])
@pytest.mark.parametrize("adapter", ADAPTERS[:3], ids=lambda a: type(a).__name__)
def test_refine_gets_what_its_reward_asks_for(reward: Any, adapter: Any) -> None:
    with dspy.context(adapter=adapter, warn_on_type_mismatch=False):
        found = dspy.Refine(dspy.Predict("letter -> answer"), N=3, reward_fn=reward, threshold=1.0)(letter=TEXT)
    assert reward({}, found) == 1.0


def test_a_message_without_a_reminder_is_split_at_the_report() -> None:
    assert split_feedback("q\n\nAn earlier answer to this was not accepted.\nso") == (
        "q",
        "An earlier answer to this was not accepted.\nso",
    )
    assert split_feedback("q") == ("q", "")
