"""What optimizers print, log and draw goes to the job's log, and not to whatever cell is running.

An optimizer of a job in the kernel shares ``sys.stdout`` with the cells. So the streams are not redirected but switched: each
writing is looked at, and only that of the job's own context (which DSPy hands to its threads) is taken.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tqdm import TMonitor

#: The key of ``dspy.context`` under which a job's log is.
KEY = "dspex_lab_job_log"
#: Lines that are kept in memory.
MOST = 1000
_LOGGERS = ("dspy", "optuna", "gepa")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_lock = threading.RLock()
_users = 0


class JobLog:
    """Lines of an optimizer. Thread-safe.

    Args:
        file: where they are written too; None is nowhere.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._lock = file, threading.Lock()
        self._lines: deque[str] = deque(maxlen=MOST)
        self._part = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines."""
        with self._lock:
            return tuple(self._lines)

    def write(self, text: str) -> None:
        """Take a text; a bar of progress, which is drawn over itself, is left out."""
        if "\r" in text:
            return
        with self._lock:
            *whole, self._part = (self._part + _COLOURS.sub("", text)).split("\n")
            self._add([line.rstrip() for line in whole if line.strip()])

    def line(self, text: str) -> None:
        """Take a whole line, or several."""
        with self._lock:
            self._add([line.rstrip() for line in _COLOURS.sub("", text).splitlines() if line.strip()])

    def _add(self, lines: list[str]) -> None:
        self._lines.extend(lines)
        if lines and self._file is not None:
            with self._file.open("a", encoding="utf-8", errors="replace") as out:
                out.writelines(f"{line}\n" for line in lines)

    def __deepcopy__(self, memo: dict[int, Any]) -> JobLog:
        return self  # DSPy copies its settings


class _Switch:
    """A stream whose writings go to the log of the job that they come from, or on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        log = _current()
        if log is None:
            # The thread that draws bars which have not moved for 10 s serves all of them and is in nobody's context.
            return len(text) if isinstance(threading.current_thread(), TMonitor) else self._stream.write(text)
        log.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if _current() is None:
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Taking(logging.Filter):
    """Takes the records of a job from a handler that would show them."""

    def filter(self, record: logging.LogRecord) -> bool:
        log = _current()
        if log is None:
            return True
        log.line(record.getMessage())
        return False


_taking = _Taking()


@contextlib.contextmanager
def quiet(log: JobLog) -> Iterator[None]:
    """Have what is printed and logged in this context, and in DSPy's threads under it, go to a log."""
    import dspy

    _install()
    try:
        with dspy.context(**{KEY: log}):
            yield
    finally:
        _remove()


def _current() -> JobLog | None:
    import dspy

    found = dspy.settings.get(KEY)
    return found if isinstance(found, JobLog) else None


def _install() -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            sys.stdout, sys.stderr = _Switch(sys.stdout), _Switch(sys.stderr)
        for handler in _handlers():
            handler.addFilter(_taking)


def _remove() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, _Switch):  # else somebody else has put theirs in place meanwhile
                setattr(sys, name, stream._stream)
        for handler in _handlers():
            handler.removeFilter(_taking)


def _handlers() -> Iterator[logging.Handler]:
    for name in _LOGGERS:
        yield from logging.getLogger(name).handlers
