"""ROUGE, against the library rouge-score."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics import Rouge, metric
from dspex_lab.native.metrics._rouge import MOST_WORDS, lcs_length

#: Precision, recall and F1 by rouge-score 0.1.2 (RougeScorer, use_stemmer=False). The first three are Lin's
#: own examples (2004, section 3.1), the next five those of the library's tests.
STATED: list[tuple[str, str, dict[str, tuple[float, float, float]]]] = [
    (
        "police kill the gunman",
        "police killed the gunman",
        {"1": (0.750000, 0.750000, 0.750000), "2": (0.333333, 0.333333, 0.333333), "l": (0.750000, 0.750000, 0.750000)},
    ),
    (
        "the gunman kill police",
        "police killed the gunman",
        {"1": (0.750000, 0.750000, 0.750000), "2": (0.333333, 0.333333, 0.333333), "l": (0.500000, 0.500000, 0.500000)},
    ),
    (
        "the gunman police killed",
        "police killed the gunman",
        {"1": (1.000000, 1.000000, 1.000000), "2": (0.666667, 0.666667, 0.666667), "l": (0.500000, 0.500000, 0.500000)},
    ),
    (
        "testing one",
        "testing one two",
        {"1": (1.000000, 0.666667, 0.800000), "2": (1.000000, 0.500000, 0.666667), "l": (1.000000, 0.666667, 0.800000)},
    ),
    (
        "testing two",
        "testing one two",
        {"1": (1.000000, 0.666667, 0.800000), "2": (0.000000, 0.000000, 0.000000), "l": (1.000000, 0.666667, 0.800000)},
    ),
    (
        "testing",
        "testing one two",
        {"1": (1.000000, 0.333333, 0.500000), "2": (0.000000, 0.000000, 0.000000), "l": (1.000000, 0.333333, 0.500000)},
    ),
    (
        "",
        "testing one two",
        {"1": (0.000000, 0.000000, 0.000000), "2": (0.000000, 0.000000, 0.000000), "l": (0.000000, 0.000000, 0.000000)},
    ),
    (
        "/",
        "w1 w2 w3",
        {"1": (0.000000, 0.000000, 0.000000), "2": (0.000000, 0.000000, 0.000000), "l": (0.000000, 0.000000, 0.000000)},
    ),
    (
        "It's a cat-and-dog story: 3.5 stars!",
        "The cat and the dog; a story with 3.5 stars.",
        {"1": (0.800000, 0.727273, 0.761905), "2": (0.333333, 0.300000, 0.315789), "l": (0.700000, 0.636364, 0.666667)},
    ),
    (
        "the the the the the the the",
        "the cat is on the mat",
        {"1": (0.285714, 0.333333, 0.307692), "2": (0.000000, 0.000000, 0.000000), "l": (0.285714, 0.333333, 0.307692)},
    ),
    (
        "Parcels leave the warehouse twice a day, at nine and at four.",
        "At nine and at four, twice a day, parcels leave our warehouse by lorry.",
        {"1": (0.916667, 0.785714, 0.846154), "2": (0.636364, 0.538462, 0.583333), "l": (0.416667, 0.357143, 0.384615)},
    ),
    (
        "snake_case and UPPER case words_1",
        "Snake case, upper-case: words 1",
        {"1": (0.857143, 1.000000, 0.923077), "2": (0.666667, 0.800000, 0.727273), "l": (0.857143, 1.000000, 0.923077)},
    ),
]


@pytest.mark.parametrize(("prediction", "reference", "expected"), STATED)
@pytest.mark.parametrize("kind", ["1", "2", "l"])
def test_values_are_those_of_rouge_score(
    kind: str, prediction: str, reference: str, expected: dict[str, tuple[float, float, float]]
) -> None:
    for statistic, value in zip(("precision", "recall", "f1"), expected[kind], strict=True):
        made = metric(f"rouge_{kind}", statistic=statistic).score(prediction, reference)
        assert made == pytest.approx(value, abs=1e-6)


def slow_lcs(a: str, b: str) -> int:
    """The longest common subsequence by its definition: the longest of all subsequences of ``a`` that ``b`` has too."""
    for size in range(len(a), 0, -1):
        for chosen in itertools.combinations(a, size):
            rest = iter(b)
            if all(c in rest for c in chosen):
                return size
    return 0


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_the_longest_common_subsequence(a: str, b: str) -> None:
    assert lcs_length(a, b) == slow_lcs(a, b)


@given(st.text("ab ", max_size=200), st.text("ab ", max_size=200))
def test_a_subsequence_has_no_direction(a: str, b: str) -> None:
    assert lcs_length(a, b) == lcs_length(b, a) == lcs_length(a[::-1], b[::-1])


def test_of_several_references_the_best_counts() -> None:
    assert Rouge().score("testing one", ["nothing", "testing one two"]) == pytest.approx(0.8)


def test_letters_beyond_ascii_are_words() -> None:
    assert Rouge().score("кошка сидит", "кошка спит") == pytest.approx(0.5)
    assert Rouge().score("日本の首都", "日本の首相") == pytest.approx(0.8)
    assert Rouge().score("Café au lait", "cafe\u0301 au lait") == 1


@pytest.mark.parametrize("kind", ["1", "2", "l"])
def test_texts_without_words_and_single_words_are_like_themselves(kind: str) -> None:
    rouge = Rouge(kind=kind)  # type: ignore[arg-type]
    assert rouge.score("", "") == rouge.score(None, "") == rouge.score("?!", "?!") == rouge.score("one", "One") == 1
    assert rouge.score("?!", "...") == rouge.score("", "one") == rouge.score("one", None) == 0


def test_the_explanation_says_what_was_shared() -> None:
    assert Rouge().explain("testing one", "testing one two") == (
        "rouge_l 0.80: 2 words in the same order shared, of 2 in the answer (precision 1.00) and 3 in the reference "
        "(recall 0.67). Expected 'testing one two', found 'testing one'."
    )
    assert "1 pairs of words" in Rouge(kind="2").explain("a b", "a b c")
    assert "expected '?', found '!'" in Rouge().explain("!", "?")


def test_a_huge_text_costs_little_memory_and_is_a_lower_bound() -> None:
    long = " ".join(f"w{i % 90_000}" for i in range(100_000))
    tracemalloc.start()
    try:
        told = Rouge().explain(long, long + " more")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A table of the two lengths would need over 3 GB; most of what there is are the words themselves.
    assert peak < 100e6
    assert f"first {MOST_WORDS:,}" in told
    assert told.startswith("rouge_l 0.20")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="kind='L' is not one of 'l', '1', '2'"):
        Rouge(kind="L")  # type: ignore[arg-type]
