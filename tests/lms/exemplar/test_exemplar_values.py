"""Numbers, spans and words for fields that are no choice."""

from __future__ import annotations

import numpy as np
import pytest

from dspex_lab.lms.exemplar import _numbers as numbers
from dspex_lab.lms.exemplar._shapes import Shape
from dspex_lab.lms.exemplar._similarity import features
from dspex_lab.lms.exemplar._spans import extract, extract_like, kind_asked, kind_of, spans
from dspex_lab.lms.exemplar._text import answer_question, central_sentence, closest_sentence, free_text, keywords, reply_to

UNIT = Shape("float", low=0.0, high=1.0)
GRADED = """How urgent is it? 0: thanks, praise, greetings. 0.5: question, how, what.
1: stolen, fraud, emergency"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("what is 12*(3+4)?", 84.0),
        ("2 + 3 × 4", 14.0),
        ("7 ÷ 2", 3.5),
        ("-(2) * 3", -6.0),
        ("2 ^ 10 please", 1024.0),
        ("1/0", None),
        ("9 ^ 99999", None),
        ("2 +", None),
        ("on 12/03/2024", None),
        ("call 555-123-456", None),
        ("no sum here", None),
        ("(1 + 2", None),
        ("2 + 3 ** 4 ** 5", None),
        ("5 * -3", -15.0),
        ("(-8) ^ 0.5", None),
        ("9" * 400 + " + 1", None),
    ],
)
def test_arithmetic(text: str, value: float | None) -> None:
    assert numbers.calculate(text) == (pytest.approx(value) if value is not None else None)


@pytest.mark.parametrize(
    ("text", "grade"), [("thank you", 0.0), ("a question", 0.5), ("my bag was stolen", 1.0), ("a question about fraud", 0.75)]
)
def test_grades_in_numbers(text: str, grade: float) -> None:
    found = numbers.from_grades(UNIT, GRADED, features(text))
    assert found is not None
    assert found[0] == pytest.approx(grade)


def test_grades_in_words() -> None:
    text = "Rate it. High when somebody is furious or threatens; low for a simple question."
    high = numbers.from_grades(Shape("int", low=1, high=5), text, features("I am furious"))
    low = numbers.from_grades(Shape("int", low=1, high=5), text, features("a simple thing"))
    assert high is not None
    assert low is not None
    assert high[0] > 3.9
    assert low[0] < 2.0


def test_no_grade_without_a_word_of_it() -> None:
    assert numbers.from_grades(UNIT, GRADED, features("zzz")) is None
    assert numbers.from_grades(Shape("int"), "no grades", features("zzz")) is None


def test_likeness_weighs_demonstrations() -> None:
    near = numbers.from_demonstrations([0.0, 1.0], np.array([0.05, 0.7]))
    assert near > 0.8
    assert numbers.from_demonstrations([0.0, 1.0], np.array([-0.1, 0.0])) == pytest.approx(0.5)


def test_a_number_is_taken_from_the_text() -> None:
    text = "Order 77: 3 chairs for $45.50 in total"
    assert numbers.from_text(text, "total_price") == 45.5
    assert numbers.from_text(text, "chairs") == 77.0
    assert numbers.from_text("none", "chairs") is None


def test_the_name_of_a_field_in_the_text_raises_it() -> None:
    assert numbers.from_name(UNIT, "urgency", features("this is urgent")) == pytest.approx(0.8)
    assert numbers.from_name(UNIT, "urgency", features("hello")) == pytest.approx(0.5)
    assert numbers.from_name(Shape("float"), "urgency", features("hello")) == pytest.approx(0.5)
    assert numbers.from_name(Shape("int"), "urgency", features("hello")) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [("0.5", 0.5), ("1,200 items", 1200.0), (3, 3.0), (True, None), (None, None), ("none", None), ("1e999", None)],
)
def test_values_are_read_as_numbers(value: object, number: float | None) -> None:
    assert numbers.to_number(value) == number


def test_numbers_are_fitted_to_their_bounds() -> None:
    assert numbers.fitted(UNIT, 7.0) == 1.0
    assert numbers.fitted(UNIT, -7.0) == 0.0
    assert numbers.fitted(Shape("int"), 2.6) == 3


MAIL = (
    "Hello, my name is Maria Lopez. Order A-1234 of 12 March 2024 cost $45.50, 20% off; write to maria@ex.org or www.ex.org/a."
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "maria@ex.org"),
        ("website", "www.ex.org/a"),
        ("order_number", "A-1234"),
        ("order_date", "12 March 2024"),
        ("price", "$45.50"),
        ("discount_rate", "20%"),
        ("customer_name", "Maria Lopez"),
        ("phone", None),
        ("mood", None),
    ],
)
def test_a_field_gets_the_span_of_its_kind(field: str, value: str | None) -> None:
    assert extract(MAIL, field, "") == value


def test_a_description_names_the_kind_where_the_name_does_not() -> None:
    assert kind_asked("contact", "the email to answer") == "email"


def test_the_span_nearest_to_a_cue_is_taken() -> None:
    text = "Departure date 3 May, arrival date 5 May"
    assert extract(text, "arrival_date", "") == "5 May"


def test_another_kind_stands_in() -> None:
    assert extract("we owe 300 for it", "amount", "") == "300"


def test_a_word_that_begins_its_sentence_is_no_name() -> None:
    assert [v for _, v in spans("Trains are late. We met Anna in The Hague. I agree.", "name")] == ["Anna", "Hague"]


def test_the_form_of_values_is_recognised() -> None:
    assert kind_of(["a@b.co", "c@d.org"]) == "email"
    assert kind_of(["X-1", "free words here", "more words"]) is None
    assert kind_of(["nothing of the kind", "at all"]) is None


def test_spans_are_found_by_the_demonstrated_pattern() -> None:
    shown = [("move 4 boxes to room 12", "12"), ("bring 9 lamps to room 31", "31")]
    assert extract_like("take 7 chairs to room 25 now", shown) == "25"


def test_no_pattern_where_values_do_not_stand_in_their_texts() -> None:
    assert extract_like("a 7", [("b", "12"), ("c", "13")]) is None
    assert extract_like("a 7", [("so it is free text", "free text")]) is None
    assert extract_like("no digits", [("room 12", "12")]) is None


def test_the_closest_sentence_shares_the_rarest_words() -> None:
    text = "The train is late. The train to Bergen is full. It rains."
    assert closest_sentence(text, "is the Bergen train full") == "The train to Bergen is full."
    assert closest_sentence(text, "the and of") == "The train is late."
    assert closest_sentence("", "anything") == ""


def test_a_question_is_answered_from_the_other_inputs() -> None:
    context = "Oslo has 700,000 inhabitants. Anna Berg was born in 1983 in Lund. It cost $5."
    asked = {
        "When was Anna born?": "1983",
        "How many inhabitants has Oslo?": "700,000",
        "Who was born in Lund?": "Anna Berg",
        "How much did it cost?": "$5",
        "Tell me about Lund": "Anna Berg was born in 1983 in Lund.",
    }
    for question, answer in asked.items():
        assert answer_question({"context": context, "question": question}) == answer
    assert answer_question({"question": "alone?"}) is None


def test_free_text_repeats_the_input_of_the_same_name() -> None:
    inputs = {"basic_instruction": "Sort it.", "examples": "many"}
    assert free_text("proposed_instruction", "", "", inputs) == "Sort it."


def test_free_text_is_taken_from_the_inputs() -> None:
    text = {"message": "Good morning. The printer by the lift is broken again, please send somebody. Bye."}
    assert "printer" in free_text("summary", "", "", text)
    assert len(free_text("title", "", "", text).split()) <= 10
    assert free_text("problem", "what is broken", "", text).startswith("The printer")
    assert free_text("note", "", "Be brief.", {}) == "Be brief."


def test_a_short_text_is_its_own_centre() -> None:
    assert central_sentence(" one line ") == "one line"


def test_keywords_are_names_first() -> None:
    assert keywords("please call Anna Berg about the broken printer", 2) == ["Anna Berg", "printer"]


def test_a_free_prompt_that_asks_for_a_fenced_text_gets_it_back() -> None:
    prompt = "Improve this:\n```\nSort the mail.\n```\nWhat went wrong: all.\n\nAnswer within ``` blocks."
    assert reply_to(prompt) == "```\nSort the mail.\n```"
    assert reply_to("Hello there") == "Hello there"
    assert reply_to("")
