"""All that stands around one piece of work: the order, one retry loop, and what each part sees of the others."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import Any

import pytest
from guard_calls import DOWN, Call, Flaky, policy, run

from dspex_lab.errors import BulkheadFull, CircuitOpen, ConfigurationError, LMError
from dspex_lab.resilience import (
    Attempt,
    BreakerSettings,
    BulkheadSettings,
    Change,
    Guard,
    Hedge,
    Policy,
    is_retrying,
    retrying,
)

__all__ = ["run"]


def test_work_that_succeeds_is_done_once_and_all_parts_hear_of_it(run: Call) -> None:
    guard = Guard(Policy(), "a/b", "a")
    work = Flaky()
    assert run(guard, work) == "done"
    assert work.attempts == [Attempt(1, None, 0)]
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    assert (guard.breaker.target, guard.breaker.status().calls) == ("a/b", 1)
    assert (guard.bulkhead.provider, guard.bulkhead.status().entered, guard.bulkhead.status().in_use) == ("a", 1, 0)


def test_a_policy_may_leave_all_out(run: Call) -> None:
    guard = Guard(Policy(None, None, None), "t")
    assert (guard.breaker, guard.bulkhead, guard.hedger) == (None, None, None)
    with pytest.raises(LMError):
        run(guard, Flaky(DOWN), idempotent=True)
    assert run(guard, Flaky()) == "done"


def test_idempotent_work_is_tried_again_and_that_is_told(run: Call) -> None:
    told: list[Change] = []
    work = Flaky(DOWN, OSError("x"))
    assert run(Guard(policy(), "t", told=told.append), work, idempotent=True) == "done"
    assert [attempt.number for attempt in work.attempts] == [1, 2, 3]
    assert [(each.event, each.target, each.after, each.reason, each.details) for each in told] == [
        ("retry", "t", "attempt 2", "LMError: down", {"attempt": 1, "wait": 0.0}),
        ("retry", "t", "attempt 3", "OSError: x", {"attempt": 2, "wait": 0.0}),
    ]


def test_other_work_is_never_tried_again_nor_hedged(run: Call) -> None:
    guard = Guard(policy(hedge=Hedge(after=0.0, share=1.0)), "t")
    work = Flaky(DOWN)
    with pytest.raises(LMError):
        run(guard, work)
    assert [attempt.number for attempt in work.attempts] == [1]


def test_other_work_is_not_hedged_however_late_it_is() -> None:
    guard, requests = Guard(policy(hedge=Hedge(after=0.0, share=1.0)), "t"), []

    async def work(attempt: Attempt) -> None:
        requests.append(attempt.request)
        for _ in range(20):
            await asyncio.sleep(0)

    asyncio.run(guard.acall(work))
    assert requests == [0]
    asyncio.run(guard.acall(work, idempotent=True))
    assert requests == [0, 0, 1]


def test_where_somebody_further_out_retries_there_is_one_attempt(run: Call) -> None:
    outer, inner = Guard(policy(), "outer"), Guard(policy(), "inner")
    work = Flaky(*[DOWN] * 20)
    with retrying(), pytest.raises(LMError):
        run(inner, work, idempotent=True)
    assert len(work.attempts) == 1
    work = Flaky(*[DOWN] * 20)
    with pytest.raises(LMError):
        run(outer, lambda attempt: inner.call(work, idempotent=True), idempotent=True)
    assert len(work.attempts) == 3


def test_one_loop_in_the_whole_path_also_through_threads() -> None:
    outer, inner = Guard(policy(), "outer"), Guard(policy(), "inner")
    work = Flaky(*[DOWN] * 20)

    async def through(attempt: Attempt) -> Any:
        return await asyncio.to_thread(inner.call, work, idempotent=True)

    with pytest.raises(LMError):
        asyncio.run(outer.acall(through, idempotent=True))
    assert len(work.attempts) == 3
    assert not is_retrying()


def test_each_attempt_asks_the_breaker_and_one_that_opened_ends_the_retries(run: Call) -> None:
    guard = Guard(policy(breaker=BreakerSettings(window=2, minimum=2, cool_down=60, longest=60)), "t")
    work = Flaky(*[DOWN] * 9)
    with pytest.raises(LMError, match="down"):
        run(guard, work, idempotent=True)
    # The second failure opened it; a third attempt would only have been refused.
    assert len(work.attempts) == 2
    with pytest.raises(CircuitOpen):
        run(guard, work, idempotent=True)
    assert len(work.attempts) == 2


def test_a_retry_whose_wait_outlasts_the_cool_down_is_made(run: Call) -> None:
    guard = Guard(policy(breaker=BreakerSettings(window=1, minimum=1, cool_down=0.0)), "t")
    assert run(guard, Flaky(DOWN, DOWN), idempotent=True) == "done"


def test_who_is_patient_waits_for_an_open_circuit(run: Call) -> None:
    guard = Guard(policy(breaker=BreakerSettings(window=1, minimum=1, cool_down=0.02), patience=60.0), "t")
    work = Flaky(DOWN)
    began = time.monotonic()
    assert run(guard, work, idempotent=True) == "done"
    assert time.monotonic() - began >= 0.02
    assert guard.breaker is not None
    guard.breaker.open("test", seconds=0.02)
    assert run(guard, work) == "done"


@pytest.mark.parametrize("seconds", [100.0, None])
def test_patience_ends_before_the_deadline(run: Call, seconds: float | None) -> None:
    guard = Guard(policy(breaker=BreakerSettings(), patience=1_000.0), "t")
    assert guard.breaker is not None
    guard.breaker.open("test", seconds=seconds)
    work = Flaky()
    with pytest.raises(CircuitOpen):
        run(guard, work, deadline=time.monotonic() + 50.0, idempotent=True)
    assert work.attempts == []


def test_a_retry_does_not_wait_for_a_circuit_beyond_the_deadline(run: Call) -> None:
    guard = Guard(policy(breaker=BreakerSettings(window=1, minimum=1, cool_down=100.0, longest=100.0), patience=1_000.0), "t")
    with pytest.raises(LMError, match="down"):
        run(guard, Flaky(DOWN), deadline=time.monotonic() + 50.0, idempotent=True)


def test_who_would_be_refused_does_not_stand_in_the_queue(run: Call) -> None:
    guard = Guard(policy(breaker=BreakerSettings(), bulkhead=BulkheadSettings(limit=1, queue=0)), "t")
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    guard.breaker.open("test")
    with guard.bulkhead.slot(), pytest.raises(CircuitOpen):
        run(guard, Flaky())
    assert guard.bulkhead.status().rejected == 0


def test_a_circuit_that_opens_while_a_call_waits_refuses_it_and_takes_no_place() -> None:
    guard = Guard(policy(breaker=BreakerSettings(), bulkhead=BulkheadSettings(limit=1)), "t")
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    held = guard.bulkhead.acquire()
    caught: list[BaseException] = []

    def work() -> None:
        try:
            guard.call(Flaky())
        except CircuitOpen as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not guard.bulkhead.status().waiting:
        time.sleep(0.0005)
    guard.breaker.open("test")
    held.succeeded()
    thread.join()
    assert len(caught) == 1
    assert guard.bulkhead.status().in_use == 0


def test_a_full_bulkhead_says_nothing_about_the_target(run: Call) -> None:
    guard = Guard(policy(breaker=BreakerSettings(), bulkhead=BulkheadSettings(limit=1, queue=0)), "t")
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    with guard.bulkhead.slot(), pytest.raises(BulkheadFull):
        run(guard, Flaky(), idempotent=True)
    assert guard.breaker.status().calls == 0


def test_waits_between_attempts_hold_no_place(run: Call) -> None:
    guard = Guard(policy(bulkhead=BulkheadSettings(limit=1, adaptive=False)), "t")
    assert guard.bulkhead is not None
    free: list[bool] = []
    guard._told = lambda change: free.append(guard.bulkhead.has_room()) if change.event == "retry" else None  # type: ignore[union-attr]
    assert run(guard, Flaky(DOWN), idempotent=True) == "done"
    assert free == [True]


def test_a_rate_limit_is_the_bulkheads_matter_and_not_the_breakers(run: Call) -> None:
    guard = Guard(Policy(retry=None, bulkhead=BulkheadSettings(limit=4, decrease=0.5)), "t")
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    with pytest.raises(LMError):
        run(guard, Flaky(LMError("slow down", status=429)))
    assert (guard.bulkhead.status().limit, guard.breaker.status().calls) == (2, 0)


def test_a_pickled_guard_has_fresh_parts() -> None:
    guard = Guard(Policy(hedge=Hedge()), "a/b", "a", told=lambda change: None)
    assert guard.breaker is not None
    guard.breaker.open("test")
    again = pickle.loads(pickle.dumps(guard))  # noqa: S301
    assert (again.policy, again.target, again.provider) == (guard.policy, "a/b", "a")
    assert again.breaker.state == "closed"


@pytest.mark.parametrize(
    "wrong",
    [{"retry": 3}, {"breaker": True}, {"bulkhead": 16}, {"hedge": 0.5}, {"timeout": 0}, {"timeout": "1"}, {"patience": -1}],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Policy(**wrong)
