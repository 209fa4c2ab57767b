from __future__ import annotations

import numpy as np
import pytest

from dspex_lab.lms.exemplar._similarity import content_words, features, index, words


def test_words_are_taken_apart() -> None:
    assert words("lostLuggage_desk, Naïve!") == ["lost", "luggage", "desk", "naïve"]
    assert content_words("Where is the train?") == ["train"]


def test_features_ignore_case_and_punctuation() -> None:
    assert np.array_equal(features("Lost-Luggage!"), features("lost luggage"))


@pytest.mark.parametrize("text", ["", "?!", " "])
def test_a_text_without_words_has_one_feature(text: str) -> None:
    assert features(text).tolist() == [0]


def test_ngrams_stay_within_words() -> None:
    both = set(features("ab cd").tolist())
    assert both == set(features("ab").tolist()) | set(features("cd").tolist())


def test_a_lone_surrogate_is_no_error() -> None:
    assert len(features("bad \ud800 text")) > 0


def test_likeness_is_one_for_the_same_text_and_near_zero_for_another() -> None:
    texts = ("the platform of my train has changed", "the soup was cold and salty")
    same, other = index(texts).likeness(features(texts[0]))
    assert same == pytest.approx(1.0)
    assert abs(other) < 0.15


def test_inflected_words_are_alike() -> None:
    near, far = index(("delayed trains", "boiled eggs")).likeness(features("delay of a train"))
    assert near > far + 0.1


def test_coverage_counts_the_part_that_is_found() -> None:
    found, missing = index(("train", "umbrella")).coverage(features("which train is it"))
    assert found == 1.0
    assert missing < 0.2


def test_an_empty_index_compares_with_nothing() -> None:
    assert len(index(())) == 0
    assert index(()).likeness(features("x")).tolist() == []


def test_cached_features_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        features("some text")[0] = 1
