"""The step cache: how long answers live, and that equal requests are done once."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pydantic
import pytest
from clocks import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.pipelines._cache import StepCache


class Card(pydantic.BaseModel):
    name: str
    points: list[int] = []


# --- answers --------------------------------------------------------------------------------------------------------


def test_an_answer_lives_as_long_as_it_should() -> None:
    clock = Clock(0.0)
    cache = StepCache(clock=clock)
    cache.put("a", {"x": 1}, ttl=10)
    cache.put("b", {"x": 2})
    clock.now = 9.99
    assert cache.get("a") == ({"x": 1},)
    clock.now = 10.0
    assert cache.get("a") is None
    assert cache.get("b") == ({"x": 2},)
    assert cache.stats() == (2, 1, 1)
    cache.clear()
    assert cache.get("b") is None


def test_the_answer_not_asked_for_longest_goes_first() -> None:
    cache = StepCache(capacity=2)
    cache.put("a", {"x": 1})
    cache.put("b", {"x": 2})
    cache.get("a")
    cache.put("c", {"x": 3})
    assert [cache.get(k) is not None for k in "abc"] == [True, False, True]
    with pytest.raises(ValueError, match="at least one"):
        StepCache(capacity=0)


def test_what_a_step_does_to_an_answer_does_not_reach_the_next() -> None:
    given = {"tags": ["a"], "deep": {"x": [1]}, "card": Card(name="a"), "plain": 1}
    cache = StepCache()
    cache.put("a", given)
    given["tags"].append("poison")  # type: ignore[attr-defined]
    first = cache.get("a")
    assert first is not None
    first.value["tags"].append("poison")
    first.value["deep"]["x"].append("poison")
    first.value["card"].points.append(1)
    first.value["new"] = 1
    second = cache.get("a")
    assert second is not None
    assert second.value == {"tags": ["a"], "deep": {"x": [1]}, "card": Card(name="a"), "plain": 1}


def test_an_answer_that_cannot_be_copied_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    cache = StepCache()
    with caplog.at_level(logging.WARNING, "dspex_lab"):
        assert not cache.put("a", {"x": threading.Lock()})
    assert cache.get("a") is None
    assert "not cached: it cannot be copied" in caplog.text


# --- one at a time --------------------------------------------------------------------------------------------------


class Maker:
    """Makes an answer when told to; counts how often it was asked."""

    def __init__(self, *faults: BaseException | None) -> None:
        self.faults, self.calls, self.gate = list(faults), 0, asyncio.Event()

    async def __call__(self) -> dict[str, Any]:
        self.calls += 1
        fault = self.faults[self.calls - 1] if self.calls <= len(self.faults) else None
        number = self.calls
        await self.gate.wait()
        if fault is not None:
            raise fault
        return {"x": [number]}


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_equal_requests_under_way_are_done_once() -> None:
    async def main() -> None:
        cache, make = StepCache(), Maker()
        tasks = [asyncio.create_task(cache.through("k", make)) for _ in range(5)]
        await turns()
        make.gate.set()
        found = await asyncio.gather(*tasks)
        assert make.calls == 1
        assert [value for value, _ in found] == [{"x": [1]}] * 5
        assert [hit for _, hit in found] == [False, True, True, True, True]
        found[1][0]["x"].append("poison")  # type: ignore[attr-defined]
        assert await cache.through("k", make) == ({"x": [1]}, True)
        assert cache.stats() == (5, 1, 1)

    asyncio.run(main())


def test_where_the_first_one_fails_another_does_the_work() -> None:
    async def main() -> None:
        cache, make = StepCache(), Maker(OSError("first"))
        make.gate.set()
        tasks = [asyncio.create_task(cache.through("k", make)) for _ in range(4)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[0], OSError)
        assert found[1:] == [({"x": [2]}, False), ({"x": [2]}, True), ({"x": [2]}, True)]
        assert make.calls == 2

    asyncio.run(main())


def test_where_the_first_one_is_cancelled_another_does_the_work() -> None:
    async def main() -> None:
        cache, make = StepCache(), Maker()
        tasks = [asyncio.create_task(cache.through("k", make)) for _ in range(3)]
        await turns()
        tasks[0].cancel()
        tasks[1].cancel()
        await turns()
        assert make.calls == 2
        make.gate.set()
        assert await tasks[2] == ({"x": [2]}, False)
        assert tasks[0].cancelled()
        assert tasks[1].cancelled()

    asyncio.run(main())


def test_a_row_of_failures_is_not_paid_for_one_after_the_other() -> None:
    async def main() -> None:
        faults = [OSError(str(i)) for i in range(10)]
        cache, make = StepCache(), Maker(*faults)
        make.gate.set()
        tasks = [asyncio.create_task(cache.through("k", make)) for _ in range(10)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {str(e) for e in found} == {str(i) for i in range(10)}
        assert cache.stats().size == 0

    asyncio.run(main())


def test_less_than_wanted_is_neither_kept_nor_shared() -> None:
    async def main() -> None:
        cache, make = StepCache(), Maker()
        make.gate.set()
        tasks = [asyncio.create_task(cache.through("k", make, keep=lambda: make.calls > 1)) for _ in range(3)]
        assert await asyncio.gather(*tasks) == [({"x": [1]}, False), ({"x": [2]}, False), ({"x": [2]}, True)]

    asyncio.run(main())


def test_a_request_within_one_under_way_does_not_wait_for_itself() -> None:
    async def main() -> None:
        cache = StepCache()

        async def inner() -> dict[str, Any]:
            return {"x": "inner"}

        async def outer() -> dict[str, Any]:
            value, hit = await cache.through("k", inner)
            assert not hit
            return {"x": ["outer", value["x"]]}

        assert await cache.through("k", outer) == ({"x": ["outer", "inner"]}, False)

    asyncio.run(main())


def test_a_request_on_a_loops_own_thread_does_not_block_the_loop() -> None:
    async def main() -> None:
        cache, make = StepCache(), Maker()
        task = asyncio.create_task(cache.through("k", make))
        await turns()

        async def other() -> dict[str, Any]:
            return {"x": "other"}

        # Driven by hand, as a run in the caller's own thread is: it never suspends.
        with pytest.raises(StopIteration) as done:
            cache.through("k", other, block=True).send(None)
        assert done.value.value == ({"x": "other"}, False)
        make.gate.set()
        await task

    asyncio.run(main())


def test_threads_and_loops_wait_for_each_other() -> None:
    cache, entered, gate, calls = StepCache(), threading.Event(), threading.Event(), []

    async def slow() -> dict[str, Any]:
        calls.append(threading.get_ident())
        entered.set()
        await asyncio.to_thread(gate.wait)
        return {"x": 1}

    def on_a_loop() -> Any:
        return asyncio.run(_plain(cache.through("k", slow)))

    def by_hand() -> Any:
        try:
            cache.through("k", slow, block=True).send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it suspended")

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(on_a_loop)
        entered.wait()
        others = [threads.submit(on_a_loop), threads.submit(by_hand)]
        flight = cache._flights["k"]
        while len(flight._done_callbacks) + len(flight._condition._waiters) < 2:  # type: ignore[attr-defined]
            pass  # until one waits on its loop, and the other in its thread
        gate.set()
        assert first.result() == ({"x": 1}, False)
        assert [o.result() for o in others] == [({"x": 1}, True)] * 2
    assert len(calls) == 1


async def _plain(work: Awaitable[Any]) -> Any:
    return await work


def test_a_waiter_whose_loop_has_closed_is_not_woken() -> None:
    async def main() -> tuple[StepCache, Any]:
        cache, make = StepCache(), Maker()
        leader = cache.through("k", make)
        leader.send(None)  # it waits at the gate, outside any task
        waiter = asyncio.create_task(cache.through("k", make))
        await turns()
        waiter.cancel()
        await turns()
        return cache, leader

    cache, leader = asyncio.run(main())
    leader.close()
    assert cache.stats().size == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ok", "fail", "cancel"]), st.integers(0, 3)), max_size=12))
def test_whatever_fails_or_is_cancelled_everyone_else_is_answered(plan: list[tuple[str, str, int]]) -> None:
    async def main() -> None:
        cache, gate = StepCache(), asyncio.Event()

        async def request(index: int, key: str, what: str) -> Any:
            async def make() -> dict[str, Any]:
                await gate.wait()
                if what == "fail":
                    raise LookupError(index)
                return {"key": key}

            return await cache.through(key, make)

        tasks = []
        for index, (name, what, pause) in enumerate(plan):
            tasks.append(asyncio.create_task(request(index, name, what)))
            await turns(pause)
        for task, (_, what, _) in zip(tasks, plan, strict=True):
            if what == "cancel":
                task.cancel()
        gate.set()
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        for value, (name, what, _) in zip(found, plan, strict=True):
            if what == "cancel":
                assert isinstance(value, asyncio.CancelledError)
            elif isinstance(value, LookupError):
                assert what == "fail"
            else:
                assert value[0] == {"key": name}
        assert not cache._flights

    asyncio.run(main())
