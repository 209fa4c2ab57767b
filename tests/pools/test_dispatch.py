"""Who runs what and what becomes of it, on links without a network; the worker processes are real ones."""

from __future__ import annotations

import asyncio
import functools
import pickle
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dspex_lab.errors import PoolError, TaskTimeout, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import _dispatch
from dspex_lab.pools._carry import Reply, Task
from dspex_lab.pools._dispatch import Dispatcher, Worker

VALUE: Reply = ("value", pickle.dumps("done"))


def task(label: str = "t", **options: Any) -> Task:
    return Task("digest", b"f", b"a", label, **options)


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Wire:
    """A link that records what was sent and answers when told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, bytes]] = []
        self.answers: list[asyncio.Future[Reply]] = []

    async def __call__(self, digest: str, function: Any, arguments: bytes) -> Reply:
        self.sent.append((digest, function, arguments))
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


def ready(dispatcher: Dispatcher, name: str = "w0", pid: int = 0, threads: int = 1) -> tuple[Worker, Wire]:
    worker, wire = dispatcher.born(name, pid, threads), Wire()
    dispatcher.ready(worker, wire)
    return worker, wire


async def turn(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def start(dispatcher: Dispatcher, *tasks: Task) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(dispatcher.run(t)) for t in tasks]


@on_loop
async def test_calls_that_wait_are_served_in_their_order() -> None:
    told: list[Event] = []
    dispatcher = Dispatcher("p", told.append)
    going = start(dispatcher, *(task(str(i)) for i in range(4)))
    await turn()
    _, wire = ready(dispatcher)
    for _ in going:
        await turn()
        wire.answers[-1].set_result(VALUE)
    await asyncio.gather(*going)
    assert [e.data["label"] for e in told if e.name == "pool.checkout" and e.data] == ["0", "1", "2", "3"]


@on_loop
async def test_the_least_loaded_worker_is_taken() -> None:
    dispatcher = Dispatcher("p")
    (first, wire), (second, _) = ready(dispatcher, "w0", threads=2), ready(dispatcher, "w1", threads=2)
    going = start(dispatcher, task(), task(), task())
    await turn()
    assert (first.busy, second.busy) == (2, 1)
    for g in going:
        g.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    del wire


@on_loop
async def test_a_worker_that_forgot_a_function_is_sent_it_again() -> None:
    dispatcher = Dispatcher("p")
    worker, wire = ready(dispatcher)
    worker.known.add("digest")
    [going] = start(dispatcher, task())
    await turn()
    wire.answers[0].set_result(("missing", b""))
    await turn()
    wire.answers[1].set_result(VALUE)
    assert await going == (VALUE, "w0")
    assert [function is None for _, function, _ in wire.sent] == [True, False]


@on_loop
async def test_a_cancelled_call_that_had_just_been_given_a_worker_hands_it_on() -> None:
    dispatcher = Dispatcher("p")
    first, second = start(dispatcher, task("first"), task("second"))
    await turn()
    worker, wire = ready(dispatcher)
    first.cancel()  # the worker is already its own, but it has not woken up yet
    await turn()
    wire.answers[0].set_result(VALUE)
    assert await second == (VALUE, "w0")
    assert first.cancelled()
    assert worker.busy == 0


@on_loop
async def test_a_retried_call_shuns_the_worker_that_died_and_lets_others_pass() -> None:
    dispatcher = Dispatcher("p")
    first, _ = ready(dispatcher, "w0")
    second, busy = ready(dispatcher, "w1")
    second.busy = 1
    [going] = start(dispatcher, task("again", idempotent=True))
    await turn()
    dispatcher.died("w0", -9, memory=False)
    await turn()
    _, back = ready(dispatcher, "w0")
    [other] = start(dispatcher, task("other"))
    await turn()
    assert back.sent == []  # "other" does not overtake, "again" does not go back
    dispatcher._release(second, task(), 0.0, "complete")
    await turn()
    busy.answers[0].set_result(VALUE)
    back.answers[0].set_result(VALUE)
    assert (await going)[1] == "w1"
    assert (await other)[1] == "w0"
    assert first.state == "dead"


@on_loop
async def test_a_neighbour_of_a_call_out_of_time_is_told_why() -> None:
    with sleeper() as process:
        dispatcher = Dispatcher("p")
        ready(dispatcher, pid=process.pid, threads=2)
        late, neighbour = start(dispatcher, task("late", timeout=0.01), task("neighbour"))
        with pytest.raises(TaskTimeout):
            await late
        dispatcher.died("w0", process.wait(), memory=False)
        with pytest.raises(WorkerKilled, match="because another call on it was out of time"):
            await neighbour


@on_loop
async def test_a_lost_connection_ends_the_worker(monkeypatch: Any) -> None:
    monkeypatch.setattr(_dispatch, "LOST", 0.01)
    with sleeper() as process:
        dispatcher = Dispatcher("p")
        _, wire = ready(dispatcher, pid=process.pid)
        [going] = start(dispatcher, task())
        await turn()
        wire.answers[0].set_exception(OSError("broken pipe"))
        await asyncio.to_thread(process.wait)
        dispatcher.died("w0", -9, memory=False)
        with pytest.raises(WorkerKilled, match=r"connection to worker w0 .* was lost") as caught:
            await going
        assert isinstance(caught.value.__cause__, OSError)


@on_loop
async def test_the_neighbour_of_a_cancelled_call_on_a_dead_worker_and_the_cancelled_one_end(monkeypatch: Any) -> None:
    monkeypatch.setattr(_dispatch, "GRACE", 0.01)
    with sleeper() as process:
        told: list[Event] = []
        dispatcher = Dispatcher("p", told.append)
        worker, _ = ready(dispatcher, pid=process.pid, threads=2)
        cancelled, neighbour = start(dispatcher, task("cancelled"), task("neighbour"))
        await turn()
        cancelled.cancel()
        await asyncio.to_thread(process.wait)
        dispatcher.died("w0", process.returncode, memory=False)
        dispatcher.died("w0", process.returncode, memory=False)
        with pytest.raises(WorkerKilled, match="another call on it was cancelled"):
            await neighbour
        dispatcher.kill(worker, "lost")  # there is nothing left to kill
        assert [e.name for e in told].count("pool.restart") == 1


@on_loop
async def test_a_pool_without_workers_left_says_so_to_those_who_wait_and_those_who_come() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    dispatcher.died("w0", 1, memory=False)
    waiting, cancelled = start(dispatcher, task(), task())
    await turn()
    cancelled.cancel()
    await turn()
    dispatcher.given_up("w0", RuntimeError("no memory"))
    for call in (waiting, *start(dispatcher, task())):
        with pytest.raises(PoolError, match="no worker left") as caught:
            await call
        assert isinstance(caught.value.__cause__, RuntimeError)
    ready(dispatcher)
    assert dispatcher.failures == {}


@on_loop
async def test_a_closed_dispatcher_takes_nothing() -> None:
    dispatcher = Dispatcher("p")
    waiting, cancelled = start(dispatcher, task(), task())
    await turn()
    cancelled.cancel()
    await turn()
    dispatcher.close()
    for call in (waiting, *start(dispatcher, task())):
        with pytest.raises(PoolError, match="closed"):
            await call
    dispatcher.died("unknown", 0, memory=False)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "ended with status 0"), (-11, "was killed by SIGSEGV"), (-99, "was killed by signal 99"), (255, "ended, unseen")],
)
def test_every_end_has_words(code: int, words: str) -> None:
    assert _dispatch._ending(code).startswith(words)
    assert _dispatch._advice(code)
