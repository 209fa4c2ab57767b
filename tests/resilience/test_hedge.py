"""Asking once more: when, how often, who wins, and what becomes of the others. No test waits for time."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hedge_races import ONCE, Race, SyncRace

from dspex_lab.errors import ConfigurationError
from dspex_lab.resilience import Hedge, Hedger, hedged, hedged_sync


def test_an_answer_in_time_is_asked_for_once() -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        race.ends[0].set_result("first")
        assert await task == "first"
        assert (race.started, race.waits, race.told, race.cancelled) == ([0], [0.5], [], [])

    asyncio.run(main())


def test_a_late_answer_is_asked_for_once_more_and_the_first_to_come_wins() -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        await race.is_late()
        assert (race.started, race.waits) == ([0, 1], [0.5, None])
        race.ends[1].set_result("second")
        assert await task == "second"
        assert race.cancelled == [0]
        assert race.events() == [("hedge.start", "a/b", "request 2"), ("hedge.win", "a/b", "request 2")]
        assert (race.told[0].reason, race.told[0].details) == ("no answer after 0.5 s", {"hedge": 1, "after": 0.5})

    asyncio.run(main())


def test_the_first_request_may_still_win() -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        await race.is_late()
        race.ends[0].set_result("first")
        assert await task == "first"
        assert (race.cancelled, race.events()) == ([1], [("hedge.start", "a/b", "request 2")])

    asyncio.run(main())


def test_as_many_as_said_are_sent() -> None:
    async def main() -> None:
        race = Race(Hedge(after=0.5, most=2, share=1.0))
        race.hedger._saved = 5.0
        task = await race.begin()
        await race.is_late()
        await race.is_late()
        assert (race.started, race.waits) == ([0, 1, 2], [0.5, 0.5, None])
        race.ends[2].set_result("third")
        assert await task == "third"
        assert sorted(race.cancelled) == [0, 1]

    asyncio.run(main())


@pytest.mark.parametrize("loser", [0, 1])
def test_the_failure_of_one_does_not_end_the_other(loser: int) -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        await race.is_late()
        race.ends[loser].set_exception(OSError("x"))
        await race.turn()
        assert not task.done()
        race.ends[1 - loser].set_result("answer")
        assert await task == "answer"

    asyncio.run(main())


def test_where_all_fail_the_first_requests_failure_is_raised() -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        await race.is_late()
        race.ends[1].set_exception(OSError("second"))
        await race.turn()
        race.ends[0].set_exception(OSError("first"))
        with pytest.raises(OSError, match="first"):
            await task

    asyncio.run(main())


def test_a_failure_before_the_hedge_is_raised_at_once() -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        race.ends[0].set_exception(OSError("x"))
        with pytest.raises(OSError, match="x"):
            await task
        assert race.started == [0]

    asyncio.run(main())


def test_who_is_cancelled_cancels_all_requests() -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        await race.is_late()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert race.cancelled == [0, 1]

    asyncio.run(main())


def test_a_loser_that_will_not_end_does_not_keep_the_answer() -> None:
    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        release, ended = asyncio.Event(), asyncio.Event()

        async def work(number: int) -> str:
            if number == 1:
                return "second"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await release.wait()
                ended.set()
                raise OSError("not needed any more") from None
            return "never"

        async def wait(tasks: Sequence[asyncio.Future[Any]], seconds: float | None) -> None:
            await asyncio.sleep(0)

        assert await hedged(work, Hedger("t", ONCE), wait=wait) == "second"
        assert not ended.is_set()
        release.set()
        await ended.wait()

    asyncio.run(main())
    gc.collect()
    # Its failure was taken in: asyncio complains of none that nobody looked at.
    assert complaints == []


def test_who_is_asked_may_forbid_the_hedge() -> None:
    async def main() -> None:
        race = Race(ONCE, when=lambda: False)
        task = await race.begin()
        await race.is_late()
        assert (race.started, race.waits) == ([0], [0.5, None])
        race.ends[0].set_result("first")
        assert await task == "first"
        assert race.told == []

    asyncio.run(main())


def test_hedges_are_a_share_of_all_calls() -> None:
    hedger = Hedger("t", Hedge(after=0.0, share=0.1))
    sent = 0
    for calls in range(1, 401):
        after = hedger.begin()
        if after is not None and hedger.spend(1, after):
            sent += 1
        assert sent <= 1 + 0.1 * calls
    assert sent >= 40


def test_hedges_are_not_saved_up_without_end() -> None:
    hedger = Hedger("t", Hedge(after=0.0, share=0.5))
    for _ in range(1_000):
        hedger.begin()
    assert sum(hedger.spend(1, 0.0) for _ in range(100)) == 10


def test_a_budget_that_is_spent_while_the_call_runs_ends_its_hedging() -> None:
    async def main() -> None:
        race = Race(ONCE)
        task = await race.begin()
        race.hedger._saved = 0.0
        await race.is_late()
        assert race.started == [0]
        race.ends[0].set_result("first")
        assert await task == "first"

    asyncio.run(main())


def test_a_quantile_of_what_was_seen_says_when() -> None:
    hedger = Hedger("t", Hedge(after="p95"))
    assert hedger.begin() is None
    for tenths in range(1, 20):
        hedger.seen(tenths / 10)
    assert hedger.begin() is None
    hedger.seen(2.0)
    assert hedger.begin() == 1.9


def test_a_hedge_says_which_quantile_it_waits_for() -> None:
    assert [Hedge(after=each).quantile() for each in ("p95", "p99.9", 0.5)] == [0.95, pytest.approx(0.999), None]


def test_latencies_are_learned_from_answers() -> None:
    now = [0.0]
    hedger = Hedger("t", Hedge(after="p50"), clock=lambda: now[0])

    async def work(number: int) -> str:
        now[0] += 3.0
        return "done"

    async def main() -> None:
        for _ in range(20):
            assert await hedged(work, hedger) == "done"

    asyncio.run(main())
    assert hedger.begin() == 3.0


def test_a_hedger_may_be_pickled_and_is_fresh() -> None:
    hedger = Hedger("t", ONCE, lambda change: None)
    again = pickle.loads(pickle.dumps(hedger))  # noqa: S301
    assert (again.target, again.hedge) == ("t", ONCE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"after": -1},
        {"after": "95"},
        {"after": "p0"},
        {"after": "p100"},
        {"after": "p95 "},
        {"most": 0},
        {"most": 11},
        {"share": 1.5},
        {"share": float("nan")},
    ],
)
def test_a_hedge_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Hedge(**wrong)


def test_in_threads_the_first_answer_wins_and_the_other_is_abandoned() -> None:
    race = SyncRace(late=1)
    race.ends[1].set()
    assert race.run() == 1
    assert [each.event for each in race.told] == ["hedge.start", "hedge.win"]
    assert race.waits == [0.5, None]
    assert race.finished.get() == 1
    # The loser goes on to its end; what it says is dropped.
    race.outcomes[0] = OSError("dropped")
    race.ends[0].set()
    assert race.finished.get() == 0


def test_in_threads_an_answer_in_time_is_asked_for_once() -> None:
    race = SyncRace(late=0)
    race.ends[0].set()
    assert race.run() == 0
    assert (race.started, race.told) == ([0], [])


def test_in_threads_a_failure_does_not_end_the_other() -> None:
    race = SyncRace(late=1)
    race.outcomes[1] = OSError("second")
    race.ends[1].set()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(race.run()))
    thread.start()
    assert race.finished.get() == 1
    race.ends[0].set()
    thread.join()
    assert answers == [0]


def test_in_threads_the_first_failure_is_raised_where_all_fail() -> None:
    race = SyncRace(late=1)
    race.outcomes.update({0: OSError("first"), 1: OSError("second")})
    for end in race.ends.values():
        end.set()
    with pytest.raises(OSError, match="first"):
        race.run()


def test_in_threads_a_forbidden_hedge_is_not_sent() -> None:
    race = SyncRace(late=1)

    def when() -> bool:
        race.ends[0].set()
        return False

    assert race.run(when=when) == 0
    assert race.started == [0]


def test_in_threads_a_call_that_may_not_be_hedged_stays_in_its_thread() -> None:
    seen: list[int] = []
    hedger = Hedger("t", Hedge(after="p95"))
    assert hedged_sync(lambda number: seen.append(threading.get_ident()), hedger) is None
    assert seen == [threading.get_ident()]


def test_in_threads_the_callers_context_is_seen() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    hedger = Hedger("t", Hedge(after=3_600.0))
    assert hedged_sync(lambda number: (variable.get(), threading.current_thread().daemon), hedger) == ("mine", True)
