"""From told in a worker to seen in the kernel: ``pool.stream`` beside Dask's ``log_event`` and ``subscribe_topic``.

One chunk at a time: the next is told when the last was seen, so that none waits behind another; then as many as there can be
in a second, with back-pressure (ours) and without (Dask's has none). The two in turns in one run, on the workers of one
pool. Times are of the machine's monotonic clock, which kernel and workers share.

Run: ``python tests/bench/streaming.py [chunks] [rounds]``.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from dspex_lab.pools import Pool, PoolSpec

MB = 1_000_000
PAUSE = 0.005


def spaced(chunks: int) -> Iterator[float]:
    """Yield the time, with pauses."""
    for _ in range(chunks):
        time.sleep(PAUSE)
        yield time.monotonic()


def dense(chunks: int) -> Iterator[float]:
    """Yield the time, as fast as it goes."""
    for _ in range(chunks):
        yield time.monotonic()


def log_events(topic: str, chunks: int, pause: float) -> None:
    """Tell the time by Dask's topics (in a Dask task)."""
    from distributed import get_worker

    worker = get_worker()
    for _ in range(chunks):
        time.sleep(pause)
        worker.log_event(topic, time.monotonic())


async def ours(pool: Pool, function: Any, chunks: int) -> list[float]:
    """Return the seconds that each chunk took."""
    return [time.monotonic() - told async for told in pool.stream(function, chunks)]


async def dasks(client: Any, topic: str, chunks: int, pause: float) -> list[float]:
    """Return the seconds that each event took."""
    seen: list[float] = []
    done = asyncio.Event()

    def handler(event: Any) -> None:
        seen.append(time.monotonic() - event[1])
        if len(seen) == chunks:
            done.set()

    client.subscribe_topic(topic, handler)
    await client.submit(log_events, topic, chunks, pause, pure=False)
    await done.wait()
    client.unsubscribe_topic(topic)
    return seen


async def in_turns(pool: Pool, chunks: int, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return, for each way, the seconds of all chunks one at a time, and the chunks per second of each dense round."""
    client = pool._runtime.cluster().client  # type: ignore[attr-defined]
    result: dict[str, tuple[list[float], list[float]]] = {"pool.stream": ([], []), "Dask topic": ([], [])}
    for number in range(rounds + 1):
        ways = {
            "pool.stream": (lambda: ours(pool, spaced, chunks), lambda: ours(pool, dense, 10 * chunks)),
            "Dask topic": (
                lambda n=number: dasks(client, f"one-{n}", chunks, PAUSE),
                lambda n=number: dasks(client, f"all-{n}", 10 * chunks, 0.0),
            ),
        }
        for name, (one, many) in ways.items():
            latencies = await one()
            began = time.perf_counter()
            await many()
            rate = 10 * chunks / (time.perf_counter() - began)
            if number:  # the first round warms up
                result[name][0].extend(latencies)
                result[name][1].append(rate)
    return result


def main(chunks: int, rounds: int) -> None:
    """Measure and print."""
    pool = Pool(PoolSpec("general", 2, 1_000 * MB)).warm()
    try:
        result = pool._runtime.submit(in_turns(pool, chunks, rounds)).result()
    finally:
        pool.close()
    base = statistics.median(result["Dask topic"][0])
    print(f"{'':14} {'p50 ms':>8} {'p95 ms':>8} {'chunks/s':>10}  latency to Dask's")
    for name, (latencies, rates) in result.items():
        p50, p95 = statistics.median(latencies), statistics.quantiles(latencies, n=20)[-1]
        print(f"{name:14} {p50 * 1e3:8.2f} {p95 * 1e3:8.2f} {statistics.median(rates):10.0f}  {p50 / base:.2f}x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
