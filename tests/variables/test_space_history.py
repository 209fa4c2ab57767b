"""The history of a space: values of earlier versions, rollback and snapshots."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from space_helpers import space

from dspex_lab.errors import VariableError
from dspex_lab.events import VariableRecord
from dspex_lab.security import Redactor
from dspex_lab.variables import Author, MemoryJournal, Space

__all__ = ["space"]

# ---- history and rollback --------------------------------------------------------------------------------------------


def test_history_is_newest_first_and_can_be_cut(space: Space) -> None:
    for number in range(5):
        space.commit({"k": number}, author=Author("job", "j1", score=number / 10))
    assert [record.value for record in space.history("k")] == [4, 3, 2, 1, 0, 4]
    assert [record.parent for record in space.history("k")] == [6, 5, 4, 3, 2, 0]
    assert [record.version for record in space.history(limit=3)] == [7, 6, 5]
    assert space.history("k", 0) == []
    assert isinstance(space.history("k")[0], VariableRecord)
    for limit in (-1, True, 1.5):
        with pytest.raises(VariableError, match="no number of values"):
            space.history("k", limit)  # type: ignore[arg-type]


def test_rollback_brings_values_back_as_a_new_commit_and_keeps_history(space: Space) -> None:
    space.derive("tk", "t * k")
    space.commit({"t": 1, "k": 8})
    space.commit({"t": 2})
    back = space.rollback(3)
    assert (back.version, back.undone) == (6, 3)
    assert space.values() == {"t": 0.5, "k": 4, "tk": 2}
    assert back.author.why == "back to version 3"
    assert [record.value for record in space.history("t")] == [0.5, 2, 1, 0.5]
    assert space.rollback(5).version == 7
    assert space.get("t") == 2
    assert space.rollback(5).changes == {}
    assert space.version == 7


def test_rollback_of_some_leaves_the_others(space: Space) -> None:
    space.commit({"t": 1, "k": 8})
    space["k"].rollback(2)
    assert space.values() == {"t": 1, "k": 4}
    space.rollback(2, ["t"], author=Author("adaptation", "drift", "the score fell"))
    assert space.history("t", 1)[0].who == "adaptation"
    assert space.get("t") == 0.5


@pytest.mark.parametrize("version", [-1, 99, True, "2", 1.0])
def test_a_version_that_is_none_is_refused(space: Space, version: Any) -> None:
    for act in (lambda: space.rollback(version), lambda: space.at(version)):
        with pytest.raises(VariableError, match=r"There is no version .*; the space is at 2"):
            act()


def test_what_was_defined_later_has_no_value_at_an_earlier_version(space: Space) -> None:
    assert space.at(1).values == {"t": 0.5}
    assert space.at(0).values == {}
    with pytest.raises(VariableError, match="'k' had no value at version 1"):
        space["k"].rollback(1)
    space["k"].value = 9
    space["t"].value = 1
    assert space.rollback(1).changes.keys() == {"t"}
    assert space.get("k") == 9


def test_a_snapshot_of_another_time_counts_by_the_conditions(space: Space) -> None:
    space.choice("m", ["plain", "tools"])
    space.int("steps", 1, 5, when="m == 'tools'")
    space.derive("more", "steps + 1")
    space["m"].value = "tools"
    space["m"].value = "plain"
    assert set(space.at(4).values) == set(space.at(6).values) == {"t", "k", "m"}
    then = space.at(5)
    assert then.values == {"t": 0.5, "k": 4, "m": "tools", "steps": 3, "more": 4}
    assert then.versions == {"t": 1, "k": 2, "m": 5, "steps": 4, "more": 5}
    assert space.at(space.version) == space.snapshot()


def test_what_reads_a_variable_that_was_not_there_then_did_not_count_then(space: Space) -> None:
    space.derive("d", "t * 2")
    space.float("late", 0, 9, default=3)
    space.derive("d", "t * late")
    assert space.at(3).values == {"t": 0.5, "k": 4}
    assert space.at(5).values["d"] == 1.5


def test_a_value_that_the_domain_does_not_have_any_more_comes_not_back(space: Space) -> None:
    space["k"].value = 12
    space.int("k", 0, 8, default=3)
    with pytest.raises(VariableError, match="'k' cannot be 12"):
        space.rollback(3)
    assert space.at(3).values["k"] == 12
    space.tensor("k", (2,))
    with pytest.raises(VariableError, match="'k' had at version 3 does not fit what it is today"):
        space.at(3)


class Masking(MemoryJournal):
    """As the store does."""

    def write(self, records: Any) -> None:
        super().write([each._replace(value=Redactor()(each.value)) if each.name == "x" else each for each in records])


def test_a_value_whose_secret_was_not_kept_does_not_come_back() -> None:
    space = Space(journal=Masking())
    space.text("x", "Use sk-abcdefghijklmnop1234567890.")
    space.float("t", 0, 2, default=1)
    space.commit({"x": "Classify.", "t": 2})
    with pytest.raises(VariableError, match="'x' had held a secret, which was not kept"):
        space.rollback(2)
    assert space.get("x") == "Classify."
    space.rollback(2, "t")
    assert space.get("t") == 1


def test_a_rollback_of_others_passes_by_a_pinned_variable(space: Space) -> None:
    space["k"].value = 5
    space["t"].pin()
    assert space.rollback(2).changes.keys() == {"k"}


# ---- snapshots -------------------------------------------------------------------------------------------------------


def test_a_snapshot_does_not_change_and_travels(space: Space) -> None:
    snapshot = space.snapshot()
    assert space.snapshot() is snapshot
    space["t"].value = 1
    assert (snapshot.values["t"], snapshot.version, snapshot.versions) == (0.5, 2, {"t": 1, "k": 2})
    with pytest.raises(TypeError):
        snapshot.values["t"] = 3  # type: ignore[index]
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot  # noqa: S301
    values = space.values()
    values["t"] = 9
    assert space.values()["t"] == 1


def test_a_snapshot_is_what_a_run_keeps_as_json(space: Space) -> None:
    space.demos("d", [{"q": 1}])
    space.tensor("w", (1,))
    found = space.as_json()
    assert found["version"] == 4
    assert found["values"]["d"] == [{"q": 1}]
    assert found["values"]["w"]["shape"] == [1]
    older = space.at(2)
    assert space.as_json(older) == {"version": 2, "values": {"t": 0.5, "k": 4}}
