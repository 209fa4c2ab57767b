"""All that stands around one piece of work: the order, one retry loop, and what each part sees of the others."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dspex_lab.errors import BulkheadFull, CircuitOpen, ConfigurationError, LMError, PipelineError
from dspex_lab.resilience import (
    Attempt,
    BreakerSettings,
    BulkheadSettings,
    Change,
    Guard,
    Hedge,
    Policy,
    Retry,
    is_retrying,
    retrying,
)

AT_ONCE = Retry(attempts=3, wait=0.0, jitter=0.0)
DOWN = LMError("down", status=503)
Call = Callable[..., Any]


def acall(guard: Guard, work: Callable[[Attempt], Any], **options: Any) -> Any:
    async def awaited(attempt: Attempt) -> Any:
        return work(attempt)

    return asyncio.run(guard.acall(awaited, **options))


def call(guard: Guard, work: Callable[[Attempt], Any], **options: Any) -> Any:
    return guard.call(work, **options)


@pytest.fixture(params=[call, acall], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Call:
    """Both twins keep every promise."""
    return request.param


class Flaky:
    """Fails with each of ``errors`` in turn, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.attempts: list[Attempt] = []

    def __call__(self, attempt: Attempt) -> str:
        self.attempts.append(attempt)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def policy(**parts: Any) -> Policy:
    return Policy(**{"retry": AT_ONCE, "breaker": None, "bulkhead": None, **parts})


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


def test_an_attempt_without_an_answer_ends_and_counts_against_the_target() -> None:
    guard = Guard(policy(breaker=BreakerSettings(), timeout=0.01, retry=Retry(attempts=2, wait=0.0, jitter=0.0)), "a/b")
    attempts: list[Attempt] = []

    async def hang(attempt: Attempt) -> None:
        attempts.append(attempt)
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"'a/b' did not answer within 0\.01 s"):
        asyncio.run(guard.acall(hang, idempotent=True))
    assert [attempt.number for attempt in attempts] == [1, 2]
    assert guard.breaker is not None
    assert guard.breaker.status().failures == 2


def test_an_attempt_ends_at_the_deadline() -> None:
    guard = Guard(policy(timeout=3_600.0), "t")
    deadline = time.monotonic() + 0.01

    async def hang(attempt: Attempt) -> None:
        assert attempt.deadline == deadline
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(guard.acall(hang, deadline=deadline, idempotent=True))


def test_a_timeout_of_the_work_itself_is_left_as_it_is() -> None:
    guard = Guard(policy(timeout=3_600.0, retry=None), "t")

    async def own(attempt: Attempt) -> None:
        raise TimeoutError("own")

    with pytest.raises(TimeoutError, match="own"):
        asyncio.run(guard.acall(own))


def test_work_is_told_of_the_sooner_limit(run: Call) -> None:
    work, now = Flaky(), time.monotonic()
    run(Guard(policy(timeout=100.0), "t"), work, deadline=now + 1_000)
    run(Guard(policy(timeout=1_000.0), "t"), work, deadline=now + 100)
    run(Guard(policy(), "t"), work, deadline=now + 100)
    run(Guard(policy(timeout=100.0), "t"), work)
    limits = [attempt.deadline for attempt in work.attempts]
    assert limits[1] == limits[2] == now + 100
    assert all(limit is not None and now + 100 <= limit < now + 200 for limit in limits)


@pytest.mark.parametrize("idempotent", [True, False])
def test_after_the_deadline_nothing_begins_and_nothing_is_kept(run: Call, idempotent: bool) -> None:
    guard = Guard(policy(breaker=BreakerSettings()), "t")
    work = Flaky()
    with pytest.raises(PipelineError, match="deadline passed"):
        run(guard, work, deadline=time.monotonic() - 1, idempotent=idempotent)
    assert work.attempts == []
    assert guard.breaker is not None
    assert guard.breaker.status().calls == 0


def test_a_cancelled_call_gives_the_probes_place_and_its_own_back() -> None:
    guard = Guard(Policy(retry=None, breaker=BreakerSettings(window=1, minimum=1, cool_down=0.0)), "t")
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    guard.breaker.open("test", seconds=0)

    async def main() -> None:
        async def hang(attempt: Attempt) -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(guard.acall(hang))
        await asyncio.sleep(0)
        assert guard.breaker is not None
        assert guard.breaker.state == "half_open"
        with pytest.raises(CircuitOpen):
            guard.breaker.admit()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (guard.breaker.state, guard.bulkhead.status().in_use) == ("half_open", 0)
    assert call(guard, Flaky()) == "done"
    assert guard.breaker.state == "closed"


def test_a_late_answer_is_hedged_with_a_permit_and_a_place_of_its_own() -> None:
    told: list[Change] = []
    guard = Guard(Policy(hedge=Hedge(after=0.0, share=1.0)), "t", told=told.append)

    async def main() -> str:
        async def work(attempt: Attempt) -> str:
            if attempt.request == 0:
                await asyncio.Event().wait()
            assert guard.bulkhead is not None
            assert guard.bulkhead.status().in_use == 2
            return f"request {attempt.request}"

        return await guard.acall(work, idempotent=True)

    assert asyncio.run(main()) == "request 1"
    assert [each.event for each in told] == ["hedge.start", "hedge.win"]
    assert guard.breaker is not None
    assert guard.bulkhead is not None
    assert (guard.breaker.status().calls, guard.bulkhead.status().in_use) == (1, 0)


def test_a_late_answer_is_hedged_in_threads_too() -> None:
    guard, release = Guard(Policy(hedge=Hedge(after=0.0, share=1.0)), "t"), threading.Event()

    def work(attempt: Attempt) -> str:
        if attempt.request == 0:
            release.wait()
        return f"request {attempt.request}"

    assert guard.call(work, idempotent=True) == "request 1"
    release.set()
    assert guard.bulkhead is not None
    while guard.bulkhead.status().in_use:
        time.sleep(0.0005)


@pytest.mark.parametrize("obstacle", ["no place", "an open circuit"])
def test_a_hedge_waits_in_no_queue_and_asks_no_ailing_target(obstacle: str) -> None:
    told: list[Change] = []
    guard = Guard(Policy(hedge=Hedge(after=0.0, share=1.0), bulkhead=BulkheadSettings(limit=1)), "t", told=told.append)
    if obstacle == "an open circuit":
        guard = Guard(Policy(hedge=Hedge(after=0.0, share=1.0)), "t", told=told.append)
    requests: list[int] = []

    async def work(attempt: Attempt) -> str:
        requests.append(attempt.request)
        if obstacle == "an open circuit" and guard.breaker is not None:
            guard.breaker.open("meanwhile")
        for _ in range(20):
            await asyncio.sleep(0)
        return "done"

    assert asyncio.run(guard.acall(work, idempotent=True)) == "done"
    assert requests == [0]
    assert "hedge.start" not in [each.event for each in told]


def test_a_place_that_went_away_fails_the_hedge_alone() -> None:
    guard = Guard(policy(hedge=Hedge(after=0.0, share=1.0), bulkhead=BulkheadSettings(limit=1)), "t")
    guard._has_room = lambda: True  # type: ignore[method-assign]

    async def work(attempt: Attempt) -> int:
        for _ in range(20):
            await asyncio.sleep(0)
        return attempt.request

    assert asyncio.run(guard.acall(work, idempotent=True)) == 0


def test_under_load_hedging_goes_and_one_retry_is_left(run: Call) -> None:
    off = {"hedging", "retries"}
    guard = Guard(
        policy(hedge=Hedge(after=0.0, share=1.0), retry=Retry(attempts=5, wait=0.0, jitter=0.0)),
        "t",
        allows=lambda feature: feature not in off,
    )
    work = Flaky(*[DOWN] * 9)
    with pytest.raises(LMError):
        run(guard, work, idempotent=True)
    assert [(attempt.number, attempt.request) for attempt in work.attempts] == [(1, 0), (2, 0)]
    off.discard("retries")
    with pytest.raises(LMError):
        run(guard, work, idempotent=True)
    assert len(work.attempts) == 7


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
