"""Defining variables, and what a definition that is run again does."""

from __future__ import annotations

from typing import Any

import pytest
from space_helpers import low_and_high

from dspex_lab.errors import ConstraintError, LeaseError, VariableError
from dspex_lab.variables import Choice, Commit, Float, Int, MemoryJournal, New, Space

__all__ = ["low_and_high"]


def test_every_kind_has_a_way_to_be_defined_and_a_default() -> None:
    space = Space()
    space.float("f", 0, 2)
    space.int("i", 0, 8, default=3, note="how many")
    space.bool("b")
    space.choice("c", ["x", "y"], default="y")
    space.choice("n", ["x", None], default=None)
    space.choice("m", ["x", "y"], default=None)
    space.text("t", "Classify.", candidates=["A.", "B."])
    space.text("t2", candidates=["A.", "B."])
    space.demos("d", [{"q": 1}], candidates=[[], [{"q": 2}]])
    space.module("mod")
    space.lm("lm", ["openai/a", "openai/b"])
    space.adapter("ad", default="json")
    space.tensor("w", (2,), default=[1, 2])
    values = space.values()
    assert values.pop("w").tolist() == [1, 2]
    assert values == {
        "f": 1,
        "i": 3,
        "b": False,
        "c": "y",
        "n": None,
        "m": "x",
        "t": "Classify.",
        "t2": "A.",
        "d": ({"q": 1},),
        "mod": "Predict",
        "lm": "openai/a",
        "ad": "json",
    }
    assert list(space) == ["f", "i", "b", "c", "n", "m", "t", "t2", "d", "mod", "lm", "ad", "w"]
    assert (len(space), "f" in space, "g" in space, bool(Space())) == (13, True, False, True)
    assert (space["i"].note, space["i"].default, space["i"].domain) == ("how many", 3, Int(0, 8))
    assert space["i"] is space["i"]


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a\x1b[31m", "x" * 301, 5, None, "constraint: a"])
def test_what_is_no_name_is_refused(space: Space, name: Any) -> None:
    with pytest.raises(VariableError, match="no name of a variable"):
        space.float(name)
    with pytest.raises(VariableError, match="no name of a variable"):
        space.derive(name, "low")


def test_what_is_no_domain_is_refused(space: Space) -> None:
    for domain in ((0, 1), Float):
        with pytest.raises(VariableError, match="is no domain"):
            space.add("x", domain)  # type: ignore[arg-type]


def test_a_default_out_of_range_is_refused_and_defines_nothing(space: Space) -> None:
    with pytest.raises(VariableError, match=r"above its range, 0.0 to 1.0"):
        space.float("x", 0, 1, default=2)
    assert "x" not in space


def test_an_unknown_variable_is_named_with_the_one_that_may_be_meant(space: Space) -> None:
    for act in (
        lambda: space["hgih"],
        lambda: space.get("hgih"),
        lambda: space.commit({"hgih": 1}),
        lambda: space.pin("hgih"),
        lambda: space.observe(print, "hgih"),
        lambda: space.derive("x", "hgih + 1"),
        lambda: space.derive("x", lambda hgih: 1),
        lambda: space.constrain("hgih > 1"),
        lambda: space.float("x", when="hgih > 1"),
        lambda: space.history("hgih"),
        lambda: space.rollback(1, "hgih"),
        lambda: space.lease("hgih", owner="o"),
        lambda: space.feasible("hgih"),
        lambda: space.commit({}, expect={"hgih": 1}),
        lambda: space.drop("hgih"),
    ):
        with pytest.raises(VariableError, match="Did you mean 'high'"):
            act()


# ---- again -----------------------------------------------------------------------------------------------------------


def test_a_cell_that_is_run_again_changes_nothing(space: Space) -> None:
    space["low"].value = 4
    version = space.version
    again = space.float("low", 0, 10, default=1)
    assert (again.value, space.version) == (4, version)
    space.derive("width", "high - low")
    version = space.version
    space.derive("width", "high - low")
    assert space.version == version


def test_a_changed_definition_keeps_a_value_that_it_may_and_an_untouched_default_follows(space: Space) -> None:
    space["low"].value = 4
    space.float("low", 0, 5, default=2)
    assert space.get("low") == 4
    space.float("low", 0, 3, default=2)
    assert space.get("low") == 2
    assert space.history("low", 1)[0].why == "defined anew"
    space.float("high", 0, 20, default=7)
    assert space.get("high") == 7
    space.int("low", 0, 3)
    assert type(space.get("low")) is int
    space.text("low", "now a text")
    assert space.get("low") == "now a text"
    space.derive("low", "high + 1")
    assert space.get("low") == 8
    space.float("low", 0, 10, default=3)
    assert (space.get("low"), space["low"].derived) == (8, None)


def test_what_names_stand_for_comes_anew_with_the_same_definition() -> None:
    space = Space()
    space.module("m", ["Predict", "Own"])
    assert space["m"].domain.given("Own") is None  # type: ignore[attr-defined]
    space.module("m", {"Predict": None, "Own": dict})
    assert space["m"].domain.given("Own") is dict  # type: ignore[attr-defined]
    assert space.version == 1


def test_a_definition_that_fails_leaves_all_as_it_was(space: Space) -> None:
    space.derive("root", "low * 2", domain=Float(0, 10))
    space["low"].value = 4
    with pytest.raises(VariableError, match="'root' cannot be"):
        space.float("low", 6, 20, default=7)
    assert (space["low"].domain, space.get("low"), space.get("root")) == (Float(0, 10), 4, 8)
    space["low"].pin()
    with pytest.raises(VariableError, match="pinned"):
        space.float("low", 0, 3, default=1)
    assert space["low"].domain == Float(0, 10)
    space.float("low", 0, 9, default=1)
    assert space["low"].pinned


def test_definitions_may_break_constraints_on_the_way_and_commits_may_not(space: Space) -> None:
    space.constrain("low < high")
    space.float("low", 0, 10, default=5)
    space.float("high", 0, 10, default=6)
    assert space.values()["low"] == 5
    with pytest.raises(ConstraintError):
        space["low"].value = 7


def test_what_others_read_cannot_be_dropped(space: Space) -> None:
    space.derive("width", "high - low")
    space.constrain("low < 9")
    with pytest.raises(VariableError, match=r"'low' cannot be dropped: width, the constraint 'low < 9' read it"):
        space.drop("low")
    with pytest.raises(VariableError, match=r"'high' cannot be dropped: width reads it"):
        space.drop("high")
    space.drop("width")
    high = space["high"]
    space.drop("high")
    assert "high" not in space
    assert "high" not in space.values()
    with pytest.raises(VariableError, match="no variable 'high'"):
        high.get()
    assert len(space.history("high")) == 1
    space.float("high", 0, 10, default=3)
    assert (space.get("high"), space["high"].version, len(space.history("high"))) == (3, 5, 2)


def test_a_leased_variable_is_not_dropped_or_redefined_with_another_value(space: Space) -> None:
    with space.lease("low", owner="GEPA"):
        with pytest.raises(VariableError, match="leased to 'GEPA'"):
            space.drop("low")
        with pytest.raises(VariableError, match="leased to 'GEPA'"):
            space.float("low", 0, 10, default=9)
    assert space["low"].domain == Float(0, 10)


# ---- many at once ------------------------------------------------------------------------------------------------------


def test_many_are_defined_in_one_commit_and_later_ones_read_earlier_ones() -> None:
    told: list[Commit] = []
    space = Space()
    space.observe(told.append)
    made = space.add_all(
        [
            New("m", Choice(["a", "b"]), "b"),
            New("steps", Int(1, 9), 3, "how many", when="m == 'b'"),
            New("fixed", Float(0, 1), 0.5, pinned=True),
        ]
    )
    assert [(each.name, each.value, each.version, each.pinned) for each in made] == [
        ("m", "b", 1, False),
        ("steps", 3, 1, False),
        ("fixed", 0.5, 1, True),
    ]
    assert [(commit.version, list(commit.changes), commit.author.why) for commit in told] == [
        (1, ["m", "steps", "fixed"], "defined")
    ]
    space["m"].value = "a"
    assert space.values() == {"m": "a", "fixed": 0.5}
    space.unpin("fixed")
    space.add_all([New("fixed", Float(0, 1), 0.5, pinned=True), New("m", Choice(["a", "c"]), "c")])
    assert not space["fixed"].pinned  # a person has unpinned it
    assert space.get("m") == "a"
    assert space.add_all([]) == []


def test_all_are_defined_or_none() -> None:
    journal = MemoryJournal()
    space = Space(journal=journal)
    space.int("k", 0, 9, default=4)
    before = space.snapshot()
    bad: list[tuple[list[New], str]] = [
        ([New("a", Int(0, 9)), New("a", Int(0, 9))], "twice at once"),
        ([New("a", Int(0, 9)), New("b", Int(0, 9), 99)], "above its range"),
        ([New("k", Int(0, 3)), New("b", Int(0, 9), when="nothing > 1")], "'nothing'"),
        ([New("a", Int(0, 9)), New("k", Int(0, 9), 4, when="k > 1")], "read itself"),
        ([New("a", Int(0, 9)), New("b", Int)], "no domain"),  # type: ignore[arg-type]
    ]
    for wanted, says in bad:
        with pytest.raises(VariableError, match=says):
            space.add_all(wanted)
        assert (list(space), space.snapshot(), space.entry("k").domain) == (["k"], before, Int(0, 9))
        assert [definition.name for definition in journal.definitions("default")] == ["k"]
    with space.lease("k", owner="tune"), pytest.raises(LeaseError, match="tune"):
        space.add_all([New("a", Int(0, 9)), New("k", Int(0, 3), 2)])
    assert list(space) == ["k"]
