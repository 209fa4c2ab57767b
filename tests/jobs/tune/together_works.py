"""An optimizer that writes words, and a tune job of a number, over one space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job_works import gate

from dspex_lab.jobs import Plan, Reporter, Work
from dspex_lab.jobs.tune import Together, tune
from dspex_lab.variables import Space

ROWS = [{"q": at} for at in range(6)]


def answer(q: int, words: str, k: int) -> dict[str, float]:
    """Better with the words "good", best at k = 5; and the words help more there."""
    return {
        "worth": (0.3 if words.startswith("good") else 0.0)
        + (0.4 - abs(k - 5) / 10)
        + (0.2 if "good" in words and k == 5 else 0)
    }


def worth(example: Any, prediction: Any) -> float:
    return float(prediction["worth"])


def space_of() -> Space:
    space = Space()
    space.text("words", "bad")
    space.int("k", 1, 8, default=1)
    return space


@dataclass(frozen=True)
class Writes(Work):
    """An optimizer that gives back words; it sees the newest number."""

    program: Any
    words: str | None
    gate: str | None = None
    kind: str = "optimize"
    fails: BaseException | None = None

    def check(self, budget: Any) -> Plan:
        return Plan(calls=3)

    def run(self, reporter: Reporter) -> Any:
        assert reporter.folder  # type: ignore[attr-defined]
        reporter.progress(1, 2, "proposing")
        reporter.keep({"seen": self.program.keywords["k"]})
        number = reporter.trial(0.5, candidate={"words": self.words})
        assert number == 0
        reporter.best(self.words, 0.5)
        if self.gate:
            assert gate(self.gate).wait(60)
        if self.fails:
            raise self.fails
        return self.words


@dataclass(frozen=True)
class Side:
    """Rounds of :class:`Writes`."""

    words: tuple[str | None, ...]
    names: tuple[str, ...] = ("words",)
    called: str = "writer"
    gate: str | None = None
    spread: bool = False
    fails: BaseException | None = None

    def work(self, program: Any, number: int) -> Work:
        kind = Spread if self.spread else Writes
        return kind(program, self.words[number], self.gate, fails=self.fails)

    def found(self, result: Any) -> dict[str, Any]:
        return {} if result is None else {"words": result}


@dataclass(frozen=True)
class Spread(Writes):
    """One whose pieces go to workers."""

    spread: bool = True

    def run(self, reporter: Reporter) -> Any:
        assert reporter.submit(squared, 3).result() == 9
        assert not reporter.stopping
        reporter.again(1)
        return super().run(reporter)


def squared(piece: Any, number: int) -> int:
    return number * number


def work_of(space: Space, side: Any, folder: Path, rounds: int = 1, trials: int = 8, **more: Any) -> Together:
    inner = tune(answer, ["k"], worth, ROWS, trials, space=space, sampler="grid", parallel=1, inputs=["q"], folder=folder)
    return Together(inner, side, rounds, **more)
