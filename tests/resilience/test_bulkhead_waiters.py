"""Who waits for a place and is cancelled, or whose loop is gone: the place goes to the next."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from bulkhead_helpers import places, threads, until

from dspex_lab.resilience import Bulkhead
from dspex_lab.resilience._waiters import TaskWaiter

__all__ = ["threads"]


def test_a_cancelled_waiter_leaves_the_queue() -> None:
    bulkhead = Bulkhead("p", places())

    async def main() -> None:
        held = await bulkhead.aacquire()
        waiting = asyncio.create_task(bulkhead.aacquire())
        await asyncio.sleep(0)
        assert bulkhead.status().waiting == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert bulkhead.status().waiting == 0
        held.released()

    asyncio.run(main())
    assert bulkhead.has_room()


def test_a_waiter_cancelled_with_its_place_in_hand_gives_it_to_the_next() -> None:
    bulkhead = Bulkhead("p", places())

    async def main() -> None:
        held = await bulkhead.aacquire()
        first, second = (asyncio.create_task(bulkhead.aacquire()) for _ in range(2))
        await asyncio.sleep(0)
        held.released()  # the first has the place now, and does not know it yet
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        (await second).released()

    asyncio.run(main())
    status = bulkhead.status()
    assert (status.in_use, status.waiting, status.entered) == (0, 0, 2)


def test_a_place_granted_to_a_dead_loop_goes_to_the_next(threads: ThreadPoolExecutor) -> None:
    bulkhead = Bulkhead("p", places())
    held = bulkhead.acquire()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(bulkhead.aacquire())
    loop.run_until_complete(asyncio.sleep(0))
    waiting.get_loop().call_exception_handler = lambda context: None  # type: ignore[method-assign]
    loop.close()
    alive = threads.submit(bulkhead.acquire)
    until(lambda: bulkhead.status().waiting == 2)
    held.released()
    alive.result().released()
    waiting._coro.close()  # type: ignore[attr-defined]
    del waiting
    gc.collect()
    status = bulkhead.status()
    assert (status.in_use, status.waiting, status.entered) == (0, 0, 2)


def test_any_number_of_dead_waiters_is_passed_over() -> None:
    bulkhead = Bulkhead("p", places(queue=2_000))
    held = bulkhead.acquire()
    loop = asyncio.new_event_loop()
    waiting = [loop.create_task(bulkhead.aacquire()) for _ in range(1_500)]
    loop.run_until_complete(asyncio.sleep(0))
    assert bulkhead.status().waiting == 1_500
    loop.call_exception_handler = lambda context: None  # type: ignore[method-assign]
    loop.close()
    held.released()
    for task in waiting:
        task._coro.close()  # type: ignore[attr-defined]
    del waiting, task
    gc.collect()
    status = bulkhead.status()
    assert (status.in_use, status.waiting) == (0, 0)


def test_who_is_woken_after_its_loop_has_ended_with_its_call_done_gives_nothing_back_twice() -> None:
    bulkhead = Bulkhead("p", places())
    seen: list[TaskWaiter] = []
    held = bulkhead.acquire()

    async def main() -> None:
        task = asyncio.create_task(bulkhead.aacquire())
        await asyncio.sleep(0)
        seen.extend(each for each in bulkhead._queue if isinstance(each, TaskWaiter))
        held.released()
        (await task).released()

    asyncio.run(main())
    # Another thread may have meant to wake it all the while (a pause does): it comes only now.
    bulkhead._wake(list(seen))
    assert len(seen) == 1
    assert bulkhead.status().in_use == 0
