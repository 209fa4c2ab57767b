"""The circuit of one target: when it opens, the one probe, and what late and lost calls do."""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from breaker_helpers import DOWN, breaker, clock, fail, settings, told
from clocks import Clock

from dspex_lab.errors import CircuitOpen, ConfigurationError, LMError
from dspex_lab.resilience import Breaker, BreakerSettings, Change, Permit

__all__ = ["breaker", "clock", "told"]


def test_a_target_that_answers_stays_closed(breaker: Breaker) -> None:
    for _ in range(10):
        breaker.admit().succeeded()
    status = breaker.status()
    assert (status.state, status.calls, status.failures, status.retry_after) == ("closed", 4, 0, 0.0)


def test_it_opens_for_a_single_target_at_the_threshold_and_refuses_at_once(breaker: Breaker, told: list[Change]) -> None:
    fail(breaker)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen, match=r"'a/b' is not called now: its circuit is open for another 10\.0 s") as caught:
        breaker.admit()
    assert "2 of the last 2 calls failed" in str(caught.value)
    assert "LMError: down" in str(caught.value)
    assert (caught.value.target, caught.value.retry_after) == ("a/b", 10.0)
    (change,) = told
    assert (change.event, change.target, change.before, change.after) == ("breaker.open", "a/b", "closed", "open")
    assert change.as_data() == {
        "target": "a/b",
        "before": "closed",
        "after": "open",
        "reason": "2 of the last 2 calls failed",
        "retry_after": 10.0,
        "last_error": "LMError: down",
    }


def test_the_share_of_failures_decides(clock: Clock) -> None:
    breaker = Breaker("t", settings(window=20, minimum=20, threshold=0.55), clock=clock)
    for _ in range(9):
        breaker.admit().succeeded()
    fail(breaker, 10)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_it_does_not_open_on_too_few_calls(clock: Clock) -> None:
    breaker = Breaker("t", settings(window=10, minimum=5), clock=clock)
    fail(breaker, 4)
    assert breaker.state == "closed"


def test_a_window_of_seconds_forgets_old_failures(clock: Clock) -> None:
    breaker = Breaker("t", settings(window=10.0, unit="seconds", minimum=2), clock=clock)
    fail(breaker)
    clock.now += 11
    fail(breaker)
    assert (breaker.state, breaker.status().calls) == ("closed", 1)
    fail(breaker)
    assert breaker.state == "open"


def test_the_probe_that_succeeds_closes_it_and_the_past_is_forgotten(
    breaker: Breaker, clock: Clock, told: list[Change]
) -> None:
    fail(breaker, 2)
    clock.now += 10
    probe = breaker.admit()
    assert breaker.state == "half_open"
    probe.succeeded()
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "closed"
    assert [each.event for each in told] == ["breaker.open", "breaker.half_open", "breaker.close"]


def test_an_open_circuit_lets_nobody_pass_before_its_time(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 2)
    clock.now += 9.9
    with pytest.raises(CircuitOpen):
        breaker.admit()
    with pytest.raises(CircuitOpen):
        breaker.check()
    assert breaker.refuses_for() == pytest.approx(0.1)
    assert breaker.status().refused == 2


def test_the_cool_down_grows_with_each_failed_probe_up_to_the_longest_and_begins_anew_after_success(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 2)
    waits = []
    for _ in range(4):
        waits.append(breaker.refuses_for())
        clock.now += waits[-1]
        fail(breaker)
    assert waits == [10.0, 20.0, 35.0, 35.0]
    clock.now += 35
    breaker.admit().succeeded()
    fail(breaker, 2)
    assert breaker.refuses_for() == 10.0


def test_many_openings_overflow_nothing(breaker: Breaker, clock: Clock) -> None:
    breaker = Breaker("t", settings(growth=10.0), clock=clock)
    fail(breaker, 2)
    for _ in range(2_000):
        clock.now += 35
        fail(breaker)
    assert breaker.refuses_for() == 35.0


def test_others_are_refused_while_one_asks(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 2)
    clock.now += 10
    breaker.admit()
    with pytest.raises(CircuitOpen, match="one call is asking whether it works again") as caught:
        breaker.admit()
    assert caught.value.retry_after == 1.0
    with pytest.raises(CircuitOpen):
        breaker.check()


def test_a_probe_that_is_cancelled_gives_its_place_back(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 2)
    clock.now += 10
    with pytest.raises(asyncio.CancelledError), breaker.admit():
        raise asyncio.CancelledError
    assert breaker.state == "half_open"
    breaker.check()
    breaker.admit().released()
    breaker.admit().succeeded()
    assert breaker.state == "closed"


def test_a_probe_that_never_says_anything_is_given_up(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 2)
    clock.now += 10
    lost = breaker.admit()
    clock.now += 119.5
    with pytest.raises(CircuitOpen) as caught:
        breaker.admit()
    assert caught.value.retry_after == 0.5
    clock.now += 0.5
    second = breaker.admit()
    lost.failed(DOWN)
    assert breaker.state == "half_open"
    second.succeeded()
    assert breaker.state == "closed"


def test_late_results_do_not_confuse_it(breaker: Breaker, clock: Clock) -> None:
    early, late, later = breaker.admit(), breaker.admit(), breaker.admit()
    fail(breaker, 2)
    early.succeeded()
    assert breaker.state == "open"
    clock.now += 10
    probe = breaker.admit()
    late.succeeded()
    assert breaker.state == "half_open"
    probe.succeeded()
    later.failed(DOWN)
    fail(breaker)
    assert (breaker.state, breaker.status().calls) == ("closed", 1)


def test_a_permit_is_heard_once(breaker: Breaker, clock: Clock, told: list[Change]) -> None:
    permit = breaker.admit()
    for _ in range(3):
        permit.failed(DOWN)
    assert breaker.status().failures == 1
    permit.succeeded()
    permit.released()
    assert breaker.status().calls == 1


def test_a_permit_judges_by_what_leaves_its_block(breaker: Breaker) -> None:
    with breaker.admit() as permit:
        assert isinstance(permit, Permit)
    assert breaker.status().calls == 1
    with pytest.raises(LMError), breaker.admit():
        raise DOWN
    assert (breaker.status().calls, breaker.status().failures) == (2, 1)


def test_it_is_opened_and_closed_by_hand(breaker: Breaker, clock: Clock, told: list[Change]) -> None:
    breaker.open("maintenance")
    clock.now += 1e6
    with pytest.raises(CircuitOpen, match="its circuit was opened: maintenance") as caught:
        breaker.admit()
    assert caught.value.retry_after is None
    assert breaker.status().retry_after is None
    assert breaker.refuses_for() == math.inf
    breaker.close()
    breaker.admit().succeeded()
    assert [(each.event, each.reason) for each in told] == [
        ("breaker.open", "maintenance"),
        ("breaker.close", "closed by hand"),
    ]


def test_it_is_opened_by_hand_for_a_while(breaker: Breaker, clock: Clock) -> None:
    breaker.open("maintenance", seconds=5)
    assert breaker.refuses_for() == 5.0
    clock.now += 5
    breaker.admit().succeeded()
    assert breaker.state == "closed"
    with pytest.raises(ConfigurationError, match="seconds"):
        breaker.open("x", seconds=-1)


def test_what_was_admitted_before_a_hand_closed_it_is_not_counted(breaker: Breaker) -> None:
    early = [breaker.admit() for _ in range(3)]
    breaker.close()
    for permit in early:
        permit.failed(DOWN)
    assert (breaker.state, breaker.status().calls) == ("closed", 0)


def test_an_observer_may_use_the_breaker_and_may_raise(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def told(change: Change) -> None:
        seen.append(breaker.status().state)
        raise RuntimeError("observer")

    breaker = Breaker("t", settings(), told, clock)
    with caplog.at_level(logging.ERROR, logger="dspex_lab"):
        fail(breaker, 2)
    assert seen == ["open"]
    assert "an observer of breaker.open raised" in caplog.text


def test_one_of_many_threads_is_the_probe(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        breaker.close()
        fail(breaker, 2)
        clock.now += 10
        start = threading.Barrier(16)

        def ask(start: threading.Barrier = start) -> Permit | None:
            start.wait()
            try:
                return breaker.admit()
            except CircuitOpen:
                return None

        with ThreadPoolExecutor(16) as threads:
            permits = [each.result() for each in [threads.submit(ask) for _ in range(16)]]
        assert sum(permit is not None for permit in permits) == 1


def test_one_of_many_tasks_is_the_probe(breaker: Breaker, clock: Clock) -> None:
    async def ask(release: asyncio.Event) -> str:
        try:
            with breaker.admit():
                await release.wait()
                return "asked"
        except CircuitOpen:
            return "refused"

    async def main() -> list[str]:
        release = asyncio.Event()
        tasks = [asyncio.create_task(ask(release)) for _ in range(20)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*tasks)

    fail(breaker, 2)
    clock.now += 10
    assert sorted(asyncio.run(main())) == ["asked"] + ["refused"] * 19
    assert breaker.state == "closed"


def test_threads_lose_no_outcome() -> None:
    breaker = Breaker("t", BreakerSettings(window=1_000_000, minimum=1_000_000))

    def work() -> None:
        for n in range(2_000):
            permit = breaker.admit()
            permit.failed(DOWN) if n % 4 == 0 else permit.succeeded()

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(work) for _ in range(8)]:
            each.result()
    status = breaker.status()
    assert (status.calls, status.failures) == (16_000, 4_000)


def test_a_pickled_breaker_comes_back_fresh(breaker: Breaker) -> None:
    fail(breaker, 2)
    again = pickle.loads(pickle.dumps(breaker))  # noqa: S301
    assert (again.target, again.settings, again.state) == ("a/b", breaker.settings, "closed")
    assert (repr(breaker), repr(again)) == ("Breaker('a/b', open)", "Breaker('a/b', closed)")
    again.admit().succeeded()


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": 2.5},
        {"unit": "hours"},
        {"window": 0.0, "unit": "seconds"},
        {"threshold": 0},
        {"threshold": 1.1},
        {"minimum": 0},
        {"minimum": 21},
        {"minimum": True},
        {"cool_down": -1},
        {"growth": 0.5},
        {"growth": 11},
        {"longest": 1.0},
        {"longest": math.inf},
        {"probe_within": 0},
        {"on": 5},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        BreakerSettings(**wrong)
