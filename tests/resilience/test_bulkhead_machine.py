"""The bulkhead against a list: who is in, who waits in which order, who is refused."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex_lab.errors import BulkheadFull, LMError
from dspex_lab.resilience import Bulkhead, BulkheadSettings, Slot

LIMIT, QUEUE = 2, 3


class BulkheadMachine(RuleBasedStateMachine):
    """Tasks of one loop, which is turned until nothing moves after each step; time is a number."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.loop = asyncio.new_event_loop()
        policy = BulkheadSettings(limit=LIMIT, adaptive=False, queue=QUEUE, longest_pause=1e6)
        self.bulkhead = Bulkhead("p", policy, clock=lambda: self.now)
        self.calls: dict[int, asyncio.Task[Slot]] = {}
        self.inside: list[int] = []
        self.queue: list[int] = []
        self.paused_until = 0.0

    def turn(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))

    def let_in(self) -> None:
        while self.now >= self.paused_until and self.queue and len(self.inside) < LIMIT:
            self.inside.append(self.queue.pop(0))

    @rule()
    def ask(self) -> None:
        number = len(self.calls)
        self.calls[number] = self.loop.create_task(self.bulkhead.aacquire())
        self.turn()
        if not self.queue and len(self.inside) < LIMIT and self.now >= self.paused_until:
            self.inside.append(number)
        elif len(self.queue) < QUEUE:
            self.queue.append(number)
        else:
            assert isinstance(self.calls[number].exception(), BulkheadFull)

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), paused=st.sampled_from([None, None, None, 5.0]))
    def give_back(self, data: Any, paused: float | None) -> None:
        number = data.draw(st.sampled_from(self.inside))
        slot = self.calls[number].result()
        self.inside.remove(number)
        if paused is None:
            slot.succeeded()
            slot.succeeded()
        else:
            error = LMError("later", status=429)
            error.retry_after = paused  # type: ignore[attr-defined]
            slot.failed(error)
            self.paused_until = max(self.paused_until, self.now + paused)
        self.let_in()
        self.turn()

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        number = data.draw(st.sampled_from(self.queue))
        self.calls[number].cancel()
        self.queue.remove(number)
        self.turn()
        assert self.calls[number].cancelled()

    @precondition(lambda self: self.queue and self.inside)
    @rule()
    def cancel_with_the_place_in_hand(self) -> None:
        self.calls[self.inside.pop(0)].result().released()
        granted = self.now >= self.paused_until
        first = self.queue.pop(0)
        self.calls[first].cancel()
        if granted:
            self.let_in()
        self.turn()
        assert self.calls[first].cancelled()

    @rule(seconds=st.sampled_from([1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        # What a timer would do at the end of the pause: each waiter looks again.
        for waiter in list(self.bulkhead._queue):
            waiter.wake()
        self.let_in()
        self.turn()

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "calls"):
            return
        status = self.bulkhead.status()
        assert (status.in_use, status.waiting) == (len(self.inside), len(self.queue))
        assert all(self.calls[number].done() and not self.calls[number].cancelled() for number in self.inside)
        assert not any(self.calls[number].done() for number in self.queue)

    def teardown(self) -> None:
        if not hasattr(self, "calls"):
            return
        for task in self.calls.values():
            task.cancel()
        for task in self.calls.values():
            self.loop.run_until_complete(asyncio.wait([task]))
        self.loop.close()
        assert self.bulkhead.status().waiting == 0


BulkheadMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestBulkhead = BulkheadMachine.TestCase
