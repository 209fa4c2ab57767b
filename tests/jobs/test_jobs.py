"""The life of a job, in a thread of the kernel and on a worker."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from job_works import WHERE, Count, Pieces, Until, gate, teardown_module

from dspex_lab.errors import ConfigurationError, JobError, LMError, PoolError
from dspex_lab.events import Event
from dspex_lab.jobs import Jobs, Reporter, Rules, Work
from dspex_lab.testing import FakePool

__all__ = ["teardown_module"]

# ---- what a job is and tells ---------------------------------------------------------------------------------------


@WHERE
def test_a_job_does_its_work_and_tells_of_it(place: Any, jobs: Jobs, pool: str | None) -> None:
    job = jobs.start(Count(4), name="to four", pool=pool, seed=7, settings={"n": 4})
    assert job.result(60) == 4
    assert (job.state, job.kind, job.name, job.number) == ("complete", "count", "to four", 1)
    assert [t.score for t in job.trials] == [1.0, 2.0, 3.0, 4.0]
    assert [t.parent for t in job.trials] == [None, 0, 1, 2]
    assert [t.number for t in job.lineage.ancestry(3)] == [0, 1, 2, 3]
    progress = job.progress
    assert (progress.done, progress.total, progress.best, progress.eta, progress.repeated) == (4, 4, 4.0, 0.0, 0)
    assert progress.left.iterations == 0
    assert job.settings["seed"] == 7
    assert job.settings["settings"] == {"n": 4}
    assert job.error is None
    names = [event.name for event in job.events()]
    assert names[0] == "job.start"
    assert names[-1] == "job.stop"
    assert names.count("job.trial") == 4
    assert [t.job_id for t in place.trials()] == [job.id] * 4
    assert {(e.data or {})["job_id"] for e in place.events()} == {job.id}
    last = place.events()[-1].data
    assert last is not None
    assert (last["kind"], last["name"], last["number"], last["state"]) == ("count", "to four", 1, "complete")


@WHERE
def test_events_are_followed_while_they_come_and_from_where_one_left_off(jobs: Jobs, until: Until, pool: str | None) -> None:
    name = f"follow-{pool}"
    job = jobs.start(Count(3, wait_before=1, gate=name), pool=pool)
    until(job, "job.progress", note="at the gate")
    seen: list[Event] = []
    follower = threading.Thread(target=lambda: seen.extend(job.events()), daemon=True)
    follower.start()
    gate(name).set()
    follower.join(60)
    numbers = [(event.data or {})["seq"] for event in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-1].name == "job.stop"
    middle = numbers[len(numbers) // 2]
    assert [(e.data or {})["seq"] for e in job.events(since=middle)] == [n for n in numbers if n > middle]


def test_a_job_can_be_awaited_and_followed_on_a_loop(jobs: Jobs) -> None:
    async def both() -> tuple[Any, list[str]]:
        job = jobs.start(Count(2, wait_before=1, gate="await"))
        following = asyncio.ensure_future(_names(job))
        await asyncio.sleep(0)
        gate("await").set()
        return await job, await following

    found, names = asyncio.run(both())
    assert found == 2
    assert names[-1] == "job.stop"


async def _names(job: Any) -> list[str]:
    return [event.name async for event in job.aevents()]


def test_a_follower_on_a_loop_may_leave(jobs: Jobs) -> None:
    job = jobs.start(Count(2, wait_before=1, gate="leave"))

    async def leave() -> None:
        following = asyncio.ensure_future(_names(job))
        await asyncio.sleep(0.01)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(leave())
    asyncio.run(_start_and_forget(job))
    gate("leave").set()
    assert job.result(60) == 2


async def _start_and_forget(job: Any) -> None:
    """A loop that is closed under a follower: nobody is woken there any more."""
    asyncio.get_running_loop().create_task(_names(job))
    await asyncio.sleep(0.01)


def test_of_progress_only_the_newest_is_replayed(jobs: Jobs) -> None:
    job = jobs.start(Chatty())
    job.wait(60)
    told = [event for event in job.events() if event.name == "job.progress"]
    assert [(e.data or {})["done"] for e in told] == [500]


@dataclass(frozen=True)
class Chatty(Work):
    kind: str = "chatty"

    def run(self, reporter: Reporter) -> str:
        for at in range(501):
            reporter.progress(at, 500)
        return "done"


def test_a_wait_that_is_too_long_ends(jobs: Jobs) -> None:
    job = jobs.start(Count(2, wait_before=1, gate="long"))
    with pytest.raises(TimeoutError, match=r"job 1 \(count 'count'\) is running after 0.01 s"):
        job.result(0.01)
    gate("long").set()
    assert job.wait(60) is job


# ---- several at once -----------------------------------------------------------------------------------------------


def test_so_many_are_under_way_and_the_others_wait_their_turn(place: Any, until: Until) -> None:
    jobs = place.jobs(limit=2)
    names = ["turn-0", "turn-1", "turn-2", "turn-3"]
    made = [jobs.start(Count(2, wait_before=1, gate=name), name=name) for name in names]
    for job in made[:2]:
        until(job, "job.progress", note="at the gate")
    assert [job.state for job in made] == ["running", "running", "waiting", "waiting"]
    with pytest.raises(JobError, match="starts by itself"):
        made[2].resume()
    made[2].stop(wait=True)
    with pytest.raises(JobError, match="before it had found anything"):
        made[2].result()
    gate("turn-1").set()
    until(made[3], "job.progress", note="at the gate")
    assert made[0].state == "running"
    for name in names:
        gate(name).set()
    assert [made[0].result(60), made[1].result(60), made[3].result(60)] == [2, 2, 2]


def test_jobs_are_found_by_id_number_and_name(jobs: Jobs) -> None:
    first, second = jobs.start(Count(1), name="same"), jobs.start(Count(1), name="same")
    assert jobs[first.id] is first
    assert jobs.get("1") is first
    assert jobs.get(2) is second
    assert jobs.get("same") is second
    assert jobs.get(first) is first
    assert [job.number for job in jobs.list(limit=1)] == [2]
    with pytest.raises(JobError, match=r"There is no job 'sane'. Did you mean 'same'\?.*There are: 2 \(same\), 1 \(same\)"):
        jobs.get("sane")
    for each in jobs:
        each.wait(60)


def test_an_empty_list_says_how_a_job_is_started(jobs: Jobs) -> None:
    assert "lab.optimize" in repr(jobs)
    with pytest.raises(JobError, match="None was started"):
        jobs.get(1)


def test_who_is_told_may_look_at_all_jobs_and_stop_some(place: Any) -> None:
    """Two jobs tell at once, and their listener asks both: nobody waits for the other."""
    made: list[Any] = []
    order: dict[str, list[int]] = {}

    def nosy(record: Any) -> None:
        place.books[-1].write(record)
        if isinstance(record, Event):
            order.setdefault((record.data or {})["job_id"], []).append((record.data or {})["seq"])
        for job in list(made):
            assert job.progress.done >= 0
            assert job.trials is not None
        if made:
            assert len(jobs.list()) <= 2
        if isinstance(record, Event) and (record.data or {}).get("done") == 150:
            jobs.stop((record.data or {})["job_id"])

    jobs = place.jobs(emit=nosy)
    # What a job says may be told by the other one, and late: it waits for its stop.
    made.extend(jobs.start(Count(300, wait_before=200, gate="stopped by who is told")) for _ in range(2))
    for job in made:
        assert job.wait(60).state == "stopped"
    place.settle()
    for seen in order.values():
        assert seen == sorted(seen), "in the order in which it happened"


def test_what_another_lab_did_is_seen(place: Any) -> None:
    mine = place.jobs()
    job = mine.start(Count(5, fails_at=2))
    job.wait(60)
    place.jobs().get(job.id).resume(work=Count(5)).wait(60)
    assert job.state == "failed"
    assert mine.get(job.id) is job
    assert (job.state, job.progress.done) == ("complete", 5)


# ---- budgets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "word"), [(0, "money"), ("0 calls", "calls"), ({"tokens": 0}, "tokens")])
def test_a_budget_of_nothing_is_refused_by_name(jobs: Jobs, budget: Any, word: str) -> None:
    with pytest.raises(ConfigurationError, match=f"budget of {word} is 0"):
        jobs.start(Count(), budget=budget)
    assert len(jobs) == 0


def test_a_plan_beyond_the_budget_is_told_beforehand(jobs: Jobs) -> None:
    job = jobs.start(Count(5), budget="3 calls")
    assert job.settings["notes"] == ["It may take about 5 calls, of 3 that it may spend: it stops there, with its best so far."]
    assert job.result(60) == 5  # it made none


def test_what_a_result_is_adopted_by(place: Any) -> None:
    class Shelf:
        def __init__(self) -> None:
            self.used: list[Any] = ["first"]

        def adopt(self, job_id: str, result: Any) -> Any:
            self.used.append(result)
            return {"before": self.used[-2]}

        def rollback(self, job_id: str, receipt: Any) -> None:
            self.used.append(receipt["before"])

    adopter = Shelf()
    jobs = place.jobs(adopter=adopter)
    job = jobs.start(Count(3))
    job.wait(60)
    with pytest.raises(JobError, match="was not adopted"):
        job.rollback()
    assert job.adopt() is job
    assert adopter.used == ["first", 3]
    # Also after a restart.
    place.jobs(adopter=adopter).get(job.id).rollback()
    assert adopter.used == ["first", 3, "first"]
    assert [(e.data or {})["adopted"] for e in place.events("job.adopt")] == [True, False]


def test_what_cannot_be_adopted_says_why(place: Any, until: Until) -> None:
    jobs = place.jobs()
    job = jobs.start(Count(3, wait_before=1, gate="adopt"))
    with pytest.raises(JobError, match="cannot be adopted yet"):
        job.adopt()
    gate("adopt").set()
    job.wait(60)
    with pytest.raises(JobError, match="nothing here takes results"):
        job.adopt()


# ---- pieces --------------------------------------------------------------------------------------------------------


@WHERE
def test_pieces_of_a_work_are_done_elsewhere(place: Any, jobs: Jobs, pool: str | None) -> None:
    job = jobs.start(Pieces(6), pool=pool, rules=Rules(concurrency=3))
    found, heard, workers = job.result(60)
    assert found == [0, 1, 4, 9, 16, 25]
    assert heard == [0, 1, 2, 3, 4, 5]
    assert workers == (2 if pool else 3)
    assert len(place.pool.calls) == (6 if pool else 0)


@WHERE
def test_a_piece_that_raises_is_the_works_to_judge(jobs: Jobs, pool: str | None) -> None:
    with pytest.raises(JobError, match="no square of 3"):
        jobs.start(Pieces(6, bad=3), pool=pool).result(60)


def test_a_work_that_runs_whole_has_no_pieces(jobs: Jobs) -> None:
    with pytest.raises(JobError, match="runs whole on one worker"):
        jobs.start(Pieces(2, spread=False), pool="optimizer").result(60)


# ---- what a work says wrongly --------------------------------------------------------------------------------------


def test_a_trial_has_only_its_fields(jobs: Jobs) -> None:
    @dataclass(frozen=True)
    class Typo(Work):
        kind: str = "typo"

        def run(self, reporter: Reporter) -> None:
            reporter.trial(1.0, vlaues={})

    with pytest.raises(JobError, match=r"A trial has no field 'vlaues'. Did you mean 'values'\?"):
        jobs.start(Typo()).result(60)


def test_a_model_that_cannot_travel_is_found_before_the_start(jobs: Jobs) -> None:
    class Bound:
        def entered(self, *_: Any) -> Any: ...

        def price(self, *_: Any) -> None: ...

        def away(self) -> Any:
            raise LMError("its key stands in no environment variable")

    with pytest.raises(LMError, match="stands in no environment variable"):
        jobs.start(Count(), pool="optimizer", surroundings=Bound())
    assert len(jobs) == 0


def test_a_pool_that_cannot_be_started_fails_the_job(place: Any) -> None:
    broken = FakePool("optimizer", failures=[PoolError("no room")])
    job = place.jobs(pool=lambda name: broken).start(Count(), pool="optimizer")
    with pytest.raises(JobError, match="no room"):
        job.result(60)


def test_a_book_that_cannot_be_written_does_not_keep_people_waiting(place: Any, until: Until) -> None:
    jobs = place.jobs()
    job = jobs.start(Count(3, wait_before=1, gate="full"))
    until(job, "job.progress", note="at the gate")

    def full(*_: Any) -> bool:
        raise OSError("no space left on device")

    place.books[0].save = full
    gate("full").set()
    job.wait(60)
    assert jobs._last[job.id].value == 3
    del place.books[0].save
