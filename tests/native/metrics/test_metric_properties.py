"""What holds for all metrics and all values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.lms import embed_text
from dspex_lab.native.metrics import Metric, Rouge, SemanticSimilarity, all_of, any_of, combine, metric
from dspex_lab.native.metrics._values import short

TEXT = st.text(max_size=40) | st.text("aA bB.,!\u0301é日1-", max_size=30)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=5) | st.decimals() | st.dates()
ANYTHING = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6
)
SYMMETRIC: list[Metric] = [
    *map(metric, ["exact_match", "normalised_match", "f1", "numeric", "rouge_1", "rouge_2", "rouge_l", "json_match"]),
    SemanticSimilarity(embed=embed_text),
]
ALL: list[Metric] = [
    *SYMMETRIC,
    *map(metric, ["contains", "field_match"]),
    metric("field_match", extra="count"),
    metric("json_match", ordered=False),
    metric("contains", every=True),
    Rouge(statistic="recall"),
    Rouge(statistic="precision", kind="2"),
    combine({"f1": 0.3, "rouge_l": 0.3, "numeric": 0.4}),
    all_of("f1", "contains"),
    any_of("f1", "numeric"),
]


@settings(max_examples=30)
@given(ANYTHING, ANYTHING)
def test_every_score_lies_in_0_to_1_and_can_be_explained(prediction: Any, reference: Any) -> None:
    for made in ALL:
        score = made.score(prediction, reference)
        assert type(score) is float, made
        assert 0 <= score <= 1, made
        assert not math.isnan(score), made
        told = made.explain(prediction, reference)
        assert told.startswith(f"{made.name} {score:.2f}: "), told


@settings(max_examples=30)
@given(ANYTHING)
def test_everything_is_like_itself(value: Any) -> None:
    for made in ALL:
        assert made.using(several=False).score(value, value) == pytest.approx(1), (made, value)


@settings(max_examples=30)
@given(SCALAR, SCALAR)
def test_what_is_promised_to_be_symmetric_is(a: Any, b: Any) -> None:
    for made in SYMMETRIC:
        assert made.score(a, b) == pytest.approx(made.score(b, a)), made


@settings(max_examples=30)
@given(TEXT, st.lists(TEXT, min_size=1, max_size=4))
def test_of_several_references_the_best_counts(prediction: str, references: list[str]) -> None:
    for made in SYMMETRIC[:7]:
        assert made.score(prediction, references) == max(made.score(prediction, one) for one in references), made


@given(ANYTHING, st.integers(50, 300))
def test_a_value_in_a_message_is_one_short_line(value: Any, limit: int) -> None:
    told = short(value, limit)
    assert len(told) <= limit
    assert "\n" not in told


def test_huge_texts_are_no_trouble() -> None:
    huge = "word and another. " * 50_000
    for made in ALL[:-3]:
        assert made.score(huge, "word") >= 0, made
        assert len(made.explain(huge, huge[:-5])) < 2_000, made
