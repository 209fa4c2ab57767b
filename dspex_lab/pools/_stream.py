"""What a task tells on its way, brought to who called it: in order, and no faster than it is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from dspex_lab.errors import WorkerKilled
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._job import Job
from dspex_lab.pools._loops import hush, on
from dspex_lab.pools._wire import Packed, Pulled

#: Seconds that a worker is asked to wait for something to tell, each time.
PATIENCE = 10.0

#: Seconds until a worker whose connection was lost is asked again, if its death is not known before.
AGAIN = 0.5


async def pull(job: Job, pool: str, patience: float = PATIENCE) -> Pulled:
    """Return what a call has told since it was asked last; on the pools' loop. May be asked before the call has a worker.

    What a worker told that died before the call was sent again is not lost: nothing of it had been delivered, and it is told
    anew.

    Raises:
        WorkerKilled: the call is finished, but its worker died before all that it had told was fetched.
    """
    while True:
        attempt = job.attempt
        if attempt is None:
            if job.finished:
                return Pulled([], done=True)
            await job.next_move()
            continue
        link = attempt.worker.link
        assert link is not None  # noqa: S101 - it has been sent a call
        pulling = asyncio.ensure_future(link.pull(job.id, patience))
        try:
            while not pulling.done() and job.attempt is attempt and (job.reply is not None or not job.finished):
                await _either(pulling, job.next_move())
            if pulling.done() and job.attempt is attempt:
                pulled = pulling.result()
                job.delivered = job.delivered or bool(pulled.chunks)
                return pulled
        except OSError as error:
            if job.reply is not None:
                raise _half_told(job, attempt.worker.name, pool) from error
            if job.attempt is attempt and not job.finished:  # the connection is lost; the worker perhaps, or only this one
                await asyncio.wait({job.next_move()}, timeout=AGAIN)
        finally:
            pulling.cancel()
            pulling.add_done_callback(hush)
        if job.finished and job.reply is None:
            return Pulled([], done=True)


async def chunks(dispatcher: Dispatcher, job: Job, unpack: Callable[[Packed, str], Any]) -> AsyncGenerator[Any, None]:
    """Run a call and yield what it tells; then raise what it raised, if it did. On any loop.

    It asks for more only when all it got was taken. Closed early, it cancels the call.

    Args:
        unpack: makes a value of a chunk that came from the worker of this name.
    """
    running = asyncio.ensure_future(dispatcher.run(job))
    try:
        while True:
            pulled = await on(dispatcher.loop, lambda: pull(job, dispatcher.pool))
            for chunk in pulled.chunks:
                yield unpack(chunk, job.where)
            if pulled.done:
                break
        await running
    finally:
        dispatcher.give_up(job)
        running.cancel()
        running.add_done_callback(hush)


async def _either(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)


async def deliver(told: AsyncIterator[Any], on_chunk: Callable[[Any], Awaitable[None] | None]) -> None:
    """Give each thing that is told to a function, and wait for what it returns, if that can be awaited."""
    async for chunk in told:
        outcome = on_chunk(chunk)
        if outcome is not None:
            await outcome


def _half_told(job: Job, worker: str, pool: str) -> WorkerKilled:
    return WorkerKilled(
        f"Worker {worker} of pool {pool!r} was gone before all that {job.label} had told was fetched.",
        pool=pool,
        worker=worker,
        task=job.label,
        hint="Run it again.",
    )
