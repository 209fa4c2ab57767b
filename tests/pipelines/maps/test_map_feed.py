"""The feed and the gate of a map by themselves."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_helpers import outcome

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines.maps._feed import Feed, Todo
from dspex_lab.pipelines.maps._gate import Gate, Keep
from dspex_lab.pipelines.maps._outcome import Outcome


def run(work: Callable[[ThreadPoolExecutor], Any]) -> Any:
    with ThreadPoolExecutor(8) as executor:
        return asyncio.run(work(executor))


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 5), max_size=8), done=st.sets(st.integers(0, 30)), width=st.integers(1, 9), cut=st.booleans()
)
def test_every_row_that_is_not_done_is_handed_out_once(sizes: list[int], done: set[int], width: int, cut: bool) -> None:
    chunks = [[{"n": n} for n in range(sum(sizes[:i]), sum(sizes[: i + 1]))] for i in range(len(sizes))]

    def given() -> Iterator[list[Any]]:
        yield from chunks
        if cut:
            raise PipelineError("cut")

    async def work(executor: ThreadPoolExecutor) -> tuple[list[Todo], Feed]:
        feed = Feed(given(), lambda row: {"taken": row["n"]}, done.__contains__)
        got: list[Todo] = []

        async def worker() -> None:
            while (item := await feed.get()) is not None:
                got.append(item)
                await asyncio.sleep(0)

        await asyncio.gather(*(worker() for _ in range(width)))
        feed.close()
        return got, feed

    got, feed = run(work)
    assert sorted(t.row_index for t in got) == [i for i in range(sum(sizes)) if i not in done]
    assert all(t.inputs == {"taken": t.row_index} for t in got)
    assert feed.read == sum(sizes)
    assert (feed.problem is not None) == cut


def test_whatever_a_source_raises_is_told_with_its_place() -> None:
    def given() -> Iterator[list[Any]]:
        yield [{"n": 1}]
        raise OSError("the disk is gone")

    async def work(executor: ThreadPoolExecutor) -> None:
        feed = Feed(given(), dict, lambda index: False)
        assert await feed.get() is not None
        assert await feed.get() is None
        assert "beyond row 1: OSError: the disk is gone" in str(feed.problem)

    run(work)


class Slow(Keep):
    """Takes a batch only when it is told to."""

    def __init__(self, batch: int, linger: float | None = None) -> None:
        self.batch, self.linger = batch, linger
        self.flushed: list[list[int]] = []
        self.go = threading.Semaphore(0)
        self.first = threading.Event()
        self.problem: Exception | None = None

    def add(self, outcome: Outcome) -> None:
        pass

    def flush(self, outcomes: Sequence[Outcome]) -> None:
        assert self.go.acquire(timeout=30)
        if self.problem is not None:
            raise self.problem
        self.flushed.append([o.row_index for o in outcomes])
        self.first.set()


def test_no_more_than_a_batch_waits_and_rows_go_on_beside_a_flush() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(4, linger=60.0)
        gate = Gate(keep, executor)
        for i in range(3):
            assert not gate.full
            gate.add(outcome(i))
        assert not gate.full, "two are being flushed, one waits"
        gate.add(outcome(3))
        assert gate.full
        waiting = asyncio.create_task(gate.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        keep.go.release()
        assert await waiting
        assert keep.flushed == [[0, 1]]
        keep.go.release(10)
        gate.add(outcome(4))
        await gate.close()
        assert functools.reduce(operator.iadd, keep.flushed, []) == [0, 1, 2, 3, 4]

    run(work)


def test_few_outcomes_are_flushed_after_a_while() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(100, linger=0.0)
        keep.go.release(10)
        gate = Gate(keep, executor)
        gate.add(outcome(0))
        assert await asyncio.to_thread(keep.first.wait, 30)
        gate.add(outcome(1))
        await gate.close()
        assert keep.flushed == [[0], [1]]

    run(work)


def test_a_flush_that_fails_lets_no_row_begin_and_is_raised_at_the_end() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(2, linger=60.0)
        keep.problem = OSError("full")
        gate = Gate(keep, executor)
        gate.add(outcome(0))
        gate.add(outcome(1))
        keep.go.release(10)
        assert not await gate.room()
        assert gate.full
        with pytest.raises(OSError, match="full"):
            await gate.close()

    run(work)


def test_what_flushes_itself_is_not_waited_for() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(10)
        gate = Gate(keep, executor)
        gate.add(outcome(0))
        await gate.close()
        assert keep.flushed == []
        for i in range(10):
            gate.add(outcome(i))
        keep.go.release(10)
        assert await gate.room()
        assert keep.flushed

    run(work)
