"""Work on other loops, in threads, in the background and once for all."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from pool_links import on_loop, turn

from dspex_lab.pools import _loops
from dspex_lab.pools._loops import Once, Tasks, end, in_thread, post


@on_loop
async def test_who_is_cancelled_waits_for_what_its_thread_does() -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()
        done.set()
        raise LookupError  # nobody hears of it, and asyncio does not complain

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    going = asyncio.ensure_future(in_thread(work))
    await asyncio.to_thread(begun.wait)
    going.cancel()
    await turn()
    early = going.done()
    go.set()
    assert not early
    with pytest.raises(asyncio.CancelledError):
        await going
    assert done.is_set()
    del going
    gc.collect()
    assert complaints == []
    assert await in_thread(abs, -1) == 1


@on_loop
async def test_a_task_that_loses_a_cancellation_is_cancelled_until_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loops, "AGAIN", 0)
    lost: list[int] = []

    async def watch() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # as Python 3.11's wait_for loses it
                lost.append(1)
                if len(lost) == 3:
                    raise

    task = asyncio.ensure_future(watch())
    await turn()
    await end(task)
    assert task.cancelled()
    assert len(lost) == 3
    await end(task)


@on_loop
async def test_something_is_done_once_for_all_and_anew_when_it_failed() -> None:
    fates: list[Exception | None] = [OSError("no"), None]
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)
        await asyncio.sleep(0)
        if (fate := fates.pop(0)) is not None:
            raise fate

    once = Once(work)
    first = await asyncio.gather(*(once.done() for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in first] == ["no"] * 3
    assert len(begun) == 1
    await asyncio.gather(*(once.done() for _ in range(3)))
    await once.done()
    assert len(begun) == 2


@on_loop
async def test_who_failed_does_not_undo_what_another_has_begun_anew() -> None:
    begun: list[asyncio.Future[None]] = []

    async def work() -> None:
        begun.append(asyncio.get_running_loop().create_future())
        await begun[-1]

    async def insists() -> None:
        try:
            await once.done()
        except OSError:
            await once.done()

    once = Once(work)
    going = [asyncio.ensure_future(each) for each in (insists(), once.done())]
    await turn()
    begun[0].set_exception(OSError())
    await turn()
    late = asyncio.ensure_future(once.done())
    await turn()
    for each in begun[1:]:
        each.set_result(None)
    await asyncio.gather(*going, late, return_exceptions=True)
    assert len(begun) == 2


@on_loop
async def test_what_is_begun_in_the_background_is_waited_for_with_what_it_begins() -> None:
    tasks, done = Tasks(), []

    async def more(left: int) -> None:
        await asyncio.sleep(0)
        if left:
            tasks.begin(more(left - 1))
        done.append(left)

    tasks.begin(more(2))
    await tasks.settled()
    assert done == [2, 1, 0]
    tasks.begin(asyncio.Event().wait())  # type: ignore[arg-type]
    tasks.cancel()
    await tasks.settled()


def test_a_loop_that_is_closed_is_told_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert not post(loop, print)
