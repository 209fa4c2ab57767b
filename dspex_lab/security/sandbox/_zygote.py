"""The warm Python from which sandboxes are forked: plain, single-threaded, without anything of the kernel's.

It runs by itself (``security/_bare.py``), imports nothing but the standard library, and runs no code of others: that is done
by its children, which have given up all their rights first. It ends when the socket to the kernel does, and they with it.
"""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import Any

from dspex_lab.security import _landlock, _seccomp
from dspex_lab.security.sandbox import _child, _frames

#: What programs use most is there at once in every child.
_PRELOADED = """
bisect collections copy csv datetime decimal enum fractions functools hashlib heapq itertools math random re statistics string
textwrap typing
""".split()  # noqa: SIM905 - quotes would say no more

_MOST_REQUEST = 1 << 18
#: Deaths that nobody asked about are forgotten beyond this many.
_MOST_DEATHS = 1000


class Zygote:
    """Answers the requests of one kernel."""

    def __init__(self, kernel: socket.socket) -> None:
        self._kernel = kernel
        self._filter = _seccomp.program()
        self._rules: dict[tuple[str, ...], _landlock.Ruleset] = {}
        self._children: dict[int, int] = {}
        self._deaths: dict[int, list[float]] = {}
        self._poll = select.poll()
        self._poll.register(kernel, select.POLLIN)

    def serve(self) -> None:
        """Answer until the kernel closes the socket."""
        for name in _PRELOADED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        while True:
            ready = [fd for fd, _ in self._poll.poll()]
            self._reap()
            if self._kernel.fileno() not in ready:
                continue
            data, fds, _, _ = socket.recv_fds(self._kernel, _MOST_REQUEST, 3)
            if not data:
                return
            try:
                self._answer(json.loads(data), fds)
            except OSError as error:
                self._tell({"refused": str(error)})
            finally:
                for fd in fds:
                    os.close(fd)

    def _answer(self, request: dict[str, Any], fds: list[int]) -> None:
        if "spawn" in request:
            pid = self._spawn(request["spawn"], fds)
            self._tell({"pid": pid}, [self._children[pid]])
        else:
            self._tell({"death": self._deaths.pop(request["death"], None)})

    def _tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        socket.send_fds(self._kernel, [json.dumps(message).encode()], list(fds))

    def _reap(self) -> None:
        """Note how children ended. Only here, so that a pid is its child's until then."""
        for pid in list(self._children):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                pidfd = self._children.pop(pid)
                self._poll.unregister(pidfd)
                os.close(pidfd)
                self._deaths[pid] = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
        while len(self._deaths) > _MOST_DEATHS:
            del self._deaths[next(iter(self._deaths))]

    def _spawn(self, policy: dict[str, Any], fds: list[int]) -> int:
        folders = (*policy["readable"], *policy["importable"])
        if folders not in self._rules:
            self._rules[folders] = _child.reading(folders)
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                _begin(policy, self._rules[folders], self._filter, parent, fds)
            except (MemoryError, OSError) as error:
                if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
                    code = _frames.OUT_OF_MEMORY
            finally:
                os._exit(code)
        self._children[pid] = os.pidfd_open(pid)
        self._poll.register(self._children[pid], select.POLLIN)
        return pid


def _begin(policy: dict[str, Any], rules: _landlock.Ruleset, filter_: bytes, parent: int, fds: list[int]) -> None:
    told = {"token": policy["token"]}
    try:
        told["level"] = _child.become(policy, rules, filter_, parent, fds)
    except Exception as error:  # whatever it is: it is not held, and runs nothing
        told["refused"] = f"{type(error).__name__}: {error}"
    os.write(_child.CONTROL, _frames.pack(told, _MOST_REQUEST, 1))
    if "level" in told:
        _child.live()


def main(fd: str) -> None:
    """Serve the kernel at the other end of a socket (SOCK_SEQPACKET)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(fd)) as kernel:
        try:
            zygote = Zygote(kernel)
        except OSError as error:
            kernel.send(json.dumps({"refused": str(error)}).encode())
            return
        kernel.send(json.dumps({"pid": os.getpid()}).encode())
        zygote.serve()
