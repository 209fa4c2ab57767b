"""Links without a network, for tests of who runs what."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from dspex_lab.pools._carry import Parcel
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._job import Job
from dspex_lab.pools._spec import PoolSpec
from dspex_lab.pools._wire import Call, Code, Packed, Pulled, Pulse, Reply
from dspex_lab.pools._worker import Worker
from dspex_lab.testing._fake_pool import FakeFleet

VALUE = Reply("value", Packed(b"done", size=4))


def job(label: str = "t", *, function: str = "f", arguments: bytes = b"a", **options: Any) -> Job:
    """A call, as if it had been packed."""
    return Job(Parcel(function, Code(b"", []), Packed(arguments, size=len(arguments)), label), **options)


class Wire:
    """A link that records what was sent and answers when told."""

    def __init__(self) -> None:
        self.sent: list[Call] = []
        self.answers: list[asyncio.Future[Reply]] = []
        self.long: list[str] = []
        self.stopped: list[str] = []
        self.pulls: list[asyncio.Future[Pulled]] = []
        self.pings: list[asyncio.Future[Pulse]] = []
        self.stops = True

    async def call(self, call: Call) -> Reply:
        self.sent.append(call)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    async def task(self, call: Call) -> Reply:
        self.long.append(call.label)
        return await self.call(call)

    async def pull(self, call_id: str, patience: float) -> Pulled:
        self.pulls.append(asyncio.get_running_loop().create_future())
        return await self.pulls[-1]

    async def cancel(self, call_id: str) -> None:
        self.stopped.append(call_id)
        if self.stops:
            index = [call.id for call in self.sent].index(call_id)
            self.answers[index].set_result(Reply("cancelled", Packed(b"")))

    async def ping(self) -> Pulse:
        self.pings.append(asyncio.get_running_loop().create_future())
        return await self.pings[-1]


def ready(dispatcher: Dispatcher, name: str = "w0", pid: int = 0, threads: int = 1) -> tuple[Worker, Wire]:
    """A worker that takes calls."""
    worker, wire = dispatcher.born(name, pid, threads), Wire()
    dispatcher.ready(worker, wire)
    return worker, wire


def ended_by(dispatcher: Dispatcher, code: int = -9) -> list[str]:
    """Have the dispatcher's kills end workers at once; return the names of those that it kills."""
    killed: list[str] = []

    def end(worker: Any) -> None:
        killed.append(worker.name)
        dispatcher.loop.call_soon(lambda: dispatcher.died(worker.name, code, memory=False))

    dispatcher.end = end
    return killed


async def turn(times: int = 5) -> None:
    """Let the loop go round."""
    for _ in range(times):
        await asyncio.sleep(0)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def start(dispatcher: Dispatcher, *jobs: Job) -> list[asyncio.Task[Any]]:
    """Run calls side by side."""
    return [asyncio.ensure_future(dispatcher.run(each)) for each in jobs]


class Nowhere:
    """A cluster without anything."""

    address = "tls://nowhere"

    def __init__(self) -> None:
        self.closed = 0
        self.broken = False

    async def start(self) -> None: ...

    def fleet(self, spec: PoolSpec, dispatcher: Dispatcher) -> FakeFleet:
        return FakeFleet(spec, dispatcher, deque())

    async def close(self) -> None:
        self.closed += 1
        if self.broken:
            raise LookupError("broken")
