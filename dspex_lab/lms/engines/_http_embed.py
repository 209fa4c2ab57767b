"""Texts as vectors from an OpenAI-compatible server, for ``dspy.Embedder``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from dspy.lm15 import ProviderError

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.engines._http import AsyncHttpEngine, HttpEngine, endpoint_of
from dspex_lab.lms.engines._http_answers import excerpt
from dspex_lab.lms.engines._http_endpoint import Endpoint

if TYPE_CHECKING:
    from dspex_lab.lms.engines._http_chat import Chat

Vectors = npt.NDArray[np.float32]


class HttpEmbedder:
    """A function from texts to vectors over ``/embeddings``: ``dspy.Embedder(HttpEmbedder("model", api_base))``. Thread-safe.

    One attempt for each batch; retrying is the caller's. Its errors are the engines': ``dspy.lm15``'s.

    Args:
        model: the model's name as the server knows it.
        endpoint: an :class:`Endpoint`, or its ``api_base`` with the endpoint's other arguments as ``options``.
        batch_size: texts in one request.
        dimensions: the length of the vectors, where the model leaves the choice.

    Attributes:
        tokens: how many tokens the server has counted so far, where it says so.
    """

    def __init__(
        self, model: str, endpoint: Endpoint | str, *, batch_size: int = 256, dimensions: int | None = None, **options: Any
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigurationError("batch_size is a positive whole number.", key="batch_size", actual=batch_size)
        self.model, self.batch_size, self.dimensions = model, batch_size, dimensions
        self.tokens = 0
        self._engine = HttpEngine(endpoint_of(endpoint, options))
        self._async_engine = AsyncHttpEngine(self._engine.endpoint)

    def __repr__(self) -> str:
        return f"HttpEmbedder({self.model!r}, {self._engine.api_base!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.load_state, (self.dump_state(),)

    def dump_state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` makes an equal embedder from; the key is not in it."""
        sizes = {"batch_size": self.batch_size, "dimensions": self.dimensions}
        return {"model": self.model, "endpoint": self._engine.dump_state(), **sizes}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> Self:
        """Make the embedder that :meth:`dump_state` described."""
        return cls(**{**state, "endpoint": Endpoint.load(state["endpoint"])})

    def __call__(self, texts: str | Sequence[str], **options: Any) -> Vectors:
        """Return one row for each text, in their order.

        Args:
            texts: one text or several.
            options: further fields of the request.

        Raises:
            LM15Error: the server did not answer, or with something else than vectors.
        """
        chat = self._engine.chat()
        found = []
        for batch in self._batches(texts):
            response = chat._send(self._asked(chat, batch, options))
            found.append(self._vectors(chat, response, len(batch)))
        return _stacked(found)

    async def aembed(self, texts: str | Sequence[str], **options: Any) -> Vectors:
        """The async form of a call."""
        chat = self._async_engine.chat()
        found = []
        for batch in self._batches(texts):
            response = await chat._send(self._asked(chat.chat, batch, options))
            found.append(self._vectors(chat.chat, response, len(batch)))
        return _stacked(found)

    def close(self) -> None:
        """Close the connections of the sync calls; a later call opens new ones."""
        self._engine.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._async_engine.aclose()

    def _batches(self, texts: str | Sequence[str]) -> list[list[str]]:
        given = [texts] if isinstance(texts, str) else list(texts)
        return [given[at : at + self.batch_size] for at in range(0, len(given), self.batch_size)]

    def _asked(self, chat: Chat, batch: list[str], options: Mapping[str, Any]) -> Any:
        size = {} if self.dimensions is None else {"dimensions": self.dimensions}
        return chat._emit(
            method="POST",
            url=f"{self._engine.api_base}/embeddings",
            headers=chat._headers(),
            payload={"model": self._engine.endpoint.model or self.model, "input": batch, **size, **options},
        )

    def _vectors(self, chat: Chat, response: Any, count: int) -> Vectors:
        if response.status >= 400:
            raise chat._http_error(response)
        try:
            body = response.json()
            entries = sorted(body["data"], key=lambda entry: entry["index"])
            if [entry["index"] for entry in entries] != list(range(count)):
                raise ValueError(f"{len(entries)} vectors for {count} texts")
            vectors = np.array([_vector(entry["embedding"]) for entry in entries], np.float32)
            if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
                raise ValueError("vectors of other numbers, or of none")
        except (TypeError, ValueError, KeyError, AttributeError, binascii.Error) as error:
            message = f"{self._engine.endpoint.authority} answered with no vectors ({error}): {excerpt(response.body)}."
            raise ProviderError(message, provider=chat.provider, status=response.status) from error
        usage = body.get("usage")
        counted = usage.get("total_tokens") if isinstance(usage, dict) else None
        self.tokens += counted if isinstance(counted, int) and counted > 0 else 0
        return vectors


def _vector(given: Any) -> Any:
    return np.frombuffer(base64.b64decode(given, validate=True), "<f4") if isinstance(given, str) else given


def _stacked(found: list[Vectors]) -> Vectors:
    if len({each.shape[1] for each in found}) > 1:
        raise ProviderError("The server gave vectors of several lengths.")
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)
