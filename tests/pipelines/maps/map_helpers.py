"""What the tests of maps share: outcomes, a step that fails at every other row, and its rows."""

from __future__ import annotations

from typing import Any

from dspex_lab.pipelines.maps._outcome import Outcome

PIPELINE = {"kind": "pipeline", "name": "p"}
DATA = {"kind": "iterable"}


def outcome(index: int, status: str = "complete", **outputs: Any) -> Outcome:
    return Outcome(index, status, outputs, None, f"run{index}", {})


def half(n: int) -> float:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n / 2


ROWS = [{"n": n, "note": f"row {n}"} for n in range(10)]
