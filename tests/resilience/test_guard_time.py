"""All that stands around one piece of work, and time: timeouts, deadlines, cancelled calls and hedges."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from clocks import stop_until
from guard_calls import DOWN, Call, Flaky, call, policy, run

from dspex_lab.errors import CircuitOpen, LMError, PipelineError
from dspex_lab.resilience import Attempt, BreakerSettings, BulkheadSettings, Change, Guard, Hedge, Policy, Retry

__all__ = ["run"]


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
    deadline, begun = time.monotonic() + 60, threading.Event()

    async def hang(attempt: Attempt) -> None:
        assert attempt.deadline == deadline
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        stop_until(begun.is_set)
        await guard.acall(hang, deadline=deadline)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


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
