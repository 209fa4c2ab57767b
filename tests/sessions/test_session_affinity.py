"""Where the calls and steps of a session run: on its worker, on what replaces it, on another, or not at all."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from session_functions import GATE, STARTED, count, hold

from dspex_lab.errors import PoolBusy, SessionError, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import Placement
from dspex_lab.sessions import Sessions
from dspex_lab.sessions._worker import shelf


def busy(place: Any, worker: str) -> Any:
    """Return a reservation of a worker, which so is not free."""
    return place.pools["general"].reserve(place=Placement(worker=worker, affinity="strict-queue"))


def test_a_hint_is_the_last_worker_or_else_any(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    made.call(count)
    assert sessions.placement("s", "general") == Placement(worker="general-0", affinity="hint")

    async def elsewhere() -> None:
        async with busy(place, "general-0"):
            assert await made.acall(count) == 2
        assert made.worker == "general-1"
        assert await made.acall(count) == 3

    asyncio.run(elsewhere())
    assert (made.worker, made.moves) == ("general-1", 1)
    [moved] = place.told("session.move")
    assert (moved["before"], moved["after"], moved["reason"]) == ("general-0", "general-1", "its worker was not free")


def test_strict_queue_waits_for_its_worker(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", affinity="strict-queue")
    made.call(count)

    async def waits() -> None:
        async with busy(place, "general-0"):
            going = asyncio.ensure_future(made.acall(count))
            while not place.pools["general"].waiting:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            assert not going.done()
        assert await going == 2

    asyncio.run(waits())
    assert (made.worker, made.moves) == ("general-0", 0)


def test_strict_queue_takes_another_worker_when_its_own_will_not_come_back(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", affinity="strict-queue")
    pool = place.pools["general"]

    async def first() -> None:
        async with busy(place, "general-0"):
            assert await made.acall(count) == 1
        assert made.worker == "general-1"

    asyncio.run(first())
    there = {worker["name"] for worker in pool.resize(1).status()}
    made.seats.placed("general", *({"general-0", "general-1"} - there), None)
    sessions.observe(Event("pool.resize", 0.0, data={"pool": "neural", "workers": 1}))
    assert made.worker is not None
    sessions.observe(Event("pool.resize", 0.0, data={"pool": "general", "workers": 1}))
    assert made.worker is None
    assert made.call(count) == 2
    assert {made.worker} == there
    made.seats.placed("general", "general-7", None)  # it left and nobody told
    assert made.call(count) == 3
    assert {made.worker} == there


def test_strict_fail_is_an_error_where_its_worker_left(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", affinity="strict-fail")
    made.call(count)
    made.seats.placed("general", "general-7", None)
    for _ in range(2):
        with pytest.raises(SessionError, match=r"general-7 .* is gone"):
            made.call(count)
    made.release()
    made.call(count)
    made.seats.placed("general", "general-7", None)
    sessions.observe(Event("pool.resize", 0.0, data={"pool": "general", "workers": 2}))
    with pytest.raises(SessionError, match="is gone"):
        sessions.placement("s", "general")


def test_strict_fail_is_an_error_at_once_where_its_worker_is_busy(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", affinity="strict-fail")
    made.call(count)

    async def refused() -> None:
        async with busy(place, "general-0"):
            with pytest.raises(PoolBusy):
                await made.acall(count)
        assert await made.acall(count) == 2

    asyncio.run(refused())


def test_strict_fail_is_an_error_at_once_where_its_worker_is_gone(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", affinity="strict-fail")
    made.call(count)
    place.pools["general"].die("general-0")
    with pytest.raises(SessionError, match=r"general-0 .* is gone") as caught:
        made.call(count)
    assert "release" in str(caught.value)
    with pytest.raises(SessionError, match="is gone"):
        sessions.placement("s", "general")
    made.release()
    assert sessions.placement("s", "general") is None
    assert made.call(count) == 2


def test_strict_fail_notices_another_process_though_nobody_told(sessions: Sessions) -> None:
    made = sessions.open("s", affinity="strict-fail")
    made.call(count)
    made.seats.placed("general", "general-0", 77)
    shelf.take(made.id, "")  # what a new process has: nothing
    with pytest.raises(SessionError, match=r"general-0 \(pid 77\) .* is gone"):
        made.call(count)
    made.release()
    assert made.call(count) == 2


def test_a_worker_that_died_is_replaced_and_the_state_goes_there(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", affinity="strict-queue")
    made.call(count)
    errors: list[BaseException] = []

    def killed() -> None:
        with pytest.raises(WorkerKilled) as caught:
            made.call(hold)
        errors.append(caught.value)

    going = threading.Thread(target=killed)
    going.start()
    assert STARTED.wait(60)
    place.pools["general"].die("general-0")
    going.join()
    GATE.set()
    assert errors
    assert dict(made.state) == {"n": 1}
    assert made.call(count) == 2
    assert made.worker == "general-0"


def test_steps_of_runs_go_to_the_sessions_worker(sessions: Sessions, place: Any) -> None:
    assert sessions.placement(None, "general") is None
    assert sessions.placement("s", "general") is None
    sessions.placed(None, "general", "general-1", 5)
    sessions.placed("nobody", "general", "general-1", 5)
    made = sessions.open("s", affinity="strict-queue")
    assert sessions.placement("s", "general") is None
    sessions.placed("s", "general", "general-1", 5)
    sessions.placed("s", "neural", "neural-0", 6)
    assert sessions.placement("s", "general") == Placement(worker="general-1", affinity="strict-queue")
    assert sessions.placement("s", "neural") == Placement(worker="neural-0", affinity="strict-queue")
    assert (made.worker, made.pid) == ("general-1", 5)
    sessions.observe(Event("pool.restart", 0.0, data={"pool": "general", "worker": "general-1", "pid": 4}))
    assert not made.seats.of("general").gone, "that was an earlier process"
    sessions.observe(Event("pool.restart", 0.0, data={"pool": "general", "worker": "general-1", "pid": 5}))
    sessions.observe(Event("pool.restart", 0.0, data={"pool": "other", "worker": "general-1", "pid": 5}))
    sessions.observe(Event("pool.start", 0.0))
    assert made.seats.of("general").gone
    sessions.placed("s", "general", "general-1", 9)
    assert [e["reason"] for e in place.told("session.move")] == ["its worker died"]
    assert made.moves == 1


def test_a_call_may_go_to_another_pool(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    made.call(count)
    assert made.call(count, pool="neural", label="far") == 2
    assert made.call(count) == 3
    assert [c[0] for c in place.pools["neural"].calls] == ["far"]
    assert (made.seats.of("neural").worker, made.worker) == ("neural-0", "general-0")
