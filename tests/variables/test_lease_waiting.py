"""Waiting for a lease from threads and event loops, the heartbeat, and what is told of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dspex_lab.errors import LeaseError, VariableError
from dspex_lab.events import EVENT_NAMES, Event
from dspex_lab.variables import Space
from dspex_lab.variables._lease import Lease, held_here
from dspex_lab.variables._lease_table import Held
from dspex_lab.variables._leases import Leases
from dspex_lab.variables._protocols import Author, Commit


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk(Leases):
    """Leases of a space that writes nothing, with a clock that stands, and gates where others wait for something to happen."""

    def __init__(self) -> None:
        self.clock, self.events, self.commits = Clock(), [], []  # type: ignore[var-annotated]
        self.renewed, self.asked = threading.Semaphore(0), threading.Semaphore(0)
        self.turn = threading.RLock()
        super().__init__("default", threading.RLock(), self.clock, self.events.append, self.write)

    def write(self, values: Mapping[str, Any], *, expect: Any, author: Author, lease: Lease) -> Commit:
        with self._lock:
            self.check(values, lease.fence)
            self.commits.append((dict(values), expect, author))
            return Commit(len(self.commits), self.clock(), {}, author, lease.fence)

    def renew(self, fence: int) -> Held:
        held = super().renew(fence)
        self.renewed.release()
        return held

    def tend(self) -> None:
        with self.turn:  # who is woken looks only when all has been told that came before
            super().tend()

    def _until_next(self, ticket: Any) -> float | None:
        self.asked.release()
        return super()._until_next(ticket)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.tend()

    def names(self) -> list[tuple[str, str]]:
        return [(event.name, (event.data or {})["owner"]) for event in self.events]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_second_one_waits_and_has_it_when_the_first_is_done(desk: Desk) -> None:
    with ThreadPoolExecutor(1) as pool:
        with desk.take(["a"], owner="gepa") as first:
            second = pool.submit(desk.take, ["a", "b"], owner="optuna")
            assert desk.asked.acquire(timeout=30)
            assert [(s.owner, s.state, s.behind) for s in desk.status()] == [
                ("gepa", "held", ()),
                ("optuna", "waiting", ("gepa",)),
            ]
            desk.clock.now += 2
        lease = second.result(30)
    assert not first.alive
    assert lease.alive
    assert (lease.names, lease.owner, lease.ttl, lease.expires) == (("a", "b"), "optuna", 30.0, desk.clock() + 30)
    assert lease.fence > first.fence
    lease.release()
    lease.release()
    assert desk.names() == [
        ("variable.lease", "gepa"),
        ("variable.release", "gepa"),
        ("variable.lease", "optuna"),
        ("variable.release", "optuna"),
    ]
    assert {event.name for event in desk.events} <= EVENT_NAMES
    taken: Event = desk.events[2]
    assert taken.data == {
        "space": "default", "names": ["a", "b"], "owner": "optuna", "fence": lease.fence, "ttl": 30.0, "waited": 2.0,
    }  # fmt: skip
    assert desk.events[1].data["how"] == "released"


def test_patience_ends_and_the_queue_is_as_before(desk: Desk) -> None:
    held = desk.take(["a"], owner="gepa", ttl=100)
    with pytest.raises(LeaseError, match=r"'optuna' waited 0 s for 'a', which 'gepa' has") as caught:
        desk.take(["a"], owner="optuna", patience=0)
    assert (caught.value.name, caught.value.holder) == ("a", "gepa")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(desk.take, ["a"], owner="optuna", patience=5)
        assert desk.asked.acquire(timeout=30)
        desk.pass_time(5)
        with pytest.raises(LeaseError, match="waited 5 s"):
            waits.result(30)
    assert [status.owner for status in desk.status()] == ["gepa"]
    assert held.alive
    for patience in (-1, float("nan")):
        with pytest.raises(LeaseError, match="Nobody can wait"):
            desk.take(["b"], owner="x", patience=patience)


def test_the_lease_of_a_dead_holder_ends_and_who_waits_has_it(desk: Desk) -> None:
    dead = desk.take(["a"], owner="dead", ttl=10)  # in no block: nobody renews it
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(desk.take, ["a"], owner="next")
        assert desk.asked.acquire(timeout=30)
        desk.pass_time(10)
        lease = waits.result(30)
    assert not dead.alive
    with pytest.raises(LeaseError, match="'next' has it now"):
        dead.commit({"a": 1})
    with pytest.raises(LeaseError, match="expired"):
        dead.renew()
    lease.commit({"a": 2}, expect={"a": 1}, why="better", score=0.5)
    assert desk.commits == [({"a": 2}, {"a": 1}, Author("optimizer", "next", "better", 0.5))]
    assert desk.names()[1] == ("variable.expire", "dead")
    assert desk.events[1].time == 1_000_010.0
    assert "over" in repr(dead)
    assert repr(lease) == f"<Lease {lease.fence} of 'next' on a>"


def test_who_waits_notices_the_end_without_being_told() -> None:
    """By the real clock: nobody else looks at the table."""
    import time

    events: list[Event] = []
    leases = Leases("default", threading.Lock(), time.time, events.append, None)  # type: ignore[arg-type]
    leases.take(["a"], owner="dead", ttl=0.5)
    assert leases.take(["a"], owner="next").owner == "next"
    assert [event.name for event in events] == ["variable.lease", "variable.expire", "variable.lease"]


def test_a_block_renews_its_lease_until_it_ends(desk: Desk) -> None:
    with desk.take(["a"], owner="gepa", ttl=0.03) as lease:
        for _ in range(3):
            desk.clock.now += 0.02
            while desk.renewed.acquire(blocking=False):
                pass  # of before
            assert desk.renewed.acquire(timeout=30)
            assert desk.renewed.acquire(timeout=30)  # one of them was after the clock moved
        assert lease.alive
        with pytest.raises(LeaseError, match="in a block already"):
            lease.__enter__()
        heart = lease._heart
    assert heart is not None
    heart._thread.join(30)
    assert not heart._thread.is_alive()


def test_a_lease_that_was_broken_is_said_to_be_lost_and_its_heart_stops(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dspex_lab"), desk.take(["a", "b"], owner="stuck", ttl=0.03) as lease:
        ended = desk.break_lease("b", "it hangs")
        assert ended.lease.owner == "stuck"
        assert lease._heart is not None
        lease._heart._thread.join(30)
        assert not lease.alive
        with pytest.raises(LeaseError, match="it hangs"):
            lease.commit({"a": 1})
    assert "a lease was lost while its block is open" in caplog.text
    assert [(event.name, event.data["how"], event.data["why"]) for event in desk.events[1:]] == [
        ("variable.release", "broken", "it hangs")
    ]
    with pytest.raises(LeaseError, match="'a' is not leased to anybody"):
        desk.break_lease("a")


class Faint:
    """A grantor that cannot be reached at first."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.reached = False

    def renew(self, fence: int) -> Held:
        self.asked.release()
        if not self.reached:
            raise VariableError("the owner does not answer")
        return Held("gepa", ("a",), fence, 0.0, 0.01, 0.01)

    def release(self, fence: int) -> None:
        self.reached = False

    async def arelease(self, fence: int) -> None:
        raise AssertionError

    def holds(self, held: Held) -> bool:
        return True

    def commit(self, values: Mapping[str, Any], *, expect: Any, author: Author, lease: Lease) -> Commit:
        raise AssertionError


def test_a_heart_tries_again_when_the_owner_cannot_be_reached(caplog: pytest.LogCaptureFixture) -> None:
    faint = Faint()
    with caplog.at_level(logging.WARNING, "dspex_lab"), Lease(faint, Held("gepa", ("a",), 1, 0.0, 0.01, 0.01)):
        assert faint.asked.acquire(timeout=30)
        assert faint.asked.acquire(timeout=30)
        faint.reached = True
        assert faint.asked.acquire(timeout=30)
        assert faint.asked.acquire(timeout=30)
    assert "the lease of 'gepa' could not be renewed, and is tried again" in caplog.text


def test_a_handle_that_nobody_has_any_more_is_not_renewed(desk: Desk) -> None:
    lease = desk.take(["a"], owner="lost", ttl=0.03)
    lease.__enter__()
    assert lease._heart is not None
    thread = lease._heart._thread
    del lease
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    desk.pass_time(1)
    assert desk.status() == ()


def test_an_interrupt_while_waiting_leaves_the_queue_clean(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.take(["a"], owner="gepa", ttl=100)

    def interrupted(ticket: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(desk, "_until_next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        desk.take(["a"], owner="optuna")
    assert [status.owner for status in desk.status()] == ["gepa"]


def test_nested_blocks_of_one_thread_never_wait_whatever_the_owners_are_called(desk: Desk) -> None:
    desk.take(["b"], owner="other")
    with desk.take(["a"], owner="one"):
        assert [held.owner for held in held_here()] == ["one"]
        with pytest.raises(LeaseError, match=r"'two' would have to wait for 'b'.*while 'one' holds 'a'"):
            desk.take(["b"], owner="two")
        with desk.take(["c"], owner="two"):
            assert len(held_here()) == 2
        with ThreadPoolExecutor(1) as pool:  # another thread may wait
            waits = pool.submit(desk.take, ["b"], owner="three", patience=0)
            with pytest.raises(LeaseError, match="waited"):
                waits.result(30)
    assert held_here() == []


def test_leases_of_another_space_count_as_held_too(desk: Desk) -> None:
    other = Desk()
    other.take(["a"], owner="them")
    with desk.take(["a"], owner="me"), pytest.raises(LeaseError, match="who holds a lease does not wait"):
        other.take(["a"], owner="me too")


# ---- event loops ---------------------------------------------------------------------------------------------------


def test_tasks_wait_without_blocking_their_loop_and_have_it_in_their_order(desk: Desk) -> None:
    order: list[str] = []

    async def work(owner: str, ready: asyncio.Event) -> None:
        async with desk.ask(["a"], owner=owner) as lease:
            order.append(owner)
            assert lease.alive
            ready.set()
            await asyncio.sleep(0)

    async def main() -> None:
        first = await desk.ask(["a"], owner="zero")
        events = [asyncio.Event() for _ in range(3)]
        tasks = []
        for number, event in enumerate(events):
            tasks.append(asyncio.create_task(work(f"task{number}", event)))
            await asyncio.sleep(0)
            assert len(desk.status()) == number + 2
        first.release()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert order == ["task0", "task1", "task2"]
    assert desk.status() == ()


def test_a_task_that_is_cancelled_while_it_waits_leaves_the_queue_clean(desk: Desk) -> None:
    async def main() -> None:
        held = await desk.ask(["a"], owner="one")
        waits = asyncio.ensure_future(desk.ask(["a"], owner="two"))
        after = asyncio.ensure_future(desk.ask(["a"], owner="three"))
        await asyncio.sleep(0)
        assert len(desk.status()) == 3
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert [status.owner for status in desk.status()] == ["one", "three"]
        held.release()
        assert (await after).owner == "three"

    asyncio.run(main())


def test_a_task_that_is_cancelled_as_it_gets_the_lease_gives_it_back(desk: Desk) -> None:
    async def main() -> None:
        held = await desk.ask(["a"], owner="one")
        waits = asyncio.ensure_future(desk.ask(["a"], owner="two"))
        await asyncio.sleep(0)
        assert len(desk.status()) == 2
        held.release()  # it is granted, and its task is not yet told
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    asyncio.run(main())
    assert desk.status() == ()
    assert desk.names() == [("variable.lease", "one"), ("variable.release", "one")]  # what nobody had is not told of


def test_a_task_loses_patience_too(desk: Desk) -> None:
    async def main() -> None:
        await desk.ask(["a"], owner="one", ttl=100)
        waits = asyncio.ensure_future(desk.ask(["a"], owner="two", patience=5))
        await asyncio.sleep(0)
        assert len(desk.status()) == 2
        desk.pass_time(6)
        with pytest.raises(LeaseError, match="waited 6 s"):
            await waits

    asyncio.run(main())


def test_who_waited_on_a_loop_that_is_closed_blocks_nobody(desk: Desk) -> None:
    held = desk.take(["a"], owner="one")
    loop = asyncio.new_event_loop()
    waits = loop.create_task(desk._atake(["a"], "gone", 30.0, None))
    loop.run_until_complete(asyncio.sleep(0))
    assert [status.owner for status in desk.status()] == ["one", "gone"]
    loop.close()
    with ThreadPoolExecutor(1) as pool:
        after = pool.submit(desk.take, ["a"], owner="after")
        assert desk.asked.acquire(timeout=30)
        assert desk.asked.acquire(timeout=30)
        held.release()
        assert after.result(30).owner == "after"
    assert [status.owner for status in desk.status()] == ["after"]
    waits._log_destroy_pending = False  # type: ignore[attr-defined] - the loop was closed under it on purpose
    waits.get_coro().close()  # type: ignore[union-attr]


def test_a_lease_that_ends_before_it_is_taken_up_is_said_to_have_ended(desk: Desk) -> None:
    async def main() -> None:
        held = await desk.ask(["a"], owner="one")
        waits = asyncio.ensure_future(desk.ask(["a"], owner="two", ttl=5))
        await asyncio.sleep(0)
        assert len(desk.status()) == 2
        held.release()
        desk.pass_time(6)  # the loop was busy meanwhile
        with pytest.raises(LeaseError, match="A lease of 'two' ended before it was taken up"):
            await waits

    asyncio.run(main())
    assert desk.status() == ()


def test_a_lease_of_another_space_with_the_same_number_and_names_is_none() -> None:
    one, two = (Space(name, clock=lambda: 1.0) for name in ("one", "two"))
    for space in (one, two):
        space.int("k", 0, 9, default=0)
    mine, other = one.lease("k", owner="me"), two.lease("k", owner="me")
    assert mine.fence == other.fence
    for write in (lambda: one.commit({"k": 1}, lease=other), lambda: one.rollback(1, "k", lease=other)):
        with pytest.raises(LeaseError, match="is none of the space 'one'") as caught:
            write()
        assert caught.value.holder == "me"
    assert one.commit({"k": 1}, lease=mine).fence == mine.fence
