"""A pool under attack for a minute: ``kill -9`` of a random worker each second, one SIGSTOP, one memory bomb.

8 workers run short tasks (50 ms, idempotent) as a step of a pipeline, by ``lab.map``, so that each task's outcome is in the
store; each task writes a line to a file that is only appended to, so that executions beyond the first are counted. Printed:
what became of the tasks, the outcomes recorded for each (exactly one), extra executions, how available the workers were,
latencies, and how long it took until a worker was back.

Run: ``python tests/bench/chaos.py [seconds] [workers]``.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspex_lab as dx
from dspex_lab.pools import MINIMUM_MEMORY, Pool

#: Seconds that a task sleeps; the seed of the attacks.
TASK, SEED = 0.05, 20_260


def work(number: int, log: str, bomb: int, seconds: float) -> int:
    """One short task; that of the number ``bomb`` takes more and more memory until it is ended."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\n".encode())
    os.close(file)
    if number == bomb:
        held = []
        while True:
            held.append(mmap.mmap(-1, 32_000_000))  # shared memory, which RLIMIT_DATA does not count
            held[-1].write(b"x" * 32_000_000)
    time.sleep(seconds)
    return number * 2


@dataclass
class Chaos:
    """Kills workers until it is told to stop, and notes what became of them."""

    pool: Pool
    stop_at: float
    kills: int = 0
    stops: int = 0
    recoveries: dict[str, list[float]] = field(default_factory=lambda: {"kill -9": [], "SIGSTOP": []})
    ready: list[float] = field(default_factory=list)
    struck: list[Any] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Attack; in a thread."""
        dice, began = random.Random(SEED), time.monotonic()
        watching = threading.Thread(target=self._watch)
        watching.start()
        next_kill = began + 1
        while not self.over.wait(max(0.0, next_kill - time.monotonic())):
            next_kill += 1
            workers = [w for w in self._workers() if w.state == "ready" and w not in self.struck]
            if not workers:
                continue
            victim = dice.choice(workers)
            if not self.stops and time.monotonic() - began > self.stop_at:
                self.stops += 1
                self._strike(victim, signal.SIGSTOP, "SIGSTOP")
            else:
                self.kills += 1
                self._strike(victim, signal.SIGKILL, "kill -9")
        watching.join()

    def _strike(self, victim: Any, deed: signal.Signals, name: str) -> None:
        struck = time.monotonic()
        self.struck.append(victim)
        os.kill(victim.pid, deed)

        def back() -> None:
            while not self.over.is_set():
                now = self.pool._dispatcher().workers.get(victim.name)  # type: ignore[union-attr]
                if now is not None and now is not victim and now.state == "ready":
                    self.recoveries[name].append(time.monotonic() - struck)
                    return
                time.sleep(0.005)

        threading.Thread(target=back).start()

    def _watch(self) -> None:
        while not self.over.wait(0.02):
            workers = self._workers()
            self.ready.append(sum(w.state == "ready" for w in workers) / self.pool.spec.workers)

    def _workers(self) -> list[Any]:
        dispatcher = self.pool._dispatcher()
        return list(dispatcher.workers.values()) if dispatcher is not None else []


#: What the errors say, by name: a map keeps their words.
NAMES = {
    "more memory than it may have": "OutOfMemory",
    "is not run on pool": "PoisonTask",
    "was stopped (SIGSTOP)": "WorkerStuck",
    "was killed by": "WorkerKilled",
    "for a worker of pool": "PoolBusy",
}


def name_of(error: str) -> str:
    """Return the name of an error."""
    return next((name for words, name in NAMES.items() if words in error), f"unnamed: {error}")


def percentile(values: list[float], part: int) -> str:
    """Return a percentile, in words."""
    return f"{statistics.quantiles(values, n=100)[part - 1]:.2f}" if len(values) > 1 else f"{values[0]:.2f}" if values else "–"


def main(seconds: float, workers: int) -> None:
    """Run it and print the table."""
    folder = tempfile.mkdtemp(prefix="chaos-")
    log, tasks = str(Path(folder, "executions")), int(seconds * workers / TASK * 0.93)
    bomb = tasks // 3
    general = {"workers": workers, "memory": MINIMUM_MEMORY, "preload": ["dspex_lab.pipelines._remote"], "writable": [folder]}
    with dx.Lab(str(Path(folder, "chaos.duckdb")), dx.Config(pools={"general": general})) as lab:
        pool = lab.pools.get("general").warm()
        assert pool.spec.workers == workers, pool.spec
        step = dx.step(work, name="result", pool="general", idempotent=True)
        rows = [{"number": n, "log": log, "bomb": bomb, "seconds": TASK} for n in range(tasks)]
        chaos = Chaos(pool, seconds / 3)
        attacking = threading.Thread(target=chaos.run)
        began = time.monotonic()
        attacking.start()
        frame = lab.map(dx.pipeline("chaos", result=step), rows, concurrency=2 * workers, progress=False)
        took = time.monotonic() - began
        chaos.over.set()
        attacking.join()
        lab.store.flush()
        counts = Counter(lab.sql("SELECT count(*) AS n FROM runs WHERE kind = 'row' GROUP BY row_index")["n"])
        latency = list(lab.sql("SELECT seconds FROM spans WHERE name = 'result'")["seconds"] * 1e3)
    executions = Counter(Path(log).read_text().split())
    failed = Counter(name_of(str(error)) for error in frame["error"].dropna())
    wrong = sum(row["result"] != 2 * row["number"] for _, row in frame[frame["status"] == "complete"].iterrows())
    lines = {
        "tasks": tasks,
        "seconds": f"{took:.1f}",
        "kill -9 / SIGSTOP / memory bombs": f"{chaos.kills} / {chaos.stops} / 1",
        "done": f"{(frame['status'] == 'complete').sum()} ({wrong} wrong)",
        "failed by name": ", ".join(f"{n} × {name}" for name, n in failed.items()) or "none",
        "outcomes recorded for a task": ", ".join(f"{n} tasks with {each}" for each, n in counts.items()),
        "tasks without an outcome": tasks - sum(counts.values()),
        "extra executions": sum(executions.values()) - len(executions),
        "workers available": f"{100 * statistics.mean(chaos.ready):.2f} %",
        "latency p50 / p99, ms": f"{percentile(latency, 50)} / {percentile(latency, 99)}",
    }
    for name, found in chaos.recoveries.items():
        lines[f"back after {name}, p50 / p99, s"] = f"{percentile(found, 50)} / {percentile(found, 99)} ({len(found)})"
    for name, value in lines.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 8)
