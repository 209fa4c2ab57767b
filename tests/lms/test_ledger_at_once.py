"""A ledger that many use at once: who waits, and that no limit is crossed and no money lost."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from typing import Any

import pytest
from budget_helpers import PRICE, call, used
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from dspex_lab.errors import BudgetExceeded
from dspex_lab.lms.budget import Budget, Ledger, Spent

# --- waiting --------------------------------------------------------------------------------------------------------


def test_one_may_wait_for_calls_under_way() -> None:
    ledger = Ledger("200 tokens")
    first = ledger.reserve(call())
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(ledger.reserve(call(), wait=60)))
    waiter.start()
    first.settle(used(25, 25))
    waiter.join(60)
    assert got[0].open
    assert ledger.snapshot().held.tokens == 150


def test_nobody_waits_for_what_can_not_come() -> None:
    ledger = Ledger("100 tokens")
    with pytest.raises(BudgetExceeded):
        ledger.reserve(call(), wait=math.inf)
    with pytest.raises(BudgetExceeded):
        asyncio.run(ledger.areserve(call(), wait=math.inf))


def test_waiting_ends_with_a_refusal() -> None:
    ledger = Ledger("200 tokens")
    ledger.reserve(call())
    with pytest.raises(BudgetExceeded, match="Wait for the calls under way"):
        ledger.reserve(call(), wait=0.01)
    with pytest.raises(BudgetExceeded, match="Wait for the calls under way"):
        asyncio.run(ledger.areserve(call(), wait=0.01))
    assert ledger._shared.wake == []


def test_an_async_wait_ends_when_a_call_does_and_leaves_the_loop_free() -> None:
    ledger = Ledger("200 tokens")

    async def both() -> None:
        first = await ledger.areserve(call())
        second = asyncio.create_task(ledger.areserve(call(), wait=math.inf))
        await asyncio.sleep(0)  # it now waits
        await asyncio.to_thread(first.settle, used(25, 25))
        assert (await second).open

    asyncio.run(both())


def test_a_cancelled_wait_holds_nothing() -> None:
    ledger = Ledger("200 tokens")

    async def cancelled() -> None:
        ledger.reserve(call())
        task = asyncio.create_task(ledger.areserve(call(), wait=math.inf))
        await asyncio.sleep(0)  # it now waits
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ledger._shared.wake == []

    asyncio.run(cancelled())
    assert ledger.snapshot().under_way == 1


def test_a_loop_that_was_closed_under_a_wait_does_not_disturb_who_settles() -> None:
    ledger = Ledger("200 tokens")
    first = ledger.reserve(call())
    loop = asyncio.new_event_loop()
    wait = loop.create_task(ledger.areserve(call(), wait=math.inf))
    loop.run_until_complete(asyncio.sleep(0))
    assert len(ledger._shared.wake) == 1
    wake = ledger._shared.wake[0]
    wait.cancel()
    loop.run_until_complete(asyncio.gather(wait, return_exceptions=True))
    loop.close()
    ledger._shared.wake.append(wake)
    first.settle(used())
    assert ledger.spent.calls == 1


def test_a_raised_limit_wakes_those_who_wait() -> None:
    ledger = Ledger("200 tokens")

    async def raised() -> None:
        ledger.reserve(call())
        task = asyncio.create_task(ledger.areserve(call(), wait=math.inf))
        await asyncio.sleep(0)  # it now waits
        ledger.budget = Budget(tokens=1000)
        assert (await task).open

    asyncio.run(raised())


# --- many at once ---------------------------------------------------------------------------------------------------


def test_threads_together_never_cross_a_limit_and_lose_no_money() -> None:
    lab = Ledger(Budget(cost=0.05, tokens=40_000, calls=300), "this Lab")
    runs = [Ledger(Budget(calls=60), f"run {i}", outer=lab) for i in range(8)]
    booked, crossed = [Spent()] * 8, []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        chance, total = random.Random(number), Spent()
        start.wait()
        for _ in range(120):
            try:
                hold = runs[number].reserve(call(chance.randrange(1, 200), chance.randrange(1, 200)))
            except BudgetExceeded:
                continue
            now = lab.snapshot()
            if now.spent.cost + now.held.cost > 0.05 + 1e-12 or now.spent.tokens + now.held.tokens > 40_000:
                crossed.append(now)
            if chance.random() < 0.2:
                hold.release()
                continue
            sent, answered = (chance.randint(0, most) for most in (hold.what.prompt_tokens, hold.what.completion_tokens))
            hold.settle(used(sent, answered))
            total = Spent(total.cost + PRICE.of(sent, answered), total.tokens + sent + answered, total.calls + 1)
        booked[number] = total

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not crossed
    spent = lab.spent
    assert spent.tokens == sum(total.tokens for total in booked) <= 40_000
    assert spent.calls == sum(total.calls for total in booked) <= 300
    assert math.isclose(spent.cost, sum(total.cost for total in booked))
    assert spent.cost <= 0.05
    assert lab.snapshot().held == Spent()
    assert lab.snapshot().refused + sum(run.snapshot().refused for run in runs) > 0


class Accounts(RuleBasedStateMachine):
    """A Lab with two runs, against sums kept by hand: nothing crosses while calls are bounded, nothing is lost."""

    holds = Bundle("holds")

    @initialize(cost=st.integers(0, 5000), tokens=st.integers(0, 3000), calls=st.none() | st.integers(0, 12))
    def open(self, cost: int, tokens: int, calls: int | None) -> None:
        self.limits = {"lab": (cost, None, calls), "a": (None, tokens, None), "b": (cost // 2, tokens // 2, 4)}
        self.ledgers: dict[str, Ledger] = {}
        for name, (micro, most, number) in self.limits.items():
            limit = Budget(None if micro is None else micro / 1_000_000, most, number)
            self.ledgers[name] = Ledger(limit, name, outer=self.ledgers.get("lab"))
        self.spent = {name: [0, 0, 0] for name in self.limits}
        self.held = {name: [0, 0, 0] for name in self.limits}
        self.over = False

    def _add(self, to: dict[str, list[int]], run: str, amount: tuple[int, int, int], sign: int = 1) -> None:
        for name in {"lab", run}:
            to[name] = [mine + sign * theirs for mine, theirs in zip(to[name], amount, strict=True)]

    @rule(target=holds, run=st.sampled_from(["a", "b", "lab"]), prompt=st.integers(0, 900), answer=st.integers(0, 300))
    def reserve(self, run: str, prompt: int, answer: int) -> Any:
        need = (prompt + 2 * answer, prompt + answer, 1)
        fits = all(
            limit is None or not asked or self.spent[name][at] + self.held[name][at] + asked <= limit
            for name in {"lab", run}
            for at, (limit, asked) in enumerate(zip(self.limits[name], need, strict=True))
        )
        try:
            hold = self.ledgers[run].reserve(call(prompt, answer))
        except BudgetExceeded:
            assert not fits
            return None
        assert fits
        self._add(self.held, run, need)
        return run, hold, need

    @rule(entry=consumes(holds), part=st.fractions(0, 1), twice=st.booleans())
    def settle(self, entry: Any, part: Any, twice: bool) -> None:
        if entry is None:
            return
        run, hold, need = entry
        prompt, answer = int(hold.what.prompt_tokens * part), int(hold.what.completion_tokens * part)
        for _ in range(1 + twice):
            hold.settle(used(prompt, answer))
        self._add(self.held, run, need, -1)
        self._add(self.spent, run, (prompt + 2 * answer, prompt + answer, 1))

    @rule(entry=consumes(holds), more=st.integers(1, 500))
    def settle_for_more(self, entry: Any, more: int) -> None:
        if entry is None:
            return
        run, hold, need = entry
        prompt, answer = hold.what.prompt_tokens + more, hold.what.completion_tokens
        hold.settle(used(prompt, answer))
        self._add(self.held, run, need, -1)
        self._add(self.spent, run, (prompt + 2 * answer, prompt + answer, 1))
        self.over = True

    @rule(entry=consumes(holds))
    def release(self, entry: Any) -> None:
        if entry is None:
            return
        run, hold, need = entry
        hold.release()
        self._add(self.held, run, need, -1)

    @rule(run=st.sampled_from(["a", "b"]), part=st.fractions(0, 1))
    def errand(self, run: str, part: Any) -> None:
        loan = self.ledgers[run].lend()
        micro = 0 if loan.data["cost"] is None else int(round(loan.data["cost"] * 1_000_000) * part)
        loan.settle(Spent(micro / 1_000_000, 0, 0))
        self._add(self.spent, run, (micro, 0, 0))

    @invariant()
    def is_as_kept_by_hand(self) -> None:
        for name, ledger in getattr(self, "ledgers", {}).items():
            now = ledger.snapshot()
            assert [round(now.spent.cost * 1_000_000), now.spent.tokens, now.spent.calls] == self.spent[name]
            assert [round(now.held.cost * 1_000_000), now.held.tokens, now.held.calls] == self.held[name]
            if not self.over:
                for limit, spent, held in zip(self.limits[name], self.spent[name], self.held[name], strict=True):
                    assert limit is None or spent + held <= limit


Accounts.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


TestAccounts = Accounts.TestCase
