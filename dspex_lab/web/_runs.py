"""Runs that go on by themselves: started by a client, asked about, followed and cancelled by any other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dspex_lab.errors import SessionError
from dspex_lab.pipelines import StreamEvent
from dspex_lab.security import redact
from dspex_lab.store import Store, recorded_runs
from dspex_lab.web._agent import Agent, Course, Heard
from dspex_lab.web._ask import Answer, plain, written
from dspex_lab.web._fallbacks import Fallback, told_of
from dspex_lab.web._places import Places

log = logging.getLogger("dspex_lab.web")

#: Characters of runs that have ended that are kept for those who come later; what older ones came to is in the store.
KEPT = 64 << 20
#: Characters that an event takes beside its data.
EVENT = 200
#: Events of one run that are kept; of more the first are forgotten, and their numbers are missing.
EVENTS = 10_000
#: Seconds between two signs of life to who follows a run in which nothing happens, so that nobody on the way gives it up.
ALIVE = 15.0


@dataclass
class Run:
    """A run on its way, or one that has ended.

    Attributes:
        id: of the request.
        state: ``"running"``, ``"complete"``, ``"partial"``, ``"failed"`` or ``"cancelled"``.
        answer: what came of it, until it has ended: from then on only ``ended`` is kept, which is that as JSON.
        events: what happened: number, name, and data as JSON text.
        size: characters of the events.
    """

    id: str
    pipeline: str
    state: str = "running"
    answer: Answer | None = None
    error: str | None = None
    ended: dict[str, Any] | None = None
    events: list[tuple[int, str, str]] = field(default_factory=list)
    size: int = 0
    told: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Add an event, and wake those who follow."""
        self.events.append((self.told, name, written(data)))
        self.told += 1
        self.size += len(self.events[-1][2]) + EVENT
        if len(self.events) >= 2 * EVENTS:
            del self.events[:-EVENTS]
            self.size = sum(len(text) + EVENT for _, _, text in self.events)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def after(self, number: int) -> list[tuple[int, str, str]]:
        """Return the events after a number."""
        first = self.told - len(self.events)
        return self.events[max(0, number + 1 - first) :]

    def describe(self) -> dict[str, Any]:
        """Return it as JSON."""
        if self.ended is not None:
            return self.ended
        about = {} if self.answer is None else self.answer.about()
        return {
            "id": self.id,
            "object": "run",
            "state": self.state,
            "pipeline": self.pipeline,
            "error": None if self.error is None else redact(self.error),
            "content": self.answer.content if self.answer is not None and self.answer.ok else None,
            **about,
        }


class Runs:
    """The runs of a server. On its event loop only.

    Args:
        agent: carries them out.
        store: knows those of earlier servers.
        places: each run takes one.
        answered: told of each answer.
    """

    def __init__(self, agent: Agent, store: Store, places: Places, answered: Callable[[Answer], None]) -> None:
        self._agent, self._store, self._places, self._answered = agent, store, places, answered
        self._runs: dict[str, Run] = {}
        self._kept = 0

    def start(self, course: Course) -> Run:
        """Begin one.

        Raises:
            Refused: too many wait already.
        """
        self._places.check()
        run = self._runs[course.ask.id] = Run(course.ask.id, course.now.offer.name)
        run.task = asyncio.ensure_future(self._go(run, course))
        run.task.add_done_callback(partial(self._end, run))
        self._tidy()
        return run

    def get(self, request_id: str) -> Run | None:
        """Return a run of this server."""
        return self._runs.get(request_id)

    async def recorded(self, request_id: str) -> dict[str, Any] | None:
        """Return what the store knows of a run, by the id of its request or its own; None where it knows nothing."""
        return await asyncio.to_thread(self._recorded, request_id)

    def _recorded(self, request_id: str) -> dict[str, Any] | None:
        found = recorded_runs(self._store, tags=[f"request:{request_id}"], unended=True)
        found = found or recorded_runs(self._store, run_id=request_id, unended=True)
        if not found:
            return None
        last = found[-1]
        return {
            "id": request_id,
            "object": "run",
            "state": last.status,
            "pipeline": last.name,
            "run_id": last.run_id,
            "status": last.status,
            "outputs": last.outputs,
            "fallback_used": len(found) > 1,
        }

    async def cancel(self, run: Run) -> None:
        """End a run, where it has not ended."""
        if run.task is not None:
            run.task.cancel()
            await asyncio.wait({run.task})

    async def follow(self, run: Run, after: int = -1) -> AsyncGenerator[tuple[int, str, str] | None, None]:
        """Yield the events of a run after a number, until it has ended; None as a sign of life."""
        while True:
            news = run.after(after)
            for event in news:
                yield event
                after = event[0]
            if news:
                continue
            if run.state != "running":
                return
            try:  # nothing is awaited between the look at the events and this, so none is missed
                async with asyncio.timeout(ALIVE):
                    await run.changed.wait()
            except TimeoutError:
                yield None

    async def close(self) -> None:
        """End all of them."""
        tasks = [run.task for run in self._runs.values() if run.task is not None and not run.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _go(self, run: Run, course: Course) -> None:
        async with self._places.take(patient=True), aclosing(self._agent.stream(course)) as events:
            run.tell("run.start", {"pipeline": run.pipeline})
            async for event in events:
                self._take(run, event)

    def _take(self, run: Run, event: Heard | Fallback | Answer) -> None:
        if isinstance(event, Answer):
            run.answer = event
            run.pipeline = event.offer.name
        elif isinstance(event, Fallback):
            run.tell("fallback", {"pipeline": event.offer.name, "reason": event.why})
        else:
            run.tell(event.event.kind, told(event.event))

    def _end(self, run: Run, task: asyncio.Task[None]) -> None:
        """Say how a run has ended; also of one that was cancelled before it began."""
        error = None if task.cancelled() else task.exception()
        if run.answer is not None and run.answer.ok:
            run.state = run.answer.result.status
        elif task.cancelled():
            run.state = "cancelled"
        else:
            run.state = "failed"
            run.error = told_of(error if run.answer is None else run.answer.result.error)
        if error is not None and not isinstance(error, SessionError):  # whoever runs the server finds it in its log
            log.error("the run %s was ended by an error of the server", run.id, exc_info=error)
        if run.answer is not None:
            self._answered(run.answer)
        run.ended = run.describe()
        run.answer = run.task = None
        run.tell("run.stop", run.ended)
        self._kept += run.size

    def _tidy(self) -> None:
        while self._kept > KEPT:
            oldest = next(run for run in self._runs.values() if run.ended is not None)
            self._kept -= oldest.size
            del self._runs[oldest.id]


def told(event: StreamEvent) -> dict[str, Any]:
    """Return an event of a run as JSON."""
    return {"step": event.step, "field": event.field, "value": plain(event.value), "data": plain(event.data)}
