"""Commits told elsewhere: once and in order, whatever was lost on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from remote_helpers import TOLD, Heard, Hub

from dspex_lab.variables import Author, Commit, RemoteSpace, Served, Space


def test_commits_are_told_once_and_in_order(space: Space, remote: RemoteSpace) -> None:
    heard, only_k = Heard(), Heard()
    end = remote.observe(heard)
    remote.observe(only_k, "k")
    first = space.version + 1
    for number in range(20):
        space.commit({"k": number % 15 + 1} if number % 2 else {"temperature": number / 20 + 0.01})
    assert heard.wait(20) == list(range(first, first + 20))
    only_k.wait(10)
    assert all("k" in commit.changes for commit in only_k.commits)
    assert len(only_k.commits) == 10
    assert heard.commits[1].changes == space_commit(space, first + 1)
    end()
    space.commit({"k": 0})
    only_k.wait(11)
    assert len(heard.commits) == 20


def space_commit(space: Space, version: int) -> dict[str, Any]:
    """The changes of a version, by what the journal says."""
    from dspex_lab.variables import Change

    records = [record for record in space.history() if record.version == version]
    before = {record.name: record for record in space.history()}
    values = {(record.name, record.version): record.value for record in space.history()}
    assert before
    return {r.name: Change(r.name, values.get((r.name, r.parent)), r.value, r.parent, r.who) for r in reversed(records)}  # type: ignore[arg-type]


def test_commits_that_were_lost_on_the_way_are_asked_for(space: Space, remote: RemoteSpace, hub: Hub) -> None:
    heard = Heard()
    remote.observe(heard)
    first = space.version + 1
    hub.lose = lambda topic, message: "commit" in message and message["commit"]["version"] in (first, first + 2, first + 3)
    for number in range(5):
        space.commit({"k": number})
    assert heard.wait(5) == list(range(first, first + 5))
    hub.lose = lambda topic, message: "commit" in message  # the last ones too: nothing comes after them
    space.commit({"k": 9})
    assert heard.wait(6)[-1] == first + 5


def test_commits_older_than_what_is_kept_come_from_the_journal(
    space: Space, remote: RemoteSpace, hub: Hub, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex_lab.variables._remote_deeds._ANSWER", 1000)
    heard = Heard()
    remote.observe(heard)
    first = space.version + 1
    hub.down = True
    for number in range(12):
        space.commit({"k": number % 2}, author=Author("optimizer", "optuna", f"trial {number}", number / 20))
    while len(served._deeds._kept) > 3:
        served._deeds._kept.popleft()
    hub.down = False
    assert heard.wait(12) == list(range(first, first + 12))
    commit = heard.commits[1]
    assert commit.author == Author("optimizer", "optuna", "trial 1", 0.05)
    assert commit.changes["k"].value == 1
    assert commit.changes["k"].before == 0
    assert commit.changes["tokens"].who == "derived"


def test_commits_that_are_told_twice_are_heard_once(space: Space, remote: RemoteSpace, hub: Hub) -> None:
    heard = Heard()
    remote.observe(heard)
    commit = space.commit({"k": 1})
    heard.wait(1)
    told = next(message for topic, message in hub.sent if "commit" in message)
    hub.publish(TOLD, told)
    hub.publish(TOLD, told)
    space.commit({"k": 2})
    assert heard.wait(2) == [commit.version, commit.version + 1]


def test_an_async_loop_watches(space: Space, remote: RemoteSpace) -> None:
    async def main() -> list[Any]:
        async with remote.watch("k") as watch:
            await asyncio.to_thread(space.commit, {"temperature": 1.0})
            await asyncio.to_thread(space.commit, {"k": 1})
            await asyncio.to_thread(space.commit, {"k": 2})
            return [(await watch.get()).changes["k"].value, (await watch.get()).changes["k"].value]

    assert asyncio.run(main()) == [1, 2]


def test_a_variable_here_follows_one_elsewhere(space: Space, remote: RemoteSpace) -> None:
    mine = Space("mine")
    k = mine.int("k", 0, 16)
    heard = Heard()
    mine.observe(heard)
    remote["k"].observe(k)
    assert k.value == 4
    space.commit({"k": 9})
    heard.wait(2)
    assert k.value == 9


def test_an_observer_may_ask_the_owner_and_may_raise(
    space: Space, remote: RemoteSpace, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    def answers(commit: Commit) -> None:
        if commit.changes["k"].value == 1:
            remote.commit({"k": 2})
        raise ZeroDivisionError

    remote.observe(answers, ["k"])
    remote.observe(heard, ["k"])
    space.commit({"k": 1})
    heard.wait(2)
    assert [commit.changes["k"].value for commit in heard.commits] == [1, 2]
    assert caplog.text.count("an observer of variables raised") == 1


def test_a_commit_that_could_not_be_kept_for_others_comes_from_the_journal(
    space: Space, remote: RemoteSpace, served: Served, hub: Hub
) -> None:
    heard = Heard()
    remote.observe(heard)
    first = space.version + 1
    hub.lose = lambda topic, message: "commit" in message
    for number in range(3):
        space.commit({"k": number})
    kept = served._deeds._kept
    del kept[1]
    hub.lose = lambda topic, message: False
    assert heard.wait(3) == [first, first + 1, first + 2]


def test_who_has_missed_nothing_is_told_so_without_the_journal(
    space: Space, remote: RemoteSpace, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "history", None)
    assert remote._caller.ask("since", {"after": space.version}) == {"version": space.version, "commits": []}
    space.commit({"k": 9})
    assert [each["version"] for each in remote._caller.ask("since", {"after": space.version - 1})["commits"]] == [space.version]
