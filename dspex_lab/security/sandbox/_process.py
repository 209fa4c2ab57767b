"""One process of a sandbox as the kernel sees it: made, stopped between runs, ended, measured."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import socket
import threading
import time
from typing import Any

from dspex_lab.security.sandbox import _warm

#: A clock of the kernel: the processor time of another process (``CPUCLOCK_SCHED`` of Linux's posix-timers.h).
_CPU_OF = 2


class Process:
    """A process that runs code, with the descriptors this side has of it.

    Attributes:
        control, out, err: its messages, stdout and stderr; reading does not wait.
        level: what holds it, as it said before there was any code in it.

    Raises:
        SandboxUnavailable: this machine gives too little.
        OSError: no process could be made.
    """

    def __init__(self, policy: dict[str, Any]) -> None:
        self._owner, self._lock, self._open = os.getpid(), threading.Lock(), True
        self.control, theirs = socket.socketpair()
        self.out, their_out = os.pipe()
        self.err, their_err = os.pipe()
        self.pid, self._pidfd, self.level = 0, -1, ""
        try:
            self.pid, self._pidfd = _warm.spawn(policy, (their_out, their_err, theirs.fileno()))
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
            os.close(their_out)
            os.close(their_err)
        for fd in (self.out, self.err, self.control.fileno()):
            os.set_blocking(fd, False)

    @property
    def alive(self) -> bool:
        return self._open and os.getpid() == self._owner and not self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, at the latest after ``seconds``."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def pause(self) -> None:
        """Stop it: between runs, and while a tool is at work, the code does nothing."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; from any thread. It may have ended already."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """End it and give its descriptors back. Idempotent."""
        self.kill()
        with self._lock:
            if not self._open:
                return
            self._open = False
            self.control.close()
            for fd in (self.out, self.err, self._pidfd):
                if fd >= 0:
                    os.close(fd)

    def abandon(self) -> None:
        """Give the descriptors back in a fork of the process that it belongs to; it lives on."""
        self._lock = threading.Lock()
        self.close()

    def cpu_seconds(self) -> float:
        """Return the processor time it has used."""
        try:
            return time.clock_gettime((~self.pid << 3) | _CPU_OF)
        except OSError:  # it has ended
            return 0.0

    def allow_cpu(self, seconds: float) -> None:
        """Have the kernel end it when it has used ``seconds`` more: the second wall, should this process be held up."""
        soft = math.ceil(self.cpu_seconds() + seconds) + 1
        with contextlib.suppress(OSError):  # it has ended
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))

    def peak_memory(self) -> int:
        """Return the most memory it ever had, in bytes; 0 where it has ended."""
        try:
            with open(f"/proc/{self.pid}/status") as file:
                found = next((line for line in file if line.startswith("VmHWM:")), "VmHWM: 0")
        except OSError:
            return 0
        return int(found.split()[1]) * 1024

    def _send(self, number: signal.Signals) -> None:
        with self._lock:
            if self._open and self._pidfd >= 0 and os.getpid() == self._owner:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)
