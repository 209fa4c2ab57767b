"""A pool without processes, for tests of programs that use one."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from dspex_lab.errors import ConfigurationError, PoolError, TaskTimeout, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import PoolSpec
from dspex_lab.pools._carry import Reply, Task, decode, pack
from dspex_lab.pools._dispatch import event_of
from dspex_lab.pools._host import Host
from dspex_lab.pools._spec import MINIMUM_MEMORY


class FakePool:
    """Runs calls in threads of this process, with the interface and the named errors of :class:`dspex_lab.pools.Pool`.

    Callables, arguments and results are packed as for a real worker, so what cannot travel is found, and nothing is
    shared with the caller. Not like a real pool: a function that kills its process kills this one, and one that is out of
    time or cancelled goes on in its thread until it ends.

    Args:
        name: the pool's name.
        workers: calls at once.
        emit: told of ``pool.checkout`` and ``pool.checkin``.
        failures: raised by the first calls, one each, instead of running them; ``WorkerKilled`` is retried for an idempotent
            call as a real pool would: ``FakePool(failures=[WorkerKilled("gone")])``.
    """

    def __init__(
        self,
        name: str = "general",
        *,
        workers: int = 2,
        emit: Callable[[Event], None] | None = None,
        failures: Iterable[PoolError] = (),
    ) -> None:
        self.spec = PoolSpec(name, workers, MINIMUM_MEMORY, scaling=f"{workers} threads of this process: a fake pool.")
        self.name = name
        #: Every call so far: label and arguments.
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._emit = emit or (lambda event: None)
        self._failures = deque(failures)
        self._host = Host()
        self._busy = 0
        self._closed = False
        self._slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<FakePool {self.name!r}: {self.spec.scaling.rstrip('.')}>"

    @property
    def started(self) -> bool:
        """Whether calls are taken."""
        return not self._closed

    def warm(self, *, wait: bool = True) -> FakePool:
        """Do nothing and return the pool."""
        return self

    async def call(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of Pool.call
        idempotent: bool = False,
        label: str | None = None,
        tags: dict[str, Any] | None = None,
    ) -> Any:
        """As :meth:`dspex_lab.pools.Pool.call`."""
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(
                f"The timeout of a call is {timeout!r}.", key="timeout", expected="seconds above 0", actual=timeout
            )
        task = pack(fn, args, pool=self.name, label=label)
        task.timeout, task.idempotent, task.tags = timeout, idempotent, tags or {}
        if self._closed:
            raise PoolError(f"Pool {self.name!r} is closed.", pool=self.name)
        self.calls.append((task.label, args))
        slots = self._slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.spec.workers))
        async with slots:
            try:
                reply = await self._attempt(task)
            except WorkerKilled:
                if not idempotent:
                    raise
                reply = await self._attempt(task)
        return decode(reply, pool=self.name, worker=self._worker, label=task.label)

    @property
    def _worker(self) -> str:
        return f"{self.name}-0"

    async def _attempt(self, task: Task) -> Reply:
        began, status = time.monotonic(), "failed"
        self._emit(event_of("pool.checkout", task, pool=self.name, worker=self._worker, waited=0.0))
        self._busy += 1
        try:
            if self._failures:
                raise self._failures.popleft()
            reply = await asyncio.wait_for(self._in_thread(task), task.timeout)
            status = "complete"
            return reply
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        except TimeoutError:
            status = "timeout"
            raise TaskTimeout(
                f"{task.label} did not finish within {task.timeout:g} s on the fake pool {self.name!r}.",
                pool=self.name,
                worker=self._worker,
                hint="Allow more time, or make the work smaller.",
            ) from None
        finally:
            self._busy -= 1
            seconds = time.monotonic() - began
            self._emit(event_of("pool.checkin", task, pool=self.name, worker=self._worker, seconds=seconds, status=status))

    def _in_thread(self, task: Task) -> asyncio.Future[Reply]:
        """Run in a daemon thread: one that never ends must not keep the tests from ending."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()

        def deliver(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        def work() -> None:
            reply = self._host.work(task.digest, task.code, task.arguments)
            self._host.leave()
            if not loop.is_closed():
                loop.call_soon_threadsafe(deliver, reply)

        threading.Thread(target=work, name="dspex-fake-worker", daemon=True).start()
        return future

    def status(self) -> list[dict[str, Any]]:
        """Return one entry, as :meth:`dspex_lab.pools.Pool.status` does for each worker."""
        if self._closed:
            return []
        state = "busy" if self._busy else "idle"
        return [{"name": self._worker, "pid": None, "state": state, "calls": len(self.calls), "rss": None, "pss": None}]

    def close(self) -> None:
        """Take no more calls. Idempotent."""
        self._closed = True
