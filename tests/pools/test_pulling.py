"""How what a task tells is brought home, on links without a network."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from pool_links import VALUE, job, on_loop, ready, start, turn

from dspex_lab.errors import PoolError, TaskTimeout, WorkerKilled
from dspex_lab.pools import _running, _stream
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._stream import chunks, pull
from dspex_lab.pools._wire import Packed, Pulled


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_running, "BACKOFF", 0.001)
    monkeypatch.setattr(_running, "GRACE", 0.005)
    monkeypatch.setattr(_stream, "AGAIN", 0.005)


def told(*heads: bytes, done: bool = False) -> Pulled:
    return Pulled([Packed(head) for head in heads], done)


def text(packed: Packed, worker: str) -> str:
    return f"{packed.head.decode()}@{worker}"


async def gather(dispatcher: Dispatcher, made: Any, seen: list[str]) -> None:
    async with aclosing(chunks(dispatcher, made, text)) as stream:
        async for chunk in stream:
            seen.append(chunk)


@on_loop
async def test_chunks_come_in_order_and_the_next_are_asked_for_when_all_were_taken() -> None:
    dispatcher, seen = Dispatcher("p"), []
    _, wire = ready(dispatcher)
    gate = asyncio.Event()
    made = job(streams=True)

    async def slowly() -> None:
        async with aclosing(chunks(dispatcher, made, text)) as stream:
            async for chunk in stream:
                seen.append(chunk)
                await gate.wait()

    going = asyncio.ensure_future(slowly())
    await turn(10)
    wire.pulls[0].set_result(told(b"1", b"2"))
    await turn(10)
    assert (seen, len(wire.pulls)) == (["1@w0"], 1)
    gate.set()
    await turn(10)
    assert (seen, len(wire.pulls)) == (["1@w0", "2@w0"], 2)
    wire.answers[0].set_result(VALUE)
    await turn(10)
    assert not going.done()  # what was told last is still to come
    wire.pulls[1].set_result(told(b"3", done=True))
    await going
    assert seen == ["1@w0", "2@w0", "3@w0"]
    assert made.result() is VALUE


@on_loop
async def test_a_stream_may_be_asked_for_before_its_call_has_a_worker() -> None:
    dispatcher, seen = Dispatcher("p"), []
    going = asyncio.ensure_future(gather(dispatcher, job(streams=True), seen))
    await turn()
    _, wire = ready(dispatcher)
    await turn(10)
    wire.answers[0].set_result(VALUE)
    wire.pulls[0].set_result(told(done=True))
    await going
    assert seen == []


@on_loop
async def test_a_call_that_has_told_nothing_is_run_again_and_one_that_has_is_not() -> None:
    dispatcher, seen = Dispatcher("p"), []
    _, wire = ready(dispatcher)
    going = asyncio.ensure_future(gather(dispatcher, job(streams=True, idempotent=True), seen))
    await turn(10)
    wire.pulls[0].set_exception(OSError("gone"))
    dispatcher.died("w0", -9, memory=False)
    _, wire = ready(dispatcher)
    while not wire.pulls:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    wire.pulls[0].set_result(told(b"1"))
    await turn(10)
    dispatcher.died("w0", -9, memory=False)
    with pytest.raises(WorkerKilled, match="SIGKILL"):
        await going
    assert seen == ["1@w0"]


@on_loop
async def test_what_a_dead_worker_told_that_was_not_taken_is_told_anew() -> None:
    dispatcher, seen = Dispatcher("p"), []
    _, wire = ready(dispatcher)
    going = asyncio.ensure_future(gather(dispatcher, job(streams=True, idempotent=True), seen))
    await turn(10)
    dispatcher.died("w0", -9, memory=False)
    wire.pulls[0].set_result(told(b"1"))  # on its way when the worker died
    _, wire = ready(dispatcher)
    while not wire.pulls:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    wire.pulls[0].set_result(told(b"1", done=True))
    wire.answers[0].set_result(VALUE)
    await going
    assert seen == ["1@w0"]


@on_loop
async def test_a_connection_that_is_lost_for_a_moment_is_tried_again() -> None:
    dispatcher, seen = Dispatcher("p"), []
    _, wire = ready(dispatcher)
    going = asyncio.ensure_future(gather(dispatcher, job(streams=True), seen))
    await turn(10)
    wire.pulls[0].set_exception(OSError("for a moment"))
    while len(wire.pulls) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    wire.pulls[1].set_result(told(b"1", done=True))
    wire.answers[0].set_result(VALUE)
    await going
    assert seen == ["1@w0"]


@on_loop
async def test_a_worker_that_is_gone_before_all_was_fetched_is_named() -> None:
    dispatcher, seen = Dispatcher("p"), []
    _, wire = ready(dispatcher)
    going = asyncio.ensure_future(gather(dispatcher, job("half", streams=True), seen))
    await turn(10)
    wire.answers[0].set_result(VALUE)
    await turn(10)
    wire.pulls[0].set_exception(OSError("gone"))
    with pytest.raises(WorkerKilled, match="was gone before all that half had told was fetched"):
        await going


@on_loop
async def test_time_that_is_up_ends_a_stream() -> None:
    dispatcher, seen = Dispatcher("p"), []
    ready(dispatcher)
    with pytest.raises(TaskTimeout):
        await gather(dispatcher, job(streams=True, timeout=0.005), seen)


@on_loop
async def test_closing_a_stream_stops_its_call_even_if_it_had_not_begun() -> None:
    dispatcher = Dispatcher("p")
    left: list[int] = []
    made = job(streams=True, admitted=lambda: left.append(1))
    stream = chunks(dispatcher, made, text)
    going = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    going.cancel()
    await asyncio.wait({going})
    assert (left, dispatcher.waiting, made.finished) == ([1], 0, True)
    with pytest.raises(PoolError, match="was cancelled"):
        made.result()


@on_loop
async def test_what_a_call_that_failed_would_have_told_is_over() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    made = job(streams=True)
    [going] = start(dispatcher, made)
    await turn()
    dispatcher.died("w0", -9, memory=False)
    assert isinstance((await asyncio.gather(going, return_exceptions=True))[0], WorkerKilled)
    assert (await pull(made, "p")).done
    waiting = job(streams=True)
    waiting.finish(error=PoolError("no"))
    assert (await pull(waiting, "p")).done
