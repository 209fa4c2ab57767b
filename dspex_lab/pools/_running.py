"""Calls on their workers: how one begins, ends, is stopped, and what becomes of it when its worker dies."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Literal

from dspex_lab.errors import PoolError, WorkerKilled
from dspex_lab.pools import _endings
from dspex_lab.pools._endings import Death, Reason
from dspex_lab.pools._job import Job, Outcome, carried
from dspex_lab.pools._loops import Tasks
from dspex_lab.pools._notes import Notes
from dspex_lab.pools._poison import Poison, identity_of
from dspex_lab.pools._wire import Reply, Usage
from dspex_lab.pools._worker import Attempt, Worker

log = logging.getLogger("dspex_lab")

#: Seconds that a cancelled call, and one out of time, may go on before its worker is killed.
GRACE = 1.0

#: Seconds between the loss of a connection and the kill of a worker that still lives.
LOST = 3.0

#: Seconds before a call whose worker was killed is sent again; doubled each time, and up to half as much again by chance.
BACKOFF = 0.05

#: Times that an idempotent call is begun at most, whatever its workers die of.
ATTEMPTS = 5


class Running:
    """The calls that a pool's workers have. On the pools' loop.

    Args:
        notes: told of each.
        end: ends a worker's process.
        released: told when a worker has one call less.
        again: sends a call again.
    """

    def __init__(
        self,
        notes: Notes,
        end: Callable[[Worker], None],
        released: Callable[[Worker], None],
        again: Callable[[Job], None],
    ) -> None:
        self.pool = notes.pool
        self.poison = Poison()
        self.closed = False
        self._notes = notes
        self._end = end
        self._released = released
        self._again = again
        self._loop = asyncio.get_running_loop()
        self._asking = Tasks()

    def begin(self, job: Job, worker: Worker) -> None:
        """Send a call to a worker."""
        now = time.monotonic()
        attempt = Attempt(job, worker, now, now - job.asked)
        worker.busy += 1
        worker.attempts.add(attempt)
        job.attempt, job.worker, job.seeker = attempt, worker, None
        job.leave_queue()
        job.moved()
        self._notes.out(attempt)
        if job.timeout is not None:
            attempt.timer = self._loop.call_later(job.timeout, self._out_of_time, attempt)
        attempt.exchange = self._loop.create_task(self._exchange(attempt))

    def stop(self, attempt: Attempt, reason: Literal["timeout", "cancelled"]) -> None:
        """Ask a call that nobody waits for to stop, and end its worker if it has not by then."""
        if attempt.over is None and attempt in attempt.worker.attempts:
            attempt.over = reason
            self._asking.begin(self._ask(attempt))
            self._loop.call_later(GRACE, self._end_if_running, attempt, reason)

    def kill(self, worker: Worker, reason: Reason) -> None:
        """End a worker's process at once; another takes its place."""
        if worker.state != "dead":
            worker.state, worker.reason = "dead", reason
            self._end(worker)

    def bury(self, worker: Worker, death: Death) -> None:
        """A worker is dead: say what this means for what it ran."""
        worker.state = "dead"
        if worker.death.done():
            return
        worker.death.set_result(death)
        suspects = len(worker.attempts)
        for attempt in list(worker.attempts):
            if attempt.exchange is not None:
                attempt.exchange.cancel()
            self._conclude(attempt, attempt.over or "failed")
            if attempt.over is None:
                if death.by_its_task:
                    self.poison.count(attempt.job, _endings.how(death), suspects)
                error = _endings.epitaph(self.pool, worker, death, attempt.job)
                error.__cause__ = attempt.cause
                self._bereave(attempt.job, error)
        worker.look()

    def is_poison(self, job: Job, cause: PoolError | None = None) -> bool:
        """Refuse a call that has killed its workers; return whether it is one."""
        deaths = self.poison.against(job)
        if deaths is None:
            return False
        identity = identity_of(job)
        error = _endings.poisoned(self.pool, job.label, deaths, identity)
        error.__cause__ = cause
        self._notes.refused(job, identity=identity, deaths=deaths)
        self._tell_outcome(job)
        job.finish(error=error)
        return True

    # ---- a call on a worker --------------------------------------------------------------------------------------

    async def _exchange(self, attempt: Attempt) -> None:
        job, worker = attempt.job, attempt.worker
        try:
            reply = await _send(job, worker)
        except OSError as error:
            attempt.cause, worker.lost = error, True
            self._loop.call_later(LOST, self.kill, worker, "lost")
        except PoolError as error:
            self._conclude(attempt, attempt.over or "failed")
            self._bereave(job, error)
        except Exception as error:
            log.exception("the link to worker %s of pool %r failed", worker.name, self.pool)
            self._conclude(attempt, attempt.over or "failed")
            self._bereave(job, self._broken(attempt, error))
        else:
            worker.known.add(job.parcel.digest)
            worker.seen = time.monotonic()
            self._conclude(attempt, attempt.over or "complete", reply)
            job.finish(reply=reply)

    def _out_of_time(self, attempt: Attempt) -> None:
        attempt.job.finish(error=_endings.out_of_time(self.pool, attempt.worker, attempt.job))
        self.stop(attempt, "timeout")

    async def _ask(self, attempt: Attempt) -> None:
        link = attempt.worker.link
        try:
            if link is not None:
                async with asyncio.timeout(GRACE):
                    await link.cancel(attempt.job.id)
        except (OSError, PoolError) as error:  # TimeoutError is an OSError; its worker is ended in a moment
            log.debug("worker %s could not be asked to stop %s: %r", attempt.worker.name, attempt.job.label, error)

    def _end_if_running(self, attempt: Attempt, reason: Reason) -> None:
        if attempt in attempt.worker.attempts:
            self.kill(attempt.worker, reason)

    def _bereave(self, job: Job, error: PoolError) -> None:
        """A call has come to nothing: send it again, or fail it."""
        if job.finished:
            return
        job.deaths += 1
        if not isinstance(error, WorkerKilled) or not job.idempotent or job.delivered or self.closed or job.deaths >= ATTEMPTS:
            self._tell_outcome(job)
            job.finish(error=error)
        elif not self.is_poison(job, error):
            pause = BACKOFF * 2 ** (job.deaths - 1) * random.uniform(1, 1.5)  # noqa: S311 - spreads them, hides nothing
            job.attempt = None
            job.backoff = self._loop.call_later(pause, self._again, job)
            job.moved()

    def _conclude(self, attempt: Attempt, status: str, reply: Reply | None = None) -> None:
        """A call has left its worker."""
        job, worker = attempt.job, attempt.worker
        if attempt not in worker.attempts:
            return
        worker.attempts.discard(attempt)
        worker.busy -= 1
        worker.calls += 1
        if attempt.timer is not None:
            attempt.timer.cancel()
        outcome = Outcome(
            worker.name,
            worker.pid or None,
            reply.usage if reply is not None else Usage(),
            carried(job.parcel.arguments),
            carried(reply.body) if reply is not None else None,
            attempt.waited,
            time.monotonic() - attempt.began,
            status,
        )
        self._notes.back(attempt, outcome)
        job.outcome = outcome
        if reply is not None or attempt.over is not None:
            self._tell_outcome(job)
        if worker.state == "ready":
            self._released(worker)
        worker.look()

    def _tell_outcome(self, job: Job) -> None:
        """Tell who asked for it what the call cost, once."""
        told, job.told = job.told, None
        if told is not None and job.outcome is not None:
            try:
                told(job.outcome)
            except Exception:
                log.exception("whoever was told of %s raised", job.label)

    def _broken(self, attempt: Attempt, error: Exception) -> PoolError:
        broken = PoolError(
            f"{attempt.job.label} could not be sent to worker {attempt.worker.name} of pool {self.pool!r}: "
            f"{type(error).__name__}: {error}.",
            pool=self.pool,
            worker=attempt.worker.name,
            task=attempt.job.label,
        )
        broken.__cause__ = error
        return broken


async def _send(job: Job, worker: Worker) -> Reply:
    link = worker.link
    if link is None:
        raise OSError("this worker is not ready")
    send = link.task if job.long else link.call
    if job.parcel.digest in worker.known:
        reply = await send(job.call(send=False))
        if reply.kind != "missing":
            return reply
    return await send(job.call(send=True))
