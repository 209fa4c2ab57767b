"""Variables that are derived from others, and those that count only under a condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from space_helpers import low_and_high

from dspex_lab.errors import VariableError
from dspex_lab.variables import Float, Space

__all__ = ["low_and_high"]


# ---- derived ---------------------------------------------------------------------------------------------------------


def test_what_is_derived_is_computed_in_topological_order_in_the_commit_itself(space: Space) -> None:
    space.derive("width", "high - low")
    space.derive("label", lambda width, module: f"{module} {width:.1f}")
    space.derive("half", "width / 2", domain=Float(0, 10))
    assert (space.get("width"), space.get("label"), space.get("half")) == (1, "plain 1.0", 0.5)
    commit = space.commit({"low": 0, "module": "tools"})
    order = list(commit.changes)
    assert set(order) == {"low", "module", "width", "label", "half"}
    for name, reads in (("width", ["low"]), ("label", ["width", "module"]), ("half", ["width"])):
        assert all(order.index(read) < order.index(name) for read in reads)
    assert commit.changes["width"].who == "derived"
    assert (commit.changes["width"].before, commit.changes["width"].value) == (1, 2)
    assert commit.changes["low"].who == "person"
    assert space.get("label") == "tools 2.0"
    assert (space["label"].derived or "").startswith("function <lambda>")
    assert space["width"].derived == "high - low"


def test_what_is_derived_from_what_has_not_changed_is_not_computed_again(space: Space) -> None:
    computed: list[float] = []

    def label(wide: bool) -> str:
        computed.append(wide)
        return "wide" if wide else "narrow"

    space.derive("wide", "high - low > 5")
    space.derive("label", label)
    space["high"].value = 3
    assert computed == [False]
    commit = space.commit({"high": 9})
    assert computed == [False, True]
    assert set(commit.changes) == {"high", "wide", "label"}


def test_a_derived_variable_cannot_be_set_or_leased(space: Space) -> None:
    space.derive("width", "high - low")
    with pytest.raises(
        VariableError, match=r"'width' is derived \(high - low\) and cannot be set. Set what it reads: high, low."
    ):
        space["width"].value = 3
    with pytest.raises(VariableError, match="nobody writes it"):
        space.lease("width", owner="o")


def test_a_commit_that_takes_a_derived_variable_out_of_its_domain_is_refused_whole(space: Space) -> None:
    space.derive("width", "high - low", domain=Float(0, 5))
    with pytest.raises(VariableError, match=r"'width' cannot be 8\.0: that is above its range"):
        space.commit({"high": 9})
    assert (space.get("high"), space.get("width")) == (2, 1)


def test_what_cannot_be_derived_names_the_variable(space: Space) -> None:
    space.derive("share", "low / high")
    space.derive("own", lambda low: 1 / (low - 3))
    with pytest.raises(VariableError, match=r"Variable 'share' cannot be computed.*ZeroDivisionError"):
        space.commit({"high": 0})
    with pytest.raises(VariableError, match="'own' cannot be derived: ZeroDivisionError"):
        space.commit({"low": 3})
    assert space.version == 5


def test_a_cycle_is_an_error_that_names_it(space: Space) -> None:
    space.derive("a", "low + 1")
    space.derive("b", "a + 1")
    space.derive("c", "b + 1")
    with pytest.raises(VariableError, match="a → c → b → a"):
        space.derive("a", "c + 1")
    with pytest.raises(VariableError, match="low → c → b → a → low"):
        space.float("low", 0, 10, when="c > 1")
    with pytest.raises(VariableError, match="d → d"):
        space.derive("d", "d + 1")
    assert space.get("c") == 4
    assert space["a"].derived == "low + 1"
    assert "d" not in space
    space["low"].value = 2
    assert space.get("c") == 5


def test_a_long_chain_is_computed_without_recursion() -> None:
    space = Space()
    space.int("v0", 0, 10, default=1)
    for index in range(1, 1500):
        space.derive(f"v{index}", f"v{index - 1} + 1")
    space["v0"].value = 2
    assert space.get("v1499") == 1501
    with pytest.raises(VariableError, match="v0 → v1499 → v1498"):
        space.derive("v0", "v1499")


def test_paths_are_variables_in_expressions() -> None:
    space = Space()
    space.float("triage.predict.temperature", 0, 2, default=0.5)
    space.int("stages[0].k", 0, 9, default=4)
    space.module("triage.predict", ["Predict", "ReAct"])
    space.choice("tools['search é'].on", [True, False])
    space.demos("d", [{"q": [5, 6]}])
    space.text("words", "a\nb")
    text = (
        "(triage.predict.temperature * stages[0].k + d[0].q[1] + (1 if tools['search é'].on else 0)\n"
        " + len(triage.predict) + d[0]['q'][stages[0].k - 4])"
    )
    space.derive("t", text)
    assert space.get("t") == 0.5 * 4 + 6 + 1 + 7 + 5
    space["stages[0].k"].value = 5
    assert space.get("t") == 0.5 * 5 + 6 + 1 + 7 + 6
    with pytest.raises(VariableError, match=r"reads 'stages\[1\].k'.*Did you mean 'stages\[0\].k'"):
        space.derive("u", "stages[1].k")
    with pytest.raises(VariableError, match=r"cannot be computed.*triage.predict.temperature"):
        space.derive("u", "triage.predict.temperature / (stages[0].k - 5)")
    space.derive("found", r"matches(words, '\w')")
    assert space.get("found") is True


@pytest.mark.parametrize("text", ["low +", "__import__('os')", "low.__class__", "[x for x in low]", "", "(" * 300])
def test_an_expression_that_is_none_or_not_safe_is_refused(space: Space, text: str) -> None:
    with pytest.raises(VariableError, match="cannot be read"):
        space.derive("x", text)
    with pytest.raises(VariableError, match=r"cannot be read|needs a name"):
        space.constrain(text)


def test_functions_say_what_they_read(space: Space) -> None:
    def by_dict(values: Mapping[str, Any]) -> float:
        return values["low"] + values["high"]

    space.derive("sum", by_dict, reads=["low", "high"])
    space["low"].value = 3
    assert space.get("sum") == 5
    space.derive("one", lambda v: v["low"], reads="low")
    assert space.get("one") == 3
    with pytest.raises(VariableError, match="nobody knows which ones it reads"):
        space.derive("x", by_dict)
    with pytest.raises(VariableError, match="an expression or a function, found int"):
        space.derive("x", 5)  # type: ignore[arg-type]
    with pytest.raises(VariableError, match="nobody can tell its parameters"):
        space.derive("x", max)
    space.derive("ten", lambda low, by=10: low * by)
    assert space.get("ten") == 30


# ---- conditions ------------------------------------------------------------------------------------------------------


def test_a_conditional_variable_counts_only_where_its_condition_holds(space: Space) -> None:
    space.int("tools_k", 1, 5, default=2, when="module == 'tools'")
    space.derive("doubled", "tools_k * 2")
    space.int("deeper", 1, 5, when="tools_k > 2")
    assert not space["tools_k"].active
    assert space.get("tools_k") == 2
    assert set(space.values()) == {"low", "high", "module"}
    space["module"].value = "tools"
    assert space["tools_k"].active
    assert set(space.values()) == {"low", "high", "module", "tools_k", "doubled"}
    space["tools_k"].value = 3
    assert space.values()["doubled"] == 6
    assert "deeper" in space.values()
    space["module"].value = "plain"
    assert set(space.values()) == {"low", "high", "module"}
    space["tools_k"].value = 4  # kept for when it counts
    space["module"].value = "tools"
    assert space.values()["doubled"] == 8
    assert space["tools_k"].when == "module == 'tools'"


def test_a_condition_by_a_function_that_fails_refuses_the_commit(space: Space) -> None:
    space.int("k", 1, 5, when=lambda low: 1 / (low - 3) > 0)
    with pytest.raises(VariableError, match="Nobody can tell whether variable 'k' counts: ZeroDivisionError"):
        space["low"].value = 3
    assert space.get("low") == 1
