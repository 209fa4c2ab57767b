"""Programs, metrics and spaces that the tests of tuning share."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex_lab.jobs import Jobs
from dspex_lab.jobs.tune import Tuned, tune
from dspex_lab.variables import Space

ROWS = [{"q": at, "label": at % 3} for at in range(8)]
MANY = [{"q": at, "label": at % 3} for at in range(32)]


def space_of(**more: Any) -> Space:
    """Two numbers, a choice, and a number that counts only with one of its options."""
    space = Space(**more)
    space.float("x", 0, 1, default=0.1)
    space.int("k", 1, 8, default=2)
    space.choice("mode", ["plain", "rich"], default="plain")
    space.float("extra", 0, 1, default=0.5, when="mode == 'rich'")
    return space


def program(q: int, x: float, k: int = 1, mode: str = "plain", extra: float = 0.0) -> dict[str, float]:
    """Best at x = 0.7, k = 5, with "rich" and a great extra."""
    return {"worth": 1 - (x - 0.7) ** 2 - (k - 5) ** 2 / 40 + (0.1 + extra / 10 if mode == "rich" else 0.0)}


def worth(example: Any, prediction: Mapping[str, float]) -> float:
    return prediction["worth"]


class KillsOnce:
    """A metric that ends its process the first time it sees a row."""

    def __init__(self, row: int, marks: str) -> None:
        self.row, self.marks = row, marks

    def __call__(self, example: Any, prediction: Mapping[str, float]) -> float:
        mark = Path(self.marks) / "dead"
        if example.q == self.row and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return prediction["worth"]


def go(jobs: Jobs, work: Any, **how: Any) -> Tuned:
    found = jobs.start(work, **{"seed": 1, **how}).result(120)
    assert isinstance(found, Tuned)
    return found


def work_of(space: Space, variables: Any = None, trials: int = 10, rows: Any = ROWS, **more: Any) -> Any:
    return tune(
        more.pop("program", program), variables, more.pop("metric", worth), rows, trials, space=space, parallel=1, **more
    )
