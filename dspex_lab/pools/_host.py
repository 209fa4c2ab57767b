"""The worker's side: one Host lives in each worker as a Dask Actor and runs what it is sent."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_lab.pools._carry import Code, Reply, encode, encode_error, user_traceback

#: Callables that a worker keeps unpickled, the least recently used one forgotten first.
CACHE = 256


class Host:
    """Runs callables in the threads of one worker.

    A callable stays unpickled for later calls of the same digest, so what it changes in itself may be seen by them, as
    it would be in one process. Each call has an empty :mod:`contextvars` context of its own.

    Args:
        threads: calls at once; further ones wait here, but the kernel sends none.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="dspex-task")
        self._functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._local = threading.local()

    async def run(self, digest: str, function: Code | None, arguments: bytes) -> Reply:
        """Run a call in a thread and return what came of it (called by the kernel, through Dask)."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.work, digest, function, arguments)

    def work(self, digest: str, function: Code | None, arguments: bytes) -> Reply:
        """Run a call here and return what came of it; never raises.

        Args:
            digest: names the callable.
            function: the callable and the folders that its modules are found in, or None when this host should have it;
                it answers ``"missing"`` if it has not.
            arguments: the tuple of arguments.
        """
        try:
            try:
                code = self._load(digest, function)
                if code is None:
                    return "missing", b""
                values = pickle.loads(arguments)  # noqa: S301 - from the kernel, over TLS
            except MemoryError:
                raise
            except Exception as error:
                return "unloadable", pickle.dumps((f"{type(error).__name__}: {error}", user_traceback(error)))
            return encode(contextvars.Context().run(self._result, code, values))
        except BaseException as error:
            return encode_error(error)

    def _load(self, digest: str, function: Code | None) -> Callable[..., Any] | None:
        with self._lock:
            code = self._functions.get(digest)
            if code is None and function is not None:
                packed, folders = function
                sys.path.extend(folder for folder in folders if folder not in sys.path)
                code = self._functions[digest] = pickle.loads(packed)  # noqa: S301
            if code is not None:
                self._functions.move_to_end(digest)
            if len(self._functions) > CACHE:
                self._functions.popitem(last=False)
            return code

    def _result(self, code: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        result = code(*values)
        return self._finish(result) if inspect.isawaitable(result) else result

    def _finish(self, awaitable: Any) -> Any:
        """Run a coroutine to its end on this thread's loop, which lives on so that clients bound to it do too."""
        if not hasattr(self._local, "runner"):
            self._local.runner = asyncio.Runner()

        async def finish() -> Any:
            return await awaitable

        return self._local.runner.run(finish(), context=contextvars.copy_context())

    def leave(self) -> None:
        """Close the calling thread's loop; for threads that end."""
        if hasattr(self._local, "runner"):
            self._local.runner.close()

    def missing(self) -> list[str]:
        """Return the preloads that were not loaded when this worker's process started."""
        from dspex_lab.pools._forkserver import PoolProcess

        return list(PoolProcess.missing)
