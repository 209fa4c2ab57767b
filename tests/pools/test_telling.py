"""What a call tells on its way, as it sees it in a worker."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from host_calls import PLACE, SHARED, Going, told
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import Unserialisable
from dspex_lab.pools import _outbox
from dspex_lab.pools._carry import decode, pack
from dspex_lab.pools._frames import pack as pack_value
from dspex_lab.pools._frames import unpack
from dspex_lab.pools._host import KEPT, Host
from dspex_lab.pools._outbox import Outbox
from dspex_lab.pools._task import Progress, TaskCancelled, current_task, progress, tell
from dspex_lab.pools._wire import Pulled


def count(n: int) -> Any:
    yield from range(n)
    return "end"


async def acount(n: int) -> Any:
    for i in range(n):
        yield i


def tells(n: int) -> str:
    for i in range(n):
        tell(i)
    progress(n, 2 * n, "half")
    return "end"


async def atells(n: int) -> str:
    for i in range(n):
        await current_task().atell(i)
        await asyncio.sleep(0)
    return "end"


async def makes(n: int) -> Any:
    return count(n)


@pytest.mark.parametrize(
    ("function", "result", "more"),
    [
        (count, "end", []),
        (acount, None, []),
        (tells, "end", [Progress(1000, 2000, "half")]),
        (atells, "end", []),
        (makes, "end", []),
    ],
)
def test_what_is_told_arrives_in_order_and_complete(function: Any, result: Any, more: list[Any]) -> None:
    host = Host()
    going = Going(host, function, 1000)
    assert told(host) == [*range(1000), *more]
    assert going.result() == result


def test_who_tells_waits_until_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outbox, "COUNT", 3)
    host = Host()
    going = Going(host, steps, 10)
    for _ in range(3):
        assert SHARED.setdefault("made", threading.Semaphore(0)).acquire(timeout=10)
    assert not SHARED["made"].acquire(timeout=0.05)
    assert told(host) == list(range(10))
    assert going.result() is None


def steps(n: int) -> Any:
    for i in range(n):
        if i:
            SHARED.setdefault("made", threading.Semaphore(0)).release()
        yield i


def test_large_chunks_fill_the_box_sooner_but_one_always_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outbox, "BYTES", 1000)

    def never() -> None:
        raise TaskCancelled

    box = Outbox()
    box.put(pack_value("x" * 5000), lambda: None)
    with pytest.raises(TaskCancelled):
        box.put(pack_value("y"), never)

    async def rest() -> None:
        putting = asyncio.ensure_future(box.aput(pack_value("y"), lambda: None))
        await asyncio.sleep(0)
        assert not putting.done()
        assert [unpack(c) for c in (await box.pull(10)).chunks] == ["x" * 5000]
        await putting
        assert [unpack(c) for c in (await box.pull(10)).chunks] == ["y"]

    asyncio.run(rest())


def test_a_pull_that_finds_nothing_in_time_says_so_and_may_ask_again() -> None:
    host = Host()
    assert Pulled.from_wire(asyncio.run(host.pull("7", 0.01))) == Pulled([], done=False)
    going = Going(host, count, 3)
    assert told(host) == [0, 1, 2]
    assert going.result() == "end"


def test_what_was_told_before_a_failure_is_not_lost() -> None:
    def fails() -> Any:
        yield 1
        raise ValueError("after one")

    host = Host()
    going = Going(host, fails)
    assert told(host) == [1]
    with pytest.raises(ValueError, match="after one"):
        going.result()


def test_a_call_that_is_missing_is_told_of_when_it_comes() -> None:
    host = Host()
    task = pack(count, (2,), pool="p")
    assert host.work(task.call("7", send=False, streams=True)).kind == "missing"
    going = Going(host, count, 2)
    assert told(host) == [0, 1]
    assert going.result() == "end"


def test_without_a_reader_nothing_is_kept() -> None:
    host = Host()
    assert Going(host, tells, 10 * _outbox.COUNT, streams=False).result() == "end"
    with pytest.raises(Unserialisable, match=r"result is a generator .*pool\.stream"):
        Going(host, count, 3, streams=False).result()


def test_streams_that_nobody_fetches_are_forgotten() -> None:
    host = Host()
    Going(host, count, 2, name="old").reply()
    for number in range(KEPT):
        host._outbox(str(number))
    assert "old" not in host._outboxes
    assert len(host._outboxes) == KEPT


def test_what_cannot_be_told_is_named() -> None:
    host = Host()
    going = Going(host, lambda: tell({"lock": threading.Lock()}))
    assert told(host) == []
    with pytest.raises(Unserialisable, match=r"what it tells cannot be sent") as caught:
        going.result()
    assert caught.value.path == "told['lock']"


def test_outside_a_task_there_is_nobody_to_tell() -> None:
    tell(object)
    progress(1)
    task = current_task()
    assert (task.label, task.worker, task.folder, task.cancelled) == ("", "", "", False)
    asyncio.run(task.atell(3))


def test_a_task_knows_what_it_is_and_where() -> None:
    def me() -> Any:
        task = current_task()
        return task.label, task.worker, task.folder

    host = Host(worker="p-3", folder="/workspace")
    assert decode(host.work(pack(me, (), pool="p", label="orders").call("7", send=True)), **PLACE) == (
        "orders",
        "p-3",
        "/workspace",
    )
    assert current_task().label == ""


@settings(max_examples=30)
@given(st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=30), st.integers(1, 5), st.booleans())
def test_any_sequence_arrives_whatever_the_room(values: list[Any], room: int, awaited: bool) -> None:
    box, got = Outbox(), []

    def put() -> None:
        for value in values:
            box.put(pack_value(value), lambda: None)
        box.close()

    async def aput() -> None:
        for value in values:
            await box.aput(pack_value(value), lambda: None)
        box.close()

    async def fetch() -> None:
        putting = aput() if awaited else asyncio.to_thread(put)
        task = asyncio.ensure_future(putting)
        done = False
        while not done:
            pulled = await box.pull(10)
            got.extend(map(unpack, pulled.chunks))
            done = pulled.done
        await task

    before, _outbox.COUNT = _outbox.COUNT, room
    try:
        asyncio.run(fetch())
    finally:
        _outbox.COUNT = before
    assert got == values
