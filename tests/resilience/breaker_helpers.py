"""A breaker with a clock that is set by hand, and what it tells."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import Clock

from dspex_lab.errors import LMError
from dspex_lab.resilience import Breaker, BreakerSettings, Change

DOWN = LMError("down", status=503)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[Change]:
    return []


def settings(**changed: Any) -> BreakerSettings:
    return BreakerSettings(**{"window": 4, "minimum": 2, "cool_down": 10.0, "growth": 2.0, "longest": 35.0, **changed})


@pytest.fixture
def breaker(clock: Clock, told: list[Change]) -> Breaker:
    return Breaker("a/b", settings(), told.append, clock)


def fail(breaker: Breaker, times: int = 1, error: BaseException = DOWN) -> None:
    for _ in range(times):
        breaker.admit().failed(error)
