"""A space comes back from its journal as it was left, and what is damaged is named and left out."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from dspex_lab.errors import ConstraintError, VariableError
from dspex_lab.events import VariableRecord
from dspex_lab.store import Store, VariableTable
from dspex_lab.variables import Author, Definition, Journal, MemoryJournal, Space


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


def record(name: str, version: int, value: Any, space: str = "default", fence: int | None = None) -> VariableRecord:
    return VariableRecord(space, name, version, 0, 1.0, value, "person", fence=fence)


def test_a_space_comes_back_as_it_was_left(journal: MemoryJournal) -> None:
    space = Space(journal=journal)
    space.float("t", 0, 2, default=0.5, note="warmth")
    space.module("m", ["Predict", "ReAct"])
    space.int("steps", 1, 5, when="m == 'ReAct'")
    space.demos("d", [{"q": 1}])
    space.tensor("w", (2,), default=[1, 2])
    space.text("x", "Say.")
    space.derive("long", "len(x) * t")
    space.constrain("t < 1.5 or m == 'Predict'", name="warm")
    space.commit({"t": 1.2, "m": "ReAct"}, author=Author("job", "j"))
    space.pin("x")
    again = Space(journal=journal)
    assert list(again) == list(space)
    assert again.version == space.version
    for name in space:
        one, other = again[name], space[name]
        assert (one.domain, one.version, one.active, one.pinned, one.derived, one.when, one.note) == (
            *(other.domain, other.version, other.active, other.pinned, other.derived, other.when, other.note),
        )
        assert one.domain.equal(one.value, other.value)
    assert again.constraints == space.constraints
    assert again.damaged == {}
    with pytest.raises(ConstraintError, match="warm"):
        again["t"].value = 1.6
    again["t"].value = 1.4
    assert again.get("long") == 4 * 1.4
    assert again["t"].version == space.version + 1
    assert len(again.history("t")) == 3
    assert again.rollback(space.version).version == space.version + 2


def test_spaces_share_a_journal_by_their_names(journal: MemoryJournal) -> None:
    one, two = Space("one", journal=journal), Space("two", journal=journal)
    one.float("t", default=1)
    two.float("t", default=2)
    assert Space("one", journal=journal).values() == {"t": 1}
    assert len(two.history()) == 1


def test_versions_and_fences_go_on_after_what_was_dropped(journal: MemoryJournal) -> None:
    space = Space(journal=journal, clock=lambda: 1.0)
    space.float("t", default=1)
    space.float("u", default=1)
    lease = space.lease("u", owner="o")
    lease.commit({"u": 2})
    lease.release()
    space.drop("u")
    space.constrain("t < 5")
    space.drop("t < 5")
    again = Space(journal=journal, clock=lambda: 1.0)
    assert (list(again), again.version, again.constraints) == (["t"], 3, {})
    assert again.lease("t", owner="o").fence > lease.fence


def test_a_function_of_an_earlier_process_has_to_be_given_again(
    journal: MemoryJournal, caplog: pytest.LogCaptureFixture
) -> None:
    def double(t: float) -> float:
        return t * 2

    def small(t: float) -> bool:
        return t < 5

    space = Space(journal=journal)
    space.float("t", 0, 9, default=1)
    space.derive("d", double)
    space.derive("e", "d + 1")
    space.int("k", 0, 9, when=lambda t: t > 0)
    space.constrain(small)
    with caplog.at_level(logging.WARNING, "dspex_lab"):
        again = Space(journal=journal)
    assert "'small'" in caplog.text
    assert "is not checked until the cell that defines it is run again" in again.damaged["small"]
    assert again.values() == {"t": 1, "d": 2, "e": 3}  # what k would say is not known
    again["t"].value = 2
    assert again.values() == {"t": 2}  # a stale value is not passed off as a present one
    again.derive("d", double)
    again.int("k", 0, 9, when=lambda t: t > 0)
    again.constrain(small)
    assert again.values() == {"t": 2, "d": 4, "e": 5, "k": 4}
    with pytest.raises(ConstraintError, match="small"):
        again["t"].value = 6
    assert "small" not in again.damaged


def test_a_definition_whose_value_was_not_kept_any_more_gets_its_default(journal: MemoryJournal) -> None:
    space = Space(journal=journal)
    space.float("t", 0, 2, default=1)
    journal.define("default", Definition("new", {"kind": "int", "low": 0, "high": 9, "step": 1, "log": False}, 4))
    journal.define("default", Definition("sum", {"kind": "plain"}, None, derived="t + new"))
    journal.define("default", Definition("t", {"kind": "float", "low": 5, "high": 9, "step": None, "log": False}, 6))
    again = Space(journal=journal)
    assert again.values() == {"t": 6, "new": 4, "sum": 10}
    assert [found.version for found in again.history()] == sorted((found.version for found in again.history()), reverse=True)
    assert again.history("t", 1)[0].parent == 1
    assert again.history("new", 1)[0].who == "program"
    assert Space(journal=journal).version == again.version


def test_what_cannot_be_computed_when_it_is_loaded_does_not_count(journal: MemoryJournal) -> None:
    Space(journal=journal).float("t", 0, 2, default=0)
    journal.define("default", Definition("inverse", {"kind": "plain"}, None, derived="1 / t"))
    again = Space(journal=journal)
    assert "ZeroDivisionError" in again.damaged["inverse"]
    assert again.values() == {"t": 0}
    again["t"].value = 2
    assert again.values() == {"t": 2, "inverse": 0.5}


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (Definition("bad", {"kind": "unknown"}, 1), "no domain of the kind 'unknown'"),
        (Definition("bad", [], 1), "described by a dict"),  # type: ignore[arg-type]
        (Definition("bad", {"kind": "float", "low": 0, "high": 1}, 5), "above its range"),
        (Definition("bad", {"kind": "plain"}, None, derived="nothing + 1"), "reads 'nothing'"),
        (Definition("bad", {"kind": "plain"}, None, derived="().__class__"), "cannot be read"),
        (Definition("bad", {"kind": "plain"}, None, derived="function f ["), "cannot be read"),
        (Definition("bad", {"kind": "plain"}, None, derived='function f ["nothing"]'), "reads 'nothing'"),
        (Definition("bad", {"kind": "bool"}, True, active="exec('x')"), "there is no function 'exec'"),
        (Definition("bad", {"kind": "plain"}, None, derived="bad + 1"), "bad → bad"),
        (Definition("bad", {"kind": "demos"}, "abc"), "a list of demonstrations"),
    ],
)
def test_what_is_damaged_is_left_out_with_all_that_reads_it(
    journal: MemoryJournal, definition: Definition, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    Space(journal=journal).float("t", default=1)
    journal.define("default", definition)
    journal.define("default", Definition("reader", {"kind": "plain"}, None, derived="bad"))
    journal.define("default", Definition("far", {"kind": "plain"}, None, derived="reader"))
    journal.define("default", Definition("constraint: c", {"kind": "constraint"}, None, derived="far > 1"))
    again = Space(journal=journal)
    assert again.values() == {"t": 1}
    assert said in again.damaged["bad"]
    assert {"reader", "far", "c"} < set(again.damaged)
    assert again.constraints == {}
    assert "'bad' of the space 'default' could not be read" in caplog.text
    again.drop("c")
    again.drop("reader")
    again.float("bad", default=3)
    assert (again.get("bad"), set(again.damaged)) == (3, {"far"})
    once_more = Space(journal=journal)
    assert (once_more.values(), set(once_more.damaged)) == ({"t": 1, "bad": 3}, {"far"})


@pytest.mark.parametrize("value", ["abc", None, {"a": 1}, 99])
def test_a_damaged_value_gives_way_to_the_default(journal: MemoryJournal, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    Space(journal=journal).float("t", 0, 2, default=1)
    journal.write([record("t", 2, value)])
    again = Space(journal=journal)
    assert (again.get("t"), again.version) == (1, 3)
    assert "'t' is none any more, and its default is taken" in caplog.text


def test_a_definition_that_is_run_again_after_a_restart_keeps_the_value(journal: MemoryJournal) -> None:
    def notebook() -> Space:
        space = Space(journal=journal)
        space.float("t", 0, 2, default=1)
        space.derive("d", lambda t: t + 1)
        space.constrain("t < 1.9")
        return space

    notebook()["t"].value = 1.5
    again = notebook()
    assert again.values() == {"t": 1.5, "d": 2.5}


def test_a_memory_journal_keeps_what_a_journal_promises(journal: MemoryJournal) -> None:
    journal.write([record("a", 1, 1), record("b", 1, 2)])
    journal.write([record("a", 2, 3, fence=7)])
    journal.write([record("a", 1, 9, space="other")])
    assert {name: kept.value for name, kept in journal.latest("default").items()} == {"a": 3, "b": 2}
    assert [kept.value for kept in journal.history("default")] == [3, 2, 1]
    assert [kept.value for kept in journal.history("default", "a", limit=1)] == [3]
    assert journal.history("none") == []
    assert journal.definitions("none") == []
    journal.drop("none", "x")
    journal.define("default", Definition("b", {"kind": "bool"}, True))
    journal.define("default", Definition("a", {"kind": "bool"}, True))
    journal.define("default", Definition("b", {"kind": "bool"}, False))
    assert [(kept.name, kept.default) for kept in journal.definitions("default")] == [("b", False), ("a", True)]


def test_a_cycle_that_somebody_wrote_into_the_journal_is_named(journal: MemoryJournal) -> None:
    for name, reads in (("a", "b"), ("b", "a"), ("c", "a")):
        journal.define("default", Definition(name, {"kind": "plain"}, None, derived=reads))
    again = Space(journal=journal)
    assert len(again) == 0
    assert any("→" in why for why in again.damaged.values())


def test_a_kept_record_of_an_unknown_variable_does_no_harm(journal: MemoryJournal) -> None:
    journal.write([record("gone", 5, 1)])
    space = Space(journal=journal)
    space.float("t", default=1)
    assert space.version == 6
    assert space.at(6).values == {"t": 1}
    with pytest.raises(VariableError):
        space["gone"]


@pytest.mark.parametrize("kept", ["memory", "store"])
def test_a_fence_is_above_all_that_were_journalled_also_where_somebody_wrote_later_without_one(kept: str) -> None:
    journal: Journal = MemoryJournal() if kept == "memory" else VariableTable(Store(":memory:"))
    assert journal.fence("default") == 0
    space = Space(journal=journal, clock=lambda: 5.0)
    space.float("t", default=1)
    with space.lease("t", owner="o") as lease:
        lease.commit({"t": 2})
    space.commit({"t": 3})
    back = Space(journal=journal, clock=lambda: 1.0)  # the clock has gone back too
    assert back.lease("t", owner="o").fence > lease.fence
