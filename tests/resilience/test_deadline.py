"""One budget of time, handed down."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import pytest
from clocks import Clock

from dspex_lab.errors import ConfigurationError, PipelineError
from dspex_lab.resilience import Deadline, _deadline


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_deadline, "time", SimpleNamespace(monotonic=clock))
    return clock


def test_time_runs_down(clock: Clock) -> None:
    deadline = Deadline.after(5)
    assert (deadline, deadline.remaining(), deadline.passed) == (Deadline(105.0), 5.0, False)
    deadline.check("step 'reply' began")
    clock.now = 105.0
    assert (deadline.remaining(), deadline.passed) == (0.0, True)
    clock.now = 110.0
    assert deadline.remaining() == 0.0
    with pytest.raises(PipelineError, match=r"The deadline passed before step 'reply' began\."):
        deadline.check("step 'reply' began")


def test_without_a_deadline_there_is_always_time(clock: Clock) -> None:
    never = Deadline()
    assert (never.remaining(), never.passed) == (None, False)
    assert Deadline.after(None) == never == Deadline.after(math.inf)
    never.check("it began")


def test_a_part_gets_no_more_than_is_left(clock: Clock) -> None:
    whole = Deadline.after(10)
    assert whole.narrowed(3) == Deadline(103.0)
    assert whole.narrowed(30) is whole
    assert whole.narrowed(math.inf) is whole
    assert whole.narrowed(None) is whole
    assert Deadline().narrowed(0).passed


@pytest.mark.parametrize("seconds", [-1, -math.inf, math.nan])
def test_a_limit_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="0 seconds or more"):
        Deadline.after(seconds)


def test_the_clock_is_the_monotonic_one() -> None:
    before = time.monotonic()
    deadline = Deadline.after(1)
    assert deadline.at is not None
    assert before + 1 <= deadline.at <= time.monotonic() + 1
