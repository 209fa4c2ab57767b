"""Who runs what and what becomes of it, on links without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pool_links import VALUE, job, on_loop, ready, start, turn

from dspex_lab.errors import (
    PoolBusy,
    PoolError,
    WorkerKilled,
)
from dspex_lab.events import Event
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._job import Outcome
from dspex_lab.pools._placement import Placement
from dspex_lab.pools._wire import Packed, Reply

pytestmark = pytest.mark.usefixtures("soon")


# ---- who is served, and when ---------------------------------------------------------------------------------------


@on_loop
async def test_calls_that_wait_are_served_in_their_order() -> None:
    told: list[Event] = []
    dispatcher = Dispatcher("p", told.append)
    going = start(dispatcher, *(job(str(i)) for i in range(4)))
    await turn()
    assert dispatcher.waiting == 4
    _, wire = ready(dispatcher)
    for _ in going:
        await turn()
        wire.answers[-1].set_result(VALUE)
    await asyncio.gather(*going)
    assert [e.data["label"] for e in told if e.name == "pool.checkout" and e.data] == ["0", "1", "2", "3"]


@on_loop
async def test_the_least_loaded_worker_is_taken() -> None:
    dispatcher = Dispatcher("p")
    (first, _), (second, _) = ready(dispatcher, "w0", threads=2), ready(dispatcher, "w1", threads=2)
    going = start(dispatcher, job(), job(), job())
    await turn()
    assert (first.busy, second.busy) == (2, 1)
    for g in going:
        g.cancel()
    await asyncio.gather(*going, return_exceptions=True)


@on_loop
async def test_a_function_is_sent_once_and_again_to_a_worker_that_forgot_it() -> None:
    dispatcher = Dispatcher("p")
    _, wire = ready(dispatcher)
    [going] = start(dispatcher, job())
    await turn()
    wire.answers[0].set_result(VALUE)
    await going
    [going] = start(dispatcher, job())
    await turn()
    wire.answers[1].set_result(Reply("missing", Packed(b"")))
    await turn()
    wire.answers[2].set_result(VALUE)
    assert await going == VALUE
    assert [call.code is None for call in wire.sent] == [False, True, False]


@on_loop
async def test_long_work_goes_as_a_task() -> None:
    dispatcher = Dispatcher("p")
    _, wire = ready(dispatcher)
    [going] = start(dispatcher, job("long", long=True))
    await turn()
    wire.answers[0].set_result(VALUE)
    await going
    assert wire.long == ["long"]


@on_loop
async def test_calls_from_another_loop_are_run_and_cancelled_here() -> None:
    dispatcher = Dispatcher("p")
    _, wire = ready(dispatcher)

    def elsewhere() -> str:
        async def both() -> str:
            value = asyncio.ensure_future(dispatcher.run(job("first")))
            await asyncio.wait({value})
            waiting = asyncio.ensure_future(dispatcher.run(job("second")))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            return f"{value.result().kind} {waiting.cancelled()}"

        return asyncio.run(both())

    going = asyncio.ensure_future(asyncio.to_thread(elsewhere))
    while not wire.answers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    wire.answers[0].set_result(VALUE)
    assert await going == "value True"
    while dispatcher.workers["w0"].busy:  # noqa: ASYNC110 - the cancelled one may have been sent
        await asyncio.sleep(0)


def test_a_call_to_a_loop_that_is_closed_is_refused() -> None:
    async def make() -> Dispatcher:
        return Dispatcher("p")

    dispatcher = asyncio.run(make())
    dispatcher.running.closed = True
    with pytest.raises(PoolError, match="is closed"):
        asyncio.run(dispatcher.run(job()))


@on_loop
async def test_an_answer_to_a_loop_that_is_closed_hurts_nobody() -> None:
    dispatcher = Dispatcher("p")
    _, wire = ready(dispatcher)

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(dispatcher.run(job()))
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    await asyncio.to_thread(elsewhere)
    await turn()
    wire.answers[0].set_result(VALUE)
    await turn()
    assert dispatcher.workers["w0"].busy == 0


# ---- patience ------------------------------------------------------------------------------------------------------


@on_loop
async def test_who_waits_too_long_is_told_how_long_and_what_runs() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    soon = dispatcher.loop.time() + 0.01
    first, second = start(dispatcher, job("orders"), job("late", deadline=soon))
    with pytest.raises(
        PoolBusy, match=r"late waited .* s for a worker of pool 'p' and was not begun. Its workers: w0: orders"
    ) as c:
        await second
    assert (c.value.pool, c.value.task) == ("p", "late")
    assert "patience" in str(c.value.hint)
    assert dispatcher.waiting == 0
    first.cancel()


@on_loop
async def test_a_strict_call_that_does_not_wait_is_refused_at_once() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher), ready(dispatcher, "w1")
    first, second = start(dispatcher, job("first", place=Placement("w0")), job("second", place=Placement("w0", "strict-fail")))
    with pytest.raises(PoolBusy, match=r"second wants worker w0 of pool 'p', which is not free.*w0: first for") as caught:
        await second
    assert caught.value.worker == "w0"
    first.cancel()


@on_loop
async def test_a_strict_call_waits_for_its_worker_and_takes_its_replacement_while_others_pass() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher), ready(dispatcher, "w1")
    strict = Placement("w0", "strict-queue")
    busy, waiting, other = start(dispatcher, job("busy", place=strict), job("waiting", place=strict), job("other"))
    await turn()
    assert [w.busy for w in dispatcher.workers.values()] == [1, 1]
    dispatcher.died("w0", -9, memory=False)
    with pytest.raises(WorkerKilled):
        await busy
    _, wire = ready(dispatcher, "w0")
    await turn()
    wire.answers[0].set_result(VALUE)
    assert await waiting == VALUE
    other.cancel()


@on_loop
async def test_a_strict_call_whose_worker_is_given_up_is_refused() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher), ready(dispatcher, "w1")
    strict = Placement("w0", "strict-queue")
    busy, waiting = start(dispatcher, job("busy", place=strict), job("waiting", place=strict))
    await turn()
    dispatcher.died("w0", -9, memory=False)
    dispatcher.given_up("w0", RuntimeError("no memory"))
    with pytest.raises(PoolError, match="lost the worker it wants"):
        await waiting
    with pytest.raises(PoolError, match="lost the worker it wants"):
        await dispatcher.run(job(place=strict))
    assert isinstance(busy.exception(), WorkerKilled)


# ---- reservations --------------------------------------------------------------------------------------------------


@on_loop
async def test_a_reservation_waits_in_the_same_queue_and_is_not_passed_by() -> None:
    dispatcher = Dispatcher("p")
    worker, wire = ready(dispatcher, threads=2)
    [first] = start(dispatcher, job("first"))
    await turn()
    reserving = asyncio.ensure_future(dispatcher.reserve("r", Placement(), None))
    await turn()
    [later] = start(dispatcher, job("later"))
    await turn()
    assert worker.busy == 1  # a thread is free, but kept
    wire.answers[0].set_result(VALUE)
    await reserving
    assert (worker.reserved, worker.word) == ("r", "reserved")
    [mine] = start(dispatcher, job("mine", place=Placement(reservation="r")))
    await turn()
    assert [call.label for call in wire.sent] == ["first", "mine"]
    dispatcher.release("r")
    await turn()
    assert [call.label for call in wire.sent] == ["first", "mine", "later"]
    for going in (mine, later):
        going.cancel()
    await asyncio.gather(first, mine, later, return_exceptions=True)


@on_loop
async def test_a_reservation_follows_its_workers_name() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    await dispatcher.reserve("r", Placement(), None)
    dispatcher.died("w0", -9, memory=False)
    worker, wire = ready(dispatcher)
    assert worker.reserved == "r"
    assert dispatcher.reserved("r") is worker
    other, mine = start(dispatcher, job("other"), job("mine", place=Placement(reservation="r")))
    await turn()
    assert [call.label for call in wire.sent] == ["mine"]
    wire.answers[0].set_result(VALUE)
    await mine
    dispatcher.release("r")
    dispatcher.release("r")
    await turn()
    assert [call.label for call in wire.sent] == ["mine", "other"]
    other.cancel()


@on_loop
async def test_calls_that_wait_for_a_reservation_that_ends_are_refused() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    await dispatcher.reserve("r", Placement(), None)
    place = Placement(reservation="r")
    first, second = start(dispatcher, job("first", place=place), job("second", place=place))
    await turn()
    dispatcher.release("r")
    with pytest.raises(PoolError, match="no reservation 'r'"):
        await second
    first.cancel()


@on_loop
async def test_a_reservation_that_is_given_up_while_it_waits_leaves_the_queue() -> None:
    dispatcher = Dispatcher("p")
    _, wire = ready(dispatcher)
    [first] = start(dispatcher, job("first"))
    await turn()
    reserving = asyncio.ensure_future(dispatcher.reserve("r", Placement(), None))
    await turn()
    reserving.cancel()
    wire.answers[0].set_result(VALUE)
    await first  # the worker is given to nobody before its release
    dispatcher.release("r")
    assert dispatcher.workers["w0"].reserved is None
    assert dispatcher.waiting == 0
    dispatcher.close()
    with pytest.raises(PoolError, match="closed"):
        await dispatcher.reserve("s", Placement(), None)


# ---- size and end --------------------------------------------------------------------------------------------------


@on_loop
async def test_workers_that_are_spared_get_nothing_more_and_leave_when_they_are_vacant() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher), ready(dispatcher, "w1")
    [going] = start(dispatcher, job(place=Placement("w0")))
    await turn()
    [first] = dispatcher.spare(1)
    assert first.name == "w1"
    await dispatcher.vacated(first)
    dispatcher.retired("w1")
    [second] = dispatcher.spare(1)
    leaving = asyncio.ensure_future(dispatcher.vacated(second))
    [waiting] = start(dispatcher, job("waiting"))
    await turn()
    assert not leaving.done()
    assert dispatcher.workers["w0"].word == "leaving"
    going.cancel()
    await leaving
    assert dispatcher.waiting == 1
    assert dispatcher.born("w0", 0, 1).leaving  # a replacement leaves as well
    dispatcher.retired("w0")
    dispatcher.retired("unknown")
    assert dispatcher.workers == {}
    waiting.cancel()


@on_loop
async def test_a_worker_that_dies_while_it_should_leave_has_left() -> None:
    dispatcher = Dispatcher("p")
    worker, _ = ready(dispatcher)
    [going] = start(dispatcher, job())
    await turn()
    leaving = asyncio.ensure_future(dispatcher.vacated(worker))
    await turn()
    dispatcher.died("w0", -9, memory=False)
    await leaving
    assert isinstance(going.exception() if going.done() else await asyncio.gather(going, return_exceptions=True), object)


@on_loop
async def test_a_pool_without_workers_left_says_so_to_those_who_wait_and_those_who_come() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    dispatcher.died("w0", 1, memory=False)
    waiting, cancelled = start(dispatcher, job(), job())
    await turn()
    cancelled.cancel()
    await turn()
    dispatcher.given_up("w0", RuntimeError("no memory"))
    for call in (waiting, *start(dispatcher, job())):
        with pytest.raises(PoolError, match="no worker left") as caught:
            await call
        assert isinstance(caught.value.__cause__, RuntimeError)
    ready(dispatcher)
    assert dispatcher.failures == {}


@on_loop
async def test_a_closed_dispatcher_takes_nothing_and_ends_what_runs() -> None:
    dispatcher = Dispatcher("p")
    ready(dispatcher)
    running, waiting, cancelled = start(dispatcher, job("running"), job(), job())
    await turn()
    cancelled.cancel()
    await turn()
    dispatcher.close()
    for call in (waiting, *start(dispatcher, job())):
        with pytest.raises(PoolError, match="closed"):
            await call
    with pytest.raises(PoolError, match="was closed while running ran"):
        await running


@on_loop
async def test_who_is_told_of_a_call_may_raise(caplog: Any) -> None:
    def refuse(outcome: Outcome) -> None:
        raise LookupError

    dispatcher = Dispatcher("p", lambda event: 1 / 0)  # type: ignore[arg-type, return-value]
    _, wire = ready(dispatcher)
    [going] = start(dispatcher, job("quiet", told=refuse))
    await turn()
    wire.answers[0].set_result(VALUE)
    assert await going == VALUE
    assert "raised at pool.checkout" in caplog.text
    assert "whoever was told of quiet raised" in caplog.text
