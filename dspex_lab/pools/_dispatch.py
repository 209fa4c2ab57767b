"""Which worker runs which call, who waits, and who has a worker for himself.

All of it happens on the pools' loop, so nothing here needs a lock. How a call fares on its worker is in ``_running``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from dspex_lab.errors import PoolError
from dspex_lab.events import Event
from dspex_lab.pools import _endings
from dspex_lab.pools._endings import Death, Reason
from dspex_lab.pools._job import Job
from dspex_lab.pools._loops import post
from dspex_lab.pools._notes import Notes
from dspex_lab.pools._placement import Placement
from dspex_lab.pools._protocols import About, Link
from dspex_lab.pools._queue import Seeker, Waiting
from dspex_lab.pools._running import Running
from dspex_lab.pools._wire import Reply
from dspex_lab.pools._worker import Worker


class Dispatcher:
    """Hands calls to the least loaded worker, first come first served.

    Made on the loop it belongs to.

    Args:
        pool: the pool's name, for errors and events.
        emit: told of ``pool.checkout``, ``pool.checkin``, ``pool.restart`` and ``pool.refuse``, on the pools' thread.
    """

    def __init__(self, pool: str, emit: Callable[[Event], None] | None = None) -> None:
        self.pool = pool
        self.loop = asyncio.get_running_loop()
        self.workers: dict[str, Worker] = {}
        self.failures: dict[str, BaseException] = {}
        self.notes = Notes(pool, emit)
        #: Ends a worker's process at once (the fleet's ``kill``); the fleet says when it has ended.
        self.end: Callable[[Worker], None] = lambda worker: None
        #: Told when a worker has one call less.
        self.released: Callable[[Worker], None] = lambda worker: None
        self.running = Running(self.notes, lambda worker: self.end(worker), self._released, self.submit)
        self._waiting: Waiting[Worker] = Waiting()
        self._reserved: dict[str, str] = {}

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self.running.closed

    @property
    def waiting(self) -> int:
        """How many calls and reservations wait for a worker."""
        return len(self._waiting)

    # ---- what the fleet tells ------------------------------------------------------------------------------------

    def born(self, name: str, pid: int, threads: int, about: About | None = None) -> Worker:
        """A worker's process is up; it is not ready before :meth:`ready`."""
        before = self.workers.get(name)
        worker = Worker(name, pid, threads, about or About(), self.loop.create_future())
        worker.leaving = before is not None and before.leaving
        worker.reserved = next((key for key, held in self._reserved.items() if held == name), None)
        self.workers[name] = worker
        self.failures.pop(name, None)
        return worker

    def ready(self, worker: Worker, link: Link) -> None:
        """A worker can be sent calls."""
        if worker.state == "starting":
            worker.link, worker.state, worker.seen = link, "ready", time.monotonic()
            self.feed()

    def died(self, name: str, code: int, *, memory: bool) -> None:
        """A worker's process has ended; ``memory``: its nanny ended it for its use of memory."""
        worker = self.workers.get(name)
        if worker is None or worker.death.done():
            return
        if memory and worker.reason == "exit":
            worker.reason = "memory"
        if not self.closed:
            self.notes.of_pool("pool.restart", worker=name, reason=worker.reason, pid=worker.pid, code=code)
        self.running.bury(worker, Death("closed" if self.closed else worker.reason, code))

    def given_up(self, name: str, error: BaseException) -> None:
        """A worker could not be replaced; who waits for it, or for any where none is left, is told."""
        self.failures[name] = error
        if worker := self.workers.get(name):
            self.running.bury(worker, Death("lost", _endings.UNSEEN))
        self._tell_the_hopeless()

    def retired(self, name: str) -> None:
        """A worker has left, because the pool was made smaller."""
        self.failures.pop(name, None)
        if worker := self.workers.pop(name, None):
            self.running.bury(worker, Death("resize", 0))
        self._tell_the_hopeless()

    def spare(self, number: int) -> list[Worker]:
        """Choose workers to leave, the dead and the idle ones first, and send them nothing more; :meth:`vacated` says when they
        are free."""
        staying = [w for w in self.workers.values() if not w.leaving]
        chosen = sorted(staying, key=lambda w: (w.state == "ready", w.reserved is not None, w.busy, w.calls))[:number]
        for worker in chosen:
            worker.leaving = True
        return chosen

    async def vacated(self, worker: Worker) -> None:
        """Return when a worker runs nothing and is not reserved, or is dead."""
        await worker.vacated()

    def kill(self, worker: Worker, reason: Reason) -> None:
        """End a worker's process at once; another takes its place."""
        self.running.kill(worker, reason)

    def restart(self, name: str | None = None) -> None:
        """End one worker, or all, at once; others take their places."""
        for worker in list(self.workers.values()):
            if name in (None, worker.name) and worker.state == "ready":
                self.kill(worker, "restart")

    def close(self) -> None:
        """Refuse further calls and fail those that wait or run."""
        self.running.closed = True
        for seeker in self._waiting.drain():
            seeker.refuse(self._gone(seeker.place))
        for worker in list(self.workers.values()):
            if worker.busy and not worker.death.done():
                self.kill(worker, "closed")
                self.running.bury(worker, Death("closed", -9))

    # ---- a call --------------------------------------------------------------------------------------------------

    async def run(self, job: Job) -> Reply:
        """Run a call on a worker and return what it answered; may be awaited on any loop. ``job.worker`` is where it ran.

        An idempotent call whose worker is killed is sent again, to another worker if one is free, unless it has told
        something already.

        Raises:
            WorkerKilled, OutOfMemory, TaskTimeout, PoisonTask: what befell the call.
            PoolBusy: it got no worker in its time.
            PoolError: the pool is closed or has no workers left.
        """
        here = asyncio.get_running_loop()
        answer: asyncio.Future[None] = here.create_future()
        job.done = _resolve(answer) if here is self.loop else lambda: post(here, _resolve(answer))
        self._do(self.submit, job)
        try:
            await answer
        except asyncio.CancelledError:
            self.give_up(job)
            raise
        return job.result()

    def give_up(self, job: Job) -> None:
        """As :meth:`cancel`, from any loop."""
        if not job.finished:
            self._do(self.cancel, job)

    def _do(self, act: Callable[[Job], None], job: Job) -> None:
        if asyncio.get_running_loop() is self.loop:
            act(job)
        elif not post(self.loop, act, job):
            job.finish(error=self._gone(job.place))

    def submit(self, job: Job) -> None:
        """Take a call; ``job.done`` is told when it is finished."""
        if job.finished or self.running.is_poison(job):
            return
        shunned = job.worker.name if job.worker is not None else None
        take, refuse = partial(self.running.begin, job), partial(_refuse, job)
        job.seeker = Seeker(job.label, take, refuse, job.place, shunned=shunned, deadline=job.deadline)
        self._seek(job.seeker)

    def cancel(self, job: Job) -> None:
        """Nobody waits for a call any more: it leaves the queue, or is asked to stop (and its worker ended if it does not)."""
        if job.finished:
            return
        job.finish(error=PoolError(f"{job.label} was cancelled.", pool=self.pool, task=job.label))
        if job.backoff is not None:
            job.backoff.cancel()
        if job.seeker is not None and self._waiting.remove(job.seeker):
            self.feed()
        if job.attempt is not None:
            self.running.stop(job.attempt, "cancelled")

    # ---- reservations --------------------------------------------------------------------------------------------

    async def reserve(self, key: str, place: Placement, deadline: float | None) -> None:
        """Reserve a worker as a whole, as soon as one runs nothing.

        Raises:
            PoolBusy: none was to be had in time.
            PoolError: the pool is closed or has no workers left.
        """
        granted: asyncio.Future[None] = self.loop.create_future()

        def take(worker: Worker) -> None:
            worker.reserved, self._reserved[key] = key, worker.name
            if not granted.done():
                granted.set_result(None)

        def refuse(error: PoolError) -> None:
            if not granted.done():
                granted.set_exception(error)

        self._seek(Seeker(f"reservation {key}", take, refuse, place, alone=True, deadline=deadline))
        await granted

    def release(self, key: str) -> None:
        """End a reservation, whether it has been granted or not; calls that wait for its worker are refused."""
        self._waiting.drain(lambda seeker: seeker.alone and seeker.label == f"reservation {key}")
        worker = self.workers.get(self._reserved.pop(key, ""))
        if worker is not None and worker.reserved == key:
            worker.reserved = None
            worker.look()
        for seeker in self._waiting.drain(lambda seeker: seeker.place.reservation == key):
            seeker.refuse(self._no_reservation(seeker.place))
        if worker is not None:
            self._released(worker)
        else:
            self.feed()

    def reserved(self, key: str) -> Worker | None:
        """Return the worker that a reservation holds; a dead one until its replacement is born."""
        return self.workers.get(self._reserved.get(key, ""))

    # ---- who waits -----------------------------------------------------------------------------------------------

    def feed(self) -> None:
        """Give free workers to those who wait."""
        if self._waiting:
            self._waiting.feed(self.workers.values())

    def _released(self, worker: Worker) -> None:
        self.released(worker)
        self.feed()

    def _seek(self, seeker: Seeker[Worker]) -> None:
        place = seeker.place
        if self._is_hopeless(seeker):
            seeker.refuse(self._gone(place))
        elif place.reservation is not None and place.reservation not in self._reserved:
            seeker.refuse(self._no_reservation(place))
        elif place.strict and place.worker is not None and place.worker not in self.workers:
            seeker.refuse(_endings.no_such(self.pool, place.worker, self.workers))
        elif (worker := self._waiting.nearest(seeker, self.workers.values())) is not None:
            seeker.take(worker)
        elif place.affinity == "strict-fail":
            name = place.worker or self._reserved.get(place.reservation or "", "")
            seeker.refuse(_endings.not_free(self.pool, seeker.label, name, list(self.workers.values())))
        else:
            self._waiting.add(seeker, self._expired)

    def _expired(self, seeker: Seeker[Worker]) -> None:
        waited = time.monotonic() - seeker.since
        workers = list(self.workers.values())
        seeker.refuse(_endings.busy(self.pool, seeker.label, waited, workers, ahead=len(self._waiting)))
        self.feed()

    def _tell_the_hopeless(self) -> None:
        for seeker in self._waiting.drain(self._is_hopeless):
            seeker.refuse(self._gone(seeker.place))

    # ---- words ---------------------------------------------------------------------------------------------------

    def _is_hopeless(self, seeker: Seeker[Worker]) -> bool:
        """Whether no worker that would do is left."""
        if self.closed or (self.workers and all(name in self.failures for name in self.workers)):
            return True
        place = seeker.place
        wanted = self._reserved.get(place.reservation or "") or (place.worker if place.strict else None)
        return wanted in self.failures

    def _gone(self, place: Placement) -> PoolError:
        if self.closed:
            return _endings.closed(self.pool)
        left = [name for name in self.workers if name not in self.failures]
        what = "the worker it wants" if left else "no worker left"
        error = PoolError(
            f"Pool {self.pool!r} has {what}: none could be started again."
            if not left
            else f"Pool {self.pool!r} has lost {what}: it could not be started again.",
            pool=self.pool,
            hint="Close the pool; the next call starts it anew." if not left else f"Left are: {', '.join(left)}.",
        )
        error.__cause__ = next(iter(self.failures.values()), None)
        return error

    def _no_reservation(self, place: Placement) -> PoolError:
        return PoolError(
            f"Pool {self.pool!r} has no reservation {place.reservation!r}; perhaps it is over.",
            pool=self.pool,
            hint="Call within `async with pool.reserve() as r`, with place=Placement(reservation=r.id).",
        )


def _resolve(answer: asyncio.Future[None]) -> Callable[[], None]:
    def resolve() -> None:
        if not answer.done():
            answer.set_result(None)

    return resolve


def _refuse(job: Job, error: PoolError) -> None:
    job.finish(error=error)
