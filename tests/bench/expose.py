"""What it costs to turn the knobs of a program, beside ``copy.deepcopy`` of the same program in the same run.

    python tests/bench/expose.py [ROUNDS]

The program has a predictor, a chain of thought, two modules in a list and a ReAct with two tools; 16 demonstrations; a model
whose history has 1,000 entries, which ``copy.deepcopy`` copies and a program that is built shares. Figures are medians in
microseconds. "novel text" gives new instructions each time, so a new signature class is made; trials of a search use texts
again. The last two lines are a call of a module that does nothing: by itself, and exposed (its changes are looked for and
the call is counted).
"""

from __future__ import annotations

import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import dspy

from dspex_lab.testing import scripted_lm
from dspex_lab.variables import Exposure, Space, knobs
from dspex_lab.variables.expose import build


def search(query: str) -> str:
    """Find something."""
    return query


def look(query: str) -> str:
    """Look it up."""
    return query


class Program(dspy.Module):
    """Some of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict("question -> answer")
        self.think = dspy.ChainOfThought("question, answer -> verdict")
        self.stages = [dspy.Predict("fact -> note") for _ in range(2)]
        self.agent = dspy.ReAct("question -> answer", tools=[search, look])
        self.share = 0.5


class Nothing(dspy.Module):
    """Does nothing."""

    def forward(self, **fields: Any) -> Any:
        return dspy.Prediction(answer=1)


def timed(function: Callable[[], Any], rounds: int) -> float:
    """Return the median time of one call, in microseconds."""
    function()
    times = []
    for _ in range(rounds):
        clock = time.perf_counter()
        function()
        times.append(time.perf_counter() - clock)
    return statistics.median(times) * 1e6


def main(rounds: int) -> None:
    """Measure and print."""
    program, lm = Program(), scripted_lm({"answer": "x"})
    lm.history = [{"prompt": "x" * 100, "outputs": ["y"]} for _ in range(1_000)]
    program.draft.lm = lm
    program.draft.demos = [dspy.Example(question=str(i), answer="x").with_inputs("question") for i in range(16)]
    found, number = knobs(program), itertools.count()
    clock = time.perf_counter()
    space = Space()
    exposure = Exposure(space, program, found, "p")
    print(f"{len(found)} knobs; exposed in {(time.perf_counter() - clock) * 1e3:.0f} ms, once")
    space.commit({"p.draft.instructions": "One."})
    texts = itertools.cycle(["One.", "Two."])
    bare, watched = Nothing(), Nothing()
    small = Exposure(Space(), watched, knobs(watched), "w")
    lines: dict[str, Callable[[], Any]] = {
        "copy.deepcopy(program)": lambda: copy.deepcopy(program),
        "exposure.build, a temperature": lambda: exposure.build({"draft.temperature": next(number) % 200 / 100}),
        "exposure.build, instructions of a search": lambda: exposure.build({"draft.instructions": next(texts)}),
        "exposure.build, novel text": lambda: exposure.build({"draft.instructions": f"Text {next(number)}."}),
        "exposure.build, another module": lambda: exposure.build({"draft.module": "ChainOfThought"}),
        "build(program, values), as in a worker, knobs given": lambda: build(program, {"draft.temperature": 0.7}, found),
        "the same, knobs found again": lambda: build(program, {"draft.temperature": 0.7}),
        "knobs(program)": lambda: knobs(program),
        "exposure.sync, nothing changed": exposure.sync,
        "space.commit and into the program": lambda: space.commit({"p.draft.temperature": next(number) % 200 / 100}),
        "a module that does nothing": lambda: bare(question="q"),
        f"the same, exposed ({len(small.names)} knobs)": lambda: watched(question="q"),
    }
    times = {name: timed(function, rounds) for name, function in lines.items()}
    base = times["copy.deepcopy(program)"]
    for name, taken in times.items():
        print(f"{name:52} {taken:9,.0f} µs   {taken / base:6.2f} of a deepcopy")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
