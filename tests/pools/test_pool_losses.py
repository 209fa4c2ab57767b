"""Workers of the real pool that die, use up what they may, or are worn: failures by name, and who takes their place."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from pool_helpers import both_ready, pids, restarts, run, stubborn

from dspex_lab.errors import CpuTimeExceeded, OutOfMemory, PoisonTask, TaskTimeout, WorkerCrashed, WorkerKilled, WorkerStuck
from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec, Recycle, tell


@pytest.mark.parametrize(
    ("deed", "kind", "word"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), WorkerKilled, "was killed by SIGKILL"),
        (lambda: ctypes.string_at(0), WorkerCrashed, "was killed by SIGSEGV"),
        (os.abort, WorkerCrashed, "was killed by SIGABRT"),
        (lambda: os._exit(3), WorkerKilled, "ended with status 3"),
    ],
)
def test_a_worker_that_dies_has_a_name_and_is_replaced(
    general: Pool, told: list[Event], deed: Any, kind: type[WorkerKilled], word: str
) -> None:
    told.clear()
    with pytest.raises(kind, match=word) as caught:
        run(general, deed, label="deed")
    assert type(caught.value) is kind
    assert caught.value.task == "deed"
    assert caught.value.pool == "general"
    assert caught.value.worker in pids(general)
    assert caught.value.hint
    assert "deed" in str(caught.value)
    asyncio.run(both_ready(general))
    assert restarts(told) == ["exit"]


@pytest.mark.parametrize("deed", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_worker_that_is_asked_to_end_by_a_stranger_is_replaced(
    general: Pool, told: list[Event], deed: signal.Signals
) -> None:
    told.clear()
    pid = general.status()[0]["pid"]
    os.kill(pid, deed)
    while not restarts(told):
        threading.Event().wait(0.005)
    asyncio.run(both_ready(general))
    assert pid not in pids(general).values()


def once_then(path: str) -> int:
    if not Path(path).exists():
        Path(path).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_an_idempotent_call_is_sent_once_more_to_another_worker(general: Pool, tmp_path: Path) -> None:
    asyncio.run(both_ready(general))
    before = pids(general)
    survivor = run(general, once_then, str(tmp_path / "mark"), idempotent=True)
    first = int((tmp_path / "mark").read_text())
    assert survivor == next(pid for pid in before.values() if pid != first)
    asyncio.run(both_ready(general))


def test_an_idempotent_call_that_kills_twice_is_not_sent_a_third_time(general: Pool, told: list[Event]) -> None:
    told.clear()
    with pytest.raises(PoisonTask, match="killed its worker 2 times") as caught:
        run(general, lambda: os.kill(os.getpid(), signal.SIGKILL), idempotent=True)
    assert isinstance(caught.value.__cause__, WorkerKilled)
    asyncio.run(both_ready(general))
    assert restarts(told) == ["exit", "exit"]


def test_a_poison_task_is_refused_until_it_is_pardoned(general: Pool, told: list[Event]) -> None:
    def poison() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    told.clear()
    for _ in range(2):
        with pytest.raises(WorkerKilled):
            run(general, poison)
    with pytest.raises(PoisonTask, match="poison is not run on pool 'general' again"):
        run(general, poison)
    assert restarts(told) == ["exit", "exit"]
    [refused] = [e.data for e in told if e.name == "pool.refuse"]
    assert refused is not None
    general.pardon(refused["identity"])
    with pytest.raises(WorkerKilled):
        run(general, poison)
    asyncio.run(both_ready(general))


def test_processor_time_that_is_used_up_has_a_name(general: Pool) -> None:
    def spin() -> None:
        while True:
            pass

    with pytest.raises(CpuTimeExceeded, match="spin"):
        run(general, spin, cpu=0.2)
    assert run(general, abs, -1) == 1


def test_a_stream_whose_worker_dies_gives_what_it_told_and_is_not_run_again(general: Pool, tmp_path: Path) -> None:
    def tell_then_die(path: str) -> None:
        with open(path, "a") as file:
            file.write("ran\n")
        for i in range(3):
            tell(i)
        while not Path(path + ".taken").exists():
            os.sched_yield()
        os.kill(os.getpid(), signal.SIGKILL)

    seen: list[int] = []

    async def stream() -> None:
        async for chunk in general.stream(tell_then_die, str(tmp_path / "mark"), idempotent=True):
            seen.append(chunk)
            if chunk == 2:
                (tmp_path / "mark.taken").touch()

    with pytest.raises(WorkerKilled, match="SIGKILL"):
        asyncio.run(stream())
    assert seen == [0, 1, 2]
    assert (tmp_path / "mark").read_text() == "ran\n"
    asyncio.run(both_ready(general))


def test_a_reservation_outlives_its_workers_process(general: Pool) -> None:
    async def reserve() -> None:
        async with general.reserve() as reservation:
            before = reservation.pid
            with pytest.raises(WorkerKilled):
                await general.call(lambda: os.kill(os.getpid(), signal.SIGKILL), place=reservation.place)
            after = await general.call(os.getpid, place=reservation.place)
            assert after == reservation.pid != before
            assert await general.call(os.getpid) != after

    asyncio.run(reserve())
    asyncio.run(both_ready(general))


def test_long_work_dies_by_the_same_names(general: Pool) -> None:
    with pytest.raises(WorkerKilled, match="was killed by SIGKILL under deed"):
        run(general, lambda: os.kill(os.getpid(), signal.SIGKILL), label="deed", long=True)
    with pytest.raises(TaskTimeout):
        run(general, lambda: threading.Event().wait(), long=True, timeout=0.1)
    asyncio.run(both_ready(general))


def test_a_stopped_worker_is_replaced_and_a_worn_one_renewed() -> None:
    told: list[Event] = []
    spec = PoolSpec("light", 1, MINIMUM_MEMORY, preload=(), heartbeat=0.1, recycle=Recycle(calls=4))
    pool = Pool(spec, emit=told.append).warm()
    try:

        async def stop() -> None:
            going = asyncio.ensure_future(pool.call(lambda: threading.Event().wait(), label="held"))
            while pool.status()[0]["state"] != "busy":  # noqa: ASYNC110
                await asyncio.sleep(0)
            os.kill(pool.status()[0]["pid"], signal.SIGSTOP)
            with pytest.raises(WorkerStuck, match=r"was stopped .SIGSTOP. under held"):
                await going

        asyncio.run(stop())
        served = [run(pool, os.getpid) for _ in range(5)]
        assert len(set(served)) == 2  # the second was renewed after its fourth call
        assert [e.data["reason"] for e in told if e.name == "pool.recycle" and e.data] == ["it has had 4 calls"]
        assert restarts(told) == ["stopped", "recycle"]
        [stuck] = [e.data for e in told if e.name == "pool.stuck"]
        assert stuck is not None
        assert stuck["running"] == ["held"]
        assert [e.data["workers"] for e in told if e.name == "pool.start" and e.data] == [1]
    finally:
        pool.close()


def test_a_call_is_otherwise_run_once(general: Pool, tmp_path: Path) -> None:
    with pytest.raises(WorkerKilled):
        run(general, once_then, str(tmp_path / "mark"))
    asyncio.run(both_ready(general))


def test_memory_beyond_the_limit_is_an_error_and_the_worker_lives(general: Pool, told: list[Event]) -> None:
    told.clear()
    with pytest.raises(OutOfMemory):
        run(general, lambda: len(bytearray(500_000_000)))
    assert restarts(told) == []
    assert run(general, abs, -1) == 1


def test_memory_that_the_nanny_has_to_end_has_the_same_name(general: Pool, told: list[Event]) -> None:
    def shared(size: int) -> None:
        block = mmap.mmap(-1, size)  # shared memory: RLIMIT_DATA does not count it
        for _ in range(size // 1_000_000):
            block.write(b"x" * 1_000_000)
        threading.Event().wait()

    told.clear()
    with pytest.raises(OutOfMemory, match="more memory than it may have"):
        run(general, shared, 500_000_000, idempotent=True)
    asyncio.run(both_ready(general))
    assert restarts(told) == ["memory"]


def test_a_worker_that_is_out_of_time_is_replaced(general: Pool, told: list[Event], tmp_path: Path) -> None:
    asyncio.run(both_ready(general))
    told.clear()
    before = set(pids(general).values())
    with pytest.raises(TaskTimeout):
        run(general, stubborn, str(tmp_path / "began"), timeout=2)  # it has begun by then: else it would stop in peace
    asyncio.run(both_ready(general))
    assert restarts(told) == ["timeout"]
    assert len(before & set(pids(general).values())) == 1
