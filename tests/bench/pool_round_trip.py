"""The round trip of a call that does nothing: ``Pool.call`` beside a bare Dask Actor and a Dask task.

The Actor is called on Dask's own loop (the least there can be) and from another thread, as a notebook would; ``Pool.call``
comes from another loop, as the Lab's does.

All three in one run, on one cluster (the pool's own: two workers, TLS, loopback), in turns, so that the ratios mean
something on a busy machine. Run: ``python tests/bench/pool_round_trip.py [rounds]``.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec

BATCH = 50


class Nothing:
    """A bare Actor."""

    def run(self) -> None: ...


def nothing() -> None: ...


async def timed(call: Callable[[], Awaitable[Any]]) -> list[float]:
    """Return the seconds of each of a batch of calls, one after the other."""
    times = []
    for _ in range(BATCH):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return times


async def bare(client: Any, rounds: int, ours: Callable[[], Awaitable[list[float]]]) -> dict[str, list[float]]:
    """Run the three in turns, on the pool's loop; ``ours`` hops to the caller's."""
    held = client.submit(Nothing, actor=True)  # released, it would take the actor with it
    actor = await held
    actor._client = client  # it would look for a default client, and the pool's is none

    async def actor_call() -> None:
        await actor.run()

    def from_a_thread() -> list[float]:
        times = []
        for _ in range(BATCH):
            began = time.perf_counter()
            actor.run().result()
            times.append(time.perf_counter() - began)
        return times

    async def task_call() -> None:
        await client.submit(nothing, pure=False)

    times: dict[str, list[float]] = {name: [] for name in ("Pool.call", "Actor", "Actor, thread", "Dask task")}
    for _ in range(rounds + 1):
        times["Pool.call"] += await ours()
        times["Actor"] += await timed(actor_call)
        times["Actor, thread"] += await asyncio.to_thread(from_a_thread)
        times["Dask task"] += await timed(task_call)
    return {name: each[BATCH:] for name, each in times.items()}  # the first round warms up


async def main(pool: Pool, rounds: int) -> dict[str, list[float]]:
    """Measure from a loop that is not the pool's, as the Lab's is not."""
    here = asyncio.get_running_loop()

    async def ours() -> list[float]:
        batch = asyncio.run_coroutine_threadsafe(timed(lambda: pool.call(nothing)), here)
        return await asyncio.wrap_future(batch)

    fleet: Any = pool._fleet
    work = asyncio.run_coroutine_threadsafe(bare(fleet._client, rounds, ours), fleet.dispatcher.loop)
    return await asyncio.wrap_future(work)


if __name__ == "__main__":
    began = time.perf_counter()
    pool = Pool(PoolSpec("general", 2, MINIMUM_MEMORY)).warm()
    print(f"pool of {pool.spec.workers} up in {time.perf_counter() - began:.2f} s")
    for row in pool.status():
        print(f"  {row['name']}: PSS {row['pss'] / 1e6:.0f} MB, RSS {row['rss'] / 1e6:.0f} MB")
    times = asyncio.run(main(pool, int(sys.argv[1]) if len(sys.argv) > 1 else 10))
    pool.close()
    base = statistics.median(times["Actor"])
    print(f"{'':14} {'p50 ms':>8} {'p95 ms':>8}  to a bare Actor")
    for name, each in times.items():
        p50, p95 = statistics.median(each), statistics.quantiles(each, n=20)[-1]
        print(f"{name:14} {p50 * 1e3:8.2f} {p95 * 1e3:8.2f}  {p50 / base:.2f}x")
