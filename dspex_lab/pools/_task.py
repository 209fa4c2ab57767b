"""What a running call knows of itself: its label, whether it should stop, and how to tell something on the way."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dspex_lab.pools._culprit import unserialisable_part
from dspex_lab.pools._frames import pack
from dspex_lab.pools._outbox import Outbox
from dspex_lab.pools._wire import Packed


class TaskCancelled(BaseException):
    """Raised in a task that was asked to stop: by :meth:`Task.tell`, and in a function at its next line of Python, unless it
    looks at :attr:`Task.cancelled`.

    It is no ``Exception``, so ``except Exception`` lets it pass. A task may clean up; it has a second until its worker is
    ended.
    """


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is: ``done`` of ``total`` (None where that is not known), and a word on what it does."""

    done: float
    total: float | None = None
    note: str = ""


class Task:
    """A call, as it sees itself; see :func:`current_task`. Thread-safe.

    Attributes:
        label: how events and errors call it.
        worker: the name of its worker; empty outside a pool.
        folder: its worker's workspace, which it may write to; empty outside a pool.
    """

    def __init__(self, label: str = "", worker: str = "", folder: str = "", outbox: Outbox | None = None) -> None:
        self.label, self.worker, self.folder = label, worker, folder
        self._outbox = outbox
        self._cancelled = False
        self._finish: Callable[[Awaitable[Any]], Any] | None = None
        #: Whether it looks by itself if it should stop.
        self._looks = False

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop: nobody waits for its result any more. A function that looks here, if only once, is
        trusted to stop by itself within a second: no exception strikes it."""
        self._looks = True
        return self._cancelled

    def tell(self, value: Any) -> None:
        """Send a value to whoever reads the stream of this call (``pool.stream``, ``on_chunk``); dropped where nobody does.

        The values arrive in order. While more than 256 of them, or 4 MB, have not been fetched, it waits.

        Raises:
            TaskCancelled: the call was asked to stop.
            Unserialisable: a part of the value cannot travel.
        """
        self._stop()
        if self._outbox is not None:
            self._outbox.put(_packed(value), self._stop)

    async def atell(self, value: Any) -> None:
        """As :meth:`tell`, for coroutines that do other things while it waits."""
        self._stop()
        if self._outbox is not None:
            await self._outbox.aput(_packed(value), self._stop)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Tell how far it is, as a :class:`Progress`."""
        self.tell(Progress(done, total, note))

    def finish(self, awaitable: Awaitable[Any]) -> Any:
        """Run a coroutine to its end on the loop of this call's thread; to cancel the call is to cancel it."""
        return asyncio.run(_awaited(awaitable)) if self._finish is None else self._finish(awaitable)

    def _cancel(self) -> None:
        self._cancelled = True
        if self._outbox is not None:
            self._outbox.wake()

    def _stop(self) -> None:
        if self._cancelled:
            raise TaskCancelled(f"{self.label or 'the task'} was asked to stop")


_current: contextvars.ContextVar[Task | None] = contextvars.ContextVar("dspex_task", default=None)


def current_task() -> Task:
    """Return the call under way in this context. Outside of one: a task without a worker that is never cancelled and tells
    nobody.

    A thread that a task starts by itself has no current task; take it along (or start it by ``asyncio.to_thread``).
    """
    return _current.get() or Task()


def tell(value: Any) -> None:
    """Tell something on the way; see :meth:`Task.tell`. Does nothing outside a task."""
    current_task().tell(value)


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Tell how far the current task is; see :meth:`Task.progress`. Does nothing outside a task."""
    current_task().progress(done, total, note)


def run_as(task: Task, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function gives, in an empty context in which ``task`` is the current one."""
    context = contextvars.Context()
    context.run(_current.set, task)
    return context.run(function, *args)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _packed(value: Any) -> Packed:
    try:
        return pack(value)
    except Exception as error:
        raise unserialisable_part("what it tells", [("told", value)], error) from error
