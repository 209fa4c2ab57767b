"""The events of one job, in order: replayed to who comes late, followed to the end, by threads and by loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from dspex_lab.events import Event

#: Of how far the job is, only the newest is worth replaying.
PROGRESS = "job.progress"


class EventLog:
    """Keeps events and wakes those who follow. Thread-safe.

    Each event has ``data["seq"]``, which grows by one. Where several events of progress follow one another, only the last is
    kept: who follows sees at least that one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._wake: list[Callable[[], None]] = []
        self._next = 1
        self._over = False

    def add(self, name: str, time: float, data: Mapping[str, Any]) -> Event:
        """Keep an event and return it with its number."""
        with self._changed:
            event = Event(name, time, data={"seq": self._next, **data})
            self._next += 1
            if name == PROGRESS and self._events and self._events[-1].name == PROGRESS:
                self._events.pop()
            self._events.append(event)
            self._tell()
            return event

    def again(self, event: Event) -> None:
        """Keep an event of an earlier process, under the number that it has."""
        with self._changed:
            self._events.append(event)
            self._next = max(self._next, _seq(event) + 1)

    def end(self) -> None:
        """Those who follow have seen all when they have seen what is here."""
        with self._changed:
            self._over = True
            self._tell()

    def reopen(self) -> None:
        """More will come: the job was resumed."""
        with self._changed:
            self._over = False

    def follow(self, since: int = 0) -> Iterator[Event]:
        """Yield the events after number ``since``, and those to come until the end."""
        while True:
            with self._changed:
                found, over = self._after(since)
                while not found and not over:
                    self._changed.wait()
                    found, over = self._after(since)
            for event in found:
                since = _seq(event)
                yield event
            if over:
                return

    async def afollow(self, since: int = 0) -> AsyncIterator[Event]:
        """As :meth:`follow`, on an event loop."""
        loop = asyncio.get_running_loop()
        while True:
            changed: asyncio.Future[None] = loop.create_future()
            wake = _waker(loop, changed)
            with self._changed:
                found, over = self._after(since)
                if not found and not over:
                    self._wake.append(wake)
            if not found and not over:
                try:
                    await changed
                finally:
                    with self._changed:
                        if wake in self._wake:
                            self._wake.remove(wake)
                continue
            for event in found:
                since = _seq(event)
                yield event
            if over:
                return

    def _after(self, since: int) -> tuple[list[Event], bool]:
        found: list[Event] = []
        for event in reversed(self._events):
            if _seq(event) <= since:
                break
            found.append(event)
        return found[::-1], self._over

    def _tell(self) -> None:
        wake, self._wake = self._wake, []
        for each in wake:
            each()
        self._changed.notify_all()


def _seq(event: Event) -> int:
    return int((event.data or {})["seq"])


def _waker(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Callable[[], None]:
    def done() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(done)

    return wake
