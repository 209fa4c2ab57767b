"""Places of a provider: first come, first served, for threads and loops together; none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
import threading
import time
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from bulkhead_helpers import busy, places, threads, until
from clocks import Clock

from dspex_lab.errors import BulkheadFull
from dspex_lab.resilience import Bulkhead, BulkheadSettings, BulkheadStatus, Change, Slot

__all__ = ["threads"]


def test_as_many_as_there_are_places_get_in_at_once(threads: ThreadPoolExecutor) -> None:
    bulkhead = Bulkhead("p", places(3))
    gate, most, lock, now = threading.Event(), [0], threading.Lock(), [0]

    def work() -> None:
        with bulkhead.slot():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            gate.wait()
            with lock:
                now[0] -= 1

    jobs = [threads.submit(work) for _ in range(10)]
    until(lambda: bulkhead.status().waiting == 7)
    status = bulkhead.status()
    assert (status.in_use, status.limit, status.queue) == (3, 3, 1024)
    gate.set()
    for job in jobs:
        job.result()
    assert most == [3]
    status = bulkhead.status()
    assert (status.in_use, status.waiting, status.entered) == (0, 0, 10)


def test_who_waited_longest_is_next_whether_thread_or_task(threads: ThreadPoolExecutor) -> None:
    bulkhead, order = Bulkhead("p", places()), []

    def sync(n: int) -> None:
        with bulkhead.slot():
            order.append(n)

    async def task(n: int) -> None:
        async with bulkhead.aslot():
            order.append(n)

    async def main() -> None:
        held = bulkhead.acquire()
        jobs: list[Awaitable[None]] = []
        for n in range(8):
            jobs.append(asyncio.wrap_future(threads.submit(sync, n)) if n % 2 else asyncio.create_task(task(n)))
            await asyncio.to_thread(until, lambda n=n: bulkhead.status().waiting > n)
        # A newcomer does not overtake those who wait.
        assert bulkhead.try_slot() is None
        held.succeeded()
        assert bulkhead.try_slot() is None
        await asyncio.gather(*jobs)

    asyncio.run(main())
    assert order == list(range(8))


def test_loops_of_several_threads_share_the_places() -> None:
    bulkhead, lock, now, most = Bulkhead("p", places(2)), threading.Lock(), [0], [0]

    async def one() -> None:
        async with bulkhead.aslot():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            await asyncio.sleep(0)
            with lock:
                now[0] -= 1

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(50)))

    loops = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    status = bulkhead.status()
    assert (most[0] <= 2, status.entered, status.in_use, status.waiting) == (True, 200, 0, 0)


def test_a_full_queue_refuses_by_name() -> None:
    told: list[Change] = []
    bulkhead = Bulkhead("openai", places(queue=0), told.append)
    with (
        bulkhead.slot(),
        pytest.raises(BulkheadFull, match="'openai' has no place for another call: all 1 places are taken") as caught,
        bulkhead.slot(),
    ):
        pass
    assert (caught.value.target, caught.value.retry_after) == ("openai", None)
    assert [(each.event, each.target) for each in told] == [("bulkhead.reject", "openai")]
    assert bulkhead.status().rejected == 1


def test_nobody_waits_beyond_the_deadline() -> None:
    bulkhead = Bulkhead("p", places())

    async def main() -> None:
        with pytest.raises(BulkheadFull, match="deadline passed"):
            await bulkhead.aacquire(deadline=time.monotonic() + 0.01)

    with bulkhead.slot():
        with pytest.raises(BulkheadFull, match="deadline passed"):
            bulkhead.acquire(deadline=time.monotonic() + 0.01)
        asyncio.run(main())
        assert bulkhead.status().waiting == 0
    assert bulkhead.status().in_use == 0


def test_a_deadline_that_has_passed_gets_no_free_place() -> None:
    bulkhead = Bulkhead("p", places(), clock=Clock())
    with pytest.raises(BulkheadFull, match="deadline passed"):
        bulkhead.acquire(deadline=100.0)
    with bulkhead.slot(deadline=100.1):
        pass


def test_a_place_that_comes_too_late_goes_to_the_next(threads: ThreadPoolExecutor) -> None:
    clock = Clock()
    bulkhead = Bulkhead("p", places(), clock=clock)
    held = bulkhead.acquire()
    late = threads.submit(bulkhead.acquire, deadline=1_000.0)
    until(lambda: bulkhead.status().waiting == 1)
    patient = threads.submit(bulkhead.acquire)
    until(lambda: bulkhead.status().waiting == 2)
    clock.now = 1_000.0
    held.released()
    with pytest.raises(BulkheadFull):
        late.result()
    patient.result().released()
    assert bulkhead.status().in_use == 0


def test_a_place_may_be_had_now_or_not_at_all() -> None:
    bulkhead = Bulkhead("p", places())
    slot = bulkhead.try_slot()
    assert slot is not None
    with slot as same:
        assert same is slot
        assert bulkhead.try_slot() is None
    assert bulkhead.status() == BulkheadStatus(1, 0, 0, 1024, 1, 0, 0.0)


def test_a_place_is_given_back_once() -> None:
    bulkhead = Bulkhead("p", places(2))
    first, second = bulkhead.acquire(), bulkhead.acquire()
    for _ in range(3):
        first.succeeded()
        first.failed(busy())
        first.released()
    assert bulkhead.status().in_use == 1
    second.released()


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError(), KeyboardInterrupt()])
def test_whatever_leaves_the_block_gives_the_place_back(error: BaseException) -> None:
    bulkhead = Bulkhead("p", places())

    async def main() -> None:
        async with bulkhead.aslot():
            raise error

    with pytest.raises(type(error)), bulkhead.slot():
        raise error
    with pytest.raises(type(error)):
        asyncio.run(main())
    assert bulkhead.status().in_use == 0


def test_the_settings_say_what_is_too_much() -> None:
    bulkhead = Bulkhead("p", BulkheadSettings(limit=4, decrease=0.5, on=lambda error: isinstance(error, KeyError)))
    bulkhead.acquire().failed(busy())
    assert bulkhead.status().limit == 4
    bulkhead.acquire().failed(KeyError())
    assert bulkhead.status().limit == 2


def test_a_judge_that_raises_keeps_no_place() -> None:
    def judge(error: BaseException) -> bool:
        raise RuntimeError("judge")

    bulkhead = Bulkhead("p", places(on=judge))
    with pytest.raises(RuntimeError, match="judge"):
        bulkhead.acquire().failed(ValueError())
    assert bulkhead.status().in_use == 0


def test_a_pickled_bulkhead_comes_back_empty() -> None:
    bulkhead = Bulkhead("p", places(3))
    bulkhead.acquire()
    again = pickle.loads(pickle.dumps(bulkhead))  # noqa: S301
    assert (again.provider, again.settings) == ("p", bulkhead.settings)
    assert repr(bulkhead) == "Bulkhead('p', 1 of 3 in use, 0 waiting)"
    assert repr(again) == "Bulkhead('p', 0 of 3 in use, 0 waiting)"


def test_threads_and_loops_under_stress_leak_no_place() -> None:
    """Places are taken, waited for, given up by deadline and by cancellation, and refused, from everywhere at once."""
    bulkhead = Bulkhead("p", BulkheadSettings(limit=3, least=1, most=6, queue=30, tolerance=None, longest_pause=0.002))
    lock, now, over = threading.Lock(), [0], []

    def inside(slot: Slot, draw: random.Random) -> None:
        with lock:
            now[0] += 1
            if now[0] > 6:
                over.append(now[0])

    def outside() -> None:
        with lock:
            now[0] -= 1

    def ends(slot: Slot, draw: random.Random) -> None:
        outside()
        chance = draw.random()
        if chance < 0.05:
            slot.failed(busy(0.001))
        elif chance < 0.1:
            slot.failed(ValueError())
        else:
            slot.succeeded()

    def by_thread(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(150):
            deadline = time.monotonic() + draw.random() * 0.003 if draw.random() < 0.3 else None
            with contextlib.suppress(BulkheadFull):
                slot = bulkhead.acquire(deadline=deadline)
                inside(slot, draw)
                ends(slot, draw)

    async def one(draw: random.Random) -> None:
        deadline = time.monotonic() + draw.random() * 0.003 if draw.random() < 0.3 else None
        with contextlib.suppress(BulkheadFull):
            slot = await bulkhead.aacquire(deadline=deadline)
            inside(slot, draw)
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                outside()
                slot.released()
                raise
            ends(slot, draw)

    async def by_tasks(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(30):
            tasks = [asyncio.create_task(one(draw)) for _ in range(8)]
            await asyncio.sleep(0)
            for task in tasks:
                if draw.random() < 0.4:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def by_loop(seed: int) -> None:
        loop: Coroutine[Any, Any, None] = by_tasks(seed)
        asyncio.run(loop)

    with ThreadPoolExecutor(8) as pool:
        jobs: list[Future[None]] = [pool.submit(by_loop if n % 2 else by_thread, n) for n in range(8)]
        for job in jobs:
            job.result()
    status = bulkhead.status()
    assert (status.in_use, status.waiting, now, over) == (0, 0, [0], [])
    while bulkhead.status().paused_for > 0:
        time.sleep(0.0005)
    free = [bulkhead.try_slot() for _ in range(status.limit + 1)]
    assert sum(slot is not None for slot in free) == status.limit
