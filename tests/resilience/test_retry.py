"""Retries: what is tried again, after how long, and what the deadline forbids."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import pytest
import stamina
import tenacity.nap
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import BudgetExceeded, ConfigurationError, PipelineError, Unserialisable
from dspex_lab.resilience import Retry, _retry, retry, retry_sync

AT_ONCE = Retry(attempts=3, wait=0.0, jitter=0.0)
Runner = Callable[..., Any]


def run_async(work: Callable[[int], Any], policy: Retry, **options: Any) -> Any:
    async def awaited(attempt: int) -> Any:
        return work(attempt)

    return asyncio.run(retry(awaited, policy, **options))


@pytest.fixture(params=[retry_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Runner:
    """Both twins keep every promise."""
    return request.param


class Flaky:
    """Fails with each of ``errors`` in turn, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = errors
        self.attempts: list[int] = []

    def __call__(self, attempt: int) -> str:
        self.attempts.append(attempt)
        if len(self.attempts) <= len(self.errors):
            raise self.errors[len(self.attempts) - 1]
        return "done"


class Clock:
    """A clock that only sleeping moves, for the thread of the test; others, which it does not know, have the real one."""

    def __init__(self) -> None:
        self.mine = threading.get_ident()
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now if threading.get_ident() == self.mine else time.monotonic()

    def sleep(self, seconds: float) -> None:
        if threading.get_ident() != self.mine:
            time.sleep(seconds)
        else:
            self.slept.append(seconds)
            self.now += seconds

    async def asleep(self, seconds: float) -> None:
        if threading.get_ident() != self.mine:
            await asyncio.sleep(seconds)
        else:
            self.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_retry, "time", clock)
    # Where stamina sleeps: its own function on a loop, tenacity's otherwise.
    monkeypatch.setattr(stamina._core, "_smart_sleep", clock.asleep)
    monkeypatch.setattr(tenacity.nap, "time", types.SimpleNamespace(sleep=lambda seconds: clock.sleep(seconds)))
    return clock


def test_work_that_succeeds_is_done_once(run: Runner) -> None:
    work = Flaky()
    assert run(work, Retry()) == "done"
    assert work.attempts == [1]


def test_a_failure_is_tried_again_and_told_of(run: Runner) -> None:
    work = Flaky(OSError("a"), ValueError("b"))
    told: list[tuple[int, float, str]] = []
    assert run(work, AT_ONCE, told=lambda n, wait, error: told.append((n, wait, str(error)))) == "done"
    assert work.attempts == [1, 2, 3]
    assert told == [(1, 0.0, "a"), (2, 0.0, "b")]


def test_the_last_failure_is_raised_as_it_is(run: Runner) -> None:
    last = OSError("c")
    work = Flaky(OSError("a"), OSError("b"), last, OSError("d"))
    told: list[int] = []
    with pytest.raises(OSError, match="c") as caught:
        run(work, AT_ONCE, told=lambda n, wait, error: told.append(n))
    assert caught.value is last
    assert caught.value.__cause__ is None
    assert (work.attempts, told) == ([1, 2, 3], [1, 2])


@pytest.mark.parametrize(
    "error",
    [
        BudgetExceeded("x"),
        ConfigurationError("x"),
        Unserialisable("x"),
        KeyboardInterrupt(),
        SystemExit(),
        asyncio.CancelledError(),
    ],
)
@pytest.mark.parametrize("on", [None, Exception, lambda error: True])
def test_some_failures_are_never_tried_again_whatever_is_said(run: Runner, error: BaseException, on: Any) -> None:
    work = Flaky(error)
    with pytest.raises(type(error)):
        run(work, Retry(attempts=3, wait=0, jitter=0, on=on))
    assert work.attempts == [1]


@pytest.mark.parametrize(
    ("on", "tries"),
    [
        (KeyError, 1),
        (ValueError, 3),
        ((KeyError, ValueError), 3),
        (lambda error: str(error) == "x", 3),
        (lambda error: False, 1),
    ],
)
def test_the_policy_says_which_failures(run: Runner, on: Any, tries: int) -> None:
    work = Flaky(*[ValueError("x")] * 5)
    with pytest.raises(ValueError, match="x"):
        run(work, Retry(attempts=3, wait=0, jitter=0, on=on))
    assert len(work.attempts) == tries


def test_waits_double_up_to_the_longest(run: Runner, clock: Clock) -> None:
    with pytest.raises(OSError, match="x"):
        run(Flaky(*[OSError("x")] * 9), Retry(attempts=6, wait=1.0, longest=5.0, jitter=0.0))
    assert clock.slept == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_no_wait_begins_that_would_reach_the_deadline(run: Runner, clock: Clock) -> None:
    work = Flaky(*[OSError("x")] * 9)
    with pytest.raises(OSError, match="x"):
        run(work, Retry(attempts=9, wait=1.0, longest=5.0, jitter=0.0), deadline=103.5)
    assert (clock.slept, clock.now, work.attempts) == ([1.0, 2.0], 103.0, [1, 2, 3])


def test_a_wait_that_ends_at_the_deadline_is_not_begun(run: Runner, clock: Clock) -> None:
    with pytest.raises(OSError, match="x"):
        run(Flaky(OSError("x")), Retry(wait=1.0, jitter=0.0), deadline=101.0)
    assert clock.slept == []


def test_no_attempt_begins_after_the_deadline(run: Runner, clock: Clock) -> None:
    work = Flaky()
    with pytest.raises(PipelineError, match="deadline passed before the first attempt"):
        run(work, Retry(), deadline=100.0)
    assert work.attempts == []


def test_an_oversleeping_wait_begins_no_attempt(run: Runner, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def oversleep(seconds: float) -> None:
        clock.now += seconds + 10

    monkeypatch.setattr(clock, "sleep", oversleep)
    work = Flaky(OSError("first"))
    with pytest.raises(OSError, match="first"):
        run(work, Retry(wait=1.0, jitter=0.0), deadline=105.0)
    assert work.attempts == [1]


def asking(seconds: Any) -> OSError:
    error = OSError("later")
    error.retry_after = seconds  # type: ignore[attr-defined]
    return error


def test_the_wait_a_failure_asks_for_is_kept(run: Runner, clock: Clock) -> None:
    wrapped = OSError("outer")
    wrapped.__cause__ = asking(7)
    assert run(Flaky(asking(30.0), wrapped), Retry(wait=1.0, longest=5.0)) == "done"
    assert clock.slept == [30.0, 7.0]


def test_who_asks_for_too_long_a_wait_is_not_waited_for(run: Runner, clock: Clock) -> None:
    with pytest.raises(OSError, match="later"):
        run(Flaky(asking(3_600.0)), Retry())
    with pytest.raises(OSError, match="later"):
        run(Flaky(asking(30.0)), Retry(), deadline=clock.now + 20)
    assert clock.slept == []


@pytest.mark.parametrize("asked", ["5", None, True, -1, float("nan"), float("inf")])
def test_what_is_no_number_of_seconds_asks_for_nothing(asked: Any) -> None:
    assert Retry(wait=2.0, jitter=0.0).wait_after(1, asking(asked)) == 2.0


def test_an_observer_that_raises_does_not_end_the_work(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    def told(attempt: int, seconds: float, error: BaseException) -> None:
        raise RuntimeError("observer")

    with caplog.at_level(logging.ERROR, logger="dspex_lab"):
        assert run(Flaky(OSError("x")), AT_ONCE, told=told) == "done"
    assert "an observer of retries raised" in caplog.text


def test_retries_are_silent(run: Runner, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        run(Flaky(OSError("x")), AT_ONCE)
    assert [r for r in caplog.records if r.name != "asyncio" and r.thread == threading.get_ident()] == []
    assert capfd.readouterr() == ("", "")


def test_a_wait_is_cancelled_at_once() -> None:
    async def main() -> list[int]:
        work = Flaky(OSError("x"))
        waiting = asyncio.Event()

        async def awaited(attempt: int) -> str:
            return work(attempt)

        task = asyncio.create_task(retry(awaited, Retry(wait=3_600, longest=3_600), told=lambda *_: waiting.set()))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return work.attempts

    assert asyncio.run(main()) == [1]


@given(
    attempt=st.integers(1, 2_000),
    wait=st.floats(0, 100),
    longest=st.floats(0, 100),
    jitter=st.floats(0, 100),
    drawn=st.floats(0, 1),
    left=st.none() | st.floats(-10, 300),
)
def test_the_decision_keeps_its_bounds(
    attempt: int, wait: float, longest: float, jitter: float, drawn: float, left: float | None
) -> None:
    policy = Retry(attempts=2_001, wait=wait, longest=longest, jitter=jitter)
    deadline = None if left is None else 50.0 + left
    seconds = policy.wait_after(attempt, OSError(), deadline=deadline, now=50.0, draw=lambda: drawn)
    if seconds is None:
        assert left is not None
    else:
        assert 0 <= seconds <= longest
        assert deadline is None or 50.0 + seconds < deadline
    assert policy.wait_after(2_001, OSError()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"wait": -1},
        {"wait": "1"},
        {"longest": float("inf")},
        {"jitter": float("nan")},
        {"on": 5},
        {"on": ()},
        {"on": (ValueError, 5)},
        {"on": (BaseException,)},
        {"on": BaseException},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Retry(**wrong)


def test_a_policy_is_a_value() -> None:
    assert Retry(2) == Retry(attempts=2)
    assert len({Retry(2), Retry(2), Retry(3)}) == 2


def test_a_users_tests_can_switch_retries_off(run: Runner) -> None:
    stamina.set_active(False)
    try:
        work = Flaky(OSError("x"))
        with pytest.raises(OSError, match="x"):
            run(work, AT_ONCE)
        assert work.attempts == [1]
    finally:
        stamina.set_active(True)


def test_the_log_lines_of_a_users_own_retries_are_let_through(caplog: pytest.LogCaptureFixture) -> None:
    retry_sync(Flaky(OSError("x")), AT_ONCE)
    work = Flaky(OSError("x"))

    @stamina.retry(on=OSError, attempts=2, wait_initial=0, wait_max=0, wait_jitter=0)
    def theirs() -> str:
        return work(1)

    assert theirs() == "done"
    assert [r.name for r in caplog.records if r.thread == threading.get_ident()] == ["stamina"]
