"""What the pool itself does, over workers that are threads: who is let in, what is refused, how it starts and ends."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from pool_links import Nowhere

from dspex_lab.errors import ConfigurationError, PoolBusy, PoolError, Unserialisable, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec, _runtime, _worker
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._protocols import About
from dspex_lab.pools._runtime import Runtime
from dspex_lab.pools._wire import Pulse
from dspex_lab.pools._worker import describe
from dspex_lab.testing import FakePool
from dspex_lab.testing._fake_pool import FakeFleet

SPEC = PoolSpec("light", 1, MINIMUM_MEMORY, queue=2)


def run(pool: Pool, function: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(pool.call(function, *args, **options))


class Counted:
    """Counts how often it is packed."""

    packed = 0

    def __reduce__(self) -> Any:
        Counted.packed += 1
        return (int, (1,))


# ---- who is let in -------------------------------------------------------------------------------------------------


def test_no_more_calls_are_packed_than_may_wait() -> None:
    pool = FakePool(spec=SPEC)
    gate = threading.Event()
    gates["gate"] = gate
    Counted.packed = 0

    async def crowd() -> None:
        held = asyncio.ensure_future(pool.call(_hold))
        while not pool.status() or pool.status()[0]["state"] != "busy":  # noqa: ASYNC110
            await asyncio.sleep(0)
        going = [asyncio.ensure_future(pool.call(int, Counted())) for _ in range(10)]
        while pool.waiting < 10:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert Counted.packed == 2
        going.pop().cancel()
        gate.set()
        await held
        assert await asyncio.gather(*going) == [1] * 9

    asyncio.run(crowd())
    assert Counted.packed == 9
    assert pool.waiting == 0


gates: dict[str, threading.Event] = {}


def _hold() -> None:
    import test_pool_in_process

    test_pool_in_process.gates["gate"].wait()


def test_who_waits_to_be_packed_waits_no_longer_than_its_patience() -> None:
    pool = FakePool(spec=SPEC)

    async def crowd() -> None:
        async with pool.reserve():
            waiting = [asyncio.ensure_future(pool.call(abs, -i)) for i in range(2)]
            while pool.waiting < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            with pytest.raises(PoolBusy, match=r"orders waited .* 2 more wait") as caught:
                await pool.call(abs, -1, label="orders", patience=0.01)
            assert caught.value.pool == "light"
        assert await asyncio.gather(*waiting) == [0, 1]

    asyncio.run(crowd())


def test_what_cannot_be_packed_gives_its_place_back_and_starts_nothing() -> None:
    pool = FakePool(spec=SPEC)
    for _ in range(3):
        with pytest.raises(Unserialisable):
            run(pool, len, [threading.Lock()])
    assert not pool.started
    assert run(pool, abs, -1) == 1


def test_closing_refuses_those_who_wait_to_be_packed() -> None:
    pool = FakePool(spec=SPEC)

    async def crowd() -> list[Any]:
        async with pool.reserve():
            going = [asyncio.ensure_future(pool.call(abs, -i)) for i in range(4)]
            while pool.waiting < 4:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await asyncio.to_thread(pool.close)
            return await asyncio.gather(*going, return_exceptions=True)

    assert [str(error).split(".")[0] for error in asyncio.run(crowd())] == ["Pool 'light' is closed"] * 4
    with pytest.raises(PoolError, match="is closed"):
        pool.resize(2)
    with pytest.raises(PoolError, match="is closed"):
        asyncio.run(_reserve(pool))


async def _reserve(pool: Pool) -> None:
    async with pool.reserve():
        pass


def test_a_retried_call_runs_again_and_others_are_not_disturbed() -> None:
    told: list[Event] = []
    pool = FakePool(failures=[WorkerKilled("gone"), WorkerKilled("again")], emit=told.append)
    assert run(pool, abs, -1, idempotent=True) == 1
    assert [e.data["status"] for e in told if e.name == "pool.checkin" and e.data] == ["failed", "failed", "complete"]


def test_a_fake_worker_can_be_made_to_die() -> None:
    pool = FakePool("general", workers=1)
    gates["gate"] = threading.Event()

    async def die() -> None:
        going = asyncio.ensure_future(pool.call(_hold))
        while not pool.status() or pool.status()[0]["state"] != "busy":  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.to_thread(pool.die, "general-0", -11)
        with pytest.raises(WorkerKilled, match="SIGSEGV"):
            await going
        assert await pool.call(abs, -1) == 1

    asyncio.run(die())
    gates["gate"].set()
    pool.close()


# ---- start and end -------------------------------------------------------------------------------------------------


class Slow(FakePool):
    """Starts when it is let."""

    go: threading.Event
    error: Exception | None = None

    def _make_fleet(self, dispatcher: Dispatcher) -> FakeFleet:
        fleet, start = super()._make_fleet(dispatcher), FakeFleet.start

        async def slowly() -> None:
            await asyncio.to_thread(self.go.wait)
            if self.error is not None:
                raise self.error
            await start(fleet)

        fleet.start = slowly  # type: ignore[method-assign]
        return fleet


@pytest.fixture
def slow() -> Iterator[Slow]:
    pool = Slow("slow")
    pool.go = threading.Event()
    yield pool
    pool.go.set()
    pool.close()


def test_who_waits_for_a_start_waits_no_longer_than_its_patience(slow: Slow) -> None:
    with pytest.raises(PoolBusy, match="It has no worker yet"):
        run(slow, abs, -1, patience=0.01)
    assert slow.starting
    assert slow.status() == []
    assert slow.restart() is slow
    slow.go.set()
    assert run(slow, abs, -1) == 1


def test_a_pool_that_cannot_start_says_why_and_is_tried_again(slow: Slow) -> None:
    slow.error = OSError("no space")
    slow.go.set()
    for _ in range(2):
        with pytest.raises(PoolError, match="could not be started: OSError: no space"):
            run(slow, abs, -1)
    slow.error = None
    assert run(slow, abs, -1) == 1


def test_a_pool_is_resized_before_and_while_it_starts(slow: Slow) -> None:
    assert slow.resize(3).spec.workers == 3
    assert not slow.started
    slow.warm(wait=False)
    slow.resize(1, wait=False)
    slow.go.set()
    while slow.spec.workers != 1:
        threading.Event().wait(0.002)
    assert len(slow.status()) == 1
    assert "1 worker" in slow.spec.scaling


def test_a_pool_that_could_not_start_is_resized_for_its_next_start(slow: Slow) -> None:
    slow.error = OSError("no space")
    slow.go.set()
    with pytest.raises(PoolError, match="no space"):
        slow.warm()
    slow.error = None
    assert slow.resize(3).spec.workers == 3
    assert len(slow.warm().status()) == 3


def test_a_size_that_is_refused_changes_nothing(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(workers: int) -> None:
        raise error

    slow.go.set()
    before = slow.warm().spec
    monkeypatch.setattr(slow._fleet, "resize", refuse)
    error: Exception = ConfigurationError("The cluster has two.", key="workers")
    with pytest.raises(ConfigurationError, match="has two") as caught:
        slow.resize(5)
    assert caught.value.__cause__ is None
    error = OSError("no space")
    with pytest.raises(PoolError, match="'slow' could not be resized: OSError: no space"):
        slow.resize(5)
    with pytest.raises(ConfigurationError):
        slow.resize(0)
    slow.close()
    with pytest.raises(PoolError, match="closed"):
        slow.resize(5)
    assert slow.spec is before


@pytest.mark.parametrize("own", [True, False])
def test_closing_a_pool_that_starts_does_not_wait_for_its_workers_and_leaves_nothing(
    own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = threading.Event()
    closed: list[FakeFleet] = []

    class Never(FakeFleet):
        async def start(self) -> None:
            starting.set()
            await asyncio.Event().wait()

        async def close(self) -> None:
            await asyncio.sleep(0)
            closed.append(self)

    monkeypatch.setattr(Nowhere, "fleet", lambda _, spec, dispatcher: Never(spec, dispatcher, deque()))
    cluster = Nowhere()
    runtime = Runtime(lambda: cluster)
    pool = Pool(SPEC, None, None if own else runtime)
    pool._runtime = runtime
    thread = None

    async def called() -> Any:
        nonlocal thread
        going = asyncio.ensure_future(pool.call(abs, -1))
        await asyncio.to_thread(starting.wait)
        thread = runtime._thread
        await asyncio.to_thread(pool.close)
        async with asyncio.timeout(60):  # it has been told already
            return await asyncio.gather(going, return_exceptions=True)

    [error] = asyncio.run(called())
    assert isinstance(error, PoolError)
    assert "Pool 'light' is closed" in str(error)
    assert len(closed) == 1
    assert not pool.starting
    assert pool._ended is not None
    assert pool._ended.result(0) is None  # in order, and not because its loop was ended under it
    runtime.close()
    assert cluster.closed == 1
    assert thread is not None
    assert not thread.is_alive()


def test_a_worker_whose_process_is_gone_or_is_elsewhere_has_the_memory_that_is_known() -> None:
    async def describe_all() -> list[Any]:
        dispatcher = Dispatcher("p")
        gone = dispatcher.born("gone", 2**22 + 1, 1)
        far = dispatcher.born("far", 1, 1, About(host="elsewhere", local=False))
        far.pulse = Pulse(50, 100, 1.0, 0)
        dead = dispatcher.born("dead", 1, 1)
        dispatcher.died("dead", -9, memory=False)
        return [(row["name"], row["rss"], row["pss"], row["host"]) for row in map(describe, (gone, far, dead))]

    assert asyncio.run(describe_all()) == [
        ("gone", None, None, "127.0.0.1"),
        ("far", 100, 50, "elsewhere"),
        ("dead", None, None, "127.0.0.1"),
    ]


def test_a_worker_that_answers_while_it_is_described_was_not_seen_in_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    async def describe_it() -> dict[str, Any]:
        worker = Dispatcher("p").born("one", 1, 1)

        def answers(pid: int) -> tuple[None, None]:
            worker.seen = time.monotonic()
            return None, None

        monkeypatch.setattr(_worker, "_memory", answers)
        return describe(worker)

    row = asyncio.run(describe_it())
    assert row["age"] >= row["seen"] >= 0


def test_a_reservation_says_what_it_is() -> None:
    pool = FakePool("light")

    async def reserve() -> str:
        async with pool.reserve() as reservation:
            return repr(reservation)

    assert re.fullmatch(r"<Reservation \w{12}: worker light-\d of pool 'light'>", asyncio.run(reserve()))
    assert "light" in repr(pool)


def test_closing_from_the_pools_own_thread_does_not_wait_for_itself() -> None:
    pool = FakePool("general")

    def close(event: Event) -> None:
        if event.name == "pool.checkin":
            pool.close()

    pool._emit = close
    assert run(pool, abs, -1) == 1
    with pytest.raises(PoolError, match="closed"):
        run(pool, abs, -1)


def test_a_pool_of_its_own_that_cannot_start_leaves_no_thread_and_can_be_started_again() -> None:
    cluster = Nowhere()
    refuse = [True]

    def make() -> Nowhere:
        if refuse.pop():
            raise OSError("no space")
        return cluster

    pool = Pool(SPEC)
    pool._runtime = Runtime(make)
    before = set(threading.enumerate())
    with pytest.raises(PoolError, match="no space"):
        pool.warm()
    while any(t.name == "dspex-pools" for t in threading.enumerate() if t not in before):
        threading.Event().wait(0.001)
    refuse.append(False)
    assert run(pool, abs, -1) == 1
    pool.close()
    assert cluster.closed == 1


def test_whatever_is_open_at_exit_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    monkeypatch.setattr(_runtime, "_open", weakref.WeakSet())
    cluster = Nowhere()
    pool = Pool(SPEC)
    pool._runtime = Runtime(lambda: cluster)
    pool.warm()
    _runtime.close_all()
    assert (cluster.closed, pool.started) == (1, False)
