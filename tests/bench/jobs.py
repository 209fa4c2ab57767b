"""What a job adds to an optimizer, beside the bare one; and how the notebook's cells do while two jobs run.

    python tests/bench/jobs.py [overhead|cells] [ROUNDS]

**overhead**: MIPROv2 and GEPA of DSPy called directly, by ``lab.optimize`` in a thread of the kernel, and by ``lab.optimize``
on a worker that is up; with the same settings, seed, rows and engine (``stub_engine.py``), so all three make the same calls and
find the same program, which is checked. From the call to the result, with the telemetry of every call in a DuckDB file. They
take turns; the ratio is the median of the ratios within a round, and that of the best times. CPU is that of the process.

**cells**: what a client of a real IPython kernel waits for a cell, one after the other: ``1+1``, and ``lab.run`` of a pipeline
of two functions. In a kernel that is idle; while MIPROv2 and GEPA run as jobs on workers; beside the same bare optimizers in
processes that the kernel has nothing to do with, which shows what the machine's own cores take; and beside the same jobs in
threads of the kernel.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dspy
from stub_engine import program, right, rows, stub_lm

import dspex_lab as dx

TRAIN, VAL, SEED = rows(40), rows(40, 1), 9
#: What ``lab.optimize`` is given; the bare ones get the same.
SETTINGS: dict[str, dict[str, Any]] = {
    "miprov2": {"auto": None, "num_candidates": 4, "num_trials": 24, "minibatch": False},
    "gepa": {"max_metric_calls": 900},
}
#: So long that cells can be measured beside them.
ENDLESS: dict[str, dict[str, Any]] = {
    "miprov2": {**SETTINGS["miprov2"], "num_trials": 100_000},
    "gepa": {"max_metric_calls": 10_000_000},
}
POOLS = {"optimizer": {"workers": 2, "memory": "1GB"}}


# ---- overhead --------------------------------------------------------------------------------------------------------


class Taken(NamedTuple):
    """One run: seconds, seconds of this process's CPU, calls of the model, and what was found."""

    seconds: float
    cpu: float
    calls: int
    found: str


def examples(given: list[dict[str, str]]) -> list[Any]:
    return [dspy.Example(**row).with_inputs("message") for row in given]


def compiled(name: str, lm: Any, settings: dict[str, Any]) -> Any:
    """Return what the bare optimizer finds."""
    data = {"trainset": examples(TRAIN), "valset": examples(VAL)}
    with dspy.context(lm=lm), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if name == "gepa":
            return dspy.GEPA(metric=right, reflection_lm=lm, seed=SEED, **settings).compile(program(), **data)
        given = dict(settings)
        more = {key: given.pop(key) for key in ("num_trials", "minibatch")}
        return dspy.MIPROv2(metric=right, seed=SEED, **given).compile(program(), **data, seed=SEED, **more)


def shown(found: Any) -> str:
    """Return what tells one program from another."""
    return json.dumps([found.signature.instructions, [dict(demo) for demo in found.demos]], default=str)


def bare(name: str, delay: float, say: str) -> Taken:
    """Run the optimizer of DSPy."""
    lm = stub_lm(delay, say=say)
    began, cpu = time.perf_counter(), time.process_time()
    found = compiled(name, lm, SETTINGS[name])
    return Taken(time.perf_counter() - began, time.process_time() - cpu, lm.engine.calls, shown(found))


def tracked(lab: dx.Lab, name: str, delay: float, say: str, pool: str | None) -> Taken:
    """Run it as a job."""
    lab.use(stub_lm(delay, say=say))
    student = program()
    began, cpu = time.perf_counter(), time.process_time()
    job = lab.optimize(
        *(student,), optimizer=name, metric=right, trainset=TRAIN, valset=VAL, seed=SEED, pool=pool, **SETTINGS[name]
    )
    found = job.result()
    return Taken(time.perf_counter() - began, time.process_time() - cpu, found.calls, shown(found.program))


def overhead(rounds: int) -> None:
    """Measure and print it."""
    logging.disable(logging.WARNING)
    with contextlib.ExitStack() as stack:
        # A Lab remembers what its jobs rejected, and GEPA is told: each way has a Lab of its own.
        here, there = (stack.enter_context(a_lab()) for _ in range(2))
        there.pools.get("optimizer").warm()
        print("| | bare, s | job in the kernel, s | × | on a worker, s | × | calls | CPU bare, kernel, s | × |")
        print("|---|---|---|---|---|---|---|---|---|")
        for delay in (0.05, 0.0):
            for name in SETTINGS:
                ways: dict[str, Callable[[str], Taken]] = {
                    "bare": lambda say, n=name, d=delay: bare(n, d, say),  # type: ignore[misc]
                    "kernel": lambda say, n=name, d=delay: tracked(here, n, d, say, None),  # type: ignore[misc]
                    "worker": lambda say, n=name, d=delay: tracked(there, n, d, say, "optimizer"),  # type: ignore[misc]
                }
                report(f"{name}, {delay * 1e3:.0f} ms", in_turns(ways, f"{name} {delay}", rounds))


@contextlib.contextmanager
def a_lab() -> Iterator[dx.Lab]:
    with tempfile.TemporaryDirectory() as folder, dx.Lab(Path(folder) / "lab.duckdb", dx.Config(pools=POOLS)) as lab:
        yield lab


def in_turns(ways: dict[str, Callable[[str], Taken]], what: str, rounds: int) -> dict[str, list[Taken]]:
    """Return what each way took in each round; the round before them warms up."""
    found: dict[str, list[Taken]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        say = f"Text {what} {number}"  # new texts each time: what was rejected before is not asked for again
        taken = {way: run(say) for way, run in ways.items()}
        same = {(each.calls, each.found) for each in taken.values()}
        assert len(same) == 1, f"they did not do the same: {same}"
        for way, each in taken.items():
            found[way] += [each] if number else []
    return found


def report(what: str, found: dict[str, list[Taken]]) -> None:
    """Print a line of the table."""

    def times(way: str, field: str = "seconds") -> str:
        each = [getattr(taken, field) for taken in found[way]]
        return f"{statistics.median(each):.2f} ({min(each):.2f})"

    def ratio(way: str, field: str = "seconds") -> str:
        pairs = [(getattr(a, field), getattr(b, field)) for a, b in zip(found[way], found["bare"], strict=True)]
        best = min(a for a, _ in pairs) / min(b for _, b in pairs)
        return f"{statistics.median(a / b for a, b in pairs):.3f} ({best:.3f})"

    cells = [what, times("bare"), times("kernel"), ratio("kernel"), times("worker"), ratio("worker")]
    cells += [str(found["bare"][0].calls), f"{times('bare', 'cpu')}, {times('kernel', 'cpu')}", ratio("kernel", "cpu")]
    print(f"| {' | '.join(cells)} |", flush=True)


# ---- cells -----------------------------------------------------------------------------------------------------------

SETUP = """
import sys
sys.path.insert(0, {here!r})
from jobs import *
lab = dx.Lab("lab.duckdb", dx.Config(pools=POOLS))
lab.pools.get("optimizer").warm()

def clean(message: str) -> str:
    return message.strip()

small = dx.pipeline("small", text=clean, length=lambda text: len(text))
jobs = []

def begin(delay, pool):
    lab.use(stub_lm(delay))
    for name, settings in ENDLESS.items():
        about = dict(metric=right, trainset=TRAIN, valset=VAL, seed=SEED, pool=pool)
        jobs.append(lab.optimize(program(), optimizer=name, **about, **settings))
    for job in jobs:
        next(event for event in job.events() if event.name == "job.trial")

def end():
    assert [job.state for job in jobs] == ["running"] * len(jobs), [(job.state, job.error) for job in jobs]
    for job in jobs:
        job.stop()
    for job in jobs:
        job.wait()
    jobs.clear()
"""
CELLS = {"1+1": "1+1", "lab.run": "lab.run(small, message=' x ').raise_for_status()"}


class Kernel:
    """A real kernel and its client."""

    def __init__(self, folder: str) -> None:
        from jupyter_client.manager import KernelManager

        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(cwd=folder)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, code: str) -> float:
        """Run a cell and return the seconds until its reply is there."""
        began = time.perf_counter()
        asked = self._client.execute(code)
        while True:
            reply = self._client.get_shell_msg(timeout=120)
            if reply["parent_header"].get("msg_id") == asked:
                break
        taken = time.perf_counter() - began
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
        while self._client.iopub_channel.msg_ready():
            self._client.get_iopub_msg(timeout=1)
        return taken

    def close(self) -> None:
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)


@contextlib.contextmanager
def jobs_of(kernel: Kernel, delay: float, pool: str | None) -> Iterator[None]:
    """Have two jobs run meanwhile."""
    kernel.run(f"begin({delay}, {pool!r})")
    yield
    kernel.run("end()")


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Have two bare optimizers run meanwhile, in processes of their own."""
    others = [subprocess.Popen([sys.executable, __file__, "bare", name], stdout=subprocess.PIPE) for name in ENDLESS]
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == b"running\n"
        yield
    finally:
        for other in others:
            other.kill()
            other.communicate()


def cells(rounds: int) -> None:
    """Measure and print them."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = Kernel(folder)
        try:
            kernel.run(SETUP.format(here=str(Path(__file__).parent)))
            around: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
                "idle": contextlib.nullcontext,
                "two jobs on workers, 50 ms": lambda: jobs_of(kernel, 0.05, "optimizer"),
                "two jobs on workers, no latency": lambda: jobs_of(kernel, 0.0, "optimizer"),
                "two bare optimizers in other processes, no latency": elsewhere,
                "two jobs in threads of the kernel, no latency": lambda: jobs_of(kernel, 0.0, None),
            }
            found: dict[str, dict[str, list[float]]] = {way: {cell: [] for cell in CELLS} for way in around}
            for _ in range(rounds):
                for way, context in around.items():
                    with context():
                        for cell, code in CELLS.items():
                            found[way][cell] += [kernel.run(code) for _ in range(120)][20:]
        finally:
            kernel.close()
    print("| | 1+1, ms: p50 | × idle | p99 | × | lab.run, ms: p50 | × idle | p99 | × |\n|---|---|---|---|---|---|---|---|---|")
    for way, each in found.items():
        line = [way]
        for cell, times in each.items():
            for percent in (50, 99):
                mine, idle = (statistics.quantiles(t, n=100)[percent - 1] for t in (times, found["idle"][cell]))
                line += [f"{mine * 1e3:.2f}", f"{mine / idle:.2f}"]
        print(f"| {' | '.join(line)} |")


def bare_for_ever(name: str) -> None:
    """Run a bare optimizer until the process is ended."""
    logging.disable(logging.WARNING)
    print("running", flush=True)
    compiled(name, stub_lm(0.0), ENDLESS[name])


if __name__ == "__main__":
    what, number = sys.argv[1:2], int(sys.argv[2]) if sys.argv[2:] and sys.argv[2].isdigit() else 5
    if what == ["bare"]:
        bare_for_ever(sys.argv[2])
    else:
        print(f"load before: {', '.join(f'{each:.1f}' for each in os.getloadavg())} on {os.cpu_count()} cores\n")
        if what != ["cells"]:
            overhead(number)
        if what != ["overhead"]:
            cells(number)
