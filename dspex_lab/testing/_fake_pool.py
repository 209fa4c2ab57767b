"""A pool without processes, for tests of programs that use one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from dspex_lab.errors import PoolError
from dspex_lab.events import Event
from dspex_lab.pools import Pool, PoolSpec
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._host import Host
from dspex_lab.pools._job import Job
from dspex_lab.pools._options import CallOptions
from dspex_lab.pools._protocols import About
from dspex_lab.pools._runtime import Runtime
from dspex_lab.pools._spec import MINIMUM_MEMORY
from dspex_lab.pools._wire import Call, Pulled, Pulse, Reply
from dspex_lab.pools._worker import Worker

#: The loop that all fake pools of a process live on.
_runtime = Runtime()


class FakePool(Pool):
    """A :class:`dspex_lab.pools.Pool` whose workers are threads of this process.

    All of its face is there: the queue, placement, reservations, streams, retries, the named errors and the events. Callables,
    arguments and results are packed as for a real worker, so what cannot travel is found, and nothing is shared with the
    caller. Not like a real pool: a function that kills its process kills this one, and one that is out of time or cancelled and
    does not stop goes on in its thread until it ends, while its worker is replaced. It need not be closed.

    Args:
        name: the pool's name.
        workers: how many; each runs one call at once.
        emit: told of the pool's events.
        failures: raised by the first calls, one each, instead of running them; ``WorkerKilled`` is retried for an idempotent
            call as a real pool would: ``FakePool(failures=[WorkerKilled("gone")])``.
        spec: more of it; ``name`` and ``workers`` are then those of the spec.
    """

    def __init__(
        self,
        name: str = "general",
        *,
        workers: int = 2,
        emit: Callable[[Event], None] | None = None,
        failures: Iterable[PoolError] = (),
        spec: PoolSpec | None = None,
    ) -> None:
        words = f"{workers} threads of this process: a fake pool."
        super().__init__(spec or PoolSpec(name, workers, MINIMUM_MEMORY, scaling=words), emit, _runtime)
        #: Every call so far that could be packed: label and arguments.
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._failures = deque(failures)

    def __repr__(self) -> str:
        return f"<FakePool {self.name!r}: {self.spec.scaling.rstrip('.')}>"

    def die(self, worker: str, code: int = -9) -> None:
        """Have a worker die as if its process had ended with this status, and be replaced; for tests of what happens then."""
        dispatcher = self.warm()._dispatcher()
        assert dispatcher is not None  # noqa: S101 - it is warm

        async def die() -> None:
            self._fleet.end(dispatcher.workers[worker], code)

        self._runtime.submit(die()).result()

    async def _enter(
        self, fn: Callable[..., Any], args: tuple[Any, ...], options: CallOptions, *, streams: bool = False
    ) -> tuple[Dispatcher, Job]:
        dispatcher, job = await super()._enter(fn, args, options, streams=streams)
        self.calls.append((job.label, args))
        return dispatcher, job

    def _make_fleet(self, dispatcher: Dispatcher) -> FakeFleet:
        return FakeFleet(self.spec, dispatcher, self._failures)


class FakeFleet:
    """Workers that are threads. On the fake pools' loop."""

    def __init__(self, spec: PoolSpec, dispatcher: Dispatcher, failures: deque[PoolError]) -> None:
        self.spec = spec
        self._dispatcher = dispatcher
        self._failures = failures
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Make the workers."""
        for number in range(self.spec.workers):
            self._bear(f"{self.spec.name}-{number}")

    async def resize(self, workers: int) -> None:
        """Make more workers, or let some go when they are free."""
        names = set(self._dispatcher.workers)
        for worker in self._dispatcher.spare(len(names) - workers) if len(names) > workers else []:
            await self._dispatcher.vacated(worker)
            self._dispatcher.retired(worker.name)
        wanted = (f"{self.spec.name}-{number}" for number in range(workers + len(names)))
        for name in [name for name in wanted if name not in names][: max(0, workers - len(names))]:
            self._bear(name)

    def kill(self, worker: Worker) -> None:
        """End a worker: what it runs goes on in its thread, heard by nobody."""
        self._dispatcher.loop.call_soon(self.end, worker, -9)

    def end(self, worker: Worker, code: int) -> None:
        """A worker has ended, with this status; another takes its place."""
        if self._closing or worker.death.done():
            return
        self._dispatcher.died(worker.name, code, memory=False)
        self._later(self._replace(worker.name))

    async def close(self) -> None:
        """Let all go."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()

    async def _replace(self, name: str) -> None:
        await asyncio.sleep(0)
        if not self._closing and name in self._dispatcher.workers:
            self._bear(name)

    def _bear(self, name: str) -> None:
        about = About(local=False, protection="none: a thread")
        worker = self._dispatcher.born(name, 0, self.spec.threads, about)
        self._dispatcher.ready(worker, FakeLink(worker, self._failures))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class FakeLink:
    """The way to a host in this process; each call has a thread of its own."""

    def __init__(self, worker: Worker, failures: deque[PoolError]) -> None:
        self._worker = worker
        self._failures = failures
        self._host = Host(worker.threads)
        self._born = time.monotonic()

    async def call(self, call: Call) -> Reply:
        if self._failures:
            raise self._failures.popleft()
        return await self._in_thread(call)

    async def task(self, call: Call) -> Reply:
        return await self.call(call)

    async def pull(self, call_id: str, patience: float) -> Pulled:
        return Pulled.from_wire(await self._host.pull(call_id, patience))

    async def cancel(self, call_id: str) -> None:
        if threading.gettrace() is None:
            await self._host.cancel(call_id)
        elif (run := self._host._runs.get(call_id)) is not None:
            # Python 3.11 hangs if a blocked thread has an exception sent to it while others are traced (coverage, debuggers).
            run.task._cancel()

    async def ping(self) -> Pulse:
        return Pulse(None, None, time.monotonic() - self._born, self._worker.calls)

    def _in_thread(self, call: Call) -> asyncio.Future[Reply]:
        """Run in a daemon thread: one that never ends must not keep the tests from ending."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()

        def deliver(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        def work() -> None:
            reply = self._host.work(call)
            self._host.leave()
            if not loop.is_closed():
                loop.call_soon_threadsafe(deliver, reply)

        threading.Thread(target=work, name="dspex-fake-worker", daemon=True).start()
        return future
