"""The budget guard: no limit is crossed by calls whose price is bounded, no money is lost, and every refusal says why."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from budget_helpers import call, used

from dspex_lab.errors import BudgetExceeded, CircuitOpen, ConfigurationError
from dspex_lab.lms.budget import Budget, Ledger, Spent
from dspex_lab.lms.choice._prices import Price

# --- one ledger -----------------------------------------------------------------------------------------------------


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


# --- failures -------------------------------------------------------------------------------------------------------


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


# --- ledgers around ledgers -----------------------------------------------------------------------------------------


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


# --- loans ----------------------------------------------------------------------------------------------------------


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


# --- how long answers are -------------------------------------------------------------------------------------------


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
