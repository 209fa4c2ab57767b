"""A local model at work: streams, cancelling, and what breaks down in the middle."""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest

pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")

from dspy.lm15 import ProviderError
from local_engine_helpers import CPU, ask, full_memory, watched

from dspex_lab.lms.engines import AsyncLocalEngine, LocalEngine, local_lm
from dspex_lab.lms.engines._local_errors import GarbledAnswer, LocalOutOfMemory

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# --- streams and cancelling -----------------------------------------------------------------------------------------


def test_a_stream_tells_the_same_answer_token_by_token(engine: LocalEngine) -> None:
    request = ask("the quick", max_tokens=30)
    events = list(engine.stream(request))
    assert [e.type for e in events[:1]] == ["start"]
    assert events[-1].type == "end"
    assert events[-1].finish_reason == "length"
    whole = engine.complete(request)
    assert events[-1].usage == whole.usage
    assert "".join(e.delta.text for e in events[1:-1]) == whole.text
    assert len(events) > 8

    async def collect() -> list[Any]:
        return [e async for e in AsyncLocalEngine(engine.model, **CPU).stream(request)]

    assert asyncio.run(collect()) == events


def test_a_stream_that_is_closed_early_stops_the_model(engine: LocalEngine) -> None:
    closed = threading.Event()

    def before(number: int) -> None:
        if number == 4:
            assert closed.wait(30)

    with watched(engine, before) as passes:
        stream = engine.stream(ask(max_tokens=200))
        assert next(stream).type == "start"
        assert next(stream).type == "delta"
        stream.close()
        closed.set()
    assert len(passes) <= 4


def test_a_call_that_is_cancelled_stops_the_model(engine: LocalEngine) -> None:
    async def go() -> None:
        half = AsyncLocalEngine(engine.model, **CPU)
        loop, begun, cancelled = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def before(number: int) -> None:
            if number == 3:
                loop.call_soon_threadsafe(begun.set)
                assert cancelled.wait(30)

        with watched(engine, before) as passes:
            call = asyncio.create_task(half.complete(ask(max_tokens=200)))
            await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            cancelled.set()
        assert len(passes) == 3
        await half.aclose()

    asyncio.run(go())


def test_a_request_that_is_cancelled_while_it_waits_is_never_begun(tiny: Path) -> None:
    engine = LocalEngine(tiny, device="cpu", window=0.0, max_batch=1)
    begun, gate = threading.Event(), threading.Event()

    def before(number: int) -> None:
        begun.set()
        assert gate.wait(30)

    with watched(engine, before) as passes, ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.complete, ask(max_tokens=2))
        assert begun.wait(30)
        waiting = engine._job(ask(max_tokens=200), lambda outcome: pytest.fail("it was answered"), streams=False)
        engine.load().submit(waiting)
        waiting.cancel()
        gate.set()
        assert first.result(30).usage.output_tokens == 2
    assert len(passes) == 2


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signal to a thread")
def test_an_interrupt_ends_the_call_and_the_model_stops(engine: LocalEngine) -> None:
    over = threading.Event()

    def before(number: int) -> None:
        if number == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert over.wait(30)

    with watched(engine, before) as passes:
        with pytest.raises(KeyboardInterrupt):
            engine.complete(ask(max_tokens=200))
        over.set()
    assert len(passes) == 3


def test_a_loop_that_is_gone_is_no_concern_of_the_model(engine: LocalEngine) -> None:
    gate = threading.Event()

    async def begin() -> None:
        half = AsyncLocalEngine(engine.model, **CPU)
        stream = half.stream(ask(max_tokens=3))
        assert (await anext(stream)).type == "start"
        lost.append(stream)

    lost: list[Any] = []
    with watched(engine, lambda n: gate.wait(30)):
        asyncio.run(begin())
        gate.set()
    assert engine.complete(ask()).text


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_memory_that_is_not_enough_has_a_name_and_the_model_lives(engine: LocalEngine) -> None:
    with (
        watched(engine, full_memory),
        pytest.raises(LocalOutOfMemory, match=r"a prompt of 5 tokens.*Tried to allocate 20") as e,
    ):
        engine.complete(ask())
    assert e.value.provider_code == "out_of_memory"
    assert engine.complete(ask()).text
    with watched(engine, full_memory), pytest.raises(dspy.LMError) as outside:
        local_lm(engine.model, **CPU, cache=False)("Hello")
    assert isinstance(outside.value.__cause__, LocalOutOfMemory)
    assert not dspy.utils.exceptions.is_retryable_lm_error(outside.value)


def test_a_batch_too_large_for_the_memory_is_answered_one_by_one(tiny: Path) -> None:
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=2)
    expected = [LocalEngine(tiny, **CPU).complete(ask(t)).text for t in "ab"]
    passes: list[int] = []
    with watched(together, lambda n: full_memory(n) if passes[-1] > 1 else None) as seen, ThreadPoolExecutor(2) as threads:
        passes = seen
        assert [r.text for r in threads.map(together.complete, map(ask, "ab"))] == expected
    assert seen[0] == 2
    assert set(seen[1:]) == {1}


def test_a_stream_that_has_told_something_is_not_begun_again(tiny: Path) -> None:
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=2)
    told = threading.Event()

    def before(number: int) -> None:
        if number == 4:
            assert told.wait(30)
            full_memory(number)

    with watched(together, before), ThreadPoolExecutor(2) as threads:
        stream = together.stream(ask("a"))
        first = threads.submit(next, stream)
        other = threads.submit(together.complete, ask("b"))
        assert first.result(30).type == "start"
        assert next(stream).type == "delta"
        told.set()
        with pytest.raises(LocalOutOfMemory):
            list(stream)
        assert other.result(30).text == LocalEngine(tiny, **CPU).complete(ask("b")).text


def test_a_model_that_breaks_down_says_how(engine: LocalEngine) -> None:
    def broken(number: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with watched(engine, broken), pytest.raises(ProviderError, match="RuntimeError: mat1 and mat2") as caught:
        engine.complete(ask())
    assert caught.value.provider_code == "model_failed"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_numbers_that_are_none_spoil_their_own_row_only(tiny: Path) -> None:
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=2)
    longer = "the quick brown fox"

    def spoil(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        # The row of the shorter prompt begins with padding.
        rows = (kwargs["attention_mask"][:, 0] == 0).nonzero()
        output.logits[rows] = float("nan")

    handle = together.load().weights.register_forward_hook(spoil, with_kwargs=True)
    try:
        with ThreadPoolExecutor(2) as threads:
            bad, good = threads.submit(together.complete, ask("a")), threads.submit(together.complete, ask(longer))
            with pytest.raises(GarbledAnswer, match="NaN"):
                bad.result(30)
            assert good.result(30).text
    finally:
        handle.remove()
