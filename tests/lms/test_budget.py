"""A budget is read from what people write, and what is spent of it is told."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from budget_helpers import call, used
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import BudgetExceeded, ConfigurationError
from dspex_lab.lms.budget import Budget, Ledger, Notice, Snapshot

# --- limits ---------------------------------------------------------------------------------------------------------


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


# --- telling --------------------------------------------------------------------------------------------------------


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
