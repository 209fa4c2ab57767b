"""Closes sessions whose time is over, by itself."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence
from typing import Protocol

log = logging.getLogger("dspex_lab")

#: Seconds after which the thread looks whether whom it serves is still there.
LONGEST = 60.0


class Swept(Protocol):
    """What is swept."""

    def sweep(self) -> Sequence[str]:
        """Close what is over."""
        ...

    def due(self) -> float | None:
        """Return the seconds until something may be over, None where nothing ever is."""
        ...


class Sweeper:
    """A daemon thread that sweeps when something is due; it is there only while something can be.

    It holds no reference to what it sweeps, which so can be forgotten.

    Args:
        swept: what is swept.
    """

    def __init__(self, swept: Swept) -> None:
        self._swept = weakref.ref(swept)
        self._signal = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Say that something may be due sooner; starts the thread where there is none and something ever is."""
        with self._signal:
            if self._ended:
                return
            self._signal.notify_all()
            if self._thread is None and self._due() is not None:
                self._thread = threading.Thread(target=self._run, name="dspex-sessions", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        with self._signal:
            self._ended = True
            self._signal.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._signal:
                due = self._due()
                if due is None or self._ended:
                    self._thread = None
                    return
                if due > 0:
                    self._signal.wait(min(due, LONGEST))
                    continue
            swept = self._swept()
            try:
                if swept is not None:
                    swept.sweep()
            except Exception:
                log.exception("sessions whose time is over could not be closed; it is tried again when one is opened")
                with self._signal:
                    self._thread = None
                return
            del swept

    def _due(self) -> float | None:
        swept = self._swept()
        return None if swept is None else swept.due()
