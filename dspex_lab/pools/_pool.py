"""The pool as others see it: started when first needed, called from any asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Unpack

from dspex_lab.errors import DspexError, PoolBusy
from dspex_lab.events import Event
from dspex_lab.pools import _carry, _endings, _stream
from dspex_lab.pools._carry import decode, name_of, pack
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._heart import Heart
from dspex_lab.pools._job import Job
from dspex_lab.pools._loops import on, post
from dspex_lab.pools._options import CallOptions, check, positive
from dspex_lab.pools._placement import ANYWHERE, Placement
from dspex_lab.pools._protocols import Fleet
from dspex_lab.pools._queue import Admission
from dspex_lab.pools._reservation import Reservation
from dspex_lab.pools._runtime import CLOSING, Runtime
from dspex_lab.pools._spec import PoolSpec
from dspex_lab.pools._worker import describe


class Pool:
    """Worker processes that run callables; started by the first call or by :meth:`warm`.

    Everything of Dask's lives on a loop in a thread, which the pools of a Lab share. ``call``, ``stream`` and ``reserve`` may
    be awaited on any loop; the other methods may be called from any thread.

    Args:
        spec: what to start.
        emit: told of ``pool.checkout`` and ``pool.checkin`` (one each per call and worker), ``pool.restart`` and the other
            events of pools, on the pools' thread. It must be thread-safe and quick, as ``Bus.emit`` is.
        runtime: the loop and cluster to use; None makes one of its own, which is closed with the pool.
    """

    def __init__(self, spec: PoolSpec, emit: Callable[[Event], None] | None = None, runtime: Runtime | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self._emit = emit
        self._own = runtime is None
        self._runtime = runtime or Runtime()
        self._lock = threading.Lock()
        self._admission = Admission(spec.queue)
        self._started: Future[Dispatcher] | None = None
        self._ended: Future[None] | None = None
        self._closed = False
        self._fleet: Any = None
        self._launch: asyncio.Task[None] | None = None
        self._heart: Heart | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "started" if self.started else "not started"
        return f"<Pool {self.name!r}: {self.spec.scaling.rstrip('.')}; {state}>"

    # ---- start, size and end -------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether the workers are up."""
        return not self._closed and self._dispatcher() is not None

    @property
    def starting(self) -> bool:
        """Whether the workers are being started."""
        return not self._closed and self._started is not None and not self._started.done()

    @property
    def waiting(self) -> int:
        """How many calls and reservations wait for a worker, the unpacked ones included."""
        dispatcher = self._dispatcher()
        return self._admission.waiting + (dispatcher.waiting if dispatcher is not None else 0)

    def warm(self, *, wait: bool = True) -> Pool:
        """Start the workers, if they are not up, and return the pool.

        Args:
            wait: until all are ready; False returns at once. Do not wait on a loop's thread.

        Raises:
            PoolError, ConfigurationError: the pool cannot be started (only when waiting; else the first call raises).
        """
        starting = self._ensure_started()
        if wait:
            starting.result()
        return self

    def resize(self, workers: int, *, wait: bool = True) -> Pool:
        """Bring the number of workers to ``workers``; the idle ones leave first, busy and reserved ones when they are free.

        Args:
            wait: until all new ones are ready and all that leave have left. Do not wait on a loop's thread.

        Raises:
            ConfigurationError: a number that makes no sense.
            PoolError: new workers cannot be started.
        """
        wanted = dataclasses.replace(self.spec, workers=workers, scaling="")
        with self._lock:
            if self._closed:
                raise _endings.closed(self.name)
            starting = self._started
            if starting is None or _failed(starting):
                self.spec = wanted
                return self
        resizing = self._runtime.submit(self._resize(starting, wanted))
        if wait:
            resizing.result()
        return self

    def restart(self, worker: str | None = None) -> Pool:
        """End one worker, or all, at once, and start them anew in the background; what they run gets ``WorkerKilled``,
        idempotent calls are run again.

        Raises:
            PoolError: there is no worker of this name.
        """
        dispatcher = self._dispatcher()
        if dispatcher is not None:
            if worker is not None and worker not in dispatcher.workers:
                raise _endings.no_such(self.name, worker, list(dispatcher.workers))
            post(dispatcher.loop, dispatcher.restart, worker)
        return self

    def pardon(self, identity: str | None = None) -> Pool:
        """Allow a task again that was refused because it had killed its workers (``PoisonTask`` says its identity);
        None: all."""
        dispatcher = self._dispatcher()
        if dispatcher is not None:
            post(dispatcher.loop, dispatcher.running.poison.pardon, identity)
        return self

    def status(self) -> list[dict[str, Any]]:
        """Return one dict per worker; empty before the start. Its keys:

        ``name``; ``pid`` (None where there is no process of its own); ``state``: ``idle``, ``busy``, ``starting``, ``dead``,
        ``reserved`` or ``leaving``; ``calls`` so far; ``rss`` and ``pss`` in bytes (None where they cannot be known); ``age``
        in seconds; ``device``: its GPU; ``host``; ``protection``: the level of its confinement; ``busy``: calls that it runs;
        ``seen``: seconds since it last answered.
        """
        dispatcher = self._dispatcher()
        if dispatcher is None or self._closed:
            return []
        return [describe(worker) for worker in list(dispatcher.workers.values())]

    def close(self) -> None:
        """End the workers and whatever else was started; calls that wait or run get a PoolError. Idempotent."""
        self.let_go()
        if self._ended is not None and not self._runtime.here:
            with contextlib.suppress(TimeoutError):
                self._ended.result(CLOSING)
        self._runtime.closers.discard(self)
        if self._own:
            self._runtime.close()

    def let_go(self) -> None:
        """Begin to close; :meth:`close` waits for the end of it."""
        with self._lock:
            first, self._closed = not self._closed, True
            if first and self._started is not None:
                self._ended = self._runtime.submit(self._end(self._started))
        self._admission.close(lambda: _endings.closed(self.name))

    # ---- calls ---------------------------------------------------------------------------------------------------

    async def call(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        on_chunk: Callable[[Any], Awaitable[None] | None] | None = None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """Run ``fn(*args)`` in a worker and return its result.

        The least loaded worker is taken; while all are busy, calls wait here in their order. A coroutine function is run
        to its end in the worker. A call that is cancelled stops waiting at once; it is asked to stop, and its worker is
        replaced if it has not within a second.

        Args:
            fn: anything cloudpickle can carry; functions, lambdas and classes of a notebook are.
            on_chunk: given what the task tells (``dspex_lab.pools.tell``), in order, on the caller's loop; what it returns is
                awaited, and the task waits while too much is untaken. A call that has told something is not run again.
            timeout: seconds in the worker (waiting for one is not counted); then the call is asked to stop, and a second later
                the worker is killed and replaced.
            idempotent: whether the call may be run twice: if its worker is killed, it is, on another worker if one is free.
                Calls that are not run at most once.
            label: how the call is named in events and errors; by default the callable's name.
            tags: ``run_id``, ``span_id`` and ``step`` go into the events' fields of these names, the rest into their data.
            long: run it as a Dask task, counted against the pool's resource: for work of 100 ms and more.
            patience: seconds to wait for a worker; None is the pool's own.
            place: which worker.
            identity: what names the work when its deaths are counted, or a function that gives it where it is needed; by
                default, function and arguments.
            cpu: processor seconds that it may use; None is the pool's own.
            told: given an :class:`Outcome`, once, on the pools' loop: where it ran and what it cost.

        Raises:
            Unserialisable: a part of the callable, an argument or the result cannot travel; ``.path`` says which.
            TaskTimeout: the time is up. CpuTimeExceeded: the processor time is.
            OutOfMemory: the worker may not have so much memory. GpuOutOfMemory: nor may its GPU.
            WorkerKilled: the worker's process ended under the call; WorkerCrashed, WorkerStuck: native code broke or hung it.
            TaskImportError: what it imports is not there in the worker.
            PoisonTask: it has killed two workers.
            PoolBusy: no worker was free in time; nothing was run.
            PoolError: the pool cannot be started, is closed, or the callable's exception cannot be carried home.
            Exception: what the callable raised, as the same type, with the worker's traceback as a note.
        """
        dispatcher, job = await self._enter(fn, args, options, streams=on_chunk is not None)
        if on_chunk is None:
            reply = await dispatcher.run(job)
        else:
            async with contextlib.aclosing(_stream.chunks(dispatcher, job, self._unpacker(job))) as told:
                await _stream.deliver(told, on_chunk)
            reply = job.result()
        return decode(reply, pool=self.name, worker=job.where, label=job.label)

    async def stream(self, fn: Callable[..., Any], /, *args: Any, **options: Unpack[CallOptions]) -> AsyncGenerator[Any, None]:
        """Run ``fn(*args)`` in a worker and yield what it yields or tells, in order, as it comes.

        The worker waits while what it has told is not taken. Closing the iterator cancels the call; an exception of the task's,
        or its worker's death, is raised after what was told before. A call that has told something is not run again, even if it
        is idempotent.

        Args:
            fn: a generator function, an async generator function, or a function that calls ``dspex_lab.pools.tell``.
            options: those of :meth:`call`, without ``on_chunk``.
        """
        dispatcher, job = await self._enter(fn, args, options, streams=True)
        async with contextlib.aclosing(_stream.chunks(dispatcher, job, self._unpacker(job))) as told:
            async for chunk in told:
                yield chunk
        decode(job.result(), pool=self.name, worker=job.where, label=job.label)

    @contextlib.asynccontextmanager
    async def reserve(self, place: Placement | None = None, patience: float | None = None) -> AsyncIterator[Reservation]:
        """Have a worker for oneself, as soon as one runs nothing: ``async with pool.reserve() as r``, and call with
        ``place=r.place``. It waits in the same queue as the calls; if its worker dies, the replacement is reserved.

        Args:
            place: which worker.
            patience: seconds to wait for it; None is the pool's own.

        Raises:
            PoolBusy: none was free in time.
            PoolError: the pool cannot be started, or is closed.
        """
        deadline = time.monotonic() + positive("patience", self.spec.patience if patience is None else patience)
        key = uuid.uuid4().hex[:12]
        dispatcher = await self._ready(deadline, f"reservation {key}")
        try:
            await on(dispatcher.loop, lambda: dispatcher.reserve(key, place or ANYWHERE, deadline))
            yield Reservation(key, dispatcher)
        finally:
            post(dispatcher.loop, dispatcher.release, key)

    # ---- the way in ----------------------------------------------------------------------------------------------

    async def _enter(
        self, fn: Callable[..., Any], args: tuple[Any, ...], options: CallOptions, *, streams: bool = False
    ) -> tuple[Dispatcher, Job]:
        """Wait to be let in, then pack a call."""
        check(options)
        label, patience, cpu = options.get("label"), options.get("patience") or self.spec.patience, options.get("cpu")
        asked = time.monotonic()
        try:
            await self._admission.enter(patience)
        except TimeoutError:
            raise self._busy(label or name_of(fn), asked) from None
        try:
            job = Job(
                pack(fn, args, pool=self.name, label=label),
                streams=streams,
                cpu=self.spec.cpu_seconds if cpu is None else cpu,
                timeout=options.get("timeout"),
                idempotent=options.get("idempotent", False),
                tags=options.get("tags") or {},
                long=options.get("long", False),
                place=options.get("place") or ANYWHERE,
                identity=options.get("identity"),
                deadline=asked + patience,
                told=options.get("told"),
                admitted=self._admission.leave,
                asked=asked,
            )
            return await self._ready(asked + patience, job.label), job
        except BaseException:
            self._admission.leave()
            raise

    async def _ready(self, deadline: float, label: str) -> Dispatcher:
        starting = self._ensure_started()
        if not starting.done():
            asked = time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, deadline - asked)):
                    await asyncio.shield(asyncio.wrap_future(starting))
            except TimeoutError:
                if not starting.done():
                    raise self._busy(label, asked) from None
        dispatcher = starting.result()
        if dispatcher.closed:
            raise _endings.closed(self.name)
        return dispatcher

    def _unpacker(self, job: Job) -> Callable[[Any, str], Any]:
        return lambda chunk, worker: _carry.unpack(chunk, pool=self.name, worker=worker, label=job.label)

    # ---- on the pools' loop --------------------------------------------------------------------------------------

    def _dispatcher(self) -> Dispatcher | None:
        started = self._started
        return started.result() if started is not None and started.done() and not _failed(started) else None

    def _ensure_started(self) -> Future[Dispatcher]:
        with self._lock:
            if self._closed:
                raise _endings.closed(self.name)
            if self._started is None or _failed(self._started):
                self._runtime.closers.add(self)
                self._started = Future()
                self._runtime.submit(self._start(self._started))
            return self._started

    async def _start(self, started: Future[Dispatcher]) -> None:
        began = time.monotonic()
        dispatcher = Dispatcher(self.name, self._emit)
        fleet: Fleet | None = None
        try:
            fleet = self._fleet = self._make_fleet(dispatcher)
            dispatcher.end = fleet.kill
            self._launch = asyncio.ensure_future(fleet.start())
            await self._launch
        except BaseException as error:
            try:
                if fleet is not None:
                    await fleet.close()
                if self._own and not self._closed:
                    await self._runtime.wind_up()
            finally:
                started.set_exception(self._unable("started", error))
            if isinstance(error, Exception):
                return
            raise
        self._heart = Heart(self.spec, dispatcher)
        self._heart.start()
        seconds = time.monotonic() - began
        dispatcher.notes.of_pool("pool.start", workers=self.spec.workers, scaling=self.spec.scaling, seconds=seconds)
        started.set_result(dispatcher)

    def _make_fleet(self, dispatcher: Dispatcher) -> Fleet:
        return self._runtime.cluster().fleet(self.spec, dispatcher)

    async def _resize(self, starting: Future[Dispatcher], wanted: PoolSpec) -> None:
        dispatcher = await asyncio.shield(asyncio.wrap_future(starting))
        try:
            await self._fleet.resize(wanted.workers)
        except DspexError:
            raise
        except Exception as error:
            raise self._unable("resized", error) from error
        before, self.spec = self.spec.workers, wanted
        dispatcher.feed()
        dispatcher.notes.of_pool("pool.resize", before=before, workers=wanted.workers)

    async def _end(self, starting: Future[Dispatcher]) -> None:
        if self._launch is not None:
            post(self._launch.get_loop(), self._launch.cancel)
        with contextlib.suppress(DspexError):
            dispatcher = await asyncio.shield(asyncio.wrap_future(starting))
            dispatcher.close()
            if self._heart is not None:
                self._heart.stop()
            await self._fleet.close()

    # ---- words ---------------------------------------------------------------------------------------------------

    def _unable(self, what: str, error: BaseException) -> DspexError:
        return _endings.closed(self.name) if self._closed else _endings.unable(self.name, what, error)

    def _busy(self, label: str, asked: float) -> PoolBusy:
        dispatcher = self._dispatcher()
        workers = list(dispatcher.workers.values()) if dispatcher is not None else []
        return _endings.busy(self.name, label, time.monotonic() - asked, workers, ahead=self.waiting)


def _failed(starting: Future[Dispatcher]) -> bool:
    return starting.done() and starting.exception() is not None
