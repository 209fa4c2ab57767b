"""Constraints: checked before anything is written or spent, and found out before a start where nothing can meet them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from space_helpers import low_and_high

from dspex_lab.errors import ConstraintError, VariableError
from dspex_lab.variables import Float, Int, Space

__all__ = ["low_and_high"]


def test_a_constraint_over_several_variables_is_checked_before_anything_is_written(space: Space) -> None:
    told: list[Any] = []
    space.observe(told.append)
    assert space.constrain("low < high") == "low < high"
    with pytest.raises(ConstraintError) as caught:
        space["low"].value = 5
    assert str(caught.value) == (
        "The constraint 'low < high' does not hold: low = 5.0, high = 2.0. Change them in one commit so that it does."
    )
    assert caught.value.constraint == "low < high"
    assert (space.get("low"), space.version, told) == (1, 3, [])
    space.commit({"low": 5, "high": 6})
    assert space.values()["low"] == 5


def test_constraints_may_be_functions_and_read_what_is_derived(space: Space) -> None:
    space.derive("width", "high - low")

    def wide(width: float) -> bool:
        return width > 0.5

    space.constrain(wide)
    space.constrain(lambda low, high: low + high < 12, name="small")
    assert space.constraints == {"wide": 'function wide ["width"]', "small": 'function <lambda> ["low", "high"]'}
    with pytest.raises(ConstraintError, match=r"'wide' does not hold: width = 0\.0"):
        space["low"].value = 2
    with pytest.raises(ConstraintError, match="'small' does not hold"):
        space["high"].value = 10 if space.commit({"low": 3, "high": 8}) else 0
    with pytest.raises(VariableError, match="'<lambda>' is none"):
        space.constrain(lambda low: True)
    with pytest.raises(VariableError, match="needs a name that no variable has"):
        space.constrain("low > 1", name="low")
    with pytest.raises(VariableError, match="a constraint of the name 'small'"):
        space.float("small")


def test_a_constraint_that_fails_refuses_and_says_so(space: Space) -> None:
    space.constrain(lambda low: 1 / (low - 3) < 100, name="odd")
    space.constrain("high / low > 0", name="ratio")
    with pytest.raises(
        ConstraintError, match=r"Nobody can tell whether the constraint 'odd' holds of low = 3\.0: ZeroDivision"
    ):
        space["low"].value = 3
    with pytest.raises(ConstraintError, match=r"'ratio' holds of high = 2.0, low = 0.0: .*ZeroDivisionError"):
        space["low"].value = 0


def test_a_constraint_counts_where_all_that_it_reads_counts(space: Space) -> None:
    space.int("k", 1, 5, default=5, when="module == 'tools'")
    space.constrain("k < low * 2", name="few")
    space["low"].value = 1.5
    with pytest.raises(ConstraintError, match=r"'few' \(k < low \* 2\) does not hold"):
        space["module"].value = "tools"
    space.commit({"module": "tools", "k": 2})


def test_a_constraint_of_the_same_name_replaces_and_one_can_be_dropped(space: Space) -> None:
    space.constrain("low < 5", name="c")
    space.constrain("low < 7", name="c")
    space["low"].value = 6
    space.drop("c")
    space["low"].value = 8
    assert space.constraints == {}


def test_check_says_before_anything_is_spent(space: Space) -> None:
    space.constrain("low < high")
    space.derive("width", "high - low")
    checked = space.check({"low": "1.5"})
    assert (checked.values["low"], checked.values["width"], checked.version) == (1.5, 0.5, 6 - 1)
    assert space.get("low") == 1
    for values, kind in (({"low": 3}, ConstraintError), ({"low": 11}, VariableError), ({"lo": 1}, VariableError)):
        with pytest.raises(kind):
            space.check(values)
    space["high"].pin()
    with pytest.raises(VariableError, match="pinned"):
        space.check({"high": 3})


def test_check_finds_a_broken_constraint_that_the_values_do_not_touch(space: Space) -> None:
    space.constrain("low > high", name="wrong way")
    with pytest.raises(ConstraintError, match="wrong way"):
        space.check({"module": "tools"})
    space["module"].value = "tools"  # a commit answers for what it touches


def test_few_combinations_are_all_tried_and_a_contradiction_is_certain() -> None:
    space = Space()
    space.int("k", 1, 5)
    space.choice("m", ["a", "b"])
    space.float("other", 0, 1)
    space.constrain("k > 3")
    space.constrain("k < 3 or m == 'b'", name="odd")
    found = space.feasible()
    assert found
    assert found.values == {"k": 4, "m": "b"}
    assert found.check() is found
    assert str(found) == "Feasible: k = 4, m = 'b'."
    space.constrain("m == 'a'")
    none = space.feasible()
    assert (none.possible, none.tries, bool(none)) == (False, 10, False)
    assert str(none).startswith("Unsatisfiable: none of the 10 combinations meets all constraints. In the way: 'k > 3' 5×")
    with pytest.raises(ConstraintError, match="Unsatisfiable") as caught:
        none.check()
    assert caught.value.constraint == "k > 3"


def test_many_combinations_are_drawn_and_what_is_not_found_is_not_called_impossible() -> None:
    space = Space()
    space.float("a", 0, 1)
    space.float("b", 0, 1)
    space.constrain("a + b > 1.5")
    assert space.feasible().possible is True
    space.constrain("a + b < 1.5")
    none = space.feasible(trials=200)
    assert (none.possible, none.tries) == (None, 205)
    assert "None found in 205 tries; there may be some all the same" in str(none)
    with pytest.raises(ConstraintError, match="None found"):
        none.check()


def test_the_corners_are_tried_where_constraints_are_often_met() -> None:
    space = Space()
    for name in "abcd":
        space.float(name, 0, 1)
    space.constrain("a + b + c + d >= 4")
    assert space.feasible().values == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_the_same_seed_draws_the_same() -> None:
    space = Space()
    space.float("a", 0, 1)
    space.constrain("a > 0.7 and a < 0.8")
    assert space.feasible(seed=3).values == space.feasible(seed=3).values != space.feasible(seed=4).values


def test_others_keep_their_values_and_so_do_those_without_bounds_and_the_pinned() -> None:
    space = Space()
    space.int("a", 1, 3, default=1)
    space.int("b", 1, 3, default=1)
    space.int("free", default=1)
    space.constrain("a + b + free > 7")
    assert space.feasible("a").possible is False
    assert space.feasible(["a", "b"]).possible is False
    assert space.feasible(trials=20).possible is None  # nothing bounds free: it was not searched
    space.int("free", default=2)
    assert space.feasible(["a", "b"]).values == {"a": 3, "b": 3}
    space["b"].pin()
    assert space.feasible(["a", "b"]).possible is False


def test_what_is_derived_stands_in_the_way_too() -> None:
    space = Space()
    space.int("a", 0, 3, default=2)
    space.derive("inverse", "6 / a", domain=Float(0, 4))
    space.constrain("inverse > 10", name="steep")
    none = space.feasible()
    assert none.possible is False
    assert sum(none.breaks.values()) == 4
    assert any("cannot be computed" in reason for reason in none.breaks)
    assert any("range" in reason for reason in none.breaks)


def test_feasible_needs_no_constraints() -> None:
    space = Space()
    space.float("a", 0, 1)
    assert str(space.feasible()) == "Feasible: the present values."


def test_a_commit_looks_at_nothing_that_does_not_read_what_it_writes() -> None:
    looked: list[str] = []
    space = Space()

    def counted(name: str) -> Any:
        def look(values: Mapping[str, Any]) -> bool:
            looked.append(name)
            return True

        return look

    class Looked(Int):
        def equal(self, one: Any, other: Any) -> bool:
            looked.append("domain")
            return bool(one == other)

    for index in range(200):
        space.add(f"v{index}", Looked(0, 9), default=1)
        space.derive(f"d{index}", counted(f"d{index}"), reads=[f"v{index}"])
        space.int(f"w{index}", 0, 9, when=f"v{index} > 0")
        space.constrain(counted(f"c{index}"), name=f"c{index}", reads=[f"v{index}", f"w{index}"])
        space.observe(lambda commit, name=f"o{index}": looked.append(name), f"v{index}")  # type: ignore[misc]
    looked.clear()
    space["v7"].value = 3
    assert sorted(looked) == ["c7", "d7", "domain", "o7"]
