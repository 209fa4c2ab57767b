"""How a call that runs is stopped, in a worker."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from host_calls import PLACE, SHARED, Going, event

from dspex_lab.errors import PoolError
from dspex_lab.pools import _outbox, _strike
from dspex_lab.pools._carry import decode
from dspex_lab.pools._host import KEPT, Host
from dspex_lab.pools._strike import Run
from dspex_lab.pools._task import Task, TaskCancelled, current_task


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """A strike that hits a callback of the garbage collector, as Hypothesis has one, is lost; a pool then ends the worker."""
    gc.disable()
    yield
    gc.enable()


def spin() -> None:
    event("running").set()
    try:
        while True:
            pass
    finally:
        event("cleaned").set()


async def wait() -> None:
    event("running").set()
    try:
        await asyncio.Event().wait()
    finally:
        event("cleaned").set()


def endless() -> Any:
    event("running").set()
    try:
        while True:
            yield 1
    finally:
        event("cleaned").set()


async def aendless() -> Any:
    event("running").set()
    try:
        while True:
            yield 1
    finally:
        event("cleaned").set()


def polls() -> None:
    while not current_task().cancelled:
        event("running").set()
    event("cleaned").set()


@pytest.mark.parametrize("function", [spin, wait, endless, aendless, polls])
def test_a_call_that_is_cancelled_stops_and_cleans_up(function: Any) -> None:
    host = Host()
    going = Going(host, function)
    assert event("running").wait(10)
    asyncio.run(host.cancel("7"))
    asyncio.run(host.cancel("7"))  # once is enough
    reply = going.reply()
    assert event("cleaned").wait(10)
    assert reply.kind in ("cancelled", "value")
    if function is not polls:
        with pytest.raises(PoolError, match="asked to stop"):
            decode(reply, **PLACE)
    assert Going(host, abs, -1, name="8").result() == 1


def test_a_call_that_was_cancelled_before_it_came_is_not_begun() -> None:
    host = Host()
    asyncio.run(host.cancel("7"))
    assert Going(host, spin).reply().kind == "cancelled"
    assert not event("running").is_set()
    for number in range(KEPT + 1):
        asyncio.run(host.cancel(f"n{number}"))
    assert len(host._stopped) == KEPT


def test_a_coroutine_that_cancels_itself_was_not_cancelled_by_the_kernel() -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(PoolError, match="raised CancelledError"):
        Going(Host(), gives_up).result()


def test_a_task_may_catch_what_stops_it_only_by_name() -> None:
    def careful() -> str:
        try:
            spin()
        except Exception:
            return "swallowed"
        except TaskCancelled:
            return "stopped"
        return ""

    host = Host()
    going = Going(host, careful)
    assert event("running").wait(10)
    asyncio.run(host.cancel("7"))
    assert going.result() == "stopped"


def test_what_stops_a_call_never_hits_the_next_one() -> None:
    """Calls that end just when they are cancelled, over and over, on one thread."""
    struck: list[BaseException] = []
    gate = threading.Barrier(2, timeout=30)
    current: list[Run] = []

    def worker() -> None:
        for _ in range(300):
            run = Run(Task("t"))
            current[:] = [run]
            gate.wait()
            run.guard(lambda: sum(range(50)), lambda error: None)
            try:
                gate.wait()
                for _ in range(100):  # where a late strike would hit
                    pass
            except TaskCancelled as error:
                struck.append(error)
                raise

    thread = threading.Thread(target=worker)
    thread.start()
    for number in range(300):
        gate.wait()
        run = current[0]
        for _ in range(number % 60):
            pass
        run.cancel()
        gate.wait()
    thread.join()
    assert struck == []


def locked_in() -> None:
    event("running").set()
    event("go").wait()  # in threading's own code
    spin()


def test_a_function_is_not_struck_while_it_holds_locks_of_the_standard_library() -> None:
    """An exception in ``Condition.__enter__`` would leave it locked."""

    async def cancel() -> None:
        await host.cancel("7")
        await host.cancel("7")
        assert host._insisting
        await asyncio.sleep(0)
        assert going.thread.is_alive()
        event("go").set()
        while host._insisting:
            await asyncio.wait(host._insisting)

    host = Host()
    going = Going(host, locked_in)
    assert event("running").wait(10)
    while _strike._may_strike(going.thread.ident or 0):
        time.sleep(0.001)  # until it stands in wait()
    asyncio.run(cancel())
    assert going.reply().kind == "cancelled"
    assert not _strike._may_strike(0)


def test_a_strike_on_the_way_into_a_coroutine_is_taken_back() -> None:
    """Struck while the function still made its coroutine, and not yet hit when the loop begins."""
    run = Run(Task("t"))

    async def never() -> None:
        raise AssertionError

    def work() -> Any:
        coroutine = never()
        with contextlib.closing(coroutine):
            run._struck = True  # as `cancel` leaves it
            run.task._cancel()
            return asyncio.run(run.finish(coroutine))

    assert isinstance(run.guard(work, lambda error: error), TaskCancelled)


def test_who_waits_to_tell_is_woken_when_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outbox, "COUNT", 1)
    for function in (endless, aendless):
        SHARED.clear()
        host = Host()
        going = Going(host, function)
        assert event("running").wait(10)
        while not host._outboxes["7"]._chunks:
            time.sleep(0.001)
        asyncio.run(host.cancel("7"))
        assert going.reply().kind == "cancelled"
        assert event("cleaned").is_set()
