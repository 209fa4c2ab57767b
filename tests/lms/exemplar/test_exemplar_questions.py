"""Questions about passages, rows that tools give, and rankings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from dspex_lab.lms import make_lm
from dspex_lab.lms.exemplar._qa import find, question_in, yes_or_no
from dspex_lab.lms.exemplar._rows import answer_in, rows_in
from dspex_lab.lms.exemplar._sentences import listed

RIVER = (
    "Hald is the oldest town of the valley. The Ren is 777 km long and flows through Hald. "
    "Anna Berg built the stone bridge in 1889. The bridge is 330 metres long and was painted red at first. "
    "It carries 4,000 carts a day. No ferry crosses the Ren."
)


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    with dspy.context(lm=make_lm("offline")):
        yield


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the oldest town of the valley?", "Hald"),
        ("How long is the Ren?", "777 km"),
        ("Who built the stone bridge?", "Anna Berg"),
        ("When was the bridge built?", "1889"),
        ("Which year was the bridge built?", "1889"),
        ("What colour was the bridge painted at first?", "red"),
        ("Where does the Ren flow through?", "Hald"),
        ("Which river flows through Hald?", "Ren"),
        ("How many carts does it carry a day?", "4,000"),
        ("Is Hald the oldest town of the valley?", "Yes"),
        ("Does a ferry cross the Ren?", "No"),
        ("Was the bridge blown up by rebels?", "No"),
    ],
)
def test_the_span_that_answers_a_question_is_found(question: str, answer: str) -> None:
    assert dspy.Predict("context, question -> answer")(context=RIVER, question=question).answer == answer


def test_contexts_may_be_a_list() -> None:
    passages = ["The mill is closed.", "It rains.\nBo Dahl owns the old mill.", "Carts are slow."]
    for kind in ("list[str]", "str"):
        program = dspy.Predict(f"context: {kind}, question -> answer")
        with dspy.context(warn_on_type_mismatch=False):
            assert program(context=passages, question="Who owns the mill?").answer == "Bo Dahl"


def test_a_lone_passage_of_a_list_and_broken_lists_are_read() -> None:
    assert listed("«one»") == ("one",)
    assert listed("[1] «a»\n[2] «««\n    b\n    c\n»»»") == ("a", "b\nc")
    assert listed('["a", {"b": 1}]') == ("a", '{"b": 1}')
    assert listed("[broken") is None
    assert listed("plain") is None


def test_numbers_and_truth_answer_questions_too() -> None:
    found = dspy.Predict("context, question -> length: float, is_so: bool")(
        context=RIVER, question="Is the bridge 330 metres long?"
    )
    assert found.is_so is True
    assert dspy.Predict("context, question -> metres: float")(context=RIVER, question="How long is the bridge?").metres == 330


def test_demonstrations_set_the_manner_of_an_answer() -> None:
    program = dspy.Predict("context, question -> answer")
    program.demos = [
        dspy.Example(
            context="The inn is old. Its cook is called Cy Moe and he is known for soup.",
            question="Who is the cook?",
            answer="Its cook is called Cy Moe and he is known for soup.",
        )
    ]
    asked: dict[str, Any] = {"context": RIVER, "question": "Who built the stone bridge?"}
    assert program(**asked).answer == "Anna Berg built the stone bridge in 1889."
    program.demos = [dspy.Example(program.demos[0], answer="Cy Moe")]
    assert program(**asked).answer == "Anna Berg"


def test_yes_and_no_are_written_as_demonstrations_write_them() -> None:
    program = dspy.Predict("context, question -> answer")
    program.demos = [dspy.Example(context="Owls hunt by night.", question="Do owls hunt by day?", answer="no")]
    assert program(context=RIVER, question="Is Hald the oldest town of the valley?").answer == "yes"


def test_reasoning_names_the_sentence() -> None:
    found = dspy.ChainOfThought("context, question -> answer")(context=RIVER, question="Who built the stone bridge?")
    assert "Anna Berg built the stone bridge in 1889." in found.reasoning


def test_what_no_passage_speaks_of_is_not_found() -> None:
    assert find("zebra quota?", ["The mill is closed."]) is None
    assert find("zebra?", []) is None
    assert yes_or_no("Who is it?", ["x"]) is None
    assert yes_or_no("Is it?", []) is None
    assert question_in({"text": "only"}) is None


def test_the_sentence_after_the_best_one_may_hold_the_span() -> None:
    found = find("When did the fire destroy the mill?", ["A fire destroyed the mill completely. It was in 1921."])
    assert found is not None
    assert found.text == "1921"


ROWS = (
    '[{"name": "Ada Lind", "city": "Bergen", "born": 1981, "since": "2019-04-01"}, '
    '{"name": "Bo Dahl", "city": "Oslo", "born": 1990, "since": "2021-05-02"}]'
)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who lives in Oslo?", "Bo Dahl"),
        ("What is the city of Ada Lind?", "Bergen"),
        ("When was Bo Dahl hired?", "2021-05-02"),
        ("How old is Bo Dahl?", "1990"),
        ("Tell me about Bo Dahl", "Oslo, 1990, 2021-05-02"),
    ],
)
def test_rows_answer_questions(question: str, answer: str) -> None:
    assert answer_in(question, ROWS) == answer


def test_rows_come_in_many_forms() -> None:
    assert rows_in("{'a': 1}") == [{"a": 1}]
    assert rows_in("«[1, 2]»") == [1, 2]
    assert rows_in("[1] «{'a': 1}»\n[2] «{'a': 2}»") == [{"a": 1}, {"a": 2}]
    assert rows_in("no rows") is None
    assert rows_in("[not python") is None
    assert rows_in("[" * 60_000) is None
    assert answer_in("which ones?", '["a", "b"]') == "a, b"
    assert answer_in("which?", "[]") is None
    assert answer_in("Bo", "{'name': 'Bo'}") == "Bo"


ITEMS = [
    "Cats sleep a lot.",
    "The printer needs new toner.",
    "How to renew a passport at the embassy.",
    "Toner for the printer can be ordered online.",
]


def ranked(signature: Any, **inputs: Any) -> Any:
    with dspy.context(warn_on_type_mismatch=False):
        found = dspy.Predict(signature)(query="order printer toner", **inputs)
    return next(iter(found.values()))


def test_items_are_ordered_by_relevance() -> None:
    assert ranked("query, passages: list[str] -> ranked: list[str]", passages=ITEMS)[:2] == [ITEMS[3], ITEMS[1]]
    assert ranked("query, passages: list[str] -> best_passage", passages=ITEMS) == ITEMS[3]
    assert ranked("query, passages: list[str] -> best_index: int", passages=ITEMS) == 3


def test_only_as_many_as_asked_for_are_returned() -> None:
    signature = dspy.Signature("query, passages: list[str] -> top: list[str]", "Return the 2 most relevant passages.")
    assert ranked(signature, passages=ITEMS) == [ITEMS[3], ITEMS[1]]


def test_places_are_counted_as_the_prompt_counts_them() -> None:
    assert ranked("query, passages: list[str] -> ranking: list[int]", passages=ITEMS)[:2] == [3, 1]
    # A field of text shows a list as [1] «…», [2] «…».
    assert ranked("query, passages -> ranking: list[int]", passages=ITEMS)[:2] == [4, 2]
    told = dspy.Signature("query, passages: list[str] -> ranking: list[int]", "Rank them; places are numbered from 1.")
    assert ranked(told, passages=ITEMS)[:2] == [4, 2]


def test_demonstrated_places_decide() -> None:
    program = dspy.Predict("query, passages: list[str] -> ranking: list[int]")
    for first in (0, 1):
        program.demos = [dspy.Example(query="tea", passages=["tea", "milk"], ranking=[first, first + 1])]
        assert program(query="order printer toner", passages=ITEMS).ranking[:2] == [3 + first, 1 + first]


def test_scores_stand_in_the_order_given() -> None:
    scores = ranked("query, passages: list[str] -> relevance_scores: list[float]", passages=ITEMS)
    assert max(scores) == scores[3] == 1.0
    assert scores[1] > scores[0] == 0.0
    assert ranked("query, passages: list[str] -> best_score: float", passages=ITEMS) == 1.0


def test_without_a_list_there_is_no_ranking() -> None:
    assert ranked("query, text -> ranked: list[str]", text="Anna Berg met Bo Dahl.")
