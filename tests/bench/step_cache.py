"""Calls per second that a step with ``cache=`` answers from the step cache, beside DSPy's own LM-cache hits.

    python tests/bench/step_cache.py [CALLS]

DSPy's hits are of its memory cache alone (the disk cache is off), over an engine with a fixed answer. Ours are whole runs
with telemetry on, into a DuckDB file: of a function and of a ``dspy.Predict`` whose LM caches nothing. All ways ask the
same 32 questions in turns; the figure is the median of the rounds, "with flush" counts the time until the records are in
the file. No engine and no function is called while it is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy

import dspex_lab as dx
from dspex_lab.testing import scripted_lm

WIDTH, ROUNDS = 32, 7
QUESTIONS = [f"Is {n} a number?" for n in range(32)]


work_done = 0


async def classify(question: str) -> str:
    """Stand for a step worth caching."""
    global work_done
    work_done += 1
    return f"yes: {question}"


def one_after_the_other(call: Callable[[str], Any]) -> Callable[[int], None]:
    def work(calls: int) -> None:
        for question in itertools.islice(itertools.cycle(QUESTIONS), calls):
            call(question)

    return work


def in_threads(call: Callable[[str], Any], width: int) -> Callable[[int], None]:
    threads = ThreadPoolExecutor(width)

    def work(calls: int) -> None:
        share = one_after_the_other(call)
        list(threads.map(share, [calls // width] * width))

    return work


def at_once(call: Callable[[str], Awaitable[Any]], width: int = WIDTH) -> Callable[[int], None]:
    async def all_calls(calls: int) -> None:
        todo = itertools.islice(itertools.cycle(QUESTIONS), calls)

        async def worker() -> None:
            for question in todo:
                await call(question)

        await asyncio.gather(*(worker() for _ in range(width)))

    return lambda calls: asyncio.run(all_calls(calls))


def of_dspy() -> list[tuple[str, Callable[[int], Any]]]:
    """Return the ways of DSPy, whose LM answers from DSPy's memory cache."""
    program = dspy.Predict("question -> answer")
    lm = scripted_lm({"answer": "yes"}, cache=True)
    dspy.configure(lm=lm)
    parallel = dspy.Parallel(num_threads=8, disable_progress_bar=True)

    def by_parallel(calls: int) -> None:
        parallel([(program, {"question": q}) for q in itertools.islice(itertools.cycle(QUESTIONS), calls)])

    def ask(question: str) -> Any:
        return program(question=question)

    return [
        ("dspy.Predict, LM-cache hit", one_after_the_other(ask)),
        ("dspy.Predict, LM-cache hit, 8 threads", in_threads(lambda q: with_lm(lm, ask, q), 8)),
        (f"dspy.Predict.acall, LM-cache hit, {WIDTH} at once", at_once(lambda q: program.acall(question=q))),
        ("dspy.Parallel, LM-cache hits, 8 threads", by_parallel),
        ("bare lm(), cache hit", one_after_the_other(lm)),
    ]


def with_lm(lm: Any, ask: Callable[[str], Any], question: str) -> Any:
    with dspy.context(lm=lm):
        return ask(question)


def of_ours(lab: dx.Lab) -> list[tuple[str, Callable[[int], Any]]]:
    """Return the ways of a step with ``cache=``."""
    own = scripted_lm({"answer": "yes"})
    lab.use(own)
    function = dx.pipeline("cached_function", answer=dx.step(classify, cache=3600))
    module = dx.pipeline("cached_predict", answer=dx.step(dspy.Predict("question -> answer"), cache=3600))
    ways: list[tuple[str, Callable[[int], Any]]] = []
    for what, pipeline in (("a function", function), ("dspy.Predict", module)):
        ways += [
            (
                f"lab.arun, step-cache hit of {what}, {WIDTH} at once",
                at_once(lambda q, p=pipeline: lab.arun(p, question=q)),  # type: ignore[misc]
            ),
            (
                f"lab.run, step-cache hit of {what}",
                one_after_the_other(lambda q, p=pipeline: lab.run(p, question=q)),  # type: ignore[misc]
            ),
        ]
    return ways


def main(calls: int) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    seconds: dict[str, list[float]] = {}
    settled: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, dx.Lab(Path(folder) / "bench.duckdb") as lab:
        theirs, ours = of_dspy(), of_ours(lab)
        engines = [dspy.settings.lm.engine, lab.lm.engine]
        for _, way in (*theirs, *ours):
            way(max(calls // 10, 4 * len(QUESTIONS)))

        def asked() -> dict[str, int]:
            return {"the function": work_done, "DSPy's engine": engines[0].calls, "the Lab's engine": engines[1].calls}

        before = asked()
        for _ in range(ROUNDS):
            for name, way in (*theirs, *ours):
                clock = time.perf_counter()
                way(calls)
                seconds.setdefault(name, []).append((time.perf_counter() - clock) / calls)
                lab.store.flush()
                settled.setdefault(name, []).append((time.perf_counter() - clock) / calls)
        if before != asked():
            raise SystemExit(f"Not all was served from a cache: calls before {before}, after {asked()}")
    base = statistics.median(seconds[theirs[0][0]])
    print(f"{calls:,} calls a round, median of {ROUNDS}; dspy {dspy.__version__}, Python {sys.version.split()[0]}\n")
    print(f"| | calls/s | × {theirs[0][0]} | calls/s with flush |\n|---|---|---|---|")
    for name, values in seconds.items():
        value, whole = statistics.median(values), statistics.median(settled[name])
        flushed = f"{1 / whole:,.0f}" if name in {n for n, _ in ours} else ""
        print(f"| {name} | {1 / value:,.0f} | {base / value:.2f} | {flushed} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
