"""Vectors over HTTP."""

from __future__ import annotations

import asyncio
import json
import pickle

import dspy
import numpy as np
import pytest
from dspy.lm15 import ProviderError, RateLimitError
from http_helpers import KEY, canned, failure, http

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.engines import HttpEmbedder
from dspex_lab.testing import Fault, FaultyServer

TEXTS = ["one", "two", "three", "four", "five"]


def test_texts_become_rows_in_their_order_batch_by_batch() -> None:
    with FaultyServer() as server:
        embedder = HttpEmbedder("small", server.url, batch_size=2, api_key=KEY)
        rows = embedder(TEXTS)
        assert rows.shape == (5, 16)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, np.stack([embedder(text)[0] for text in TEXTS]), rtol=1e-6)
        assert [len(arrival.body["input"]) for arrival in server.requests[:3]] == [2, 2, 1]
        assert {arrival.key for arrival in server.requests} == {KEY}
        assert server.counts.connections == 1
        assert embedder.tokens > 0
        np.testing.assert_array_equal(asyncio.run(embedder.aembed(TEXTS)), rows)
        embedder.close()


def test_it_is_what_dspys_embedder_takes() -> None:
    with FaultyServer() as server:
        embedder = HttpEmbedder("small", server.url, dimensions=8)
        rows = dspy.Embedder(embedder, batch_size=3, caching=False)(TEXTS)
        assert rows.shape == (5, 8)
        np.testing.assert_array_equal(rows, embedder(TEXTS))
        assert [arrival.body["dimensions"] for arrival in server.requests] == [8, 8, 8]


def test_packed_vectors_are_read_too() -> None:
    with FaultyServer() as server:
        embedder = HttpEmbedder("small", server.url)
        np.testing.assert_allclose(embedder(TEXTS, encoding_format="base64"), embedder(TEXTS), rtol=1e-6)


def test_no_texts_are_no_request() -> None:
    with FaultyServer() as server:
        assert HttpEmbedder("small", server.url)([]).shape == (0, 0)
        assert server.counts.arrived == 0


def test_errors_are_the_engines_and_one_attempt_is_made() -> None:
    with FaultyServer(faults=Fault.rate_limit(3)) as server:
        embedder = HttpEmbedder("small", server.url)
        for work in (lambda: embedder(TEXTS), lambda: asyncio.run(embedder.aembed(TEXTS))):
            error = failure(work)
            assert isinstance(error, RateLimitError)
            assert error.retry_after == 3
        assert server.counts.arrived == 2


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": "###"}]},
        {"data": [{"index": 0, "embedding": [float("nan")]}]},
        {"data": [{"index": 0}]},
        {"data": "none"},
        {},
        [],
    ],
)
def test_answers_without_vectors_are_named(body: object) -> None:
    with canned(http(json.dumps(body).encode())) as base:
        error = failure(lambda: HttpEmbedder("small", base)("one"))
    assert isinstance(error, ProviderError)
    assert "no vectors" in str(error)


def test_vectors_of_several_lengths_are_refused() -> None:
    one, two = ({"data": [{"index": 0, "embedding": [0.5] * size}]} for size in (2, 3))
    with canned(http(json.dumps(one).encode()), http(json.dumps(two).encode())) as base:
        assert "several lengths" in str(failure(lambda: HttpEmbedder("small", base, batch_size=1)(["a", "b"])))


def test_it_travels_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_KEY", KEY)
    embedder = HttpEmbedder("small", "http://h/v1", api_key=KEY, dimensions=4)
    data = pickle.dumps(embedder)
    assert KEY.encode() not in data
    assert KEY not in repr(embedder)
    again = pickle.loads(data)  # noqa: S301 - our own
    assert again.dump_state() == embedder.dump_state() == json.loads(json.dumps(embedder.dump_state()))


def test_a_batch_has_a_size() -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        HttpEmbedder("small", "http://h/v1", batch_size=0)


def test_its_connections_close() -> None:
    async def both(embedder: HttpEmbedder) -> None:
        await embedder.aembed("one")
        await embedder.aclose()

    with FaultyServer() as server:
        embedder = HttpEmbedder("small", server.url)
        embedder("one")
        embedder.close()
        asyncio.run(both(embedder))
        assert server.disconnected()
