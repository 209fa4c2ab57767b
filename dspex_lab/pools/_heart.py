"""Whether workers are well: stopped or silent ones are replaced, worn ones renewed.

What to do is decided by functions that look at nothing themselves; :class:`Heart` looks and acts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._endings import Reason
from dspex_lab.pools._sizes import written
from dspex_lab.pools._spec import PoolSpec, Recycle
from dspex_lab.pools._worker import Worker

log = logging.getLogger("dspex_lab")

Verdict: TypeAlias = Literal["well", "stopped", "silent"]

#: The letter of a stopped process in /proc/PID/stat (SIGSTOP; one that a debugger holds has a small t).
STOPPED = "T"


def verdict(*, stopped: int, silent: float, stuck_after: float) -> Verdict:
    """Return what is the matter with a worker.

    Args:
        stopped: heartbeats in a row at which its process was stopped.
        silent: seconds since it last answered.
        stuck_after: seconds of silence that are too many.
    """
    if stopped >= 2:
        return "stopped"
    return "silent" if silent >= stuck_after else "well"


def worn(recycle: Recycle, *, memory: int | None, age: float, calls: int) -> str | None:
    """Return why a worker is to be renewed, None where it is not.

    Args:
        memory: bytes of its own (PSS), None where that is not known.
        age: seconds since its process started.
        calls: calls that it has had.
    """
    if recycle.memory is not None and memory is not None and memory > recycle.memory:
        return f"it keeps {written(memory)}, more than {written(recycle.memory)}"
    if recycle.age is not None and age > recycle.age:
        return f"it is {age:.0f} s old, more than {recycle.age:g} s"
    if recycle.calls is not None and calls >= recycle.calls:
        return f"it has had {calls:,} calls"
    return None


def may_leave(worker: Worker, others: list[Worker]) -> bool:
    """Whether a worn worker may be renewed now: it is free, and no other is away or about to be."""
    return (
        worker.state == "ready"
        and worker.vacant
        and not worker.leaving
        and all(w.state == "ready" for w in others if not w.leaving)
    )


def process_state(pid: int) -> str:
    """Return the letter of a process's state; empty where it cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return ""
    return stat[stat.rfind(b")") + 2 :][:1].decode()


class Heart:
    """Looks at each worker of a pool every ``spec.heartbeat`` seconds. On the pools' loop.

    Args:
        spec: the pool's.
        dispatcher: whose workers they are.
        state_of: returns the state of a process on this machine.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        spec: PoolSpec,
        dispatcher: Dispatcher,
        state_of: Callable[[int], str] = process_state,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self._dispatcher = dispatcher
        self._state_of = state_of
        self._clock = clock
        self._stopped: dict[Worker, int] = {}
        self._asked: dict[Worker, asyncio.Task[None]] = {}
        self._beating: asyncio.Task[None] | None = None
        dispatcher.released = self.renew

    def start(self) -> None:
        """Begin to beat."""
        self._beating = asyncio.ensure_future(self._beat())

    def stop(self) -> None:
        """End it, and what it has asked."""
        for task in (self._beating, *self._asked.values()):
            if task is not None:
                task.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.spec.heartbeat)
            try:
                self.look()
            except Exception:
                log.exception("the heartbeat of pool %r failed", self.spec.name)

    def look(self) -> None:
        """Look at each worker once: ask it for a sign of life, and replace it if there has been none for too long."""
        workers = [w for w in self._dispatcher.workers.values() if w.state == "ready"]
        self._stopped = {w: n for w, n in self._stopped.items() if w in workers}
        for worker in workers:
            if worker not in self._asked:
                self._asked[worker] = asyncio.ensure_future(self._ask(worker))
            if worker.about.local and worker.pid:
                stopped = self._state_of(worker.pid) == STOPPED
                self._stopped[worker] = self._stopped.get(worker, 0) + 1 if stopped else 0
            silent = self._clock() - worker.seen
            found = verdict(stopped=self._stopped.get(worker, 0), silent=silent, stuck_after=self.spec.stuck_after)
            if found != "well":
                self._replace(worker, found, silent)
            else:
                self.renew(worker)

    def renew(self, worker: Worker) -> None:
        """Recycle a worker if it is due and can be spared."""
        recycle = self.spec.recycle
        if (recycle.calls, recycle.age, recycle.memory) == (None, None, None):
            return
        memory = worker.pulse.pss if worker.pulse is not None else None
        why = worn(recycle, memory=memory, age=self._clock() - worker.born, calls=worker.calls)
        others = [w for w in self._dispatcher.workers.values() if w is not worker]
        if why is not None and may_leave(worker, others):
            self._dispatcher.notes.of_pool("pool.recycle", worker=worker.name, pid=worker.pid, reason=why)
            self._dispatcher.kill(worker, "recycle")

    def _replace(self, worker: Worker, reason: Reason, silent: float) -> None:
        running = [attempt.job.label for attempt in worker.attempts]
        data = {"worker": worker.name, "pid": worker.pid, "reason": reason, "silent": silent, "running": running}
        self._dispatcher.notes.of_pool("pool.stuck", **data)
        self._dispatcher.kill(worker, reason)

    async def _ask(self, worker: Worker) -> None:
        """Ask a worker for its pulse; it is not asked again before it has answered or the connection is lost."""
        assert worker.link is not None  # noqa: S101 - it is ready
        try:
            worker.pulse = await worker.link.ping()
            worker.seen = self._clock()
        except Exception as error:
            log.debug("worker %s of pool %r gave no sign of life: %r", worker.name, self.spec.name, error)
        finally:
            del self._asked[worker]
