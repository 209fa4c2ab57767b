"""``%dspex budget``, the budget and freshness of a run, and what its widget shows of them."""

from __future__ import annotations

from typing import Any

import pytest
from magic_helpers import magic

import dspex_lab as dx
from dspex_lab.errors import BudgetExceeded, ConfigurationError
from dspex_lab.magics import COMMANDS
from dspex_lab.testing import scripted_lm
from dspex_lab.widgets import RunWidget


@pytest.fixture
def lab(shell: Any) -> Any:
    """The kernel's Lab with a pipeline ``ask`` over a model whose answers DSPy may keep."""
    made = dx.lab()
    made.use(scripted_lm({"answer": "yes"}, cache=True))
    shell.run_cell_magic("dspex", "pipeline ask", 'import dspy\nanswer = dspy.Predict("question -> answer")')
    return made


@pytest.fixture
def widgets(monkeypatch: pytest.MonkeyPatch) -> list[RunWidget]:
    """The run widgets that are made."""
    made: list[RunWidget] = []
    start = RunWidget.__init__

    def keep(self: RunWidget, *arguments: Any, **named: Any) -> None:
        start(self, *arguments, **named)
        made.append(self)

    monkeypatch.setattr(RunWidget, "__init__", keep)
    return made


def calls(lab: Any) -> int:
    return int(lab.sql("SELECT count(*) AS n FROM lm_calls WHERE NOT cache_hit")["n"].iloc[0])


def test_it_is_shown_set_and_taken_away(shell: Any, lab: Any) -> None:
    assert "no limit" in repr(magic(shell, "budget"))
    assert "$2.00, 50,000 tokens, 100 calls" in repr(magic(shell, 'budget "$2, 50k tokens, 100 calls"'))
    assert (lab.budget.budget.cost, lab.budget.budget.tokens, lab.budget.budget.calls) == (2.0, 50_000, 100)
    magic(shell, 'run ask question="What?"')
    text = repr(magic(shell, "budget"))
    for part in ("1%: 1 of 100 calls", "scripted/", "ask", "complete"):
        assert part in text, part
    assert "no limit" in repr(magic(shell, "budget off"))
    assert not lab.budget.limited


def test_a_call_that_would_cross_it_is_refused_and_counted(shell: Any, lab: Any) -> None:
    magic(shell, "budget 1 call")
    magic(shell, 'run ask question="What?"')
    with pytest.raises(Exception, match="this Lab") as found:
        magic(shell, 'run ask question="Another?"')
    assert isinstance(found.value.__cause__, BudgetExceeded)
    assert "refused: 1 call" in repr(magic(shell, "budget"))


def test_what_is_no_budget_is_refused_where_it_stands(shell: Any, lab: Any) -> None:
    with pytest.raises(ConfigurationError, match="'euros' is no unit") as found:
        magic(shell, "budget 2 euros")
    assert found.value.line == 1
    with pytest.raises(ConfigurationError, match="cannot be read"):
        magic(shell, 'run ask question="What?" --budget "2 euros"')


def test_the_widget_of_a_run_shows_the_share_that_is_spent(shell: Any, lab: Any, widgets: list[RunWidget]) -> None:
    magic(shell, "budget 10 calls")
    magic(shell, "run ask question='What?' --budget '4 calls'")
    assert widgets[-1].summary["budgets"] == [
        {"of": "this run", "share": 0.25, "limit": "4 calls"},
        {"of": "this Lab", "share": 0.1, "limit": "10 calls"},
    ]


def test_a_map_has_a_budget_and_shows_it(shell: Any, lab: Any, widgets: list[RunWidget]) -> None:
    shell.user_ns["rows"] = [{"question": f"What {n}?"} for n in range(3)]
    made = magic(shell, "map ask rows --budget '6 calls'")
    assert list(made["answer"]) == ["yes"] * 3
    assert widgets[-1].summary["budgets"] == [{"of": "this run", "share": 0.5, "limit": "6 calls"}]


def test_fresh_asks_the_model_anew(shell: Any, lab: Any) -> None:
    magic(shell, 'run ask question="What?"')
    magic(shell, 'run ask question="What?"')
    assert calls(lab) == 1
    magic(shell, 'stream ask question="What?" --fresh')
    assert calls(lab) == 2
    shell.user_ns["rows"] = [{"question": "What?"}]
    magic(shell, "map ask rows")
    assert calls(lab) == 2
    magic(shell, "map ask rows --fresh")
    assert calls(lab) == 3


@pytest.mark.parametrize("name", ["run", "stream", "map"])
def test_fresh_and_budget_are_in_the_usage_and_completed(name: str) -> None:
    assert "--fresh" in COMMANDS[name].usage
    assert "--budget" in COMMANDS[name].usage
    assert {"fresh", "budget"} <= set(COMMANDS[name].flags)


def test_fresh_takes_no_value(shell: Any, lab: Any) -> None:
    for line in ("stream ask question='What?' --fresh=1", "map ask rows --fresh=1"):
        with pytest.raises(ConfigurationError, match="--fresh takes no value"):
            magic(shell, line)
