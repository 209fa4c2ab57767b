"""Values of a space: versions, compare-and-set, pins, leases and events."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from space_helpers import Clock, space

from dspex_lab.errors import LeaseError, StoreError, VariableError, VersionConflict
from dspex_lab.events import Event
from dspex_lab.variables import Author, MemoryJournal, Space

__all__ = ["space"]


def test_each_commit_makes_the_next_version_and_says_what_it_changed(space: Space) -> None:
    assert space.version == 2
    author = Author("optimizer", "tune-1", "trial 7", 0.81)
    commit = space.commit({"t": "0.7", "k": 8}, author=author)
    assert (commit.version, commit.author, space.version) == (3, author, 3)
    change = commit.changes["t"]
    assert (change.before, change.value, change.parent, change.who) == (0.5, 0.7, 1, "optimizer")
    assert (space["t"].version, space["k"].version, space["t"].value, space["t"].get()) == (3, 3, 0.7, 0.7)
    with pytest.raises(TypeError):
        commit.changes["t"] = change  # type: ignore[index]


def test_a_commit_that_changes_nothing_makes_no_version(space: Space) -> None:
    told: list[Any] = []
    space.observe(told.append)
    commit = space.commit({"t": 0.5, "k": "4"})
    assert (commit.version, commit.changes, space.version, told) == (2, {}, 2, [])
    assert len(space.history()) == 2


def test_a_commit_is_whole_or_not_at_all(space: Space) -> None:
    with pytest.raises(VariableError, match="'k' cannot be 99"):
        space.commit({"t": 1, "k": 99})
    assert (space.values(), space.version) == ({"t": 0.5, "k": 4}, 2)


def test_what_is_no_commit_is_refused_in_words(space: Space) -> None:
    for act, said in (
        (lambda: space.commit([("t", 1)]), "a dict from names, found list"),  # type: ignore[arg-type]
        (lambda: space.commit({"t": 1}, expect="2"), "expect='2' is no version"),  # type: ignore[arg-type]
        (lambda: space.commit({"t": 1}, expect=True), "expect=True is no version"),
        (lambda: space.commit({"t": 1}, author="me"), "An author is an Author, found 'me'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(VariableError, match=said):
            act()
    assert space.version == 2


def test_a_variable_is_set_with_a_reason_and_a_score(space: Space) -> None:
    space["t"].set(0.9, why="warmer is better", score=0.8)
    space["t"].value = 1.0
    last, before = space["t"].history(2)
    assert (before.value, before.why, before.score, before.who) == (0.9, "warmer is better", 0.8, "person")
    assert (last.value, last.parent, last.version) == (1.0, 3, 4)


# ---- compare and set -------------------------------------------------------------------------------------------------


def test_a_commit_for_an_older_version_is_refused(space: Space) -> None:
    read = space.version
    space["t"].value = 0.6
    with pytest.raises(VersionConflict, match="The space is at version 3 and no longer at 2") as caught:
        space.commit({"k": 5}, expect=read)
    assert (caught.value.expected, caught.value.actual) == (2, 3)
    with pytest.raises(VersionConflict, match="Variable 't' is at version 3 and no longer at 1") as caught:
        space.commit({"k": 5}, expect={"t": 1, "k": 2})
    assert (caught.value.name, caught.value.expected, caught.value.actual) == ("t", 1, 3)
    space.commit({"k": 5}, expect={"k": 2})
    space.commit({"k": 6}, expect=4)
    assert space.get("k") == 6


class Alone(MemoryJournal):
    """Sees to it that nobody else writes, or decides what to write, meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.overlaps = False, 0

    def alone(self) -> None:
        self.overlaps += self.busy
        self.busy = True
        time.sleep(0)  # lets another thread in, if anything does
        self.busy = False

    def write(self, records: Any) -> None:
        self.alone()
        super().write(records)


def test_commits_are_decided_and_written_one_after_another() -> None:
    journal = Alone()
    space = Space(journal=journal)
    for name in "abc":
        space.int(name, 0, 1000, default=0)
    space.derive("sum", lambda a, b, c: journal.alone() or a + b + c)

    def write(name: str) -> None:
        for number in range(1, 101):
            space.commit({name: number})

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.overlaps == 0
    assert space.values() == {"a": 100, "b": 100, "c": 100, "sum": 300}
    assert space.version == 304
    versions = [record.version for record in space.history("sum")]
    assert versions == list(range(304, 3, -1))


def test_threads_that_compare_and_set_lose_no_update(space: Space) -> None:
    space.int("count", 0, 10_000, default=0)
    conflicts = []

    def add() -> None:
        for _ in range(100):
            while True:
                seen = space.snapshot()
                try:
                    space.commit({"count": seen.values["count"] + 1}, expect={"count": seen.versions["count"]})
                except VersionConflict as error:
                    conflicts.append(error)
                else:
                    break

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert space.get("count") == 400
    versions = [record.version for record in space.history("count")]
    assert versions == sorted(versions, reverse=True)
    assert len(set(versions)) == 401


def test_readers_never_see_half_a_commit(space: Space) -> None:
    space.int("a", 0, 10_000, default=0)
    space.int("b", 0, 10_000, default=0)
    space.derive("c", "a * 2")
    done, torn = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            values = space.snapshot().values
            if not values["a"] == values["b"] == values["c"] / 2:
                torn.append(values)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        space.commit({"a": number, "b": number})
    done.set()
    reader.join()
    assert torn == []


# ---- pins ------------------------------------------------------------------------------------------------------------


def test_a_pinned_variable_keeps_its_value_until_it_is_unpinned(space: Space) -> None:
    assert space["t"].pin().pinned
    for act in (lambda: space.commit({"t": 1, "k": 5}), lambda: space["t"].set(1)):
        with pytest.raises(VariableError, match="Variable 't' is pinned and keeps its value"):
            act()
    space.commit({"t": 0.5, "k": 5})
    assert space.get("k") == 5
    with pytest.raises(VariableError, match="pinned"):
        space["t"].unpin().set(1) and space["t"].pin() and space.rollback(1)  # type: ignore[func-returns-value]
    space.pin("t", "k")
    space.unpin("t", "k")
    space["t"].value = 1.5
    assert not space["t"].pinned


# ---- leases, journal, functions --------------------------------------------------------------------------------------


def test_a_leased_variable_is_written_under_its_lease_alone(space: Space) -> None:
    lease = space.lease("t", owner="GEPA")
    with pytest.raises(LeaseError, match="leased to 'GEPA'") as caught:
        space.commit({"t": 1, "k": 5})
    assert caught.value.holder == "GEPA"
    space.commit({"t": 0.5, "k": 5})  # nothing is written to t
    with pytest.raises(LeaseError, match="leased to 'GEPA'"):
        space["t"].rollback(1) if lease.commit({"t": 1}) else None
    with pytest.raises(LeaseError, match="not in the lease"):
        lease.commit({"k": 1})
    commit = lease.commit({"t": 1.5}, why="reflected", score=0.9)
    assert (commit.fence, commit.author.name, commit.author.who) == (lease.fence, "GEPA", "optimizer")
    assert space.rollback(1, "t", lease=lease).changes.keys() == {"t"}
    lease.release()
    with pytest.raises(LeaseError, match="was released"):
        lease.commit({"t": 0.5})  # also where it would change nothing
    assert space.history("t", 2)[1].fence == lease.fence
    assert [status.state for status in space.leases()] == []


async def hold(space: Space) -> str:
    async with space.alease("t", "k", owner="tune") as lease:
        lease.commit({"t": 1.9, "k": 1})
        return space.leases()[0].owner


def test_a_lease_can_be_awaited_and_broken(space: Space) -> None:
    import asyncio

    assert asyncio.run(hold(space)) == "tune"
    lease = space.lease("t", owner="GEPA")
    assert space.break_lease("t", "it hangs").lease.owner == "GEPA"
    with pytest.raises(LeaseError, match="it hangs"):
        lease.commit({"t": 0.1})
    space["t"].value = 0.2


class Full(MemoryJournal):
    full = False

    def write(self, records: Any) -> None:
        if self.full:
            raise StoreError("the disk is full")
        super().write(records)


def test_what_the_journal_refuses_does_not_happen() -> None:
    journal = Full()
    space = Space(journal=journal)
    space.float("t", 0, 2, default=0.5)
    told: list[Any] = []
    space.observe(told.append)
    journal.full = True
    with pytest.raises(StoreError):
        space["t"].value = 1
    with pytest.raises(StoreError):
        space.float("u", 0, 1)
    assert (space.values(), space.version, told, "u" in space) == ({"t": 0.5}, 1, [], False)
    journal.full = False
    space["t"].value = 1
    assert [commit.version for commit in told] == [2]


def test_a_function_that_derives_may_read_and_not_write(space: Space) -> None:
    def sneaky(t: float) -> float:
        if t > 1:
            space["k"].value = 1
        return t * space.snapshot().values["k"]

    space.derive("s", sneaky)
    assert space.get("s") == 2
    with pytest.raises(VariableError, match="has written to its space"):
        space["t"].value = 1.5
    space["t"].value = 0.25
    assert space.get("s") == 1


# ---- events ----------------------------------------------------------------------------------------------------------


def test_events_say_what_happened() -> None:
    events: list[Any] = []
    space = Space("mine", clock=Clock(), emit=events.append)
    space.float("t", 0, 2, default=0.5)
    space.commit({"t": 1}, author=Author("optimizer", "o", "w", 0.5))
    space.rollback(1)
    space.pin("t")
    space.lease("t", owner="o").release()
    assert all(isinstance(event, Event) for event in events)
    names = [event.name for event in events]
    assert names == [
        *("variable.define", "variable.commit", "variable.commit", "variable.rollback"),
        *("variable.pin", "variable.lease", "variable.release"),
    ]
    assert events[2].data == {
        "space": "mine",
        "version": 2,
        "names": ["t"],
        "count": 1,
        "who": "optimizer",
        "author": "o",
        "why": "w",
        "score": 0.5,
        "fence": None,
        "undone": None,
    }
    assert events[3].data["undone"] == 1
    assert events[4].data == {"space": "mine", "names": ["t"], "pinned": True}


def test_whoever_hears_of_an_event_may_write() -> None:
    def react(event: Any) -> None:
        if event.name == "variable.pin":
            space["k"].value = 7

    space = Space(emit=react)
    space.float("t", 0, 2)
    space.int("k", 0, 9, default=1)
    space.pin("t")
    assert space.get("k") == 7
