"""Texts as vectors without a model: the hashed n-grams the offline engine compares by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dspex_lab.lms._similarity import features

#: Entries of a vector. At 2,048 the n-grams of a customer's message (about 150) rarely collide.
WIDTH = 2048


def embed_text(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return one unit vector per text; the dot product of two is their cosine similarity.

    Feature hashing (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning") of the character
    n-grams the offline engine uses. Knows spelling, not meaning; give ``dspy.Embedder(embed_text, caching=False)`` to
    ``dspy.KNNFewShot`` where no embedding model is at hand.

    Returns:
        An array of shape ``(len(texts), 2048)``.
    """
    out = np.zeros((len(texts), WIDTH), np.float32)
    for row, text in zip(out, texts, strict=True):
        row[features(text) % WIDTH] = 1.0
        row /= np.linalg.norm(row)
    return out
