"""The pool as others see it: started when first needed, called from any asyncio loop."""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError, DspexError, PoolError
from dspex_lab.events import Event
from dspex_lab.pools._carry import decode, pack
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._spec import PoolSpec

if TYPE_CHECKING:
    from dspex_lab.pools._cluster import Fleet

#: Seconds that closing may take before the pool's thread is left to itself.
CLOSING = 30.0

_open: weakref.WeakSet[Pool] = weakref.WeakSet()
_exit_lock = threading.Lock()
_exit_known = False


class Pool:
    """Worker processes that run callables; started by the first call or by :meth:`warm`.

    Everything of Dask's lives on a loop in a thread of the pool's own. ``call`` may be awaited on any loop; the
    other methods may be called from any thread.

    Args:
        spec: what to start.
        emit: told of ``pool.checkout``, ``pool.checkin`` (one each per call and worker) and ``pool.restart``, on the
            pool's thread. It must be thread-safe and quick, as ``Bus.emit`` is.
    """

    def __init__(self, spec: PoolSpec, emit: Callable[[Event], None] | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self._emit = emit
        self._lock = threading.Lock()
        self._started: Future[Dispatcher] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._closed = False
        self._fleet: Fleet | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "started" if self.started else "not started"
        return f"<Pool {self.name!r}: {self.spec.scaling.rstrip('.')}; {state}>"

    @property
    def started(self) -> bool:
        """Whether the workers are up."""
        return self._started is not None and self._started.done() and self._started.exception() is None

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

    async def call(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - the worker is killed at it, which a caller's own timeout would not do
        idempotent: bool = False,
        label: str | None = None,
        tags: dict[str, Any] | None = None,
    ) -> Any:
        """Run ``fn(*args)`` in a worker and return its result.

        The least loaded worker is taken; while all are busy, calls wait here in their order. A coroutine function is run
        to its end in the worker. A call that is cancelled stops waiting at once; its worker has a second to finish and
        is replaced if it does not.

        Args:
            fn: anything cloudpickle can carry; functions, lambdas and classes of a notebook are.
            timeout: seconds in the worker (waiting for one is not counted); then the worker is killed and replaced.
            idempotent: whether the call may be run twice: if its worker is killed, it is, once, on another worker.
                Calls that are not run at most once.
            label: how the call is named in events and errors; by default the callable's name.
            tags: ``run_id``, ``span_id`` and ``step`` go into the events' fields of these names, the rest into their data.

        Raises:
            Unserialisable: a part of the callable, an argument or the result cannot travel; ``.path`` says which.
            TaskTimeout: the time is up.
            OutOfMemory: the worker may not have so much memory.
            WorkerKilled: the worker's process ended under the call.
            PoolError: the pool cannot be started, is closed, or the callable's exception cannot be carried home.
            Exception: what the callable raised, as the same type, with the worker's traceback as a note.
        """
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(
                f"The timeout of a call is {timeout!r}.", key="timeout", expected="seconds above 0", actual=timeout
            )
        task = pack(fn, args, pool=self.name, label=label)
        task.timeout, task.idempotent, task.tags = timeout, idempotent, tags or {}
        starting = self._ensure_started()
        dispatcher = starting.result() if starting.done() else await asyncio.shield(asyncio.wrap_future(starting))
        if dispatcher.closed:
            raise self._is_closed()
        running = asyncio.run_coroutine_threadsafe(dispatcher.run(task), dispatcher.loop)
        reply, worker = await asyncio.wrap_future(running)
        return decode(reply, pool=self.name, worker=worker, label=task.label)

    def status(self) -> list[dict[str, Any]]:
        """Return one dict per worker: ``name``, ``pid``, ``state`` (``idle``, ``busy``, ``starting`` or ``dead``),
        ``calls`` so far, ``rss`` and ``pss`` in bytes (None where the process is gone). Empty before the start."""
        if not self.started or self._started is None or self._closed:
            return []
        return [_describe(worker) for worker in list(self._started.result().workers.values())]

    def close(self) -> None:
        """End the workers and whatever else was started; calls that wait or run get a PoolError. Idempotent."""
        with self._lock:
            self._closed = True
            thread, loop, stop = self._thread, self._loop, self._stop
            self._thread = None
        _open.discard(self)
        if thread is None:
            return
        if loop is not None and stop is not None:
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:  # the loop is closed: the start had failed
                return
        if thread is not threading.current_thread():
            thread.join(CLOSING)

    def _ensure_started(self) -> Future[Dispatcher]:
        with self._lock:
            if self._closed:
                raise self._is_closed()
            failed = self._started is not None and self._started.done() and self._started.exception() is not None
            if self._started is None or failed:
                self._started = Future()
                self._thread = threading.Thread(
                    target=self._run, args=(self._started,), name=f"dspex-pool-{self.name}", daemon=True
                )
                _open.add(self)
                self._thread.start()
            return self._started

    def _run(self, started: Future[Dispatcher]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._serve(started))

    async def _serve(self, started: Future[Dispatcher]) -> None:
        """The life of the pool, on its own loop."""
        self._stop = asyncio.Event()
        dispatcher = Dispatcher(self.name, self._emit)
        fleet: Fleet | None = None
        try:
            from dspex_lab.pools._cluster import Fleet

            _close_at_exit()
            fleet = self._fleet = Fleet(self.spec, dispatcher)
            await fleet.start()
        except Exception as error:
            if fleet is not None:
                await fleet.close()
            started.set_exception(self._unable(error))
            return
        started.set_result(dispatcher)
        if self._closed:
            self._stop.set()
        await self._stop.wait()
        await fleet.close()

    def _unable(self, error: Exception) -> DspexError:
        if isinstance(error, DspexError):
            return error
        unable = PoolError(
            f"Pool {self.name!r} could not be started: {type(error).__name__}: {error}.",
            pool=self.name,
            hint="`dspex-lab doctor` says what is missing.",
        )
        unable.__cause__ = error
        return unable

    def _is_closed(self) -> PoolError:
        return PoolError(f"Pool {self.name!r} is closed.", pool=self.name, hint="Make another Lab, or get the pool anew.")


def _describe(worker: Any) -> dict[str, Any]:
    import psutil

    state = {"ready": "busy" if worker.busy else "idle"}.get(worker.state, worker.state)
    rss = pss = None
    try:
        if worker.state != "dead":
            memory = psutil.Process(worker.pid).memory_full_info()
            rss, pss = memory.rss, getattr(memory, "pss", None)
    except psutil.NoSuchProcess:
        pass  # it ended this moment
    return {"name": worker.name, "pid": worker.pid, "state": state, "calls": worker.calls, "rss": rss, "pss": pss}


def _close_at_exit() -> None:
    """Have all pools closed when the interpreter ends: registered after multiprocessing's own exit function was, so as
    to run before it."""
    global _exit_known
    with _exit_lock:
        if not _exit_known:
            atexit.register(_close_all)
            _exit_known = True


def _close_all() -> None:
    for pool in list(_open):
        pool.close()
