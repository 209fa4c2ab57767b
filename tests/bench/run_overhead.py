"""What the run path adds to one ``dspy.Predict`` call with a fixed-answer engine, telemetry on.

    python tests/bench/run_overhead.py [rounds]

Beside it, in the same run: plain ``dspy.Predict``, and ``dspy.Predict`` with one no-op DSPy callback.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import dspy
from dspy.utils.callback import BaseCallback

import dspex_lab as dx
from dspex_lab.testing import scripted_lm


def median_us(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        clock = time.perf_counter()
        work()
        times.append(time.perf_counter() - clock)
    return 1e6 * statistics.median(times)


class Nothing(BaseCallback):
    """A callback that does nothing."""


def main(rounds: int = 1000) -> None:
    lm = scripted_lm([{"answer": "yes"}])
    lm.cache = False
    program = dspy.Predict("question -> answer")
    with dx.Lab(":memory:") as lab:
        lab.use(lm)
        pipeline = dx.pipeline("bench", answer=program)

        def plain() -> object:
            with dspy.context(lm=lm):
                return program(question="Is it?")

        def with_callback() -> object:
            with dspy.context(lm=lm, callbacks=[Nothing()]):
                return program(question="Is it?")

        def ours() -> object:
            return lab.run(pipeline, question="Is it?")

        kinds = {"dspy.Predict": plain, "dspy.Predict, no-op callback": with_callback, "lab.run, telemetry on": ours}
        for work in kinds.values():
            median_us(work, 50)
        # Interleaved, so that a slow moment of the machine meets all three.
        samples: dict[str, list[float]] = {k: [] for k in kinds}
        for _ in range(10):
            for name, work in kinds.items():
                samples[name].append(median_us(work, rounds // 10))
    base = statistics.median(samples["dspy.Predict"])
    added = statistics.median(samples["dspy.Predict, no-op callback"]) - base
    print(f"{'':32}{'µs a call':>10}{'added':>10}{'× plain':>10}{'added ÷ callback':>18}")
    for name, values in samples.items():
        value = statistics.median(values)
        print(f"{name:32}{value:10.0f}{value - base:10.0f}{value / base:10.2f}{(value - base) / added:18.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
