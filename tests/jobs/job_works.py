"""Works for tests: they count, wait at gates, fail, and lose their workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dspex_lab.events import Event
from dspex_lab.jobs import Found, Plan, Reporter, Work
from dspex_lab.lms import Budget

WHERE = pytest.mark.parametrize("pool", [None, "optimizer"], ids=["kernel", "worker"])
Until = Callable[..., Event]
#: Where works of this process wait, by name.
GATES: dict[str, threading.Event] = {}


def gate(name: str) -> threading.Event:
    return GATES.setdefault(name, threading.Event())


#: Fake pools whose workers can be ended, by name.
POOLS: dict[str, Any] = {}


class Killing:
    """A metric that ends the worker on one row: of a fake pool, or a process."""

    def __init__(self, text: str, pool: str | None = None) -> None:
        self.text, self.pool = text, pool

    def __call__(self, example: Any, prediction: Any) -> bool:
        if example.text == self.text:
            if self.pool is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                POOLS[self.pool].die("optimizer-0")
        return bool(example.label == prediction.label)


@dataclass(frozen=True)
class Count(Work):
    """Counts to ``n``; the score of a number is itself."""

    n: int = 5
    #: Before this number it waits at the gate, and looks whether it should stop meanwhile.
    wait_before: int | None = None
    gate: str = ""
    #: It looks whether it should stop.
    polite: bool = True
    fails_at: int | None = None
    #: Its worker is killed at this number, the first so many attempts.
    dies_at: int | None = None
    deaths: int = 0
    kind: str = "count"
    continues: bool = True
    spread: bool = False

    def check(self, budget: Budget) -> Plan:
        return Plan(total=self.n, calls=self.n)

    def run(self, reporter: Reporter) -> Any:
        at = reporter.state or 0
        while at < self.n:
            if self.polite and reporter.stopping:
                return at or None
            if at == self.wait_before and self._waits(reporter):
                return at or None
            if at == self.fails_at:
                raise ValueError(f"cannot count past {at}")
            if at == self.dies_at and reporter.attempt <= self.deaths:
                self.die()
            at += 1
            reporter.trial(float(at), values={"at": at}, parent=at - 2 if at > 1 else None)
            reporter.best(at, float(at))
            reporter.progress(at, self.n)
            reporter.keep(at)
        return at

    def _waits(self, reporter: Reporter) -> bool:
        reporter.progress(reporter.state or self.wait_before or 0, self.n, "at the gate")
        while not gate(self.gate).wait(0.01):
            if self.polite and reporter.stopping:
                return True
        return False

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def partial(self, found: Found) -> Any:
        return found.best


@dataclass(frozen=True)
class Pieces(Work):
    """Has squares made elsewhere."""

    n: int = 6
    kind: str = "squares"
    spread: bool = True
    continues: bool = False
    bad: int | None = None

    def run(self, reporter: Reporter) -> Any:
        heard: list[int] = []
        made = [reporter.submit(square, at, self.bad, told=heard.append) for at in range(self.n)]
        found = [each.result() for each in made]
        return found, sorted(heard), reporter.workers


def square(piece: Any, at: int, bad: int | None) -> int:
    if at == bad:
        raise ValueError(f"no square of {at}")
    assert not piece.stopping
    piece.tell(at)
    return at * at


@dataclass(frozen=True)
class Wordless(Work):
    """Says nothing until it is killed."""

    gate: str = ""
    kind: str = "wordless"

    def run(self, reporter: Reporter) -> Any:
        while not gate(self.gate).wait(0.01):
            time.sleep(0)
        reporter.progress(1, 1)
        return "done"


def teardown_module() -> None:
    GATES.clear()
