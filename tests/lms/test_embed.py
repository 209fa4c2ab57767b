"""Texts as vectors without a model."""

from __future__ import annotations

import numpy as np

from dspex_lab.lms import embed_text


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
