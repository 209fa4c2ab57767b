"""Texts as vectors: by spelling, without a model, and by meaning, with one in this process or on a pool."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dspex_lab._lazy import require
from dspex_lab.errors import LMError
from dspex_lab.lms._hub import hush, is_offline
from dspex_lab.lms._submit import Submit, Workers, name_of_pool, stays, submit_to
from dspex_lab.lms.exemplar._similarity import features

Vectors: TypeAlias = npt.NDArray[np.float32]

#: Entries of a vector. At 2,048 the n-grams of a customer's message (about 150) rarely collide.
WIDTH = 2048
#: Texts that one call of a worker embeds: a second or so of a small model's work on a CPU.
PIECE = 256


def embed_text(texts: Sequence[str]) -> Vectors:
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


def sentence_embedder(model: str | Path, *, pool: str | Workers | None = None) -> SentenceEmbedder:
    """Return a function like :func:`embed_text` that knows meaning: a sentence-transformers model (extra ``neural``).

    Reimers and Gurevych 2019, "Sentence-BERT". Runs on a GPU where torch finds one. No code of the model's own is run.

    Args:
        model: a model's folder, or its name on the hub (which is then asked, once, unless ``HF_HUB_OFFLINE`` is set).
        pool: the pool whose workers embed (``"neural"``), by its name or itself; each loads the model when it first needs it.
            None loads it here and now. In a worker it embeds where it is.

    Raises:
        ConfigurationError: sentence-transformers is not installed.
        LMError: the model is not there or cannot be read.
    """
    embedder = SentenceEmbedder(model, pool)
    if pool is None:
        embedder.load()
    return embedder


class SentenceEmbedder:
    """Texts to unit vectors, by a sentence-transformers model in this process or on a pool. Thread-safe; travels to workers.

    Attributes:
        model: a folder's whole path, or a name on the hub; ``pool`` is the name of the pool it runs on, if it does.
    """

    def __init__(self, model: str | Path, pool: str | Workers | None = None) -> None:
        folder = Path(model).expanduser()
        self.model = str(folder.resolve()) if folder.is_dir() else str(model)
        self.pool = name_of_pool(pool)
        self._workers = pool
        self._here: _Encoder | None = None

    def load(self) -> None:
        """Load the model in this process; freed with the last embedder that has it. Raises as :func:`sentence_embedder`."""
        self._here = self._here or _load(self.model, is_offline())

    def __repr__(self) -> str:
        return f"SentenceEmbedder({self.model!r}{f', pool={self.pool!r}' if self.pool else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SentenceEmbedder, (self.model, self.pool)

    def __call__(self, texts: str | Sequence[str]) -> Vectors:
        """Return one row per text, in their order.

        Raises:
            LMError: the model cannot be loaded.
            PoolError: what the pool has to say: ``GpuOutOfMemory``, ``OutOfMemory``, ``WorkerKilled``, ``PoolBusy``.
        """
        submit = self._submit()
        return self._made(_listed(texts)) if submit is None else submit.wait(self._sent(submit, _listed(texts)))

    async def aembed(self, texts: str | Sequence[str]) -> Vectors:
        """The async form of a call."""
        submit = self._submit()
        if submit is None:
            return await asyncio.to_thread(self._made, _listed(texts))
        return await self._sent(submit, _listed(texts))

    def _made(self, texts: list[str]) -> Vectors:
        if stays():
            return encode(self.model, texts, is_offline())
        self.load()
        assert self._here is not None  # noqa: S101 - it was loaded
        return self._here.encode(texts)

    def _submit(self) -> Submit | None:
        return None if self._workers is None else submit_to(self._workers)

    async def _sent(self, submit: Submit, texts: list[str]) -> Vectors:
        """Embed on the pool: many texts go in pieces, which several workers share."""
        about = {"key": f"embed {self.model}", "label": f"embed/{Path(self.model).name}"}
        pieces = [texts[at : at + PIECE] for at in range(0, len(texts), PIECE)] or [[]]
        calls = [submit.call(encode, self.model, piece, is_offline(), **about) for piece in pieces]
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            made = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # where one failed the others are of no use
        return made[0] if len(made) == 1 else np.concatenate(made)


def encode(model: str, texts: list[str], offline: bool = False) -> Vectors:
    """Embed in a worker, which keeps the model.

    Raises:
        LMError, ConfigurationError: see :func:`sentence_embedder`.
        MemoryError: the machine's memory is not enough; torch's own error where it is the GPU's.
    """
    if model not in _kept:
        require("transformers", "for embeddings by meaning")
        hush()
        _kept[model] = _load(model, offline)
    return _kept[model].encode(texts)


def loaded_embedders() -> list[dict[str, Any]]:
    """Return the embedding models of this process, as :func:`~dspex_lab.lms.engines._local_model.loaded` does."""
    return [encoder.facts() for encoder in list(_loaded.values())]


class _Encoder:
    """A model that is loaded."""

    def __init__(self, name: str, model: Any) -> None:
        self.name, self.model = name, model
        self._alone = threading.Lock()

    def encode(self, texts: list[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.model.get_embedding_dimension()), np.float32)
        try:
            with self._alone:  # its tokenizer cannot be used by two threads
                made = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return np.asarray(made, np.float32)

    def facts(self) -> dict[str, Any]:
        dtype, size = str(self.model.dtype).removeprefix("torch."), sum(part.nbytes for part in self.model.parameters())
        return {"model": self.name, "kind": "embedder", "device": str(self.model.device), "dtype": dtype, "bytes": size}


_loaded: weakref.WeakValueDictionary[str, _Encoder] = weakref.WeakValueDictionary()
_kept: dict[str, _Encoder] = {}
_loading = threading.Lock()


def _load(name: str, offline: bool) -> _Encoder:
    with _loading:
        encoder = _loaded.get(name)
        if encoder is None:
            library = require("sentence_transformers", "for embeddings by meaning")
            try:
                encoder = _Encoder(name, library.SentenceTransformer(name, local_files_only=offline))
            except (OSError, ValueError) as error:
                raise LMError(
                    f"The embedding model {name!r} cannot be loaded: {error}",
                    engine=name,
                    hint="Give the folder of a sentence-transformers model, or a name the hub has.",
                ) from error
            _loaded[name] = encoder
        return encoder


def _listed(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)
