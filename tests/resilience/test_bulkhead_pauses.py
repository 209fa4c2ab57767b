"""What answers of a provider teach a bulkhead: pauses, and a limit that falls and rises."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from bulkhead_helpers import busy, places, threads, until
from clocks import Clock

from dspex_lab.errors import BulkheadFull, ConfigurationError, LMError
from dspex_lab.resilience import Bulkhead, BulkheadSettings, Change

__all__ = ["threads"]


def test_a_pause_lets_nobody_in_and_ends_by_itself(threads: ThreadPoolExecutor) -> None:
    clock, told = Clock(), []
    bulkhead = Bulkhead("p", places(2), told.append, clock)
    bulkhead.pause(0.02, "maintenance")
    assert bulkhead.try_slot() is None
    assert not bulkhead.has_room()
    assert bulkhead.status().paused_for == pytest.approx(0.02)

    async def main() -> float:
        async with bulkhead.aslot():
            return clock()

    waiting, on_a_loop = threads.submit(bulkhead.acquire), threads.submit(lambda: asyncio.run(main()))
    until(lambda: bulkhead.status().waiting == 2)
    clock.now += 0.02  # nobody wakes them
    waiting.result().released()
    assert on_a_loop.result() == clock.now
    assert [(each.event, each.before, each.after, each.reason, each.details) for each in told] == [
        ("bulkhead.pause", "running", "paused", "maintenance", {"seconds": 0.02})
    ]


def test_a_provider_that_asks_for_a_pause_gets_it_from_those_who_wait_already(threads: ThreadPoolExecutor) -> None:
    clock, told = Clock(), []
    bulkhead = Bulkhead("p", places(), told.append, clock)
    held = bulkhead.acquire()
    hurried = threads.submit(bulkhead.acquire, deadline=110.0)
    until(lambda: bulkhead.status().waiting == 1)
    held.failed(busy(30.0))
    with pytest.raises(BulkheadFull, match=r"asked to be left alone for another 30\.0 s") as caught:
        hurried.result()
    assert caught.value.retry_after == 30.0
    with pytest.raises(BulkheadFull, match="left alone"):
        bulkhead.acquire(deadline=125.0)
    told.sort(key=lambda each: each.time)  # each is told by its own thread
    assert [each.event for each in told] == ["bulkhead.pause", "bulkhead.reject", "bulkhead.reject"]
    assert told[0].reason == "LMError: slow down"
    clock.now = 130.0
    bulkhead.acquire().released()


def test_when_a_pause_is_over_newcomers_do_not_overtake_who_has_not_woken_yet() -> None:
    clock = Clock()
    bulkhead = Bulkhead("p", places(), clock=clock)

    async def main() -> None:
        bulkhead.pause(30.0)
        waiting = asyncio.create_task(bulkhead.aacquire())
        await asyncio.sleep(0)
        clock.now += 30.0
        assert bulkhead.try_slot() is None
        assert not bulkhead.has_room()
        newcomer = asyncio.create_task(bulkhead.aacquire())
        await asyncio.sleep(0)
        assert bulkhead.status().waiting == 2
        for task in (waiting, newcomer):
            task.cancel()
        await asyncio.wait([waiting, newcomer])

    asyncio.run(main())
    assert bulkhead.has_room()


def test_a_shorter_pause_does_not_end_a_longer_one_and_none_is_endless() -> None:
    clock, told = Clock(), []
    bulkhead = Bulkhead("p", places(longest_pause=60.0), told.append, clock)
    bulkhead.pause(1e9)
    bulkhead.pause(5)
    bulkhead.pause(0)
    assert bulkhead.status().paused_for == 60.0
    assert len(told) == 1
    with pytest.raises(ConfigurationError, match="seconds"):
        bulkhead.pause(-1)


def test_those_who_wait_when_a_pause_ends_all_go_on(threads: ThreadPoolExecutor) -> None:
    bulkhead = Bulkhead("p", places(2))
    held = [bulkhead.acquire(), bulkhead.acquire()]

    def work() -> None:
        with bulkhead.slot():
            pass

    jobs = [threads.submit(work) for _ in range(6)]
    until(lambda: bulkhead.status().waiting == 6)
    # The pause begins while they wait, and everything that was under way ends in it.
    held[0].failed(busy(0.02))
    held[1].succeeded()
    for job in jobs:
        job.result()
    assert bulkhead.status().in_use == 0


def test_the_limit_rises_and_falls_and_is_told(threads: ThreadPoolExecutor) -> None:
    clock, told = Clock(), []
    bulkhead = Bulkhead("p", BulkheadSettings(limit=2, tolerance=None, decrease=0.5), told.append, clock)
    for _ in range(3):
        slots = [bulkhead.acquire(), bulkhead.acquire()]
        clock.now += 1
        for slot in slots:
            slot.succeeded()
    assert bulkhead.status().limit == 3
    slots = [bulkhead.acquire() for _ in range(3)]
    clock.now += 1
    for slot in slots:
        slot.failed(busy())
    assert bulkhead.status().limit == 1
    assert [(each.event, each.before, each.after) for each in told] == [
        ("bulkhead.limit", "2", "3"),
        ("bulkhead.limit", "3", "1"),
    ]
    assert told[1].reason == "the provider has too much to do: LMError: slow down"


def test_a_limit_that_rises_lets_those_in_who_wait(threads: ThreadPoolExecutor) -> None:
    bulkhead = Bulkhead("p", BulkheadSettings(limit=1, tolerance=None))
    held = bulkhead.acquire()
    jobs = [threads.submit(bulkhead.acquire) for _ in range(2)]
    until(lambda: bulkhead.status().waiting == 2)
    held.succeeded()
    slots = [job.result() for job in jobs]
    assert bulkhead.status().in_use == 2
    for slot in slots:
        slot.released()


def test_other_failures_teach_nothing() -> None:
    told: list[Change] = []
    bulkhead = Bulkhead("p", BulkheadSettings(limit=4), told.append)
    for _ in range(10):
        bulkhead.acquire().failed(LMError("x", status=500))
        bulkhead.acquire().failed(asyncio.CancelledError())
    assert (bulkhead.status().limit, told) == (4, [])
