"""Texts as vectors without a model: the hashed n-grams the offline engine compares by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dspex_lab._lazy import require
from dspex_lab.errors import LMError
from dspex_lab.lms.exemplar._similarity import features

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


def sentence_embedder(model: str | Path) -> Callable[[Sequence[str]], npt.NDArray[np.float32]]:
    """Return a function like :func:`embed_text` that knows meaning: a sentence-transformers model (extra ``neural``).

    Reimers and Gurevych 2019, "Sentence-BERT". Loaded once, here; runs on a GPU where torch finds one.

    Args:
        model: a model's folder, or its name on the hub (which is then asked, once).

    Raises:
        ConfigurationError: sentence-transformers is not installed.
        LMError: the model is not there or cannot be read.
    """
    library = require("sentence_transformers", "for embeddings by meaning")
    try:
        loaded = library.SentenceTransformer(str(model))
    except (OSError, ValueError) as error:
        raise LMError(
            f"The embedding model {str(model)!r} cannot be loaded: {error}",
            engine=str(model),
            hint="Give the folder of a sentence-transformers model, or a name the hub has.",
        ) from error

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        made = loaded.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(made, np.float32)

    return embed
