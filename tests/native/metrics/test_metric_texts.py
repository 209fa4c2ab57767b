"""Equal, normalised, shared words, contained."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import pytest
from dspy.evaluate.metrics import EM, F1, normalize_text
from hypothesis import example, given
from hypothesis import strategies as st

from dspex_lab.native.metrics import Contains, ExactMatch, NormalisedMatch, TokenF1, normalise

#: No word that DSPy, which takes accents apart, mistakes for an article with something behind it ("à", "thé").
PROSE = st.lists(
    st.sampled_from(["the", "The", "a", "an", "cat.", "café", "don't", "U.S.A", "  ", "42", "x-y", "É", "日本", "cafe\u0301"])
).map(" ".join)


class Colour(enum.Enum):
    RED = "red"


# --- SQuAD, against the published cases and DSPy's copy of the script ---------------------------------------------

#: (prediction, references, exact match, F1). Rows 1-3 are the examples in the card of `squad` in the library evaluate 0.4,
#: row 4 is AllenNLP's test of its SquadEmAndF1, rows 5 and 6 are SQuAD 2.0's rule for questions without an answer.
PUBLISHED: list[tuple[str, list[str], float, float]] = [
    ("1976", ["1976"], 1.0, 1.0),
    ("1999", ["1976"], 0.0, 0.0),
    ("Beyonce", ["Beyoncé and Bruno Mars"], 0.0, 0.0),
    ("this is the best span", ["this is a good span", "something irrelevant"], 0.0, 0.75),
    ("", [], 1.0, 1.0),
    ("an answer", [], 0.0, 0.0),
    ("rock", ["rock n roll"], 0.0, 0.5),
    ("The Denver Broncos!", ["Denver Broncos", "Carolina Panthers"], 1.0, 1.0),
    ("to to be or not", ["to be"], 0.0, 4 / 7),
]


@pytest.mark.parametrize(("prediction", "references", "exact", "f1"), PUBLISHED)
def test_squads_published_cases(prediction: str, references: Sequence[str], exact: float, f1: float) -> None:
    assert NormalisedMatch().score(prediction, references) == exact
    assert TokenF1().score(prediction, references) == pytest.approx(f1)


@given(PROSE, PROSE, PROSE)
@example("the cat", "cat", "")
def test_squads_metrics_agree_with_dspy(prediction: str, first: str, second: str) -> None:
    assert NormalisedMatch().score(prediction, [first, second]) == EM(prediction, [first, second])
    if normalize_text(prediction) or all(map(normalize_text, (first, second))):  # two empty texts: see below
        assert TokenF1().score(prediction, [first, second]) == pytest.approx(F1(prediction, [first, second]))


def test_two_answers_without_words_agree_as_in_squad_2_where_dspy_says_0() -> None:
    assert TokenF1().score("the", "") == 1.0
    assert F1("the", [""]) == 0


def test_normalisation_is_squads() -> None:
    assert normalise("  The, Eiffel  Tower! ") == "eiffel tower"
    assert normalise("A theatre, an aisle") == "theatre aisle"
    assert normalise("cafe\u0301") == normalise("caf\u00e9")
    assert normalise("à la carte, thé") == "à la carte thé"
    assert "la carte" in normalize_text("à la carte, thé") != normalise("à la carte, thé")


def test_words_count_as_often_as_they_occur() -> None:
    # Two of the prediction's four are needed twice only: precision 2/4, recall 2/2.
    assert TokenF1().score("no no no no", "no no") == pytest.approx(2 / 3)


def test_f1_says_what_is_missing_and_what_is_too_much() -> None:
    told = TokenF1().explain("in Paris now", "Paris, France")
    assert told.startswith("f1 0.40: 1 of the reference's 2 words are there, in an answer of 3.")
    assert "Missing: 'france'." in told
    assert "Not in the reference: 'in', 'now'." in told
    assert "Expected 'Paris, France', found 'in Paris now'." in told
    many = TokenF1().explain("x", " ".join(f"w{i}" for i in range(20)))
    assert "and 12 more" in many
    assert len(TokenF1().explain("y" * 10_000, "z" * 10_000)) < 1_000


# --- exact --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("Paris", "Paris", 1),
        ("Paris", "paris", 0),
        ("Paris ", "Paris", 0),
        ("", "", 1),
        (None, "", 1),
        (None, "x", 0),
        (None, None, 1),
        (3, "3", 1),
        (3, 3.0, 1),
        (True, 1, 0),
        (True, "True", 1),
        (float("nan"), float("nan"), 1),
        (float("inf"), float("-inf"), 0),
        ({"a": [1]}, {"a": [1.0]}, 1),
        ({"a": 1}, '{"a": 1}', 1),
        (Colour.RED, "red", 1),
        (["x", "y"], ["x", "y"], 1),
        (["y", "x"], ["x", "y"], 0),
        ("\ud800", "\ud800", 1),
        (b"caf\xc3\xa9", "café", 1),
    ],
)
def test_exact_match(prediction: object, reference: object, score: float) -> None:
    assert ExactMatch().score(prediction, reference) == score


def test_exact_match_may_overlook_case_and_space() -> None:
    assert ExactMatch(ignore_case=True).score("STRASSE", "straße") == 1
    assert ExactMatch(ignore_space=True).score(" a \n b", "a b ") == 1
    assert ExactMatch().explain("Rome", "Paris") == "exact_match 0.00: expected 'Paris', found 'Rome'."
    assert ExactMatch().explain("Paris", "Paris") == "exact_match 1.00: correct, it is 'Paris'."


# --- several references -------------------------------------------------------------------------------------------


def test_a_list_of_references_means_that_each_is_right() -> None:
    assert ExactMatch().score("b", ["a", "b"]) == 1
    assert ExactMatch().score("b", ("a", "b")) == 1
    assert ExactMatch().score("c", ["a", "b"]) == 0


def test_a_list_against_a_list_is_one_reference_unless_said_otherwise() -> None:
    assert ExactMatch().score(["a"], ["a", "b"]) == 0
    assert ExactMatch(several=True).score(["a"], [["a"], ["b"]]) == 1
    assert ExactMatch(several=False).score("a", ["a"]) == 0


# --- contains -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("It was the Eiffel Tower.", "eiffel tower", 1),
        ("a party", "art", 0),
        ("tower of Eiffel", "Eiffel Tower", 0),
        ("anything", "", 0),
        ("", "", 1),
        (None, "x", 0),
        ("the year 1976", 1976, 1),
        ("b only", ["a1", "b"], 1),
    ],
)
def test_contains(prediction: object, reference: object, score: float) -> None:
    assert Contains().score(prediction, reference) == score


def test_contains_may_ask_for_every_reference() -> None:
    every = Contains(every=True)
    assert every.score("red and blue", ["red", "green", "blue"]) == pytest.approx(2 / 3)
    assert every.explain("red and blue", ["red", "green", "blue"]) == "contains 0.67: 2 of 3 are there. Missing: 'green'."
    assert every.explain("red", ["red"]) == "contains 1.00: 1 of 1 are there."
    assert Contains().explain("red", "blue") == "contains 0.00: 'blue' does not occur in 'red'."
    assert Contains().explain("so red", "red") == "contains 1.00: 'red' is there."
