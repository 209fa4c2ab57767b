"""The budget guard: no limit is crossed by calls whose price is bounded, no money is lost, and every refusal says why."""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from dspex_lab.errors import BudgetExceeded, CircuitOpen, ConfigurationError
from dspex_lab.lms.budget import Budget, Estimate, Ledger, Notice, Snapshot, Spent
from dspex_lab.lms.choice._prices import Price

PRICE = Price(1.0, 2.0, "test")  # a millionth of a dollar a token sent, two a token answered


def call(prompt: int = 100, answer: int = 50, **more: Any) -> Estimate:
    more = {"price": PRICE, "cost": PRICE.of(prompt, answer), **more}
    return Estimate("test/model", prompt, answer, **more)


def used(prompt: int = 100, answer: int = 50) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": answer}


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("$2", Budget(cost=2.0)),
        ("2", Budget(cost=2.0)),
        ("0.5 USD", Budget(cost=0.5)),
        (".5$", Budget(cost=0.5)),
        ("50 cents", Budget(cost=0.5)),
        ("$1,500", Budget(cost=1500.0)),
        ("2k$", Budget(cost=2000.0)),
        ("50k tokens", Budget(tokens=50_000)),
        ("1.5M tokens", Budget(tokens=1_500_000)),
        ("50,000 tokens", Budget(tokens=50_000)),
        ("50_000 tok", Budget(tokens=50_000)),
        ("100 calls", Budget(calls=100)),
        ("1 call", Budget(calls=1)),
        ("$2, 50k tokens, 100 calls", Budget(2.0, 50_000, 100)),
        (" 100 calls and $2 ; 5 tokens ", Budget(2.0, 5, 100)),
        ("100 calls $2", Budget(2.0, None, 100)),
    ],
)
def test_a_budget_is_read_from_text(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget
    assert Budget.of(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "  ", "lots", "$", "2 €", "$2, $3", "$2,100 calls", "1.5 calls", "-2", "2 apples", "$2,", "$2 or 3 calls", "1e3"],
)
def test_a_budget_that_cannot_be_read_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"100 calls") as caught:
        Budget.parse(text)
    assert caught.value.key == "budget"
    assert repr(text) in str(caught.value)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.decimals(0, 10**6, places=2))
def test_what_a_budget_says_of_itself_is_read_again(tokens: int, calls: int, cost: Any) -> None:
    budget = Budget(float(cost), tokens, calls)
    assert Budget.parse(str(budget)) == budget


def test_a_budget_is_taken_from_what_people_give() -> None:
    assert Budget.of(None) == Budget()
    assert not Budget.of(None).limited
    assert str(Budget()) == "no limit"
    assert Budget.of(3) == Budget(cost=3)
    assert Budget.of({"calls": 3}) == Budget(calls=3)
    assert Budget.of(Budget(tokens=1)) == Budget(tokens=1)
    assert Budget.of(Budget(tokens=1)).limited
    with pytest.raises(ConfigurationError, match="'money'"):
        Budget.of({"money": 3})


@pytest.mark.parametrize(
    "limits",
    [{"cost": -1}, {"cost": math.nan}, {"cost": math.inf}, {"cost": True}, {"cost": "3"}, {"tokens": 1.5}, {"calls": -1}],
)
def test_a_limit_that_is_none_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Budget(**limits)
    assert caught.value.key in limits


# --- one ledger -------------------------------------------------------------------------------------------------------


def test_the_call_that_would_cross_is_refused_before_it_is_made() -> None:
    ledger = Ledger("$0.0005", "the run 'support'")  # a call costs $0.0002
    for _ in range(2):
        ledger.reserve(call()).settle(used())
    with pytest.raises(BudgetExceeded) as caught:
        ledger.reserve(call())
    assert str(caught.value) == (
        "The budget of the run 'support' does not allow this call of 'test/model': of $0.0005 there is $0.0004 spent, and the "
        "call could take at most $0.0002. Raise the budget, or take a cheaper model."
    )
    assert caught.value.engine == "test/model"
    assert ledger.snapshot().refused == 1
    assert ledger.spent == Spent(0.0004, 300, 2)
    ledger.reserve(call(50, 25)).settle(used(50, 25))  # what fits is allowed, to the last
    assert ledger.spent.cost == 0.0005


def test_calls_under_way_count_and_the_refusal_says_so() -> None:
    ledger = Ledger(Budget(tokens=400), "this Lab")
    holds = [ledger.reserve(call()) for _ in range(2)]
    with pytest.raises(
        BudgetExceeded, match=r"of 400 tokens there are 0 spent and 300 held by 2 calls under way.* at most 150 tokens.* Wait"
    ):
        ledger.reserve(call())
    holds[0].settle(used(10, 10))
    ledger.reserve(call())


def test_calls_are_limited_by_number() -> None:
    ledger = Ledger("1 call", "job 3")
    with ledger.reserve(call()) as hold:
        hold.settle(used())
    with pytest.raises(BudgetExceeded, match=r"job 3 .* of 1 call there are 1 spent, and the call could take 1 call\. Raise"):
        ledger.reserve(call())


def test_an_expected_answer_is_called_so_and_max_tokens_is_advised() -> None:
    ledger = Ledger(Budget(tokens=100))
    with pytest.raises(BudgetExceeded, match=r"could take about 150 tokens.*set max_tokens"):
        ledger.reserve(call(bounded=False))


def test_money_is_counted_exactly() -> None:
    ledger = Ledger(0.3)
    for _ in range(3):  # in floats 0.1 + 0.1 + 0.1 > 0.3
        ledger.reserve(call(cost=0.1, price=None)).settle(used(), cost=0.1)
    assert ledger.spent.cost == 0.3


def test_a_call_that_cost_more_than_was_held_is_booked_in_full_and_the_next_refused() -> None:
    ledger = Ledger(0.001)
    ledger.reserve(call()).settle(used(1000, 1000))
    assert ledger.spent.cost == 0.003
    with pytest.raises(BudgetExceeded):
        ledger.reserve(call(1, 1))


def test_the_reported_cost_goes_before_the_computed_one() -> None:
    ledger = Ledger()
    ledger.reserve(call()).settle(used(), cost=0.5)
    assert ledger.spent == Spent(0.5, 150, 1)


@pytest.mark.parametrize("cost", [math.nan, -1.0, math.inf])
def test_a_reported_cost_that_is_no_sum_is_not_believed(cost: float) -> None:
    ledger = Ledger()
    ledger.reserve(call()).settle(used(), cost=cost)
    assert ledger.spent.cost == 0.0002


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 100}, {"prompt_tokens": -3, "completion_tokens": "many"}])
def test_what_nobody_reports_is_booked_as_estimated_and_said(usage: Any) -> None:
    ledger = Ledger(1.0)
    ledger.reserve(call()).settle(usage)
    assert ledger.spent == Spent(0.0002, 150, 1, assumed=0.0002)
    assert "of it estimated" in str(ledger.snapshot())


def test_settling_and_releasing_twice_changes_nothing() -> None:
    ledger = Ledger(1.0)
    hold = ledger.reserve(call())
    assert hold.open
    hold.settle(used())
    assert not hold.open
    hold.settle(used())
    hold.release()
    assert ledger.spent == Spent(0.0002, 150, 1)
    other = ledger.reserve(call())
    other.release()
    other.release()
    other.settle()
    assert ledger.spent.calls == 1
    assert ledger.snapshot().held == Spent()


def test_an_answer_that_came_after_all_is_booked_though_nothing_is_held_for_it() -> None:
    ledger = Ledger(1.0)
    hold = ledger.reserve(call())
    hold.release()
    hold.settle(used())
    assert ledger.spent.calls == 1
    assert ledger.snapshot().held == Spent()


def test_a_model_without_a_price_is_refused_under_a_limit_in_money_and_the_remedy_said() -> None:
    ledger = Ledger("$1")
    with pytest.raises(BudgetExceeded, match=r"nobody says what 'test/model' costs.*dx\.set_price\('test/model'"):
        ledger.reserve(call(cost=None, price=None))
    free = Ledger("10 calls")
    free.reserve(call(cost=None, price=None)).settle(used())
    assert free.spent == Spent(0.0, 150, 1, unpriced=1)
    assert "1 call without a known price" in str(free.snapshot())


def test_simulated_calls_cost_no_money_but_count() -> None:
    ledger = Ledger("$0, 2 calls")
    for _ in range(2):
        ledger.reserve(call(cost=None, price=None, simulated=True)).settle(used())
    assert ledger.spent == Spent(0.0, 300, 2)
    with pytest.raises(BudgetExceeded, match="2 calls"):
        ledger.reserve(call(simulated=True))


def test_what_is_free_is_allowed_when_all_money_is_spent() -> None:
    ledger = Ledger(0.0002)
    ledger.reserve(call()).settle(used(200, 200))
    ledger.reserve(call(cost=0.0, price=Price(0, 0, "own"))).settle(used())
    assert ledger.spent.calls == 2


def test_a_limit_can_be_raised_while_it_is_in_use() -> None:
    ledger = Ledger("1 call")
    ledger.reserve(call()).settle(used())
    ledger.budget = "2 calls"  # type: ignore[assignment]
    assert ledger.budget == Budget(calls=2)
    ledger.reserve(call()).settle(used())
    with pytest.raises(BudgetExceeded):
        ledger.reserve(call())


# --- failures ---------------------------------------------------------------------------------------------------------


def _failure(name: str) -> BaseException:
    from dspy import lm15
    from dspy._vendor.lm15 import transports

    made: dict[str, BaseException] = {
        "429": lm15.RateLimitError("slow down", status=429),
        "key": lm15.AuthError("no"),
        "http": lm15.ProviderError("?", status=418),
        "open": CircuitOpen("open"),
        "refused": ConnectionRefusedError(),
        "timeout": lm15.TimeoutError("slow"),
        "cancelled": asyncio.CancelledError(),
        "garbled": ValueError("no JSON"),
        "interrupt": KeyboardInterrupt(),
    }
    for kind, cause in (("unconnected", transports.ConnectTimeout("no")), ("reset", transports.ReadError("reset"))):
        made[kind] = lm15.TransportError("broken")
        made[kind].__cause__ = cause
    return made[name]


@pytest.mark.parametrize("name", ["429", "key", "http", "open", "refused", "unconnected"])
def test_a_call_that_was_surely_not_paid_for_gives_all_back(name: str) -> None:
    ledger = Ledger(1.0)
    error = _failure(name)
    with pytest.raises(type(error)), ledger.reserve(call()):
        raise error
    assert ledger.spent == Spent()
    assert ledger.snapshot().under_way == 0


@pytest.mark.parametrize("name", ["timeout", "cancelled", "garbled", "interrupt", "reset"])
def test_a_call_that_may_have_been_paid_for_is_booked_as_estimated(name: str) -> None:
    ledger = Ledger(1.0)
    error = _failure(name)
    with pytest.raises(type(error)), ledger.reserve(call()):
        raise error
    assert ledger.spent == Spent(0.0002, 150, 1, assumed=0.0002)


def test_an_answer_that_broke_off_is_booked_by_the_usage_it_tells() -> None:
    from dspy.lm15 import Message, Response, StreamAssemblyError, Usage

    part = Response(id=None, model="m", message=Message.assistant("half"), finish_reason="stop", usage=Usage(7, 3))
    ledger = Ledger(1.0)
    ledger.reserve(call()).failed(StreamAssemblyError("cut", partial=part))
    assert ledger.spent == Spent(0.000013, 10, 1)


def test_a_block_left_without_a_word_is_booked() -> None:
    ledger = Ledger(1.0)
    with ledger.reserve(call()):
        pass
    assert ledger.spent.assumed == 0.0002


# --- ledgers around ledgers -------------------------------------------------------------------------------------------


def test_the_whole_chain_holds_and_spends_or_nothing_does() -> None:
    lab = Ledger(Budget(cost=0.0003), "this Lab")
    job = Ledger(None, "job 3", outer=lab)
    runs = [Ledger(1.0, f"the run {name}", outer=job) for name in "ab"]
    hold = runs[0].reserve(call())
    assert [ledger.snapshot().held.cost for ledger in (runs[0], job, lab)] == [0.0002] * 3
    with pytest.raises(BudgetExceeded, match="this Lab"):
        runs[1].reserve(call())
    assert runs[1].snapshot().held == Spent()
    assert (runs[1].snapshot().refused, lab.snapshot().refused) == (0, 1)
    hold.settle(used(50, 50))
    assert lab.spent == job.spent == runs[0].spent == Spent(0.00015, 100, 1)
    assert runs[1].spent == Spent()


def test_the_inner_limit_is_named_where_it_is_the_one() -> None:
    run = Ledger("1 call", "the run 'x'", outer=Ledger("100 calls", "this Lab"))
    run.reserve(call())
    with pytest.raises(BudgetExceeded, match="the run 'x'"):
        run.reserve(call())


# --- waiting ----------------------------------------------------------------------------------------------------------


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


# --- telling ----------------------------------------------------------------------------------------------------------


def test_half_four_fifths_and_all_are_told_once_and_refusals_each_time() -> None:
    told: list[Notice] = []
    ledger = Ledger("10 calls", "this Lab", told=told.append)
    run = Ledger(None, "the run 'x'", outer=ledger)
    for _ in range(10):
        run.reserve(call()).settle(used())
    assert [(n.kind, n.limit, n.level) for n in told] == [
        ("level", "calls", 0.5),
        ("level", "calls", 0.8),
        ("level", "calls", 1.0),
    ]
    assert told[0].message.startswith("50% of the calls of this Lab is spent: $0.001, 750 tokens, 5 of 10 calls")
    assert told[0].model == "test/model"
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            run.reserve(call())
    assert [(n.kind, n.limit, n.snapshot.refused) for n in told[3:]] == [("refused", "calls", 1), ("refused", "calls", 2)]


def test_several_levels_at_once_are_told_as_the_highest() -> None:
    told: list[Notice] = []
    ledger = Ledger("1000 tokens", told=told.append)
    ledger.reserve(call(10, 10)).settle(used(900, 0))
    assert [n.level for n in told] == [0.8]


def test_who_is_told_may_ask_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def told(notice: Notice) -> None:
        ledger.reserve(call()).release()  # no lock is held
        raise ValueError("no")

    ledger = Ledger("2 calls", told=told)
    ledger.reserve(call()).settle(used())
    assert "listens to the budget" in caplog.text
    assert ledger.spent.calls == 1


def test_a_snapshot_is_data_and_a_sentence_and_changes_are_seen() -> None:
    ledger = Ledger("$2, 50k tokens, 100 calls", "this Lab")
    before = ledger.changes
    ledger.reserve(call()).settle(used())
    ledger.reserve(call())
    assert ledger.changes > before
    now = ledger.snapshot()
    assert isinstance(now, Snapshot)
    assert str(now) == ("$0.0002 of $2.00, 150 of 50,000 tokens, 1 of 100 calls, $0.0002 held by 1 call under way")
    assert now.fraction == 0.01
    assert now.fractions == {"money": 0.0001, "tokens": 0.003, "calls": 0.01}
    assert now.to_dict() == {
        "name": "this Lab",
        "limits": {"cost": 2.0, "tokens": 50_000, "calls": 100},
        "spent": {"cost": 0.0002, "tokens": 150, "calls": 1, "assumed": 0.0, "unpriced": 0},
        "held": {"cost": 0.0002, "tokens": 150, "calls": 1, "assumed": 0.0, "unpriced": 0},
        "under_way": 1,
        "fraction": 0.01,
        "refused": 0,
    }
    assert Ledger().snapshot().fraction is None
    assert Ledger("0 calls").snapshot().fraction == 1.0
    assert str(Ledger(0.00001).snapshot()).startswith("$0.00 of $1.00e-05")


def test_a_notice_is_data_and_a_chain_says_whether_anything_is_limited() -> None:
    told: list[Notice] = []
    run = Ledger(None, "the run 'x'", outer=Ledger("1 call", "this Lab", told=told.append))
    assert run.limited
    assert not Ledger(None, outer=Ledger()).limited
    run.reserve(call()).settle(used())
    data = json.loads(json.dumps(told[0].to_dict()))
    assert (data["limit"], data["level"], data["budget"]["name"]) == ("calls", 1.0, "this Lab")


# --- loans ------------------------------------------------------------------------------------------------------------


def test_what_is_lent_to_a_worker_is_held_here_and_limits_it_there() -> None:
    lab = Ledger("$0.001, 9 calls", "this Lab")
    run = Ledger("$0.0008", "the run 'x'", outer=lab)
    loan = run.lend(0.5)
    assert loan.data == {"version": 1, "of": "the run 'x'", "cost": 0.0004, "tokens": None, "calls": 4}
    assert lab.snapshot().held.cost == 0.0004
    assert run.allowance() == {"version": 1, "of": "the run 'x'", "cost": 0.0004, "tokens": None, "calls": 5}
    there = Ledger.from_allowance(json.loads(json.dumps(loan.data)))
    there.reserve(call()).settle(used())
    there.reserve(call()).settle(used())
    with pytest.raises(BudgetExceeded, match="the run 'x'"):
        there.reserve(call())
    loan.settle(there.spent)
    loan.settle(there.spent)
    assert lab.spent == run.spent == Spent(0.0004, 300, 2)
    assert lab.snapshot().held == Spent()


def test_a_loan_that_never_came_home_counts_as_spent_and_an_unused_one_does_not() -> None:
    ledger = Ledger("$1")
    ledger.lend(0.25).settle(None)
    assert ledger.spent == Spent(0.25, 0, 0, assumed=0.25)
    ledger.lend().release()
    assert ledger.allowance()["cost"] == 0.75


def test_more_than_was_lent_is_booked_in_full() -> None:
    ledger = Ledger("$1")
    ledger.lend(0.1).settle(Spent(0.5, 10, 2, 0.25, 1))
    assert ledger.spent == Spent(0.5, 10, 2, 0.25, 1)


def test_nothing_is_lent_of_what_is_spent_and_nothing_held_where_nothing_is_limited() -> None:
    ledger = Ledger("1 call")
    ledger.reserve(call()).settle(used())
    assert ledger.lend().data["calls"] == 0
    free = Ledger()
    loan = free.lend()
    assert (loan.data["cost"], loan.data["tokens"], loan.data["calls"]) == (None, None, None)
    assert not Ledger.from_allowance(loan.data).budget.limited
    assert free.snapshot().held == Spent()


@pytest.mark.parametrize("share", [0, -1, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="share"):
        Ledger().lend(share)


@pytest.mark.parametrize("data", [None, {}, {"version": 2}, {"version": 1, "cost": "all"}, {"version": 1, "calls": -1}])
def test_an_allowance_that_is_none_is_refused(data: Any) -> None:
    with pytest.raises(ConfigurationError):
        Ledger.from_allowance(data)


# --- how long answers are ---------------------------------------------------------------------------------------------


def test_the_usual_length_is_learned_per_model_and_over_the_chain() -> None:
    lab = Ledger()
    run = Ledger(outer=lab)
    assert run.usual("test/model") is None
    run.reserve(call()).settle(used(10, 100))
    assert lab.usual("test/model") == 150  # one and a half times the mean
    for answer in (100, 300, 300):
        run.reserve(call()).settle(used(10, answer))
    assert lab.usual("test/model") == 400  # mean 200, deviation 100
    assert lab.usual("other/model") is None
    run.reserve(call()).settle(None)  # an estimate teaches nothing
    assert lab.usual("test/model") == 400


# --- many at once -----------------------------------------------------------------------------------------------------


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
