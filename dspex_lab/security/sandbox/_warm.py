"""The warm Python of this process, as the kernel sees it: started with the first sandbox, ended with the last lease."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from dspex_lab.errors import SandboxUnavailable
from dspex_lab.security._bare import bare_environment, bare_python
from dspex_lab.security._protection import protection

_MOST_ANSWER = 1 << 16
#: Seconds until a warm Python that does not answer is given up.
_PATIENCE = 30.0


class Death(NamedTuple):
    """How a sandbox's process ended: its exit code, or minus the number of the signal; processor seconds; bytes at its peak."""

    code: int
    cpu_seconds: float
    peak_memory: int


class Zygote:
    """A process that forks others. Not thread-safe."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                bare_python("dspex_lab.security.sandbox._zygote", [str(theirs.fileno())]),
                env=bare_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket = ours
        ours.settimeout(_PATIENCE)
        try:
            self.pid = self._answer()["pid"]
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def spawn(self, policy: dict[str, Any], fds: Sequence[int]) -> tuple[int, int]:
        """Return the pid of a new process that is held to ``policy``, and a descriptor that stands for it.

        Args:
            fds: its stdout, stderr and control channel.

        Raises:
            OSError: the warm Python is gone, or its machine has no room for another process.
        """
        socket.send_fds(self._socket, [json.dumps({"spawn": policy}).encode()], list(fds))
        answer = self._answer()
        return answer["pid"], answer["fds"][0]

    def death(self, pid: int) -> Death | None:
        """Return how a process ended that has ended; None where nobody knows any more."""
        self._socket.send(json.dumps({"death": pid}).encode())
        found = self._answer()["death"]
        return None if found is None else Death(*found)

    def close(self) -> None:
        """End it, and with it all processes it has made."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def abandon(self) -> None:
        """Forget it without ending it: it belongs to the process that this one was forked from."""
        self._socket.close()
        self._process.returncode = 0  # or Popen warns of a process that is not this one's

    def _answer(self) -> dict[str, Any]:
        data, fds, _, _ = socket.recv_fds(self._socket, _MOST_ANSWER, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise ConnectionError("the warm Python of the sandbox has ended")
        answer: dict[str, Any] = json.loads(data)
        if "refused" in answer:
            raise Refused(answer["refused"])
        return {**answer, "fds": fds}


class Refused(OSError):
    """The warm Python has answered that it could not."""


_lock = threading.RLock()
_zygote: Zygote | None = None
_leases = 0


class Lease:
    """Keeps the warm Python from :meth:`take` to :meth:`end`; it is started when first needed, and ends with the last lease.

    A fork of this process has to take it anew.
    """

    def __init__(self) -> None:
        self._owner = 0

    def take(self) -> None:
        """Keep it. Idempotent."""
        global _leases
        with _lock:
            if self._owner != os.getpid():
                self._owner = os.getpid()
                _leases += 1

    def end(self) -> None:
        """Give it back. Idempotent."""
        global _leases
        with _lock:
            if self._owner == os.getpid():
                self._owner = 0
                _leases -= 1
                if not _leases:
                    _end()


def spawn(policy: dict[str, Any], fds: Sequence[int]) -> tuple[int, int]:
    """Make a new process of the warm Python; see :meth:`Zygote.spawn`. The caller has a lease.

    Raises:
        SandboxUnavailable: this machine gives too little.
        OSError: no process could be made.
    """
    global _zygote
    found = protection()
    if found.level != "full":
        raise SandboxUnavailable(
            f"Code cannot be run safely on this machine. Missing: {'; '.join(found.missing)}.",
            level=found.level,
            hint="Nothing was run.",
        )
    with _lock:
        if _zygote is not None and not _zygote.alive:
            _end()
        if _zygote is None:
            _zygote = Zygote()
        try:
            return _zygote.spawn(policy, fds)
        except Refused:
            raise
        except BaseException:
            _end()  # its answer may still come, and would be taken for that to the next question
            raise


def death(pid: int) -> Death | None:
    """Return how a process of the warm Python ended; None where that is not known."""
    with _lock:
        try:
            return None if _zygote is None else _zygote.death(pid)
        except Refused:
            return None
        except BaseException as error:
            _end()  # as in spawn
            if isinstance(error, OSError):
                return None
            raise


@contextmanager
def warm() -> Iterator[None]:
    """Keep the warm Python, once a sandbox has started it, until the end of the block: each further one starts in milliseconds,
    even as the only one. Costs nothing where there is none."""
    lease = Lease()
    lease.take()
    try:
        yield
    finally:
        lease.end()


def _end() -> None:
    global _zygote
    ended, _zygote = _zygote, None
    if ended is not None:
        ended.close()


def _forget() -> None:
    """In a process forked from this one: the warm Python is not its own."""
    global _lock, _zygote, _leases
    _lock, _leases = threading.RLock(), 0
    forgotten, _zygote = _zygote, None
    if forgotten is not None:
        forgotten.abandon()


atexit.register(_end)
os.register_at_fork(after_in_child=_forget)
