"""What it costs to have workers: until all are up, memory of an idle one, and until a killed one is back.

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
from typing import Any

import psutil

from dspex_lab.pools import Pool, PoolSpec


def uses_dspy() -> int:
    import dspy

    assert dspy.Predict
    return os.getpid()


def pss(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


def ours(workers: int) -> tuple[float, float, float]:
    """Return seconds until all workers are up and have DSPy, MB of an idle one, and seconds until a killed one is back."""
    clock = time.perf_counter()
    pool = Pool(PoolSpec("general", workers, 512_000_000)).warm()
    up = time.perf_counter() - clock
    memory = statistics.mean(pss(row["pid"]) for row in pool.status())
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
    return up, memory, statistics.median(back)


def spawned(workers: int) -> tuple[float, float, float]:
    """The same of Dask's LocalCluster as it comes, made to import DSPy."""
    from distributed import Client, LocalCluster

    clock = time.perf_counter()
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        pids: dict[str, Any] = client.run(uses_dspy)
        up = time.perf_counter() - clock
        memory = statistics.mean(pss(pid) for pid in pids.values())
        back = []
        for _ in range(3):
            address, pid = next(iter(pids.items()))
            clock = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            while address in (now := client.scheduler_info()["workers"]) or len(now) < workers:
                time.sleep(0.005)
            pids = client.run(uses_dspy)
            back.append(time.perf_counter() - clock)
    return up, memory, statistics.median(back)


def main(workers: int) -> None:
    mine, theirs = ours(workers), spawned(workers)
    print(f"| {workers} workers that have DSPy | all up, s | an idle one, MB PSS | back after kill -9, s |\n|---|---|---|---|")
    print(f"| ours, preloaded forkserver | {mine[0]:.1f} | {mine[1]:.0f} | {mine[2]:.2f} |")
    print(f"| Dask's LocalCluster, spawned | {theirs[0]:.1f} | {theirs[1]:.0f} | {theirs[2]:.2f} |")
    print(f"| × | {theirs[0] / mine[0]:.1f} | {theirs[1] / mine[1]:.1f} | {theirs[2] / mine[2]:.1f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
