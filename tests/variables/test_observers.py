"""Who is told of commits: once, in order, outside the lock, whatever another observer does."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import deque
from typing import Any

import pytest

from dspex_lab.errors import VariableError
from dspex_lab.variables import Author, Commit, Space


@pytest.fixture
def space() -> Space:
    made = Space()
    made.int("a", 0, 10_000, default=0)
    made.int("b", 0, 10_000, default=0)
    return made


def test_an_observer_is_told_once_per_commit_of_what_it_wants_to_hear(space: Space) -> None:
    every: list[int] = []
    some: list[int] = []
    space.observe(lambda commit: every.append(commit.version))
    space["b"].observe(lambda commit: some.append(commit.version))
    space.observe(lambda commit: some.append(-commit.version), ["a", "b"])
    space.commit({"a": 1, "b": 1})
    space.commit({"a": 2})
    assert every == [3, 4]
    assert some == [3, -3, -4]


def test_an_observer_hears_of_what_is_derived(space: Space) -> None:
    told: list[Commit] = []
    space.derive("sum", "a + b")
    space["sum"].observe(told.append)
    space["a"].value = 4
    assert told[0].changes["sum"].value == 4


def test_an_observer_is_told_no_more_when_it_has_gone(space: Space) -> None:
    told: list[int] = []
    stop = space.observe(lambda commit: told.append(commit.version), "a")
    space["a"].value = 1
    stop()
    stop()
    space["a"].value = 2
    assert told == [3]
    assert len(space._observers) == 0


def test_an_observer_that_another_one_takes_away_is_not_told_of_the_same_commit(space: Space) -> None:
    told: list[int] = []
    space.observe(lambda commit: stop())
    stop = space.observe(lambda commit: told.append(commit.version))
    space["a"].value = 1
    assert told == []


def test_one_that_raises_is_logged_once_and_breaks_nothing(space: Space, caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []

    def broken(commit: Commit) -> None:
        raise RuntimeError("the widget is gone")

    space.observe(broken)
    space.observe(lambda commit: told.append(commit.version))
    with caplog.at_level(logging.ERROR, "dspex_lab"):
        space["a"].value = 1
        space["a"].value = 2
    assert told == [3, 4]
    assert [record.message for record in caplog.records] == [
        "an observer of variables raised; it will go on being told, and this is said once"
    ]


def test_an_interrupt_loses_nobody_a_commit(space: Space) -> None:
    told: list[int] = []
    pressed = [True]

    def interrupted(commit: Commit) -> None:
        if pressed.pop() if pressed else False:
            raise KeyboardInterrupt

    space.observe(interrupted)
    space.observe(lambda commit: told.append(commit.version))
    with pytest.raises(KeyboardInterrupt):
        space["a"].value = 1
    assert (space.get("a"), told) == (1, [])
    space["a"].value = 2
    assert told == [3, 4]


def test_a_commit_that_an_observer_makes_is_told_of_after_its_own(space: Space) -> None:
    told: list[tuple[str, int]] = []

    def react(commit: Commit) -> None:
        told.append(("first", commit.version))
        if "a" in commit.changes:
            space["b"].value = space.get("a") * 2

    space.observe(react)
    space.observe(lambda commit: told.append(("second", commit.version)))
    space["a"].value = 5
    assert told == [("first", 3), ("second", 3), ("first", 4), ("second", 4)]
    assert space.get("b") == 10


def test_threads_commit_and_all_is_told_in_the_order_of_versions(space: Space) -> None:
    told: list[int] = []
    space.observe(lambda commit: told.append(commit.version))

    def write(name: str) -> None:
        for number in range(1, 201):
            space.commit({name: number})

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == list(range(3, 403))


def test_observers_are_told_without_the_lock_so_others_commit_meanwhile(space: Space) -> None:
    inside, done = threading.Event(), threading.Event()
    told: list[int] = []

    def slow(commit: Commit) -> None:
        told.append(commit.version)
        inside.set()
        assert done.wait(30)

    space.observe(slow)
    first = threading.Thread(target=lambda: space.commit({"a": 1}))
    first.start()
    assert inside.wait(30)
    second = space.commit({"a": 2})  # neither waits for the observer nor is told of by it twice
    assert (second.version, told) == (4, [3])
    done.set()
    first.join()
    assert told == [3, 4]


def test_what_is_no_observer_is_refused(space: Space) -> None:
    with pytest.raises(VariableError, match="a function of a commit or a variable, found int"):
        space.observe(5)  # type: ignore[arg-type]


# ---- another variable ------------------------------------------------------------------------------------------------


def test_a_variable_follows_another_one_by_cast_also_of_another_space(space: Space) -> None:
    other = Space("other")
    share = other.float("share", 0, 100)
    stop = space["a"].observe(share)
    assert share.value == 0.0
    space.commit({"a": 7}, author=Author("optimizer", "tune"))
    assert share.value == 7.0
    last = share.history(1)[0]
    assert (last.who, last.author, last.why) == ("optimizer", "tune", "follows 'a'")
    space["b"].value = 3
    assert share.value == 7.0
    stop()
    space["a"].value = 8
    assert share.value == 7.0


def test_a_follower_that_cannot_take_a_value_keeps_its_own_and_it_is_logged(
    space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    small = space.int("small", 0, 5)
    space["a"].observe(small)
    space["a"].value = 9
    assert (space.get("a"), small.value) == (9, 0)
    assert "above its range, 0 to 5" in caplog.text
    space["a"].value = 4
    assert small.value == 4
    with pytest.raises(VariableError, match="above its range"):
        space["b"].set(9) and space["b"].observe(small)


def test_two_that_follow_each_other_come_to_rest(space: Space) -> None:
    space["a"].observe(space["b"])
    space["b"].observe(space["a"])
    space["a"].value = 3
    space["b"].value = 6
    assert space.values() == {"a": 6, "b": 6}


def test_a_variable_follows_one_other(space: Space) -> None:
    with pytest.raises(VariableError, match="cannot follow itself"):
        space["a"].observe(space["a"])
    for names in (None, ["a", "b"]):
        with pytest.raises(VariableError, match="follows one variable"):
            space.observe(space["b"], names)


# ---- an async queue --------------------------------------------------------------------------------------------------


def test_commits_come_as_an_async_queue_from_whatever_thread(space: Space) -> None:
    async def main() -> list[int]:
        async with space.watch() as commits:
            thread = threading.Thread(target=lambda: [space.commit({"a": n}) for n in range(1, 51)])
            thread.start()
            found = [(await commits.get()).version for _ in range(50)]
            thread.join()
            return found

    assert asyncio.run(main()) == list(range(3, 53))


def test_a_watch_waits_without_a_thread_and_ends_when_it_is_closed(space: Space) -> None:
    async def main() -> list[int]:
        watch = space.watch(["b"])
        found: list[int] = []
        came = asyncio.Event()

        async def take() -> None:
            async for commit in watch:
                found.append(commit.version)
                came.set()

        task = asyncio.create_task(take())
        await asyncio.sleep(0)
        space["a"].value = 1
        space["b"].value = 1
        await came.wait()
        space["b"].value = 2
        assert len(watch) == 1
        watch.close()
        watch.close()
        space["b"].value = 3
        await task
        return found

    assert asyncio.run(main()) == [4, 5]
    assert len(space._observers) == 0


def test_two_tasks_share_what_a_watch_gives_and_both_end_with_it(space: Space) -> None:
    async def main() -> list[int]:
        found: list[int] = []
        watch = space.watch()
        taken = asyncio.Event()

        async def take() -> None:
            async for commit in watch:
                found.append(commit.version)
                if len(found) == 10:
                    taken.set()

        tasks = [asyncio.create_task(take()) for _ in range(2)]
        for number in range(1, 11):
            space["a"].value = number
            await asyncio.sleep(0)
        await taken.wait()
        watch.close()
        await asyncio.gather(*tasks)
        return found

    assert sorted(asyncio.run(main())) == list(range(3, 13))


def test_a_watch_whose_loop_is_gone_keeps_what_comes_for_the_next_one(space: Space) -> None:
    with space.watch() as watch:

        async def give_up() -> None:
            task = asyncio.create_task(watch.get())
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(give_up())
        space["a"].value = 1
        assert asyncio.run(one(watch)).version == 3


async def one(watch: Any) -> Commit:
    found: Commit = await watch.get()
    return found


def test_a_watch_that_nobody_has_any_more_is_told_nothing(space: Space) -> None:
    async def main() -> None:
        async for commit in space.watch():
            assert commit.version == 3
            break

    async def both() -> None:
        task = asyncio.create_task(main())
        await asyncio.sleep(0)
        space["a"].value = 1
        await task

    asyncio.run(both())
    gc.collect()
    assert len(space._observers) == 0


def test_who_asks_a_watch_again_and_again_under_a_time_limit_leaves_nothing_behind(space: Space) -> None:
    async def main() -> None:
        with space.watch() as watch:
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(watch.get(), 0.001)
            assert watch._waiters == []
            space["a"].value = 1
            assert (await watch.get()).version == 3

    asyncio.run(main())


# ---- races -------------------------------------------------------------------------------------------------------------


def test_a_commit_between_the_first_value_and_the_following_is_not_lost(space: Space) -> None:
    """The follower's first commit is held up; meanwhile the leader goes on."""
    other = Space("other")
    share = other.float("share", 0, 100, default=50)
    begun, go_on, written = threading.Event(), threading.Event(), threading.Event()
    space.observe(lambda commit: written.set())

    def slow(commit: Commit) -> None:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(30)

    other.observe(slow)
    thread = threading.Thread(target=lambda: space["a"].observe(share))
    thread.start()
    assert begun.wait(30)
    second = threading.Thread(target=lambda: space.commit({"a": 7}))
    second.start()
    assert written.wait(30)
    go_on.set()
    thread.join()
    second.join()
    assert share.value == 7.0


def test_another_thread_may_take_the_last_event_between_a_look_and_a_take() -> None:
    class Seen(deque[Any]):
        def __bool__(self) -> bool:
            return True

    told: list[str] = []
    space = Space(emit=lambda event: told.append(event.name))
    space._unsaid = Seen()
    space.int("a", 0, 9)
    assert told == ["variable.define", "variable.commit"]
