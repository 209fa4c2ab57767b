"""A space seen from elsewhere: the same answers and errors as at the owner, and nothing lost or doubled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from remote_helpers import Hub

from dspex_lab.errors import ConstraintError, VariableError, VersionConflict
from dspex_lab.variables import Author, RemoteSpace, Served, Space, Variable


def test_what_is_there_looks_the_same_from_elsewhere(space: Space, remote: RemoteSpace) -> None:
    assert list(remote) == list(space)
    assert len(remote) == 5
    assert remote
    assert "k" in remote
    assert "j" not in remote
    assert remote.version == space.version
    assert remote.values() == space.values()
    assert remote.snapshot() == space.snapshot()
    assert remote.get("temperature") == 0.5
    assert remote.definitions() == [space.entry(name).definition() for name in space]
    assert remote.at(2) == space.at(2)
    assert remote.history() == space.history()
    assert remote.history("k", 1) == space.history("k", 1)
    assert "RemoteSpace 'default'" in repr(remote)


def test_a_commit_is_the_owners_and_says_who_made_it(space: Space, remote: RemoteSpace) -> None:
    commit = remote.commit({"k": 8, "temperature": "1"}, author=Author("optimizer", "optuna", "trial 3", 0.75))
    assert commit.version == space.version
    assert {name: (change.before, change.value) for name, change in commit.changes.items()} == {
        "k": (4, 8),
        "temperature": (0.5, 1.0),
        "tokens": (360, 520),
    }
    assert commit.changes["tokens"].who == "derived"
    assert commit.author == Author("optimizer", "optuna", "trial 3", 0.75)
    assert space.values()["k"] == 8
    record = space.history("k", 1)[0]
    assert (record.who, record.author, record.why, record.score) == ("optimizer", "optuna", "trial 3", 0.75)
    back = remote.rollback(commit.version - 1, "k")
    assert (back.undone, back.changes["k"].value) == (commit.version - 1, 4)
    assert remote.rollback(commit.version, ["k"], author=Author(name="me")).author.name == "me"


def test_values_of_all_kinds_travel(space: Space, remote: RemoteSpace) -> None:
    demos = [{"question": "Where is my card?", "label": "card"}]
    assert remote.commit({"demos": demos}).changes["demos"].value == space.get("demos")
    assert remote.get("demos") == space.get("demos")
    assert [dict(demo) for demo in remote.get("demos")] == demos


def test_a_variable_elsewhere_is_used_as_one_here(space: Space, remote: RemoteSpace) -> None:
    k = remote["k"]
    assert isinstance(k, Variable)
    assert (k.value, k.default, k.derived, k.pinned, k.active, k.version) == (4, 4, None, False, True, space["k"].version)
    k.set(5, why="try")
    assert space.get("k") == 5
    assert k.history()[0].why == "try"
    k.pin()
    assert space["k"].pinned
    with pytest.raises(VariableError, match="'k' is pinned"):
        k.set(6)
    k.unpin()
    assert remote["tokens"].derived == "k * 40 + 200"
    assert repr(k) == repr(space["k"])
    with pytest.raises(VariableError, match="computed there"):
        assert remote.entry("tokens").derive({"k": 1})  # type: ignore[misc]
    with pytest.raises(VariableError, match="no variable 'kk'"):
        remote["kk"]


def test_errors_are_those_of_the_owner(space: Space, remote: RemoteSpace) -> None:
    seen = remote.snapshot()
    space.commit({"k": 5})
    with pytest.raises(VersionConflict, match="somebody else has written it") as conflict:
        remote.commit({"k": 6}, expect={"k": seen.versions["k"]})
    assert (conflict.value.name, conflict.value.expected, conflict.value.actual) == ("k", seen.versions["k"], space.version)
    assert conflict.value.hint == "Read it again and decide anew."
    with pytest.raises(VersionConflict):
        remote.commit({"k": 6}, expect=seen.version)
    with pytest.raises(ConstraintError) as broken:
        remote.commit({"k": 16, "temperature": 1.5})
    assert broken.value.constraint == "small"
    with pytest.raises(VariableError, match=r"'temprature'.*Did you mean 'temperature'"):
        remote.commit({"temprature": 1})
    with pytest.raises(VariableError) as wrong:
        remote.commit({"temperature": 9})
    with pytest.raises(VariableError) as same:
        space.commit({"temperature": 9})
    assert str(wrong.value) == str(same.value)
    with pytest.raises(VariableError, match="There is no version 99"):
        remote.rollback(99)
    with pytest.raises(VariableError, match="no number of values"):
        remote.history("k", -1)
    assert space.get("k") == 5


def test_what_was_defined_otherwise_meanwhile_is_asked_for_again(space: Space, remote: RemoteSpace) -> None:
    remote.commit({"k": 5})
    space.int("k", 0, 1000, default=4)
    space.drop("small")
    assert remote.commit({"k": 500}).changes["k"].value == 500
    space.float("later", 0, 1)
    remote.commit({"later": 0.25})
    assert remote.get("later") == 0.25


def test_two_kernels_count_up_and_no_update_is_lost(space: Space, served: Served, hub: Hub) -> None:
    space.int("count", 0, 1000, default=0)

    def count(times: int) -> None:
        with RemoteSpace(hub, timeout=30) as mine:
            while times:
                seen = mine.snapshot()
                try:
                    mine.commit({"count": seen.values["count"] + 1}, expect={"count": seen.versions["count"]})
                    times -= 1
                except VersionConflict:
                    continue

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(count, [10, 10, 10]))
    assert space.get("count") == 30
    assert [record.value for record in reversed(space.history("count"))] == list(range(31))
