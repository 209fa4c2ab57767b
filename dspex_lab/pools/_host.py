"""The worker's side: one Host lives in each worker as a Dask Actor and runs what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_lab.pools import _frames, _sources
from dspex_lab.pools._carry import encode, encode_error, encode_unloadable, said
from dspex_lab.pools._outbox import Outbox
from dspex_lab.pools._serializers import REGISTRY
from dspex_lab.pools._shared import Share
from dspex_lab.pools._strike import Run
from dspex_lab.pools._task import Task, run_as
from dspex_lab.pools._usage import Meter
from dspex_lab.pools._wire import Call, Code, Reply, Wire

#: Callables that a worker keeps unpickled, the least recently used one forgotten first.
CACHE = 256

#: Streams, and calls that were cancelled before they came, that a worker keeps; the oldest are forgotten.
KEPT = 512

#: Seconds between attempts to stop a function that was where it must not be struck.
INSIST = 0.005


class Host:
    """Runs callables in the threads of one worker.

    A callable stays unpickled for later calls of the same digest, so what it changes in itself may be seen by them, as
    it would be in one process. Each call has an empty :mod:`contextvars` context of its own.

    Args:
        threads: calls at once; further ones wait here, but the kernel sends none.
        worker: this worker's name.
        folder: its workspace.
        share: where large values are written and found; None where the kernel is on another machine.
    """

    def __init__(self, threads: int = 1, *, worker: str = "", folder: str = "", share: Share | None = None) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="dspex-task")
        self._worker, self._folder, self._share = worker, folder, share
        self._meter = Meter(threads)
        self._functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._loading = threading.Lock()
        self._outboxes: OrderedDict[str, Outbox] = OrderedDict()
        self._runs: dict[str, Run] = {}
        self._stopped: OrderedDict[str, None] = OrderedDict()
        self._insisting: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()
        self._local = threading.local()

    # ---- called by the kernel, through Dask ------------------------------------------------------------------------

    async def run(self, wire: Any) -> Wire:
        """Run a call in a thread and return what came of it."""
        call = Call.from_wire(wire)
        return (await asyncio.get_running_loop().run_in_executor(self._threads, self.work, call)).wire()

    async def pull(self, call_id: str, patience: float) -> Wire:
        """Return what a call has told since this was asked last, waiting ``patience`` seconds for the first of it. A call
        that has not come yet is waited for as well."""
        outbox = self._outbox(call_id)
        pulled = await outbox.pull(patience)
        if pulled.done:
            with self._lock:
                self._outboxes.pop(call_id, None)
        return pulled.wire()

    async def cancel(self, call_id: str) -> None:
        """Ask a call to stop, whether it runs, is yet to come or has left an answer in a file."""
        with self._lock:
            run = self._runs.get(call_id)
            if run is None:
                self._stopped[call_id] = None
                if len(self._stopped) > KEPT:
                    self._stopped.popitem(last=False)
        if run is not None:
            if not run.cancel():
                insisting = asyncio.ensure_future(_insist(run))
                self._insisting.add(insisting)
                insisting.add_done_callback(self._insisting.discard)
        elif self._share is not None:
            self._share.forget(call_id)

    async def ping(self) -> Wire:
        """Say how this worker is."""
        return self._meter.pulse().wire()

    # ---- a call ----------------------------------------------------------------------------------------------------

    def work(self, call: Call) -> Reply:
        """Run a call here and return what came of it; never raises."""
        outbox = self._outbox(call.id) if call.streams else None
        run = Run(Task(call.label, self._worker, self._folder, outbox))
        run.task._finish = lambda awaitable: self._finish(run, awaitable)
        with self._lock:
            self._runs[call.id] = run
            stopped = call.id in self._stopped
            self._stopped.pop(call.id, None)
        if stopped:
            run.cancel()
        reading = self._meter.begin(call.cpu)
        reply: Reply = run.guard(lambda: self._answer(call, run), encode_error)
        reply.usage = self._meter.end(reading)
        with self._lock:
            del self._runs[call.id]
        if outbox is not None and reply.kind != "missing":
            outbox.close()
        if self._share is not None and not run.cancelled:
            reply.body = self._share.put(reply.body, f"{call.id}.reply")
        return reply

    def _answer(self, call: Call, run: Run) -> Reply:
        try:
            function = self._load(call.digest, call.code)
            if function is None:
                return said("missing")
            packed = call.arguments if self._share is None else self._share.take(call.arguments)
            values = _frames.unpack(packed)
        except MemoryError:
            raise
        except Exception as error:
            return encode_unloadable(error)
        return encode(run_as(run.task, self._result, run, function, values, call.streams))

    def _load(self, digest: str, code: Code | None) -> Callable[..., Any] | None:
        with self._loading:
            function = self._functions.get(digest)
            if function is None and code is not None:
                sys.path.extend(folder for folder in code.folders if folder not in sys.path)
                _sources.install(code.sources, code.classes)
                REGISTRY.adopt(code.serializers)
                function = self._functions[digest] = pickle.loads(code.function)  # noqa: S301 - from the kernel, over TLS
            if function is not None:
                self._functions.move_to_end(digest)
            if len(self._functions) > CACHE:
                self._functions.popitem(last=False)
            return function

    def _result(self, run: Run, function: Callable[..., Any], values: tuple[Any, ...], streams: bool) -> Any:
        result = function(*values)
        if inspect.isawaitable(result):
            result = self._finish(run, result)
        if streams and inspect.isgenerator(result):
            return _told(run.task, result)
        if streams and inspect.isasyncgen(result):
            return self._finish(run, _atold(run.task, result))
        return result

    def _finish(self, run: Run, awaitable: Any) -> Any:
        """Run a coroutine to its end on this thread's loop, which lives on so that clients bound to it do too."""
        if not hasattr(self._local, "runner"):
            self._local.runner = asyncio.Runner()
        run.spare()
        return self._local.runner.run(run.finish(awaitable), context=contextvars.copy_context())

    def _outbox(self, call_id: str) -> Outbox:
        with self._lock:
            outbox = self._outboxes.setdefault(call_id, Outbox())
            if len(self._outboxes) > KEPT:
                self._outboxes.popitem(last=False)[1].close()
            return outbox

    def leave(self) -> None:
        """Close the calling thread's loop; for threads that end."""
        if hasattr(self._local, "runner"):
            self._local.runner.close()


async def _insist(run: Run) -> None:
    """Ask a call to stop until it can be struck. Its kernel ends the worker if that takes too long."""
    while not run.cancel():  # noqa: ASYNC110 - nothing tells when the function leaves that place
        await asyncio.sleep(INSIST)


def _told(task: Task, generator: Generator[Any, Any, Any]) -> Any:
    """Tell what a generator yields; return what it returns."""
    with contextlib.closing(generator):
        while True:
            try:
                value = next(generator)
            except StopIteration as stop:
                return stop.value
            task.tell(value)


async def _atold(task: Task, generator: AsyncGenerator[Any, Any]) -> None:
    async with contextlib.aclosing(generator):
        async for value in generator:
            await task.atell(value)
