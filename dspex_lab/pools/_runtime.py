"""The thread that all pools of a Lab live on, and the one cluster that their workers belong to."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dspex_lab.pools._protocols import Cluster

log = logging.getLogger("dspex_lab")

T = TypeVar("T")

#: Seconds that closing may take before the thread is left to itself.
CLOSING = 30.0

_open: weakref.WeakSet[Runtime] = weakref.WeakSet()
_exit_lock = threading.Lock()
_exit_known = False


def local_cluster() -> Cluster:
    """Return a cluster of the kernel's own."""
    from dspex_lab.pools._cluster import LocalCluster

    return LocalCluster()


class Runtime:
    """A loop in a thread of its own, started when first needed, and a cluster on it, made when first asked for. Thread-safe.

    Args:
        make: makes the cluster, on the loop.
    """

    def __init__(self, make: Callable[[], Cluster] = local_cluster) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Future[Cluster | None] | None = None
        self._cluster: Cluster | None = None
        #: What is to be closed before the cluster is: called on any thread.
        self.closers: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def address(self) -> str:
        """How other kernels reach the cluster; empty before the start."""
        return self._cluster.address if self._cluster is not None else ""

    @property
    def here(self) -> bool:
        """Whether this is its thread."""
        return self._thread is threading.current_thread()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have a coroutine run on the loop; starts the thread if need be."""
        return asyncio.run_coroutine_threadsafe(work, self._ensure_loop())

    def cluster(self) -> Cluster:
        """Return the cluster, not necessarily started. On the loop only."""
        if self._cluster is None:
            self._cluster = self._make()
            _close_at_exit()
        return self._cluster

    def close(self) -> None:
        """Close whatever is open on it, then the cluster, and end the thread. Idempotent; it may be used again."""
        for part in list(self.closers):
            part.close()
        thread = self._let_go()
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSING)
            if thread.is_alive():
                log.warning("the cluster of the pools has not closed in %.0f s; it is left to itself", CLOSING)

    async def wind_up(self) -> None:
        """Close the cluster and end the thread, from its own loop."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            await cluster.close()
        self._let_go()

    def _let_go(self) -> threading.Thread | None:
        with self._lock:
            thread, loop, stop, cluster = self._thread, self._loop, self._stop, self._cluster
            self._thread = self._loop = self._stop = self._cluster = None
            if loop is not None and stop is not None:
                # The cluster goes with its loop: by the time that it ends, there may be another loop with another cluster.
                loop.call_soon_threadsafe(stop.set_result, cluster)
        _open.discard(self)
        return thread

    def _ensure_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                up = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(up,), name="dspex-pools", daemon=True)
                self._thread.start()
                up.wait()
                _open.add(self)
            assert self._loop is not None  # noqa: S101 - the thread has set it
            return self._loop

    def _run(self, up: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._stop = self._loop.create_future()
            up.set()
            runner.run(self._serve(self._stop))

    async def _serve(self, stop: asyncio.Future[Cluster | None]) -> None:
        cluster = await stop
        if cluster is not None:
            try:
                await cluster.close()
            except Exception:
                log.exception("the cluster of the pools did not close in order")
        # A sender of Dask's that waits for its next batch ends with the loop; nobody is left to hear that it waited in vain.
        asyncio.get_running_loop().set_exception_handler(_unheard)


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("at the end of the pools' loop: %s", context.get("message"), exc_info=context.get("exception"))


def _close_at_exit() -> None:
    """Have all closed when the interpreter ends: registered after multiprocessing's own exit function was, so as to run before
    it (the cluster's module has imported it)."""
    global _exit_known
    with _exit_lock:
        if not _exit_known:
            atexit.register(close_all)
            _exit_known = True


def close_all() -> None:
    """Close every runtime that is open."""
    for runtime in list(_open):
        runtime.close()
