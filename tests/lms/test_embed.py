"""Texts as vectors without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import dspy
import numpy as np
import pytest

from dspex_lab.errors import LMError
from dspex_lab.lms import embed_text, sentence_embedder


def test_vectors_have_length_one_and_alike_texts_are_near() -> None:
    vectors = embed_text(["the card was declined", "my card is declined", "sunny weather tomorrow", ""])
    assert vectors.shape == (4, 2048)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    near = vectors @ vectors.T
    assert near[0, 1] > 0.3 > near[0, 2]
    assert np.array_equal(embed_text(["sunny weather tomorrow"])[0], vectors[2])


def test_nothing_to_embed_is_an_empty_table() -> None:
    assert embed_text([]).shape == (0, 2048)


def test_a_sentence_model_knows_meaning_where_spelling_does_not(by_meaning: Callable[[Sequence[str]], np.ndarray]) -> None:
    texts = ["my card was stolen", "somebody robbed my wallet", "the weather is sunny"]
    vectors = by_meaning(texts)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.2


def test_dspy_takes_it_as_an_embedder(by_meaning: Callable[[Sequence[str]], np.ndarray]) -> None:
    assert dspy.Embedder(by_meaning, caching=False)(["a", "b"]).shape == (2, 384)


def test_a_model_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: neural)")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LMError, match="cannot be loaded"):
        sentence_embedder(tmp_path / "nothing")
