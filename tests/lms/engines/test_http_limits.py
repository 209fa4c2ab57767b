"""How long an answer over HTTP may take, and how much of it is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from http_helpers import WAYS, ask, canned, failure, piece, sse, text_of, ways
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.lms.engines import Endpoint, HttpEngine, UnusableAnswer
from dspex_lab.lms.engines._http_answers import failure as failure_of
from dspex_lab.lms.engines._http_transport import Lines, TooLarge
from dspex_lab.testing import Fault, FaultyServer, Gate


@pytest.fixture
def nearly_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Of a minute for the whole answer no more than 0.2 s are left once ``begun()`` holds, however slow the machine is."""

    def arrange(begun: Callable[[], object]) -> None:
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + (59.8 if begun() else 0.0))
        for part in ("_http_answers", "_http_chat", "_http_transport"):
            monkeypatch.setattr(f"dspex_lab.lms.engines.{part}.time", clock)

    return arrange


@pytest.mark.parametrize("way", WAYS)
def test_a_drip_ends_with_the_time_for_the_whole_answer(way: str, nearly_up: Any) -> None:
    gate = Gate()
    gate.open(30)
    with FaultyServer("one two three", faults=Fault.drip(gate)) as server:
        nearly_up(lambda: server.counts.arrived)
        error = failure(lambda: ways(HttpEngine(server.url, total_timeout=60))[way](ask()))
        assert isinstance(error, TimeoutError)
        assert "total_timeout=60" in str(error)
        assert server.abandoned(1)


@pytest.mark.parametrize("way", WAYS)
def test_silence_ends_with_the_time_between_two_bytes(way: str) -> None:
    with FaultyServer(faults=Fault.hang()) as server:
        error = failure(lambda: ways(HttpEngine(server.url, read_timeout=0.1))[way](ask()))
        assert isinstance(error, TimeoutError)
        assert "read_timeout=0.1" in str(error)
        assert server.abandoned(1)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_falls_silent_keeps_what_it_had(way: str, nearly_up: Any) -> None:
    heard: list[Any] = []

    async def hear(engine: HttpEngine) -> None:
        async for event in engine.asynchronous().stream(ask()):
            heard.append(event)

    def ask_it(engine: HttpEngine) -> None:
        if way == "astream":
            asyncio.run(hear(engine))
        for event in engine.stream(ask()) if way == "stream" else ():
            heard.append(event)

    with FaultyServer("one two three", faults=Fault.hang(after=2)) as server:
        nearly_up(lambda: text_of(heard) == "one two ")
        error = failure(lambda: ask_it(HttpEngine(server.url, total_timeout=60)))
    assert isinstance(error, TimeoutError)
    assert error.partial.text == "one two "


def test_a_server_that_cannot_be_reached_in_time_is_a_timeout() -> None:
    from dspy._vendor.lm15.transports import ConnectTimeout

    error = failure_of(ConnectTimeout("x"), Endpoint(api_base="http://h/v1"), None)
    assert isinstance(error, TimeoutError)
    assert "connect_timeout=10" in str(error)


def test_the_time_may_be_up_before_anything_is_sent() -> None:
    with FaultyServer("Yes") as server:
        for work in ways(HttpEngine(server.url, total_timeout=1e-9)).values():
            assert isinstance(failure(lambda work=work: work(ask())), TimeoutError)
        assert HttpEngine(server.url).complete(ask()).text == "Yes"


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_beyond_the_limit_is_not_read(way: str) -> None:
    with FaultyServer(faults=Fault.huge(1 << 20)) as server:
        error = failure(lambda: ways(HttpEngine(server.url, max_body=10_000))[way](ask()))
        assert server.idle(), "what was not read is not sent for ever"
    assert isinstance(error, UnusableAnswer)
    assert error.reason == "too large"
    assert "max_body=10,000" in str(error)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_line_beyond_the_limit_is_not_kept(way: str) -> None:
    with canned(sse(piece("Par"), piece("x" * 3000), "[DONE]")) as base:
        error = failure(lambda: ways(HttpEngine(base, max_event=2000))[way](ask()))
    assert error.reason == "too large"
    assert "max_event" in str(error)


@given(st.binary(max_size=200), st.lists(st.integers(1, 40)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, sizes: list[int]) -> None:
    lines, found, rest = Lines(Endpoint(api_base="http://h/v1")), [], data
    for size in [*sizes, len(data)]:
        found += lines.feed(rest[:size])
        rest = rest[size:]
    found += lines.end()
    assert b"".join(found) == data
    assert all(line.find(b"\n") in (-1, len(line) - 1) for line in found)
    assert all(line.endswith(b"\n") for line in found[:-1])
    assert lines.head == data[:512]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.integers(1, 60))
def test_no_line_is_ever_longer_than_the_limit(chunks: list[bytes], limit: int) -> None:
    lines = Lines(Endpoint(api_base="http://h/v1", max_event=limit))
    try:
        for chunk in chunks:
            assert all(len(line) <= limit for line in lines.feed(chunk))
    except TooLarge:
        assert max(len(line) + 1 for line in b"".join(chunks).split(b"\n")) > limit
