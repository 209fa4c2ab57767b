"""A pool of one worker that is a thread: what goes there and comes back is pickled, and it runs on a loop of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import cloudpickle

from dspex_lab._loop import LoopThread


class ThreadWorkers:
    """See :class:`dspex_lab.lms._submit.Workers`. ``asked`` has the name and options of each call, ``sent`` its arguments."""

    def __init__(self, name: str = "neural") -> None:
        self.name = name
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[tuple[Any, ...]] = []
        self._loop = LoopThread("thread-worker")

    async def call(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        fn, args = self._packed(fn, args, options)

        async def work() -> bytes:
            made = await fn(*args) if inspect.iscoroutinefunction(fn) else await asyncio.to_thread(fn, *args)
            return cloudpickle.dumps(made)

        made = await asyncio.wrap_future(self._loop.submit(work()))
        options["told"](SimpleNamespace(worker=f"{self.name}-0"))
        return cloudpickle.loads(made)

    async def stream(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> AsyncIterator[Any]:
        fn, args = self._packed(fn, args, options)
        items = fn(*args)

        async def step() -> bytes:
            return cloudpickle.dumps([await anext(items)])

        try:
            while True:
                try:
                    yield cloudpickle.loads(await asyncio.wrap_future(self._loop.submit(step())))[0]
                except StopAsyncIteration:
                    return
        finally:
            await asyncio.wrap_future(self._loop.submit(self._end(items)))
            options["told"](SimpleNamespace(worker=f"{self.name}-0"))

    @staticmethod
    async def _end(items: Any) -> None:
        await items.aclose()

    def _packed(self, fn: Any, args: Any, options: dict[str, Any]) -> Any:
        self.asked.append((fn.__name__, options))
        self.sent.append(args)
        return cloudpickle.loads(cloudpickle.dumps((fn, args)))

    def close(self) -> None:
        self._loop.close()
