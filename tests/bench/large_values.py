"""A DataFrame of 100 MB to a worker and back: ours beside plain pickle and beside Dask's own ``submit``.

Four ways, in turns, on the workers of one pool and over its TLS: ``Pool.call`` as it is (by a file in memory), the same with
the file forbidden (pickle 5 buffers as frames of their own), the frame as one plain pickle through a bare Actor of the same
cluster, and ``client.submit(identity, frame)`` with its result gathered. Two frames: numbers only, and one that is half
strings.

Run: ``python tests/bench/large_values.py [rounds] [megabytes]``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pickle
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pandas as pd

from dspex_lab.pools import Outcome, Pool, PoolSpec

MB = 1_000_000


def identity(value: Any) -> Any:
    return value


class Echo:
    """A bare Actor that is sent a pickle and sends one back."""

    def run(self, pickled: bytes) -> bytes:
        return pickle.dumps(pickle.loads(pickled), 4)  # noqa: S301


def numbers(size: int) -> pd.DataFrame:
    """A frame of ten columns of floats."""
    return pd.DataFrame(np.random.default_rng(0).random((size // 80, 10)), columns=[f"x{i}" for i in range(10)])


def strings(size: int) -> pd.DataFrame:
    """A frame of which half the bytes are distinct strings (pandas' ``str``): a row is 36 characters and 5 floats."""
    rows = size // 84
    text = [f"customer {i:>9} ordered {i * 7:>10}" for i in range(rows)]
    return pd.DataFrame(np.random.default_rng(0).random((rows, 5)), columns=[f"x{i}" for i in range(5)]).assign(text=text)


async def ways(pool: Pool, unshared: Pool, frame: pd.DataFrame) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return how the frame can go there and back, on the pools' loop."""
    client = pool._runtime.cluster().client  # type: ignore[attr-defined]
    pid = pool.status()[0]["pid"]
    address = next(a for a, its in (await client.run(os.getpid)).items() if its == pid)
    held = client.submit(Echo, actor=True, workers=[address])
    actor = await held
    actor._client = client  # it would look for a default client, and the pool's is none

    async def plain() -> Any:
        assert held.key  # released, it would take the actor with it
        return pickle.loads(await actor.run(pickle.dumps(frame, 4)))  # noqa: S301

    async def dask() -> Any:
        future = client.submit(identity, frame, pure=False, workers=[address])
        try:
            return await future
        finally:
            future.release()

    return {
        "Pool.call": lambda: pool.call(identity, frame),
        "Pool.call, no file": lambda: unshared.call(identity, frame),
        "plain pickle": plain,
        "Dask submit": dask,
    }


async def in_turns(pool: Pool, unshared: Pool, frame: pd.DataFrame, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way, the first round left out."""
    tried = await ways(pool, unshared, frame)
    times: dict[str, list[float]] = {name: [] for name in tried}
    for _ in range(rounds + 1):
        for name, way in tried.items():
            began = time.perf_counter()
            back = await way()
            times[name].append(time.perf_counter() - began)
            assert len(back) == len(frame)
            assert back.iloc[-1].equals(frame.iloc[-1])
            del back
    return {name: each[1:] for name, each in times.items()}


async def how(pool: Pool, frame: pd.DataFrame) -> Outcome:
    """Return how the frame travels."""
    told: list[Outcome] = []
    await pool.call(identity, frame, told=told.append)
    return told[0]


def main(rounds: int, size: int) -> None:
    """Measure and print."""
    spec = PoolSpec("general", 1, 3_000 * MB, preload=("pandas", "pyarrow"))
    pool = Pool(spec).warm()
    unshared = Pool(dataclasses.replace(spec, name="unshared", shared_above=2**40), runtime=pool._runtime).warm()
    try:
        for title, frame in (("numbers", numbers(size)), ("half strings", strings(size))):
            outcome = asyncio.run(how(pool, frame))
            print(f"\n{title}: {outcome.sent.size / MB:.0f} MB there ({outcome.sent.protocol}), ", end="")
            print(f"{outcome.received.size / MB:.0f} MB back ({outcome.received.protocol})")  # type: ignore[union-attr]
            times = pool._runtime.submit(in_turns(pool, unshared, frame, rounds)).result()
            base = statistics.median(times["Pool.call"])
            for name, each in times.items():
                p50 = statistics.median(each)
                print(f"{name:20} p50 {p50:6.3f} s  best {min(each):6.3f} s  {p50 / base:5.2f}x of Pool.call")
    finally:
        unshared.close()
        pool.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, (int(sys.argv[2]) if len(sys.argv) > 2 else 100) * MB)
