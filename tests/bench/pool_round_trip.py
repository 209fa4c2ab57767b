"""The round trip of a call that does nothing: ``Pool.call`` beside a bare Dask Actor, a Dask task and a Ray actor.

The bare Actor is called on Dask's own loop (the least there can be) and from another thread, as a notebook would; ``Pool.call``
comes from another loop, as the Lab's does, with its events told, and from the pools' own loop. All in one run, on one cluster
(the pool's own: two workers, TLS, loopback), in turns, so that the ratios mean something on a busy machine. Ray has no TLS
here, and runs in its own processes beside; it is measured where it can be imported.

Run: ``python tests/bench/pool_round_trip.py [rounds]``; for Ray, ``pip install ray`` (2.60).
"""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_lab.events import Event
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


def timed_here(call: Callable[[], Any]) -> list[float]:
    """As :func:`timed`, in a thread."""
    times = []
    for _ in range(BATCH):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def ray_actor() -> Callable[[], Any] | None:
    """Return the call of a Ray actor; None where Ray is not there."""
    if importlib.util.find_spec("ray") is None:
        return None
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    actor = ray.remote(Nothing).remote()
    return lambda: ray.get(actor.run.remote())


async def in_turns(pool: Pool, rounds: int, elsewhere: Callable[[], Awaitable[list[float]]]) -> dict[str, list[float]]:
    """Run all in turns, on the pools' loop; ``elsewhere`` hops to the caller's."""
    client = pool._runtime.cluster().client  # type: ignore[attr-defined]
    held = client.submit(Nothing, actor=True)  # released, it would take the actor with it
    actor = await held
    actor._client = client  # it would look for a default client, and the pool's is none

    async def actor_call() -> None:
        await actor.run()

    async def task_call() -> None:
        await client.submit(nothing, pure=False)

    ways: dict[str, Callable[[], Awaitable[list[float]]]] = {
        "Pool.call": elsewhere,
        "Pool.call, own loop": lambda: timed(lambda: pool.call(nothing)),
        "Actor": lambda: timed(actor_call),
        "Actor, thread": lambda: asyncio.to_thread(timed_here, lambda: actor.run().result()),
        "Dask task": lambda: timed(task_call),
    }
    if (ray_call := await asyncio.to_thread(ray_actor)) is not None:
        ways["Ray actor, thread"] = lambda: asyncio.to_thread(timed_here, ray_call)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            times[name] += await way()
    return {name: each[BATCH:] for name, each in times.items()}  # the first round warms up


async def main(pool: Pool, rounds: int) -> dict[str, list[float]]:
    """Measure from a loop that is not the pools', as the Lab's is not."""
    here = asyncio.get_running_loop()

    async def elsewhere() -> list[float]:
        batch = asyncio.run_coroutine_threadsafe(timed(lambda: pool.call(nothing)), here)
        return await asyncio.wrap_future(batch)

    return await asyncio.wrap_future(pool._runtime.submit(in_turns(pool, rounds, elsewhere)))


if __name__ == "__main__":
    events: list[Event] = []
    began = time.perf_counter()
    pool = Pool(PoolSpec("general", 2, MINIMUM_MEMORY), emit=events.append).warm()
    print(f"pool of {pool.spec.workers} up in {time.perf_counter() - began:.2f} s")
    for row in pool.status():
        print(f"  {row['name']}: PSS {row['pss'] / 1e6:.0f} MB, RSS {row['rss'] / 1e6:.0f} MB")
    times = asyncio.run(main(pool, int(sys.argv[1]) if len(sys.argv) > 1 else 10))
    pool.close()
    base = statistics.median(times["Actor"])
    print(f"{'':20} {'p50 ms':>8} {'p95 ms':>8}  to a bare Actor")
    for name, each in times.items():
        p50, p95 = statistics.median(each), statistics.quantiles(each, n=20)[-1]
        print(f"{name:20} {p50 * 1e3:8.2f} {p95 * 1e3:8.2f}  {p50 / base:.2f}x")
