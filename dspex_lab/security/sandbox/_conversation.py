"""One run, seen from the kernel: what is sent and heard, under the limits. Nothing that the code's process says is believed."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any

from dspex_lab.errors import SandboxDied, SandboxError, SandboxOutOfMemory, SandboxOutputLimit, SandboxTimeout, SandboxViolation
from dspex_lab.security.sandbox import _frames, _warm
from dspex_lab.security.sandbox._process import Process
from dspex_lab.security.sandbox._types import MB, Limits

_CHUNK = 1 << 16
#: Seconds that a process which has closed its channel has to end by itself.
_GRACE = 1.0
_MS = 0.001
LOST = "Its names are gone; the next run begins anew."


def memory_text(limits: Limits) -> str:
    """Return how much memory code may have, in words."""
    return f"the {limits.memory / MB:,.0f} MB of memory it may have"


class Output:
    """What was printed to one stream: the beginning is kept, all is counted."""

    def __init__(self, most: int) -> None:
        self._most, self._kept = most, bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._kept += data[: self._most - len(self._kept)]

    @property
    def truncated(self) -> bool:
        return self.size > len(self._kept)

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


class Conversation:
    """Talks with a process for one run.

    Args:
        seconds: of wall time, from now on.
        token: without it a message is none of this run's. The code can find it, as it can find everything in its process, and
            so give a result by hand; that is a result like any other.
    """

    def __init__(self, process: Process, limits: Limits, seconds: float, token: str) -> None:
        self._process, self._limits, self._token, self._seconds = process, limits, token, seconds
        self._most_cpu = seconds if limits.cpu_seconds is None else limits.cpu_seconds
        self.out, self.err = Output(limits.output), Output(limits.output)
        self._buffer, self._pending, self._heard = bytearray(), memoryview(b""), 0
        self._control = process.control.fileno()
        self._poll = select.poll()
        for fd in (process.out, process.err, self._control):
            self._poll.register(fd, select.POLLIN)
        self._cpu_before = process.cpu_seconds()
        process.allow_cpu(self._most_cpu)
        process.resume()
        self._began, self._paused = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Wall time so far, pauses left out."""
        return time.monotonic() - self._began - self._paused

    @property
    def cpu_seconds(self) -> float:
        return max(0.0, self._process.cpu_seconds() - self._cpu_before)

    def send(self, message: bytes) -> None:
        """Have a packed message sent while :meth:`receive` waits."""
        self._pending = memoryview(message)
        self._poll.modify(self._control, select.POLLIN | select.POLLOUT)

    def receive(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            SandboxError: a limit was broken, or the process did not keep to the protocol, or has ended.
        """
        while (data := self._frame()) is None:
            self._listen()
        try:
            message = _frames.unpack(data, self._limits.depth + 2)
        except _frames.Malformed as error:
            raise SandboxViolation(f"The code broke into the sandbox's own messages: {error}.", hint=LOST) from None
        except _frames.TooLarge as error:
            raise SandboxOutputLimit(f"The code gave a value that is {error}.", hint=LOST) from None
        if not isinstance(message, dict) or message.get("token") != self._token:
            raise SandboxViolation("The code broke into the sandbox's own messages.", hint=LOST)
        return message

    def pause(self) -> float:
        """Stop the process and its clock; return the time for :meth:`resume`."""
        self._process.pause()
        return time.monotonic()

    def resume(self, since: float) -> None:
        """Let the process go on."""
        self._paused += time.monotonic() - since
        self._process.resume()

    def finish(self) -> None:
        """Stop the process, its last message being read, and take what it has printed."""
        self._process.pause()
        for fd, output in ((self._process.out, self.out), (self._process.err, self.err)):
            while data := self._read(fd):
                output.add(data)

    # --- listening --------------------------------------------------------------------------------------------------

    def _frame(self) -> bytes | None:
        size = _frames.HEADER.size
        if len(self._buffer) < size:
            return None
        end = size + _frames.length(bytes(self._buffer[:size]))
        if end - size > self._limits.received:
            raise SandboxOutputLimit(
                f"The code gave {end - size:,} bytes at once; {self._limits.received:,} are allowed.", hint=LOST
            )
        if len(self._buffer) < end:
            return None
        data = bytes(self._buffer[size:end])
        del self._buffer[:end]
        return data

    def _listen(self) -> None:
        """Wait for something to happen, as long as the limits of time allow, and take it."""
        for fd, event in self._poll.poll(self._left() * 1000 + 1):
            if fd == self._control:
                if event & select.POLLOUT:
                    self._write()
                if event & ~select.POLLOUT:
                    self._hear()
            elif data := self._read(fd):
                (self.out if fd == self._process.out else self.err).add(data)
            elif event & select.POLLHUP:
                self._poll.unregister(fd)
        if self.out.size + self.err.size + self._heard > self._limits.flood:
            raise SandboxOutputLimit(f"The code printed or sent more than {self._limits.flood:,} bytes.", hint=LOST)

    def _left(self) -> float:
        wall, cpu = self._seconds - self.seconds, self._most_cpu - self.cpu_seconds
        if wall <= 0:
            raise SandboxTimeout(f"The code did not end within {self._seconds:g} s.", hint=LOST)
        if cpu <= 0:
            raise SandboxTimeout(f"The code used more than {self._most_cpu:g} s of processor time.", hint=LOST)
        return min(wall, cpu)

    def _write(self) -> None:
        try:
            self._pending = self._pending[self._process.control.send(self._pending[: 1 << 20]) :]
        except BlockingIOError:
            return
        except OSError:
            raise self._ended() from None
        if not self._pending:
            self._poll.modify(self._control, select.POLLIN)

    def _hear(self) -> None:
        try:
            data = self._process.control.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise self._ended()
        self._heard += len(data)
        self._buffer += data

    def _read(self, fd: int) -> bytes:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            return b""

    def _ended(self) -> SandboxError:
        """Return why the channel was closed."""
        self.finish()
        self._process.resume()
        if not self._process.wait(_GRACE):
            return SandboxViolation("The code closed the channel by which it gives its result.", hint=LOST)
        death = _warm.death(self._process.pid)
        if death is None:
            return SandboxDied("The process of the code was ended from outside.", hint=LOST)
        if death.code == _frames.OUT_OF_MEMORY:
            return SandboxOutOfMemory(f"The code needed more than {memory_text(self._limits)}.", hint=LOST)
        if death.code >= 0:
            return SandboxDied(f"The code ended its process (exit code {death.code}) instead of giving a result.", hint=LOST)
        name = signal.Signals(-death.code).name
        if name == "SIGXCPU":
            return SandboxTimeout(f"The code used more than {self._most_cpu:g} s of processor time.", hint=LOST)
        if name == "SIGKILL":
            why = "The process of the code was ended from outside: it was closed, or the machine had no memory left."
            return SandboxDied(why, hint=LOST)
        return SandboxDied(f"The code crashed its process ({name}).", hint=LOST)
