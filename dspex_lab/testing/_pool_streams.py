"""What every pool must do with what a task tells before it ends."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from dspex_lab.testing._any_pool import AnyPool, run


class PoolStreams:
    """The part of :class:`PoolConformance` about streams."""

    def test_what_a_generator_yields_comes_in_order(self, pool: AnyPool) -> None:
        assert asyncio.run(_all(pool, range, 0)) == []
        assert asyncio.run(_all(pool, _count, 1000)) == list(range(1000))

    def test_what_an_async_generator_yields_comes_in_order(self, pool: AnyPool) -> None:
        assert asyncio.run(_all(pool, _acount, 50)) == list(range(50))

    def test_what_a_function_tells_is_given_to_on_chunk_in_order_before_its_result(self, pool: AnyPool) -> None:
        seen: list[int] = []

        async def slowly(chunk: int) -> None:
            await asyncio.sleep(0)
            seen.append(chunk)

        assert run(pool, _tell, 40, on_chunk=slowly) == "told"
        assert seen == list(range(40))
        seen.clear()
        assert run(pool, _tell, 3, on_chunk=seen.append) == "told"
        assert seen == [0, 1, 2]

    def test_what_is_told_to_nobody_is_dropped(self, pool: AnyPool) -> None:
        assert run(pool, _tell, 2000) == "told"

    def test_an_exception_comes_after_what_was_told_before_it(self, pool: AnyPool) -> None:
        seen: list[int] = []

        async def stream() -> None:
            async for chunk in pool.stream(_count_then_fail, 5):
                seen.append(chunk)

        with pytest.raises(ValueError, match="after 5"):
            asyncio.run(stream())
        assert seen == [0, 1, 2, 3, 4]

    def test_a_task_waits_until_what_it_told_is_taken(self, pool: AnyPool) -> None:
        async def stream() -> list[int]:
            ends = []
            async with aclosing(pool.stream(_count, 5000)) as chunks:
                async for chunk in chunks:
                    ends.append(chunk)
                    if chunk == 0:
                        # It is stopped by back-pressure: were it not, it would be done before anybody could see it busy.
                        assert await _state(pool, "busy")
            return ends

        assert asyncio.run(stream()) == list(range(5000))

    def test_closing_a_stream_cancels_its_task(self, pool: AnyPool) -> None:
        async def some() -> int:
            async with aclosing(pool.stream(_count, 10**9)) as chunks:
                async for chunk in chunks:
                    if chunk == 300:
                        break
            while any(row["busy"] for row in pool.status()):  # noqa: ASYNC110 - a pool has nothing to wait on for this
                await asyncio.sleep(0.005)
            return await pool.call(abs, -3)

        assert asyncio.run(some()) == 3

    def test_an_on_chunk_that_raises_ends_the_call(self, pool: AnyPool) -> None:
        def refuse(chunk: int) -> None:
            raise LookupError(chunk)

        with pytest.raises(LookupError):
            run(pool, _count, 10**9, on_chunk=refuse)
        assert run(pool, abs, -1) == 1


def _count(n: int) -> Any:
    yield from range(n)


async def _acount(n: int) -> Any:
    for i in range(n):
        yield i


def _count_then_fail(n: int) -> Any:
    yield from range(n)
    raise ValueError(f"after {n}")


def _tell(n: int) -> str:
    from dspex_lab.pools import tell

    for i in range(n):
        tell(i)
    return "told"


async def _all(pool: AnyPool, function: Any, *args: Any) -> list[Any]:
    return [chunk async for chunk in pool.stream(function, *args)]


async def _state(pool: AnyPool, word: str) -> bool:
    return word in {row["state"] for row in pool.status()}
