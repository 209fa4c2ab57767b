"""One worker, and a call on it, as the dispatcher knows them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from dspex_lab.pools._endings import Death, Reason
from dspex_lab.pools._job import Job
from dspex_lab.pools._protocols import About, Link
from dspex_lab.pools._wire import Pulse


@dataclass(eq=False, slots=True)
class Worker:
    """One worker process, from its birth to its end; its replacement is another Worker of the same name.

    ``known`` are the digests of the callables that it has been sent, ``reserved`` is the id of the reservation that holds it,
    ``leaving`` says that it gets nothing more, ``lost`` that the connection to it is, ``seen`` when it last answered.
    """

    name: str
    pid: int
    threads: int
    about: About
    death: asyncio.Future[Death]
    link: Link | None = None
    state: Literal["starting", "ready", "dead"] = "starting"
    busy: int = 0
    calls: int = 0
    known: set[str] = field(default_factory=set)
    reason: Reason = "exit"
    reserved: str | None = None
    leaving: bool = False
    lost: bool = False
    born: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    pulse: Pulse | None = None
    attempts: set[Attempt] = field(default_factory=set)
    vacations: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def free(self) -> bool:
        """Whether it takes one more call."""
        return self.state == "ready" and self.busy < self.threads and not self.lost

    @property
    def vacant(self) -> bool:
        """Whether it runs nothing and nobody has reserved it."""
        return not self.busy and self.reserved is None

    @property
    def word(self) -> str:
        """How it is, as :meth:`Pool.status` says it."""
        if self.state != "ready":
            return self.state
        if self.leaving:
            return "leaving"
        return "busy" if self.busy else "reserved" if self.reserved else "idle"

    def look(self) -> None:
        """Wake whoever waits for it to be vacant, if it is that, or dead."""
        if self.state == "dead" or self.vacant:
            waiting, self.vacations = self.vacations, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def vacated(self) -> None:
        """Return when it is vacant or dead."""
        while self.state != "dead" and not self.vacant:
            future = asyncio.get_running_loop().create_future()
            self.vacations.append(future)
            await future


@dataclass(eq=False, slots=True)
class Attempt:
    """A call on a worker. ``over`` says why its caller is no longer waiting for it, None while it is; ``cause`` is the error of
    the connection, where that was lost."""

    job: Job
    worker: Worker
    began: float
    waited: float
    exchange: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    over: Literal["timeout", "cancelled"] | None = None
    cause: BaseException | None = None


def describe(worker: Worker) -> dict[str, Any]:
    """Return one worker as :meth:`Pool.status` has it. Memory is looked up now where the worker is on this machine; elsewhere
    it is what the last heartbeat said."""
    # What it is known by is read before the clock: the loop's thread hears of it meanwhile.
    about, pulse, seen, now = worker.about, worker.pulse, worker.seen, time.monotonic()
    rss, pss = (pulse.rss, pulse.pss) if pulse is not None else (None, None)
    if worker.state == "dead":
        rss = pss = None
    elif about.local and worker.pid:
        rss, pss = _memory(worker.pid)
    return {
        "name": worker.name,
        "pid": worker.pid or None,
        "state": worker.word,
        "calls": worker.calls,
        "rss": rss,
        "pss": pss,
        "age": now - worker.born,
        "device": about.device,
        "host": about.host,
        "protection": about.protection,
        "busy": worker.busy,
        "seen": now - seen,
    }


def _memory(pid: int) -> tuple[int | None, int | None]:
    import psutil

    try:
        memory = psutil.Process(pid).memory_full_info()
    except psutil.Error:  # it ended this moment, or may not be looked at
        return None, None
    return memory.rss, getattr(memory, "pss", None)
