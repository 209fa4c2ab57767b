"""Who waits: before being packed (any loops and threads), and for a worker (one loop)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pool_links import on_loop, turn

from dspex_lab.errors import PoolError
from dspex_lab.pools import Placement
from dspex_lab.pools._queue import Admission, Seeker, Waiting

# ---- to be let in --------------------------------------------------------------------------------------------------


@on_loop
async def test_so_many_are_let_in_and_the_next_ones_in_their_order() -> None:
    admission, order = Admission(2), []

    async def visit(number: int) -> None:
        await admission.enter(None)
        order.append(number)

    going = [asyncio.ensure_future(visit(n)) for n in range(5)]
    await turn()
    assert (order, admission.waiting) == ([0, 1], 3)
    for _ in range(3):
        admission.leave()
        await turn()
    await asyncio.gather(*going)
    assert (order, admission.waiting) == ([0, 1, 2, 3, 4], 0)


@on_loop
async def test_who_waits_too_long_or_is_cancelled_takes_nobodys_place() -> None:
    admission = Admission(1)
    await admission.enter(None)
    with pytest.raises(TimeoutError):
        await admission.enter(0.005)
    first, second = (asyncio.ensure_future(admission.enter(None)) for _ in range(2))
    await turn()
    admission.leave()
    first.cancel()  # the place is its own already, but it has not woken up yet
    await asyncio.wait({first, second})
    assert first.cancelled()
    assert second.exception() is None
    admission.leave()
    await admission.enter(None)


@on_loop
async def test_a_closed_door_refuses_those_who_wait_and_those_who_come() -> None:
    admission = Admission(1)
    await admission.enter(None)
    waiting = asyncio.ensure_future(admission.enter(None))
    cancelled = asyncio.ensure_future(admission.enter(None))
    await turn()
    cancelled.cancel()
    admission.close(lambda: PoolError("closed"))
    for coming in (waiting, admission.enter(None)):
        with pytest.raises(PoolError, match="closed"):
            await coming
    await asyncio.wait({cancelled})


def test_a_place_for_a_loop_that_is_gone_goes_to_the_next() -> None:
    admission = Admission(1)
    asyncio.run(admission.enter(None))
    loop = asyncio.new_event_loop()
    lost = loop.create_task(admission.enter(None))
    loop.run_until_complete(asyncio.sleep(0))
    lost._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    with ThreadPoolExecutor(1) as threads:
        next_one = threads.submit(lambda: asyncio.run(admission.enter(None)))
        while admission.waiting < 2:
            threading.Event().wait(0.001)
        admission.leave()
        next_one.result()


def test_callers_from_many_threads_are_never_too_many() -> None:
    admission, lock, inside, most = Admission(3), threading.Lock(), [0], [0]

    async def visit() -> None:
        for _ in range(25):
            await admission.enter(None)
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            await asyncio.sleep(0)
            with lock:
                inside[0] -= 1
            admission.leave()

    async def crowd() -> None:
        await asyncio.gather(*(visit() for _ in range(4)))

    with ThreadPoolExecutor(4) as threads:
        for going in [threads.submit(lambda: asyncio.run(crowd())) for _ in range(4)]:
            going.result()
    assert (inside, admission.waiting) == ([0], 0)
    assert 1 < most[0] <= 3


# ---- for a worker --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Post:
    name: str
    threads: int = 1
    busy: int = 0
    calls: int = 0
    reserved: str | None = None
    leaving: bool = False

    @property
    def free(self) -> bool:
        return self.busy < self.threads


def seeker(label: str, taken: list[str], **options: Any) -> Seeker[Any]:
    def take(post: Post) -> None:
        post.busy += 1
        if options.get("alone"):
            post.reserved = label
        taken.append(f"{label}→{post.name}")

    return Seeker(label, take, lambda error: taken.append(f"{label} refused"), **options)


@on_loop
async def test_who_cannot_use_a_free_worker_lets_the_next_one_pass() -> None:
    taken: list[str] = []
    waiting: Waiting[Post] = Waiting()
    posts = [Post("a", busy=1), Post("b")]
    waiting.add(seeker("first", taken, place=Placement("a", "strict-queue")), lambda s: None)
    waiting.add(seeker("second", taken), lambda s: None)
    waiting.add(seeker("third", taken), lambda s: None)
    waiting.feed(posts)
    assert taken == ["second→b"]
    posts[0].busy = 0
    waiting.feed(posts)
    assert taken == ["second→b", "first→a"]
    assert len(waiting) == 1


@on_loop
async def test_time_that_is_up_takes_one_out_and_says_so() -> None:
    expired: list[str] = []
    waiting: Waiting[Post] = Waiting()
    waiting.add(seeker("late", [], deadline=time.monotonic() - 1), lambda s: expired.append(s.label))
    patient = seeker("patient", [], deadline=time.monotonic() + 60)
    waiting.add(patient, lambda s: expired.append(s.label))
    while not expired:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert expired == ["late"]
    assert waiting.remove(patient)
    assert not waiting.remove(patient)


class Queueing(RuleBasedStateMachine):
    """Calls and reservations come and go on two workers of two threads; nobody is lost, nobody is served twice, and whoever can
    be served is."""

    def __init__(self) -> None:
        super().__init__()
        self.posts = [Post("a", 2), Post("b", 2)]
        self.waiting: Waiting[Post] = Waiting()
        self.queue: list[Seeker[Post]] = []
        self.served: list[tuple[Seeker[Post], Post]] = []
        self.number = 0

    def come(self, place: Placement, alone: bool) -> None:
        self.number += 1
        holder: list[Seeker[Post]] = []

        def take(post: Post) -> None:
            assert post.free
            assert not (alone and post.busy)
            assert post.reserved is None
            if alone:
                post.reserved = holder[0].label
            else:
                post.busy += 1
            if holder[0] in self.queue:
                self.queue.remove(holder[0])
            self.served.append((holder[0], post))

        made: Seeker[Post] = Seeker(f"s{self.number}", take, lambda error: None, place, alone=alone)
        holder.append(made)
        if (post := self.waiting.nearest(made, self.posts)) is not None:
            take(post)
        else:
            self.queue.append(made)
            self.waiting.add(made, lambda s: None)

    @rule(place=st.sampled_from([Placement(), Placement("a"), Placement("b", "strict-queue")]), alone=st.booleans())
    def comes(self, place: Placement, alone: bool) -> None:
        self.come(place, alone)

    @rule(data=st.data())
    def is_done(self, data: st.DataObject) -> None:
        if self.served:
            who, post = self.served.pop(data.draw(st.integers(0, len(self.served) - 1)))
            if who.alone:
                post.reserved = None
            else:
                post.busy -= 1
            self.waiting.feed(self.posts)

    @rule(data=st.data())
    def gives_up(self, data: st.DataObject) -> None:
        if self.queue:
            who = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
            assert self.waiting.remove(who)
            self.waiting.feed(self.posts)

    @invariant()
    def all_are_accounted_for(self) -> None:
        assert len(self.waiting) == len(self.queue)

    @invariant()
    def nobody_waits_for_what_is_his(self) -> None:
        if self.queue and not any(s.alone for s in self.queue):
            for who in self.queue:
                assert not [
                    p
                    for p in self.posts
                    if p.free and p.reserved is None and (not who.place.strict or p.name == who.place.worker)
                ]
        for post in self.posts:
            if self.queue and post.busy == 0 and post.reserved is None:
                assert all(who.place.strict and who.place.worker != post.name for who in self.queue[:1])


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_worker_of_several_threads_is_kept_for_who_wants_to_be_alone() -> None:
    taken: list[str] = []
    waiting: Waiting[Post] = Waiting()
    posts = [Post("a", 2, busy=1), Post("b", 2, busy=2)]
    later: Callable[[Any], None] = lambda s: None  # noqa: E731
    waiting.add(seeker("r", taken, alone=True), later)
    assert waiting.nearest(seeker("new", taken), posts) is None
    waiting.add(seeker("new", taken), later)
    waiting.feed(posts)
    assert taken == []
    posts[1].busy = 1
    waiting.feed(posts)
    assert taken == ["new→b"]
    posts[0].busy = 0
    waiting.feed(posts)
    assert taken == ["new→b", "r→a"]
