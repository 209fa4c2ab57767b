"""Races of requests that end, and waits that are over, when the test says so."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from typing import Any

from dspex_lab.resilience import Change, Hedge, Hedger, hedged, hedged_sync


class Race:
    """Requests that end when the test says so, and a wait whose time is over when the test says so."""

    def __init__(self, hedge: Hedge, **options: Any) -> None:
        self.told: list[Change] = []
        self.hedger = Hedger("a/b", hedge, self.told.append)
        self.options = options
        self.started: list[int] = []
        self.ends: dict[int, asyncio.Future[str]] = {}
        self.cancelled: list[int] = []
        self.waits: list[float | None] = []

    async def work(self, number: int) -> str:
        self.started.append(number)
        self.ends[number] = asyncio.get_running_loop().create_future()
        try:
            return await self.ends[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise

    async def wait(self, tasks: Sequence[asyncio.Future[Any]], seconds: float | None) -> None:
        self.waits.append(seconds)
        self.late = asyncio.Event()
        late = asyncio.create_task(self.late.wait())
        await asyncio.wait([*tasks, late], return_when=asyncio.FIRST_COMPLETED)
        late.cancel()

    async def begin(self) -> asyncio.Task[str]:
        task = asyncio.create_task(hedged(self.work, self.hedger, wait=self.wait, **self.options))
        await self.turn()
        return task

    async def turn(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def is_late(self) -> None:
        self.late.set()
        await self.turn()

    def events(self) -> list[tuple[str, str, str]]:
        return [(each.event, each.target, each.after) for each in self.told]


ONCE = Hedge(after=0.5, share=1.0)


class SyncRace:
    """The same for threads: ``take`` says that the time is over as often as ``late``, then waits for an answer."""

    def __init__(self, late: int, hedge: Hedge = ONCE) -> None:
        self.late = late
        self.told: list[Change] = []
        self.hedger = Hedger("t", hedge, self.told.append)
        self.ends = {number: threading.Event() for number in range(3)}
        self.outcomes: dict[int, Any] = {}
        self.started: list[int] = []
        self.finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.waits: list[float | None] = []

    def work(self, number: int) -> Any:
        self.started.append(number)
        self.ends[number].wait()
        outcome = self.outcomes.get(number, number)
        self.finished.put(number)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def take(self, answers: queue.SimpleQueue[Any], seconds: float | None) -> Any:
        self.waits.append(seconds)
        if seconds is not None and self.late:
            self.late -= 1
            raise queue.Empty
        return answers.get()

    def run(self, **options: Any) -> Any:
        return hedged_sync(self.work, self.hedger, take=self.take, **options)
