"""What it costs to have workers: until all are up, memory and CPU of idle ones, and until a killed one is back.

``python tests/bench/pool_start.py [WORKERS]``: beside Dask's own LocalCluster, whose workers are spawned and import DSPy
when they are first asked to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import psutil

from dspex_lab.pools import Pool, PoolSpec

#: Seconds that idle workers are watched.
IDLE = 20.0


def uses_dspy() -> int:
    import dspy

    assert dspy.Predict
    return os.getpid()


def pss(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


class Cost(NamedTuple):
    """Seconds until all workers are up and have DSPy, MB and per cent of a core of what idles, seconds until one is back."""

    up: float
    memory: float
    worker: float
    kernel: float
    back: float


def idle(pids: Iterable[int]) -> tuple[float, float]:
    """Return how much of a core each of ``pids`` takes while nothing is to be done, and this process; in per cent."""
    pids = [os.getpid(), *pids]
    time.sleep(2)  # what has just started comes to rest
    before = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]
    time.sleep(IDLE)
    kernel, *workers = (sum(psutil.Process(pid).cpu_times()[:2]) - was for pid, was in zip(pids, before, strict=True))
    return 100 * statistics.mean(workers) / IDLE, 100 * kernel / IDLE


def ours(workers: int) -> Cost:
    """Measure a pool."""
    clock = time.perf_counter()
    pool = Pool(PoolSpec("general", workers, 512_000_000)).warm()
    up = time.perf_counter() - clock
    memory = statistics.mean(pss(row["pid"]) for row in pool.status())
    at_rest = idle(row["pid"] for row in pool.status())
    back = []
    for _ in range(5):
        victim = pool.status()[0]
        clock = time.perf_counter()
        os.kill(victim["pid"], signal.SIGKILL)
        while (row := pool.status()[0])["pid"] == victim["pid"] or row["state"] != "idle":
            time.sleep(0.005)
        asyncio.run(pool.call(uses_dspy))
        back.append(time.perf_counter() - clock)
    pool.close()
    return Cost(up, memory, *at_rest, statistics.median(back))


def spawned(workers: int) -> Cost:
    """The same of Dask's LocalCluster as it comes, made to import DSPy."""
    from distributed import Client, LocalCluster

    clock = time.perf_counter()
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        pids: dict[str, Any] = client.run(uses_dspy)
        up = time.perf_counter() - clock
        memory = statistics.mean(pss(pid) for pid in pids.values())
        at_rest = idle(pids.values())
        back = []
        for _ in range(3):
            address, pid = next(iter(pids.items()))
            clock = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            while address in (now := client.scheduler_info()["workers"]) or len(now) < workers:
                time.sleep(0.005)
            pids = client.run(uses_dspy)
            back.append(time.perf_counter() - clock)
    return Cost(up, memory, *at_rest, statistics.median(back))


def main(workers: int) -> None:
    mine, theirs = ours(workers), spawned(workers)
    print(f"| {workers} with DSPy | all up, s | idle: MB PSS of one | its CPU, % | the kernel's, % | back after kill -9, s |")
    print("|---|---|---|---|---|---|")
    for name, cost in (("ours, preloaded forkserver", mine), ("Dask's LocalCluster, spawned", theirs)):
        print(f"| {name} | {cost.up:.1f} | {cost.memory:.0f} | {cost.worker:.1f} | {cost.kernel:.1f} | {cost.back:.2f} |")
    print(f"| × | {' | '.join(f'{b / a:.1f}' for a, b in zip(mine, theirs, strict=True))} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
