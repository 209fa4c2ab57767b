"""What a call costs its worker: processor, memory, GPU memory. Taking it costs some tens of microseconds a call."""

from __future__ import annotations

import logging
import math
import os
import resource
import sys
import threading
import time
from typing import Any

from dspex_lab.pools._wire import Pulse, Usage

log = logging.getLogger("dspex_lab")

_KB = 1024
_ROLLUP = "/proc/self/smaps_rollup"


class Meter:
    """Measures the calls of this process.

    With one call at a time, processor seconds and peak memory are those of the whole process while it ran, native threads
    included. With several at once, processor seconds are those of the call's own thread, and the peak is the process's since
    it last ran nothing: that of all the calls together.

    The peak is the high-water mark of resident memory, which Linux resets on request (``clear_refs``, see proc(5)); where it
    does not, the peak is that since the process began. See :func:`prepare`.

    Args:
        threads: calls at once.
    """

    def __init__(self, threads: int = 1) -> None:
        self._alone = threads == 1
        self._lock = threading.Lock()
        self._running = 0
        self._began = time.monotonic()
        self._unlimited = resource.getrlimit(resource.RLIMIT_CPU)[0]
        self.calls = 0
        self._reset = prepare()

    def begin(self, cpu: float | None) -> Reading:
        """Begin a call, which may use ``cpu`` seconds of the processor: at about a second more its process is ended by
        SIGXCPU."""
        with self._lock:
            if self._running == 0:
                self._clear()
            self._running += 1
            self.calls += 1
            if cpu is not None:
                self._limit(cpu)
        return Reading(self._now(), cpu is not None)

    def end(self, reading: Reading) -> Usage:
        """End a call, in the thread that began it; return what it cost."""
        spent = self._now() - reading.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (_KB if sys.platform == "linux" else 1)
        with self._lock:
            self._running -= 1
            if reading.limited and self._running == 0:
                _set_cpu(self._unlimited)
        return Usage(spent, peak, _gpu_peak())

    def pulse(self) -> Pulse:
        """Say how this process is."""
        pss, rss = _memory()
        return Pulse(pss, rss, time.monotonic() - self._began, self.calls, _gpu_reserved())

    def _limit(self, seconds: float) -> None:
        """Let the process use so many seconds more. The operating system counts whole ones, and all that the process ever
        used, so the limit is moved on for each call; the latest holds where several run."""
        soft, now = resource.getrlimit(resource.RLIMIT_CPU)[0], math.ceil(time.process_time() + seconds)
        if soft != self._unlimited and self._running > 1:
            now = max(now, soft)
        _set_cpu(now)

    def _now(self) -> float:
        return time.process_time() if self._alone else time.thread_time()

    def _clear(self) -> None:
        if self._reset is not None:
            try:
                os.write(self._reset, b"5")
            except OSError:
                log.debug("the peak of memory cannot be reset here", exc_info=True)
                self._reset = None
        if (cuda := _cuda()) is not None:
            cuda.reset_peak_memory_stats()


_opened: tuple[int, int] | None = None


def prepare() -> int | None:
    """Open the file by which this process resets its peak of memory; None where it may not. A process that is going to be
    confined calls this before: a file that is open stays so."""
    global _opened
    if _opened is None or _opened[0] != os.getpid():  # a parent's file would reset the parent
        try:
            _opened = os.getpid(), os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            log.debug("the peak of memory cannot be reset here", exc_info=True)
            return None
    return _opened[1]


class Reading:
    """What was read when a call began."""

    __slots__ = ("cpu", "limited")

    def __init__(self, cpu: float, limited: bool) -> None:
        self.cpu, self.limited = cpu, limited


def _set_cpu(soft: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _memory() -> tuple[int | None, int | None]:
    """Return the proportional and the resident memory of this process, None where they cannot be known."""
    try:
        with open(_ROLLUP) as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return tuple(int(lines[name].split()[0]) * _KB for name in ("Pss", "Rss"))  # type: ignore[return-value]
    except (OSError, KeyError, ValueError):
        return None, None


def _cuda() -> Any:
    """Return torch's CUDA, where it is loaded and in use."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _gpu_peak() -> int | None:
    cuda = _cuda()
    return None if cuda is None else int(cuda.max_memory_allocated())


def _gpu_reserved() -> int | None:
    cuda = _cuda()
    return None if cuda is None else int(cuda.memory_reserved())
