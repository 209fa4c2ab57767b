"""A thread that updates a page when something changed, and sleeps otherwise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("dspex_lab.dashboards")


class Ticker:
    """Calls ``act`` in a thread of its own: after :meth:`wake` at most once per ``interval``, after :meth:`hurry` at once.

    While ``beating`` is set it also calls once per interval with nothing new (a clock on the page goes on).
    An ``act`` that raises is logged once and called again at the next change. Thread-safe.

    Args:
        act: called with whether something changed since the last call.
        interval: seconds.
    """

    def __init__(self, act: Callable[[bool], None], interval: float) -> None:
        self._beating = False
        self._act = act
        self._interval = interval
        self._signal = threading.Condition()
        self._dirty = self._urgent = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._complained = False

    @property
    def beating(self) -> bool:
        """Whether it calls once per interval with nothing new."""
        return self._beating

    @beating.setter
    def beating(self, beating: bool) -> None:
        with self._signal:
            if beating and not self._beating:
                self._signal.notify_all()  # it may be asleep until something changes
            self._beating = beating

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin; a second start does nothing."""
        with self._signal:
            if self.alive and not self._ended.is_set():
                return
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._ended,), name="dspex-dashboard", daemon=True)
            self._thread.start()

    def stop(self, wait: bool = True) -> None:
        """End, and with ``wait`` let an ``act`` under way finish first; it may be started again."""
        with self._signal:
            self._ended.set()
            self._signal.notify_all()
            thread = self._thread
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def wake(self, _records: object = None) -> None:
        """Say that something changed. Cheap: may be called for every commit."""
        with self._signal:
            self._dirty = True
            self._signal.notify_all()

    def hurry(self) -> None:
        """Say that a person waits for the next update."""
        with self._signal:
            self._dirty = self._urgent = True
            self._signal.notify_all()

    def _run(self, ended: threading.Event) -> None:
        due = time.monotonic()
        while (changed := self._wait(due, ended)) is not None:
            try:
                self._act(changed)
            except Exception:
                if not self._complained:
                    self._complained = True
                    log.exception("the dashboard could not be updated; it will try again, and this is said once")
            due = time.monotonic() + self._interval

    def _wait(self, due: float, ended: threading.Event) -> bool | None:
        """Wait for the next call; return whether something changed, or None at the end."""
        with self._signal:
            while not ended.is_set():
                left = due - time.monotonic()
                if self._urgent or (left <= 0 and (self._dirty or self._beating)):
                    changed, self._dirty, self._urgent = self._dirty, False, False
                    return changed
                self._signal.wait(left if left > 0 and (self._dirty or self._beating) else None)
            return None
