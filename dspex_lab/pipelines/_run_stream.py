"""A run's events as something to loop over; whoever stops watching ends the run."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from dspex_lab._loop import LoopThread
from dspex_lab.errors import ConfigurationError
from dspex_lab.pipelines._stream import Hub, StreamEvent

if TYPE_CHECKING:
    from dspex_lab.pipelines._pipeline import Pipeline
    from dspex_lab.pipelines._result import Result

#: Seconds that closing a stream from another thread waits for its run to end.
_PATIENCE = 5.0

#: Seconds after which one who waits for an event looks whether the loop is still there.
_WATCH = 1.0

_CLOSING = "Close it after its runs: use 'with dx.Lab(...)'."

#: Carries out a run, telling the hub of what happens in it.
Work: TypeAlias = Callable[[Hub], Coroutine[Any, Any, "Result"]]


class _Course:
    """The run behind a stream. It knows nothing of the stream, so that a stream that nobody holds any more is collected."""

    def __init__(self, pipeline: Pipeline, work: Work) -> None:
        self.hub = Hub(pipeline)
        self.name = pipeline.name
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.over = threading.Event()
        self.left = False  # by who watched
        self._work = work
        self._task: asyncio.Task[Any] | None = None

    def __str__(self) -> str:
        if self.result is not None:
            return f"{self.name}: {self.result.status}"
        states = (("left", self.left), ("not begun", self.loop is None), ("ended with an error", self.over.is_set()))
        return f"{self.name}: {next((word for word, is_so in states if is_so), 'under way')}"

    async def go(self) -> None:
        """Carry the run out; what it raises is kept for the one who watches."""
        self._task = asyncio.current_task()
        _under_way.add(self)
        try:
            if not self.left:
                self.result = await self._work(self.hub)
                self.hub(StreamEvent("result", value=self.result.outputs, result=self.result))
        except asyncio.CancelledError:
            self.error = ConfigurationError("The Lab was closed while this ran.", key="lab", hint=_CLOSING)
            raise
        except Exception as error:
            self.error = error
        finally:
            self._task = None
            # A sync program may go on in its thread; it gets no more answers.
            self.hub.close(forget=False)
            _under_way.discard(self)
            self.over.set()
            self.hub.wake()

    def leave(self) -> None:
        """Tell the program that nobody watches."""
        self.left = True
        self.hub.close()

    def abandon(self) -> None:
        """End the run; on its loop's thread."""
        self.leave()
        if self._task is not None:
            self._task.cancel()

    def abandon_soon(self) -> None:
        """End the run, from any thread and also from the garbage collector: no lock is taken here."""
        if self.loop is None or self.over.is_set():
            return
        try:
            self.loop.call_soon_threadsafe(self.abandon)
        except RuntimeError:  # the loop is closed, and with it the run
            self.left = True


_under_way: weakref.WeakSet[_Course] = weakref.WeakSet()


def _abandon_all() -> None:
    courses = list(_under_way)
    for course in courses:
        course.leave()
        course.abandon_soon()
    for course in courses:
        # A loop that stands still, such as that of an asyncio.run() which is over, will end no run any more.
        if course.loop is not None and course.loop.is_running():
            course.over.wait(_PATIENCE)


# At the end of the process Python waits for the threads of executors before it calls exit handlers. A sync step that waits
# for a model that stays silent would keep it from ending, so its stream is closed before that.
threading._register_atexit(_abandon_all)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    # The runs are the parent's; a forked child has none of their threads.
    os.register_at_fork(after_in_child=_under_way.clear)


class RunStream:
    """The events of a run, for a ``for`` loop; the last one carries the result. The run begins with the first ``next``.

    Leaving the loop ends the run, as long as nobody else holds the stream; :meth:`close` and ``with`` end it in any case. So
    does whatever is raised while an event is awaited, such as an interrupted cell.

    Args:
        pipeline: what is run, by ``work``.
        home: the loop that is to carry it out.
    """

    def __init__(self, pipeline: Pipeline, work: Work, home: LoopThread) -> None:
        self._course = _Course(pipeline, work)
        self._home = home
        self._ready = threading.Event()

    @property
    def result(self) -> Result | None:
        """Return the run's result, None as long as it has not ended."""
        return self._course.result

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        course = self._course
        if course.loop is None and not course.left:
            self._begin()
        try:
            while True:
                self._ready.clear()
                over = course.over.is_set()
                event = course.hub.take()
                if event is not None:
                    return event
                if over or course.left:
                    break
                self._wait()
        except BaseException:
            self.close()
            raise
        error, course.error = course.error, None
        if error is not None and not course.left:
            raise error
        raise StopIteration

    def _begin(self) -> None:
        course = self._course
        if self._home.is_current():
            raise RuntimeError(
                "a run was streamed and waited for on the Lab's own loop; use 'async for … in lab.astream(...)' in async steps"
            )
        course.hub.wake = self._ready.set
        course.loop = self._home.loop
        try:
            self._home.submit(course.go())
        except RuntimeError as error:
            course.over.set()
            raise ConfigurationError(
                "This Lab is closed.", key="lab", hint="Make another: dx.lab() or dx.Lab(path)."
            ) from error

    def _wait(self) -> None:
        while not self._ready.wait(_WATCH):
            if self._home.loop.is_closed():
                # The Lab was closed at the moment in which the run was to begin.
                raise ConfigurationError("The Lab was closed while this ran.", key="lab", hint=_CLOSING)

    def close(self) -> None:
        """End the run, where it has not ended, and wait until it has; what it did so far is in the store."""
        course = self._course
        course.leave()
        if course.loop is not None and not course.over.is_set():
            course.abandon_soon()
            if course.loop.is_running():
                course.over.wait(_PATIENCE)

    def __repr__(self) -> str:
        return f"<RunStream of {self._course}>"

    def __enter__(self) -> RunStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._course.abandon_soon()


class AsyncRunStream:
    """The events of a run, for an ``async for`` loop in whose event loop the run happens; the last one carries the result.

    The run begins with the first event that is asked for. Leaving the loop ends it, as long as nobody else holds the stream;
    :meth:`aclose`, ``async with`` and a cancelled task end it in any case, and wait until it has ended.

    Args:
        pipeline: what is run, by ``work``.
    """

    def __init__(self, pipeline: Pipeline, work: Work) -> None:
        self._course = _Course(pipeline, work)
        self._ready: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def result(self) -> Result | None:
        """Return the run's result, None as long as it has not ended."""
        return self._course.result

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        course = self._course
        if self._ready is None:
            self._ready = self._begin()
        try:
            while True:
                self._ready.clear()
                over = course.over.is_set()
                event = course.hub.take()
                if event is not None:
                    return event
                if over or course.left:
                    break
                await self._ready.wait()
        except BaseException:
            await self.aclose()
            raise
        error, course.error = course.error, None
        if error is not None and not course.left:
            raise error
        raise StopAsyncIteration

    def _begin(self) -> asyncio.Event:
        course, loop, ready = self._course, asyncio.get_running_loop(), asyncio.Event()
        home = threading.get_ident()

        def wake() -> None:
            if threading.get_ident() == home:
                ready.set()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(ready.set)

        if not course.left:
            course.hub.wake = wake
            course.loop = loop
            self._task = loop.create_task(course.go())
        return ready

    async def aclose(self) -> None:
        """End the run, where it has not ended, and wait until it has; what it did so far is in the store."""
        self._course.leave()
        if self._task is not None and not self._task.done():
            self._course.abandon()
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_PATIENCE)

    def __repr__(self) -> str:
        return f"<AsyncRunStream of {self._course}>"

    async def __aenter__(self) -> AsyncRunStream:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._course.abandon_soon()
