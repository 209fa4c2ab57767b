"""Whoever stops watching ends the run: no task, no thread, no stream of an engine is left, however it was left."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest
from held_streams import Held, held, until_token

import dspex_lab as dx
from dspex_lab.testing import Gate, scripted_lm

__all__ = ["held"]

pytestmark = pytest.mark.usefixtures("cache_in_memory")


def leave_by_break(held: Held) -> None:
    for event in held.lab.stream(held.pipeline(), question="x"):
        if event.kind == "token":
            break


def leave_by_close(held: Held) -> None:
    events = held.lab.stream(held.pipeline(), question="x")
    until_token(events)
    events.close()
    assert list(events) == []
    events.close()


def leave_by_with(held: Held) -> None:
    with held.lab.stream(held.pipeline(), question="x") as events:
        until_token(events)


def leave_by_an_exception(held: Held) -> None:
    def watch() -> None:
        for event in held.lab.stream(held.pipeline(), question="x"):
            if event.kind == "token":
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watch()


def leave_by_a_closed_generator(held: Held) -> None:
    def words() -> Iterator[str]:
        for event in held.lab.stream(held.pipeline(), question="x"):
            if event.kind == "token":
                yield event.value

    made = words()
    next(made)
    made.close()


def leave_by_collection(held: Held) -> None:
    events = held.lab.stream(held.pipeline(), question="x")
    until_token(events)
    around: list[Any] = [events]
    around.append(around)
    del events, around
    gc.collect()


def leave_by_an_interrupt(held: Held) -> None:
    main = threading.get_ident()

    def press() -> None:
        assert held.gate.reached(3)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in held.lab.stream(held.pipeline(), question="x"):
            pass


WAYS = [
    leave_by_break,
    leave_by_close,
    leave_by_with,
    leave_by_an_exception,
    leave_by_a_closed_generator,
    leave_by_collection,
    leave_by_an_interrupt,
]


@pytest.mark.parametrize("leave", WAYS, ids=lambda f: f.__name__.removeprefix("leave_by_"))
def test_a_stream_that_is_left_ends_its_run(held: Held, leave: Callable[[Held], None]) -> None:
    leave(held)
    held.check()


async def until_atoken(events: Any) -> None:
    async for event in events:
        if event.kind == "token":
            return


async def aleave_by_break(held: Held) -> None:
    await until_atoken(held.lab.astream(held.pipeline(), question="x"))


async def aleave_by_aclose(held: Held) -> None:
    events = held.lab.astream(held.pipeline(), question="x")
    await until_atoken(events)
    await events.aclose()
    assert len(asyncio.all_tasks()) == 1
    assert [e async for e in events] == []


async def aleave_by_with(held: Held) -> None:
    async with held.lab.astream(held.pipeline(), question="x") as events:
        await until_atoken(events)
    assert len(asyncio.all_tasks()) == 1


async def aleave_by_an_exception(held: Held) -> None:
    async def watch() -> None:
        async for event in held.lab.astream(held.pipeline(), question="x"):
            if event.kind == "token":
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await watch()


async def aleave_by_a_closed_generator(held: Held) -> None:
    async def words() -> Any:
        async for event in held.lab.astream(held.pipeline(), question="x"):
            if event.kind == "token":
                yield event.value

    made = words()
    await anext(made)
    await made.aclose()


async def aleave_by_collection(held: Held) -> None:
    events = held.lab.astream(held.pipeline(), question="x")
    await until_atoken(events)
    around: list[Any] = [events]
    around.append(around)
    del events, around
    gc.collect()


async def aleave_by_a_cancelled_task(held: Held) -> None:
    async def watch() -> None:
        async for _ in held.lab.astream(held.pipeline(), question="x"):
            pass

    task = asyncio.ensure_future(watch())
    assert await asyncio.to_thread(held.gate.reached, 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1, "the run has ended when its watcher has"


async def aleave_by_a_timeout(held: Held) -> None:
    events = held.lab.astream(held.pipeline(), question="x")
    await until_atoken(events)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await until_atoken(events)


AWAYS = [
    aleave_by_break,
    aleave_by_aclose,
    aleave_by_with,
    aleave_by_an_exception,
    aleave_by_a_closed_generator,
    aleave_by_collection,
    aleave_by_a_cancelled_task,
    aleave_by_a_timeout,
]


@pytest.mark.parametrize("leave", AWAYS, ids=lambda f: f.__name__.removeprefix("aleave_by_"))
def test_an_async_stream_that_is_left_ends_its_run(held: Held, leave: Callable[[Held], Any]) -> None:
    async def go() -> None:
        await leave(held)
        assert await asyncio.to_thread(held.recorded.wait, 30)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=30)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())
    held.check()


def test_a_loop_that_ends_under_a_stream_ends_the_run(held: Held) -> None:
    kept: list[Any] = []

    async def go() -> None:
        kept.append(held.lab.astream(held.pipeline(), question="x"))
        await until_atoken(kept[0])

    asyncio.run(go())
    held.check()
    kept.clear()


def test_a_program_that_goes_on_in_a_thread_asks_no_more(lab: dx.Lab) -> None:
    """A sync program cannot be stopped, but its next question to a model is refused."""
    lm = lab.use(scripted_lm("one two", gate=(gate := Gate())))
    left, met = threading.Event(), []

    def stubborn(x: int) -> int:
        try:
            dspy.settings.lm("first")
        except Exception as error:
            met.append(error)
        assert left.wait(30)
        dspy.settings.lm("second")
        return x

    gate.open()
    over = threading.Event()
    lab.bus.subscribe(lambda r: over.set() if type(r).__name__ == "RunRecord" else None)
    for event in lab.stream(dx.pipeline("p", y=stubborn), x=1):
        if event.kind == "token":
            break
    assert over.wait(30)
    left.set()
    lab._executor.shutdown(wait=True)
    assert (met, lm.engine.calls) == ([], 1)
