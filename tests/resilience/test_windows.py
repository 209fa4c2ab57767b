"""Sliding windows against the plainest reading of what they say."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.resilience._windows import PARTS, LastCalls, LastSeconds, Latencies


@given(size=st.integers(1, 8), outcomes=st.lists(st.booleans(), max_size=40))
def test_the_last_calls_are_counted(size: int, outcomes: list[bool]) -> None:
    window = LastCalls(size)
    for n, failed in enumerate(outcomes, 1):
        window.add(failed, 0.0)
        last = outcomes[max(n - size, 0) : n]
        assert window.counts(0.0) == (len(last), sum(last))


@given(
    seconds=st.sampled_from([1.0, 10.0, 0.5, 60.0]),
    steps=st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=40),
)
def test_the_last_seconds_are_counted_in_tenths(seconds: float, steps: list[tuple[float, bool]]) -> None:
    window, now = LastSeconds(seconds), 1000.0
    seen: list[tuple[int, bool]] = []
    for gap, failed in steps:
        now += gap
        part = int(now // (seconds / PARTS))
        window.add(failed, now)
        seen.append((part, failed))
        inside = [each for at, each in seen if at > part - PARTS]
        assert window.counts(now) == (len(inside), sum(inside))
    assert window.counts(now + seconds * 2) == (0, 0)


def test_a_clock_read_before_another_threads_counts_in_the_newest_part() -> None:
    window = LastSeconds(10.0)
    window.add(True, 105.0)
    window.add(True, 103.0)
    assert window.counts(105.0) == (2, 2)


@given(size=st.integers(1, 9), values=st.lists(st.floats(0, 100), min_size=1, max_size=40), share=st.floats(0.01, 0.99))
def test_quantiles_are_those_of_the_last_latencies(size: int, values: list[float], share: float) -> None:
    window = Latencies(size)
    for value in values:
        window.add(value)
    last = sorted(values[-size:])
    assert len(window) == len(last)
    found = window.quantile(share)
    assert found == last[max(math.ceil(len(last) * share), 1) - 1]
    assert sum(each <= found for each in last) >= share * len(last)
