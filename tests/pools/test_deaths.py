"""What becomes of calls whose workers die, and of those that are stopped, on links without a network."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from clocks import stop_until
from pool_links import VALUE, ended_by, job, on_loop, ready, start, turn

from dspex_lab.errors import (
    CpuTimeExceeded,
    OutOfMemory,
    PoisonTask,
    PoolError,
    TaskTimeout,
    WorkerCrashed,
    WorkerKilled,
    WorkerStuck,
)
from dspex_lab.events import Event
from dspex_lab.pools import _endings, _running
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._endings import Death
from dspex_lab.pools._job import Outcome
from dspex_lab.pools._placement import Placement

pytestmark = pytest.mark.usefixtures("soon")


@pytest.mark.parametrize(
    ("code", "memory", "kind", "words"),
    [
        (-signal.SIGKILL, False, WorkerKilled, "was killed by SIGKILL under t"),
        (-signal.SIGSEGV, False, WorkerCrashed, "was killed by SIGSEGV"),
        (-signal.SIGABRT, False, WorkerCrashed, "was killed by SIGABRT"),
        (-signal.SIGBUS, False, WorkerCrashed, "was killed by SIGBUS"),
        (-signal.SIGILL, False, WorkerCrashed, "was killed by SIGILL"),
        (-signal.SIGFPE, False, WorkerCrashed, "was killed by SIGFPE"),
        (-signal.SIGXCPU, False, CpuTimeExceeded, "more processor time"),
        (-signal.SIGKILL, True, OutOfMemory, "more memory than it may have"),
        (3, False, WorkerKilled, "ended with status 3"),
        (0, False, WorkerKilled, "ended with status 0"),
        (-99, False, WorkerKilled, "was killed by signal 99"),
        (-signal.SIGINT, False, WorkerKilled, "was killed by SIGINT"),
        (255, False, WorkerKilled, "ended, unseen"),
    ],
)
def test_every_death_has_a_name(code: int, memory: bool, kind: type[PoolError], words: str) -> None:
    @on_loop
    async def check() -> None:
        told: list[Event] = []
        dispatcher = Dispatcher("p", told.append)
        ready(dispatcher)
        [going] = start(dispatcher, job())
        await turn()
        dispatcher.died("w0", code, memory=memory)
        dispatcher.died("w0", code, memory=memory)
        dispatcher.died("unknown", code, memory=memory)
        with pytest.raises(kind, match=words) as caught:
            await going
        error = caught.value
        assert type(error) is kind
        assert (error.pool, error.worker, error.task) == ("p", "w0", "t")
        assert error.hint
        assert [e.name for e in told] == ["pool.checkout", "pool.restart", "pool.checkin"]

    check()


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("stopped", WorkerStuck, "was stopped .SIGSTOP."),
        ("silent", WorkerStuck, "answered nothing any more"),
        ("restart", WorkerKilled, "because somebody restarted it"),
        ("recycle", WorkerKilled, "due to be recycled"),
        ("lost", WorkerKilled, "connection .* was lost"),
    ],
)
def test_every_end_that_the_pool_makes_has_a_name(reason: Any, kind: type[PoolError], words: str) -> None:
    @on_loop
    async def check() -> None:
        dispatcher = Dispatcher("p")
        killed = ended_by(dispatcher)
        worker, _ = ready(dispatcher)
        [going] = start(dispatcher, job())
        await turn()
        dispatcher.kill(worker, reason)
        dispatcher.kill(worker, "restart")
        with pytest.raises(kind, match=words) as caught:
            await going
        assert type(caught.value) is kind
        assert caught.value.hint
        assert killed == ["w0"]
        assert len(dispatcher.running.poison) == (reason == "silent")

    check()


def test_what_ends_are_called_among_the_deeds_of_a_poison_task() -> None:
    assert _endings.how(Death("memory", -9)) == "it needed too much memory"
    assert _endings.how(Death("silent", -9)) == "its worker answered nothing any more"
    assert _endings.how(Death("exit", -11)) == "its worker was killed by SIGSEGV"


@on_loop
async def test_a_retried_call_prefers_another_worker_but_takes_the_replacement() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher, "w0")
    [going] = start(dispatcher, job("again", idempotent=True))
    await turn()
    dispatcher.died("w0", -9, memory=False)
    (_, back), (_, other) = ready(dispatcher, "w0"), ready(dispatcher, "w1")
    dispatcher.workers["w1"].calls = 7  # it would else be the last choice
    while not other.sent:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    dispatcher.died("w1", -9, memory=False)
    with pytest.raises(PoisonTask, match=r"killed its worker 2 times .its worker was killed by SIGKILL; its") as caught:
        await going
    assert isinstance(caught.value.__cause__, WorkerKilled)
    assert back.sent == []


@on_loop
async def test_a_poison_task_is_refused_until_it_is_pardoned() -> None:
    told: list[Event] = []
    dispatcher = Dispatcher("p", told.append)
    for _ in range(2):
        ready(dispatcher)
        [going] = start(dispatcher, job("bad"))
        await turn()
        dispatcher.died("w0", -11, memory=False)
        with pytest.raises(WorkerCrashed):
            await going
    _, wire = ready(dispatcher)
    with pytest.raises(PoisonTask, match="bad is not run on pool 'p' again") as caught:
        await dispatcher.run(job("bad"))
    [refused] = [e for e in told if e.name == "pool.refuse"]
    assert refused.data is not None
    assert refused.data["identity"] in str(caught.value.hint)
    same, other = start(dispatcher, job("bad", arguments=b"others"), job("bad", function="g"))
    await turn()
    wire.answers[0].set_result(VALUE)
    await turn()
    wire.answers[1].set_result(VALUE)
    await asyncio.gather(same, other)
    assert dispatcher.running.poison.pardon(refused.data["identity"]) == ["bad"]
    [again] = start(dispatcher, job("bad"))
    await turn()
    wire.answers[2].set_result(VALUE)
    assert await again == VALUE


@on_loop
async def test_deaths_that_are_the_pools_own_doing_are_retried_but_not_for_ever() -> None:
    dispatcher = Dispatcher("p")
    ended_by(dispatcher)
    [going] = start(dispatcher, job(idempotent=True))
    for _ in range(_running.ATTEMPTS):
        worker, wire = ready(dispatcher)
        while not wire.sent:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        dispatcher.kill(worker, "restart")
        await turn()
    with pytest.raises(WorkerKilled, match="restarted"):
        await going


@on_loop
async def test_an_idempotent_call_that_was_cancelled_between_two_workers_is_not_begun_again() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    [going] = start(dispatcher, job(idempotent=True))
    await turn()
    stop_until(going.done)  # else it might be due again before it is cancelled
    dispatcher.died("w0", -9, memory=False)
    await turn()
    going.cancel()
    _, wire = ready(dispatcher)
    await turn(10)
    assert going.cancelled()
    assert wire.sent == []


@on_loop
async def test_a_lost_connection_ends_the_worker() -> None:
    dispatcher = Dispatcher("p")
    killed = ended_by(dispatcher)
    _, wire = ready(dispatcher)
    [going] = start(dispatcher, job())
    await turn()
    wire.answers[0].set_exception(OSError("broken pipe"))
    with pytest.raises(WorkerKilled, match=r"connection to worker w0 .* was lost") as caught:
        await going
    assert isinstance(caught.value.__cause__, OSError)
    assert killed == ["w0"]


@on_loop
async def test_a_worker_whose_connection_is_lost_gets_nothing_more() -> None:
    dispatcher = Dispatcher("p")
    _, wire = ready(dispatcher, threads=2)
    _, other = ready(dispatcher, "w1", threads=2)
    [going] = start(dispatcher, job("lost", place=Placement("w0")))
    await turn()
    wire.answers[0].set_exception(OSError("broken pipe"))
    await turn()
    calls = start(dispatcher, job("a", place=Placement("w0")), job("b"))
    await turn()
    assert [call.label for call in other.sent] == ["a", "b"]
    for each in (going, *calls):
        each.cancel()


@on_loop
async def test_what_a_link_raises_by_name_is_what_the_caller_gets(caplog: Any) -> None:
    dispatcher = Dispatcher("p")
    worker, wire = ready(dispatcher)
    first, second = start(dispatcher, job("first"), job("second"))
    await turn()
    wire.answers[0].set_exception(OutOfMemory("named"))
    await turn()
    wire.answers[1].set_exception(LookupError("a bug"))
    with pytest.raises(OutOfMemory, match="named"):
        await first
    with pytest.raises(PoolError, match=r"could not be sent to worker w0 .* LookupError: a bug"):
        await second
    assert (worker.busy, worker.calls) == (0, 2)
    assert "the link to worker w0" in caplog.text


# ---- stop means stop -----------------------------------------------------------------------------------------------


@on_loop
async def test_a_call_out_of_time_is_told_at_once_and_its_worker_stays_if_it_stops() -> None:
    dispatcher = Dispatcher("p")
    killed = ended_by(dispatcher)
    worker, wire = ready(dispatcher)
    late = job("late", timeout=0.005)
    stop_until(lambda: wire.sent)
    with pytest.raises(TaskTimeout, match=r"late did not finish within 0\.005 s") as caught:
        await dispatcher.run(late)
    assert caught.value.task == "late"
    stop_until(lambda: not worker.busy)  # it stops before its grace is over, however slow the machine is
    await turn(10)
    assert wire.stopped == [late.id]
    assert (killed, worker.state, worker.busy) == ([], "ready", 0)


@on_loop
async def test_a_neighbour_of_a_call_out_of_time_that_does_not_stop_is_told_why() -> None:
    dispatcher = Dispatcher("p")
    killed = ended_by(dispatcher)
    _, wire = ready(dispatcher, threads=2)
    wire.stops = False
    late, neighbour = start(dispatcher, job("late", timeout=0.005), job("neighbour"))
    with pytest.raises(TaskTimeout):
        await late
    with pytest.raises(WorkerKilled, match="because another call on it was out of time"):
        await neighbour
    assert killed == ["w0"]
    assert len(dispatcher.running.poison) == 0


@on_loop
async def test_a_cancelled_call_that_does_not_stop_is_ended_with_its_worker() -> None:
    told: list[Event] = []
    outcomes: list[Outcome] = []
    dispatcher = Dispatcher("p", told.append)
    killed = ended_by(dispatcher)
    worker, wire = ready(dispatcher)
    wire.stops = False
    [going] = start(dispatcher, job("cancelled", told=outcomes.append))
    await turn()
    going.cancel()
    await asyncio.wait({going})
    assert going.cancelled()
    await worker.death
    await turn()
    assert killed == ["w0"]
    assert [e.data["status"] for e in told if e.name == "pool.checkin" and e.data] == ["cancelled"]
    assert [o.status for o in outcomes] == ["cancelled"]


@on_loop
async def test_a_worker_that_cannot_even_be_asked_to_stop_is_ended(monkeypatch: Any) -> None:
    dispatcher = Dispatcher("p")
    killed = ended_by(dispatcher)
    worker, wire = ready(dispatcher)

    async def deaf(call_id: str) -> None:
        raise OSError("no")

    monkeypatch.setattr(wire, "cancel", deaf)
    [going] = start(dispatcher, job())
    await turn()
    going.cancel()
    await worker.death
    assert killed == ["w0"]
