"""Whether workers are well: what is decided, and what is done, with an injected clock and injected process states."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_links import VALUE, job, on_loop, ready, start, turn

from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, PoolSpec, Recycle
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._heart import Heart, may_leave, process_state, verdict, worn
from dspex_lab.pools._wire import Pulse


def spec(**options: Any) -> PoolSpec:
    return PoolSpec("p", 2, MINIMUM_MEMORY, **options)


@given(st.integers(0, 5), st.floats(0, 100), st.floats(1, 60))
def test_what_is_the_matter_with_a_worker(stopped: int, silent: float, stuck_after: float) -> None:
    found = verdict(stopped=stopped, silent=silent, stuck_after=stuck_after)
    if stopped >= 2:
        assert found == "stopped"
    else:
        assert found == ("silent" if silent >= stuck_after else "well")


@pytest.mark.parametrize(
    ("recycle", "facts", "why"),
    [
        (Recycle(), {"memory": 10**12, "age": 1e9, "calls": 10**9}, None),
        (Recycle(memory=200_000_000), {"memory": 200_000_001, "age": 0, "calls": 0}, "it keeps 200 MB, more than 200 MB"),
        (Recycle(memory=200_000_000), {"memory": 200_000_000, "age": 0, "calls": 0}, None),
        (Recycle(memory=200_000_000), {"memory": None, "age": 0, "calls": 0}, None),
        (Recycle(age=60), {"memory": None, "age": 61, "calls": 0}, "it is 61 s old, more than 60 s"),
        (Recycle(age=60), {"memory": None, "age": 60, "calls": 0}, None),
        (Recycle(calls=1000), {"memory": None, "age": 0, "calls": 1000}, "it has had 1,000 calls"),
        (Recycle(calls=1000), {"memory": None, "age": 0, "calls": 999}, None),
    ],
)
def test_when_a_worker_is_worn(recycle: Recycle, facts: dict[str, Any], why: str | None) -> None:
    assert worn(recycle, **facts) == why


@on_loop
async def test_only_a_free_worker_leaves_and_only_when_all_others_are_there() -> None:
    dispatcher = Dispatcher("p")
    (first, _), (second, _) = ready(dispatcher), ready(dispatcher, "w1")
    assert may_leave(first, [second])
    first.busy = 1
    assert not may_leave(first, [second])
    first.busy, first.reserved = 0, "r"
    assert not may_leave(first, [second])
    first.reserved, first.leaving = None, True
    assert not may_leave(first, [second])
    first.leaving, second.state = False, "starting"
    assert not may_leave(first, [second])
    second.leaving = True
    assert may_leave(first, [second])


def test_the_state_of_a_process_is_read() -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; print(1, flush=True); signal.pause()"], stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        assert process_state(process.pid) in "SR"
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert process_state(process.pid) == "T"
        process.kill()
    assert process_state(2**22 + 1) == ""


class Beat:
    """A heart whose clock and process states are set by hand, over two workers."""

    def __init__(self, **options: Any) -> None:
        self.now, self.states = 0.0, {1: "S", 2: "S"}
        self.told: list[Event] = []
        self.dispatcher = Dispatcher("p", self.told.append)
        self.ended: list[str] = []
        self.dispatcher.end = lambda worker: self.ended.append(worker.name)
        (self.first, self.wire), (self.second, self.other) = ready(self.dispatcher, pid=1), ready(self.dispatcher, "w1", pid=2)
        for worker in (self.first, self.second):
            worker.seen = worker.born = 0.0
        self.heart = Heart(spec(**options), self.dispatcher, lambda pid: self.states[pid], lambda: self.now)

    async def look(self, seconds: float = 5.0, answering: tuple[Any, ...] = ()) -> None:
        self.now += seconds
        self.heart.look()
        await turn()
        for wire in answering:
            wire.pings[-1].set_result(Pulse(50_000_000, 100_000_000, self.now, 3))
        await turn()

    def events(self, name: str) -> list[Any]:
        return [e.data for e in self.told if e.name == name]


@on_loop
async def test_a_stopped_worker_is_replaced_at_the_next_beat_and_one_that_went_on_is_not() -> None:
    beat = Beat()
    beat.states = {1: "T", 2: "T"}
    [going] = start(beat.dispatcher, job("held"))
    await beat.look()
    assert beat.ended == []
    beat.states[2] = "S"
    await beat.look()
    assert beat.ended == ["w0"]
    [stuck] = beat.events("pool.stuck")
    assert (stuck["worker"], stuck["reason"], stuck["running"]) == ("w0", "stopped", ["held"])
    beat.states[2] = "T"
    await beat.look()
    assert beat.ended == ["w0"]  # the count begins anew, and nobody is ended twice
    going.cancel()


@on_loop
async def test_a_silent_worker_is_replaced_after_a_while_and_asked_once_until_it_answers() -> None:
    beat = Beat(stuck_after=12.0)
    await beat.look(answering=(beat.other,))
    await beat.look(answering=(beat.other,))
    assert (len(beat.wire.pings), len(beat.other.pings)) == (1, 2)
    assert beat.ended == []
    await beat.look(answering=(beat.other,))
    assert beat.ended == ["w0"]
    assert beat.events("pool.stuck")[0]["reason"] == "silent"
    assert beat.second.pulse is not None
    assert (beat.second.pulse.pss, beat.second.seen) == (50_000_000, 15.0)


@on_loop
async def test_a_ping_that_fails_is_asked_again() -> None:
    beat = Beat()
    await beat.look()
    beat.wire.pings[0].set_exception(OSError("gone"))
    await turn()
    await beat.look()
    assert len(beat.wire.pings) == 2
    beat.heart.stop()
    await turn()
    assert all(ping.done() for ping in beat.wire.pings)


@on_loop
async def test_a_worn_worker_is_renewed_when_it_is_free_one_at_a_time() -> None:
    beat = Beat(recycle=Recycle(calls=1))
    first, second = start(beat.dispatcher, job("first"), job("second"))
    await turn()
    beat.wire.answers[0].set_result(VALUE)
    await first
    assert beat.ended == ["w0"]
    assert beat.events("pool.recycle")[0]["reason"] == "it has had 1 calls"
    beat.other.answers[0].set_result(VALUE)
    await second
    assert beat.ended == ["w0"]  # the other waits until the first is back
    beat.dispatcher.died("w0", -9, memory=False)
    assert beat.events("pool.restart")[0]["reason"] == "recycle"
    ready(beat.dispatcher, pid=1)
    await beat.look()
    assert beat.ended == ["w0", "w1"]


@on_loop
async def test_a_reserved_worker_is_renewed_when_it_is_released() -> None:
    beat = Beat(recycle=Recycle(age=3))
    from dspex_lab.pools import Placement

    await beat.dispatcher.reserve("r", Placement("w0", "strict-queue"), None)
    await beat.dispatcher.reserve("s", Placement("w1", "strict-queue"), None)
    await beat.look(answering=(beat.wire, beat.other))
    assert beat.ended == []
    beat.dispatcher.release("r")
    assert beat.ended == ["w0"]


@on_loop
async def test_the_heart_beats_by_itself_and_survives_its_own_errors(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    beat, looks = Beat(heartbeat=0.1), asyncio.Event()
    object.__setattr__(beat.heart.spec, "heartbeat", 0.001)

    def look() -> None:
        if "heartbeat" in caplog.text:
            looks.set()
        raise LookupError

    monkeypatch.setattr(beat.heart, "look", look)
    beat.heart.start()
    await looks.wait()
    beat.heart.stop()
    assert "the heartbeat of pool 'p' failed" in caplog.text
