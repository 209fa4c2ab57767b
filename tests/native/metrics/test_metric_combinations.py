"""Several metrics as one."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics import AllOf, AnyOf, Contains, TokenF1, all_of, any_of, combine, metric

SAID, RIGHT = "in Paris, France", "Paris"  # f1 0.5, contains 1, exact 0


def test_the_weighted_mean_needs_no_weights_that_add_up_to_1() -> None:
    assert combine({"f1": 0.7, "contains": 0.3}).score(SAID, RIGHT) == pytest.approx(0.65)
    assert combine({"f1": 7, "contains": 3}).score(SAID, RIGHT) == pytest.approx(0.65)
    assert combine({lambda prediction, reference: 1.0: 1, TokenF1(): 1}).score(SAID, RIGHT) == pytest.approx(0.75)


def test_the_explanation_has_that_of_every_part() -> None:
    told = combine({"f1": 7, "contains": 3}).explain(SAID, RIGHT)
    assert told.startswith("combine 0.65: weighted mean (f1 70%, contains 30%). f1 0.50: 1 of the reference's 1 words")
    assert told.endswith("contains 1.00: 'Paris' is there.")


def test_all_of_and_any_of_ask_for_thresholds() -> None:
    assert all_of("contains", {"f1": 0.5}).score(SAID, RIGHT) == 1
    assert all_of("contains", "f1").score(SAID, RIGHT) == 0  # f1 passes at 0.66
    assert all_of("contains", metric("f1", threshold=0.4)).score(SAID, RIGHT) == 1
    assert any_of("exact_match", "contains").score(SAID, RIGHT) == 1
    assert any_of("exact_match", "f1").score(SAID, RIGHT) == 0
    assert all_of({"contains": 1, "f1": 0.66}).explain(SAID, RIGHT).startswith("all_of 0.00: too low: f1. contains 1.00:")
    assert all_of("contains").explain(SAID, RIGHT).startswith("all_of 1.00: all pass.")
    assert any_of("contains", "f1").explain(SAID, RIGHT).startswith("any_of 1.00: passed: contains.")
    assert any_of("f1").explain(SAID, RIGHT).startswith("any_of 0.00: none passes.")


def test_combinations_nest() -> None:
    nested = combine({all_of("contains"): 1, any_of("exact_match", combine({"f1": 1}, threshold=0.5)): 1})
    assert nested.score(SAID, RIGHT) == 1


def test_parts_may_compare_fields_of_their_own() -> None:
    gold = dspy.Example(question="?", answer="Paris", year=1976).with_inputs("question")
    made = dspy.Prediction(answer="in Paris, France", year="in 1977")
    both = combine({metric("numeric", field="year", absolute=1): 1, "f1": 1}, field="answer")
    assert both(gold, made) == pytest.approx(0.75)
    assert both.using(field="answer")(gold, made) == pytest.approx(0.75)
    with pytest.raises(ConfigurationError, match="share 'answer', 'year'"):
        combine({"f1": 1})(gold, made)
    assert both(gold, None) == 0


def test_several_reaches_the_parts() -> None:
    assert combine({"exact_match": 1}, several=False).score("a", ["a"]) == 0


def test_as_a_dspy_metric_it_has_a_threshold_and_feedback() -> None:
    gold, made = {"answer": RIGHT}, {"answer": SAID}
    both = combine({"f1": 0.7, "contains": 0.3})
    assert both(gold, made, []) is False
    assert both.using(threshold=0.6)(gold, made, []) is True
    assert "f1 0.50" in both(gold, made, None, None, None).feedback


def test_they_tell_what_they_are_made_of() -> None:
    assert repr(combine({"f1": 0.7, "contains": 1}, field="a")) == (
        "WeightedMean({TokenF1(field='a'): 0.7, Contains(field='a'): 1})"
    )
    assert repr(AllOf(parts=((Contains(every=True), 1.0),))) == "AllOf({Contains(every=True): 1})"
    assert repr(any_of(TokenF1())) == "AnyOf({TokenF1(): 0.66})"
    assert isinstance(any_of("f1"), AnyOf)


@pytest.mark.parametrize("make", [lambda: combine({}), lambda: combine([("f1", 1)]), all_of, any_of])  # type: ignore[arg-type]
def test_nothing_to_combine_is_an_error(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="one metric at least"):
        make()


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1", None])
def test_a_weight_that_is_none_is_an_error(weight: Any) -> None:
    with pytest.raises(ConfigurationError, match="weight of 'f1'"):
        combine({"f1": weight})


@pytest.mark.parametrize("least", [0, 1.1, float("nan"), "1"])
def test_a_threshold_that_none_can_reach_or_miss_is_an_error(least: Any) -> None:
    with pytest.raises(ConfigurationError, match="threshold of 'f1'"):
        all_of({"f1": least})


def test_an_unknown_option_is_an_error() -> None:
    for make in (combine, all_of, any_of):
        with pytest.raises(ConfigurationError, match=r"no option 'feild'. Did you mean 'field'\?"):
            make({"f1": 1}, feild="answer")


def test_a_part_that_breaks_its_promise_is_named() -> None:
    def wild(prediction: str, reference: str) -> float:
        return 7.0

    with pytest.raises(ConfigurationError, match=r"'wild' gave 7\.0"):
        combine({wild: 1, "f1": 1}).score("a", "b")


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5), st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_a_mean_lies_between_its_lowest_and_highest_part(weights: list[float], scores: list[float]) -> None:
    parts = {(lambda p, r, s=s: s): w for w, s in zip(weights, scores, strict=False)}
    used = scores[: len(weights)]
    for name, part in zip("abcde", parts, strict=False):
        part.__name__ = name
    score = combine({metric(_two(part)): w for part, w in parts.items()}).score("", "")
    assert min(used) - 1e-9 <= score <= max(used) + 1e-9


def _two(part: Any) -> Any:
    return lambda prediction, reference: part(prediction, reference)
