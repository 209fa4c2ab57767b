"""Spaces: of two numbers, with a clock that goes by itself, and of a range with a choice."""

from __future__ import annotations

import pytest

from dspex_lab.variables import Space


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def space() -> Space:
    made = Space(clock=Clock())
    made.float("t", 0, 2, default=0.5)
    made.int("k", 0, 16, default=4)
    return made


@pytest.fixture(name="space")
def low_and_high() -> Space:
    made = Space()
    made.float("low", 0, 10, default=1)
    made.float("high", 0, 10, default=2)
    made.choice("module", ["plain", "tools"])
    return made
