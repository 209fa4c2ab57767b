"""A pool under attack, bounded by counts; ``tests/bench/chaos.py`` is the long one."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.errors import OutOfMemory, PoisonTask, PoolError
from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec

TASKS, KILLS, BOMB = 600, 10, 250


def work(number: int, log: str) -> int:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\n".encode())
    os.close(file)
    held = []
    while number == BOMB:
        held.append(mmap.mmap(-1, 16_000_000))  # shared memory, which RLIMIT_DATA does not count
        held[-1].write(b"x" * 16_000_000)
        if len(held) == 32:  # more than it may have, and no more than the machine has, until its nanny looks
            threading.Event().wait()
    return number * 2


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def pool(tmp_path: Path, events: list[Event]) -> Iterator[Pool]:
    spec = PoolSpec("general", 3, MINIMUM_MEMORY, preload=(), heartbeat=0.2, writable=(str(tmp_path),))
    pool = Pool(spec, emit=events.append).warm()
    yield pool
    pool.close()


def test_each_task_has_one_outcome_whatever_befalls_its_worker(pool: Pool, events: list[Event], tmp_path: Path) -> None:
    log, dice = str(tmp_path / "log"), random.Random(5)
    outcomes: Counter[int] = Counter()
    failed: dict[int, BaseException] = {}
    results: dict[int, int] = {}
    struck: list[int] = []

    async def one(number: int, limit: asyncio.Semaphore) -> None:
        async with limit:
            try:
                results[number] = await pool.call(work, number, log, idempotent=True, label=f"task {number}")
            except PoolError as error:
                failed[number] = error
            outcomes[number] += 1

    def strike(deed: signal.Signals) -> None:
        workers = pool._started.result().workers.values()  # type: ignore[union-attr]
        bombed = f"task {BOMB}"  # it takes its time, and is to end by its own deed
        ready = [w.pid for w in workers if w.state == "ready" and bombed not in {a.job.label for a in list(w.attempts)}]
        fresh = [pid for pid in ready if pid not in struck]
        if fresh:
            struck.append(dice.choice(fresh))
            os.kill(struck[-1], deed)

    async def attack() -> None:
        while len(struck) < KILLS:
            done = len(outcomes)
            strike(signal.SIGSTOP if len(struck) == 4 else signal.SIGKILL)
            while len(outcomes) < min(TASKS - 1, done + TASKS // (2 * KILLS)):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def crowd() -> None:
        limit = asyncio.Semaphore(12)
        await asyncio.gather(attack(), *(one(number, limit) for number in range(TASKS)))

    asyncio.run(crowd())
    assert outcomes == Counter(range(TASKS))
    assert results == {n: 2 * n for n in range(TASKS) if n not in failed}
    assert isinstance(failed.pop(BOMB), OutOfMemory)
    assert all(isinstance(error, PoisonTask) for error in failed.values())  # struck twice by chance
    assert len(failed) < KILLS // 2
    executions = Counter(int(line) for line in Path(log).read_text().split())
    extra = sum(executions.values()) - len(executions)
    # A task that failed may have met both its workers' ends before it began.
    assert set(range(TASKS)) - set(executions) <= set(failed)
    reasons = Counter(_data(e)["reason"] for e in events if e.name == "pool.restart")
    assert reasons["exit"] == KILLS - 1
    assert reasons["stopped"] == 1
    assert reasons["memory"] == 1
    # A task was begun again only where its worker died under it.
    died_under = sum(_data(e)["status"] == "failed" for e in events if e.name == "pool.checkin")
    assert extra <= died_under - 1


def _data(event: Event) -> dict[str, Any]:
    assert event.data is not None
    return dict(event.data)
