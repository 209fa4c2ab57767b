"""Which worker runs which call, what becomes of it when the worker dies, and who waits.

All of it happens on the pool's own loop, so nothing here needs a lock. One :class:`Worker` is one process; its
replacement is another Worker of the same name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from dspex_lab.errors import OutOfMemory, PoolError, TaskTimeout, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools._carry import Code, Reply, Task

log = logging.getLogger("dspex_lab")

#: Why a worker's process ended: ``exit`` is its own doing or a stranger's, ``memory`` its nanny's, the others ours.
Reason: TypeAlias = Literal["exit", "memory", "timeout", "cancelled", "lost", "closed"]

#: What Dask reports where the exit status could not be read.
UNSEEN = 255

#: Seconds a cancelled call may go on before its worker is killed.
GRACE = 1.0

#: Seconds between the loss of a connection and the kill of a worker that still lives.
LOST = 3.0


class Link(Protocol):
    """The wire to one worker's Host. Raises OSError when the connection is lost; called on the pool's loop only."""

    async def __call__(self, digest: str, function: Code | None, arguments: bytes) -> Reply: ...


async def _not_yet(digest: str, function: Code | None, arguments: bytes) -> Reply:
    raise OSError("this worker is not ready")


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker's process ended; ``code`` is its exit status, negative for a signal."""

    reason: Reason
    code: int


@dataclass(eq=False, slots=True)
class Worker:
    """One worker process, from its birth to its end."""

    name: str
    pid: int
    threads: int
    death: asyncio.Future[Death]
    link: Link = _not_yet
    state: Literal["starting", "ready", "dead"] = "starting"
    busy: int = 0
    calls: int = 0
    known: set[str] = field(default_factory=set)
    reason: Reason = "exit"

    @property
    def free(self) -> bool:
        return self.state == "ready" and self.busy < self.threads


class Dispatcher:
    """Hands calls to the least loaded worker, first come first served.

    Made on the loop it belongs to.

    Args:
        pool: the pool's name, for errors and events.
        emit: told of ``pool.checkout``, ``pool.checkin`` and ``pool.restart``, on the pool's loop thread.
    """

    def __init__(self, pool: str, emit: Callable[[Event], None] | None = None) -> None:
        self.pool = pool
        self.loop = asyncio.get_running_loop()
        self.workers: dict[str, Worker] = {}
        self.failures: dict[str, BaseException] = {}
        self.closed = False
        self._emit = emit
        self._waiting: deque[tuple[asyncio.Future[Worker], str | None]] = deque()
        self._settling: set[asyncio.Task[None]] = set()

    # ---- what the cluster tells ----------------------------------------------------------------------------------

    def born(self, name: str, pid: int, threads: int) -> Worker:
        """A worker's process is up; it is not ready before :meth:`ready`."""
        self.workers[name] = Worker(name, pid, threads, asyncio.get_running_loop().create_future())
        self.failures.pop(name, None)
        return self.workers[name]

    def ready(self, worker: Worker, link: Link) -> None:
        """A worker can be sent calls."""
        if worker.state == "starting":
            worker.link, worker.state = link, "ready"
            self._feed()

    def died(self, name: str, code: int, *, memory: bool) -> None:
        """A worker's process has ended; ``memory``: its nanny ended it for its use of memory."""
        worker = self.workers.get(name)
        if worker is None or worker.death.done():
            return
        if memory and worker.reason == "exit":
            worker.reason = "memory"
        worker.state = "dead"
        worker.death.set_result(Death("closed" if self.closed else worker.reason, code))
        if not self.closed:
            data = {"pool": self.pool, "worker": name, "reason": worker.reason, "pid": worker.pid, "code": code}
            self._tell(Event("pool.restart", time.time(), data=data))

    def given_up(self, name: str, error: BaseException) -> None:
        """A worker could not be replaced; when none is left, whoever waits is told."""
        self.failures[name] = error
        if name in self.workers:
            self.workers[name].state = "dead"
        if self._none_left():
            for waiter, _ in self._waiting:
                if not waiter.done():
                    waiter.set_exception(self._gone())
            self._waiting.clear()

    def close(self) -> None:
        """Refuse further calls and fail those that wait or run."""
        self.closed = True
        for waiter, _ in self._waiting:
            if not waiter.done():
                waiter.set_exception(self._gone())
        self._waiting.clear()
        for worker in self.workers.values():
            if worker.busy and worker.state == "ready":
                self.kill(worker, "closed")
                worker.death.set_result(Death("closed", -signal.SIGKILL))

    # ---- a call --------------------------------------------------------------------------------------------------

    async def run(self, task: Task) -> tuple[Reply, str]:
        """Run a call on a worker; return what it answered and the worker's name.

        An idempotent call whose worker is killed is sent once more, to another worker if the pool has one.

        Raises:
            WorkerKilled, OutOfMemory, TaskTimeout: what befell the call.
            PoolError: the pool is closed or has no workers left.
        """
        try:
            return await self._attempt(task, None)
        except WorkerKilled as error:
            if not task.idempotent or self.closed:
                raise
            return await self._attempt(task, error.worker)

    async def _attempt(self, task: Task, shunned: str | None) -> tuple[Reply, str]:
        asked = time.monotonic()
        worker = await self._acquire(shunned)
        began = time.monotonic()
        self._note("pool.checkout", task, worker, waited=began - asked)
        exchange = asyncio.ensure_future(self._exchange(worker, task))
        try:
            await _first(exchange, worker.death, task.timeout)
        except asyncio.CancelledError:
            self._later(self._settle(worker, exchange, task, began))
            raise
        if exchange.done() and exchange.exception() is None:
            self._release(worker, task, began, "complete")
            return exchange.result(), worker.name
        if not exchange.done() and not worker.death.done():
            self.kill(worker, "timeout")
            self._abandon(worker, exchange, task, began, "timeout")
            raise TaskTimeout(
                f"{task.label} did not finish within {task.timeout:g} s on worker {worker.name} of pool {self.pool!r}; "
                "the worker is being replaced.",
                pool=self.pool,
                worker=worker.name,
                hint="Allow more time, or make the work smaller.",
            )
        raise await self._post_mortem(worker, exchange, task, began)

    async def _exchange(self, worker: Worker, task: Task) -> Reply:
        known = task.digest in worker.known
        reply = await worker.link(task.digest, None if known else task.code, task.arguments)
        if reply[0] == "missing":
            reply = await worker.link(task.digest, task.code, task.arguments)
        worker.known.add(task.digest)
        return reply

    async def _post_mortem(self, worker: Worker, exchange: asyncio.Future[Reply], task: Task, began: float) -> PoolError:
        """Say why a call came to nothing: its worker died, or the connection to it did."""
        if not worker.death.done():
            await asyncio.wait({worker.death}, timeout=LOST)
        if not worker.death.done():
            self.kill(worker, "lost")
            await worker.death
        error = self._epitaph(worker, task)
        error.__cause__ = exchange.exception() if exchange.done() else None
        self._abandon(worker, exchange, task, began, "failed")
        return error

    async def _settle(self, worker: Worker, exchange: asyncio.Future[Reply], task: Task, began: float) -> None:
        """Nobody waits for this call any more: give its worker a moment to finish it, then end the worker."""
        await _first(exchange, worker.death, GRACE)
        if exchange.done() and exchange.exception() is None:
            self._release(worker, task, began, "cancelled")
            return
        if not worker.death.done():
            self.kill(worker, "cancelled")
        self._abandon(worker, exchange, task, began, "cancelled")

    def kill(self, worker: Worker, reason: Reason) -> None:
        """End a worker's process at once; its nanny starts another."""
        worker.state, worker.reason = "dead", reason
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            log.debug("worker %s (pid %d) had ended before it was killed", worker.name, worker.pid)

    # ---- who waits -----------------------------------------------------------------------------------------------

    async def _acquire(self, shunned: str | None) -> Worker:
        if self.closed or self._none_left():
            raise self._gone()
        if not self._waiting and (worker := self._least_loaded(shunned)):
            worker.busy += 1
            return worker
        waiter: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, shunned))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().busy -= 1
                self._feed()
            raise

    def _least_loaded(self, shunned: str | None) -> Worker | None:
        free = [w for w in self.workers.values() if w.free and (w.name != shunned or len(self.workers) == 1)]
        return min(free, key=lambda w: (w.busy, w.calls), default=None)

    def _feed(self) -> None:
        """Give free workers to those who wait, in their order."""
        still: deque[tuple[asyncio.Future[Worker], str | None]] = deque()
        while self._waiting:
            waiter, shunned = self._waiting.popleft()
            if waiter.done():
                continue
            worker = self._least_loaded(shunned)
            if worker is None:
                still.append((waiter, shunned))
                if not any(w.free for w in self.workers.values()):
                    break
                continue
            worker.busy += 1
            waiter.set_result(worker)
        self._waiting.extendleft(reversed(still))

    def _release(self, worker: Worker, task: Task, began: float, status: str) -> None:
        worker.busy -= 1
        worker.calls += 1
        self._note("pool.checkin", task, worker, seconds=time.monotonic() - began, status=status)
        self._feed()

    def _abandon(self, worker: Worker, exchange: asyncio.Future[Reply], task: Task, began: float, status: str) -> None:
        """The worker is dead or dying: nothing is released, the exchange's own error is of no interest."""
        worker.busy -= 1
        worker.calls += 1
        exchange.cancel()
        exchange.add_done_callback(lambda e: None if e.cancelled() else e.exception())
        self._note("pool.checkin", task, worker, seconds=time.monotonic() - began, status=status)

    def _later(self, work: Awaitable[None]) -> None:
        settling = asyncio.ensure_future(work)
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    # ---- words ---------------------------------------------------------------------------------------------------

    def _none_left(self) -> bool:
        return bool(self.workers) and all(name in self.failures for name in self.workers)

    def _gone(self) -> PoolError:
        if self.closed:
            return PoolError(f"Pool {self.pool!r} is closed.", pool=self.pool, hint="Make another Lab, or get the pool anew.")
        error = PoolError(
            f"Pool {self.pool!r} has no worker left: none could be started again.",
            pool=self.pool,
            hint="Close the pool; the next call starts it anew.",
        )
        error.__cause__ = next(iter(self.failures.values()), None)
        return error

    def _epitaph(self, worker: Worker, task: Task) -> PoolError:
        death = worker.death.result()
        place = f"worker {worker.name} of pool {self.pool!r}"
        where = {"pool": self.pool, "worker": worker.name}
        if death.reason == "closed":
            return PoolError(f"Pool {self.pool!r} was closed while {task.label} ran.", **where)
        if death.reason == "memory":
            return OutOfMemory(
                f"{task.label} made {place} use more memory than it may have, and the worker was ended.",
                hint=f"Work on smaller pieces, or set DSPEX_POOL_{self.pool.upper()}_MEMORY to more.",
                **where,
            )
        if death.reason in ("timeout", "cancelled"):
            return WorkerKilled(
                f"{place} was stopped under {task.label}, because another call on it was {_PAST[death.reason]}.",
                hint="Run it again, or call with idempotent=True.",
                **where,
            )
        if death.reason == "lost":
            return WorkerKilled(f"The connection to {place} was lost under {task.label}; the worker was ended.", **where)
        return WorkerKilled(f"{place} {_ending(death.code)} under {task.label}.", hint=_advice(death.code), **where)

    def _note(self, name: str, task: Task, worker: Worker, **data: Any) -> None:
        if self._emit is not None:
            self._tell(event_of(name, task, pool=self.pool, worker=worker.name, **data))

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            try:
                self._emit(event)
            except Exception:
                log.exception("whoever listens to pool %r raised at %s", self.pool, event.name)


def event_of(name: str, task: Task, **data: Any) -> Event:
    """Return the event of a call: the ids among its tags in the event's own fields, all else in its data."""
    tags = task.tags
    extra = {k: v for k, v in tags.items() if k not in ("run_id", "span_id", "step")}
    data = {**extra, "label": task.label, **data}
    return Event(name, time.time(), tags.get("run_id"), tags.get("span_id"), tags.get("step"), data)


async def _first(one: asyncio.Future[Any], other: asyncio.Future[Any], timeout: float | None) -> None:  # noqa: ASYNC109
    """Wait until one of two is done, or for ``timeout`` seconds; neither is cancelled with the wait."""
    await asyncio.wait({one, other}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


_PAST = {"timeout": "out of time", "cancelled": "cancelled"}


def _ending(code: int) -> str:
    if code == UNSEEN:
        return "ended, unseen by its forkserver (which may have ended too),"
    if code >= 0:
        return f"ended with status {code}"
    names = {int(s): s.name for s in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def _advice(code: int) -> str:
    if code in (-signal.SIGKILL, UNSEEN):
        return "The function itself, the system's out-of-memory killer or a person killed it."
    if code < 0:
        return "Native code crashed: look at the compiled packages that the function uses."
    return "The function ended its process (os._exit); it must return or raise."
