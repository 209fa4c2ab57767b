"""How a forked child becomes a process that can compute and nothing else. Standard library only."""

from __future__ import annotations

import fcntl
import glob
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from dspex_lab.security import _landlock, _rlimits, _seccomp, _syscalls
from dspex_lab.security.sandbox import _inside

#: The descriptors that the code finds: stdin (empty), stdout, stderr and the way to the kernel.
CONTROL = 3
_NICE = 10
_STACK = 8 << 20
_FILES = 64

#: Files that Python reads by itself: time zones, where shared libraries are, randomness.
_READ_BY_PYTHON = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
)
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
#: In the folder of the standard library, and no part of it.
_PACKAGES = ("site-packages", "dist-packages")


def reading(folders: Sequence[str]) -> _landlock.Ruleset:
    """Return rules by which only Python's own files and ``folders`` can be read, and nothing can be written or executed.

    That packages are installed beside the standard library can be seen; what they hold cannot be read.
    """
    rules = _landlock.Ruleset(_landlock.EVERYTHING, network=True, scoped=True)
    library = os.path.dirname(os.path.realpath(os.__file__))
    rules.allow(library, _landlock.READ_DIR)
    for path in (*_of_python(library), *folders):
        rules.allow(path, _landlock.READING)
    return rules


def _of_python(library: str) -> Iterator[str]:
    yield from (os.path.join(library, name) for name in os.listdir(library) if name not in _PACKAGES)
    yield from (path for path in sys.path if path.endswith(".zip"))
    yield from _READ_BY_PYTHON
    for folder in dict.fromkeys(os.path.realpath(f) for f in (*_LIBRARIES, os.path.join(sys.base_prefix, "lib"))):
        yield from glob.glob(os.path.join(folder, "*.so*"))
        yield from glob.glob(os.path.join(folder, "*-linux-*"))


def become(policy: dict[str, Any], rules: _landlock.Ruleset, filter_: bytes, parent: int, fds: Sequence[int]) -> str:
    """Hold this process, a fork of the warm Python, to ``policy`` for good; return what holds it.

    Args:
        fds: the ends of its stdout, stderr and control channel.

    Raises:
        OSError: the kernel refused a part of it.
    """
    os.setsid()
    _syscalls.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_, signal.SIG_DFL)
    _take([os.open(os.devnull, os.O_RDONLY), *fds, rules.fd])
    rules.fd = CONTROL + 1
    os.umask(0o077)
    os.chdir("/")
    os.nice(_NICE)
    _first_to_go()
    _limit(policy["memory"])
    _syscalls.drop_capabilities()
    _syscalls.hide_from_tracers()
    rules.restrict()
    rules.close()
    _seccomp.install(filter_)
    sys.path.extend(policy["importable"])
    return f"landlock {rules.abi} + seccomp + rlimits"


def live(control: int = CONTROL) -> None:
    """Run what comes over the channel until it ends."""
    _inside.open_streams()
    for name in [n for n in sys.modules if n.partition(".")[0] == "dspex_lab"]:
        del sys.modules[name]
    sys.argv[:] = [""]
    _inside.Harness(_inside.Channel(control)).serve()


def _take(fds: Sequence[int]) -> None:
    """Put the descriptors where they belong, from 0 on, and close all others."""
    # Above all of them first: one may stand where another belongs.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, len(fds)) for fd in fds]
    for place, fd in enumerate(high):
        os.dup2(fd, place)
    os.closerange(len(fds), os.sysconf("SC_OPEN_MAX"))


def _first_to_go() -> None:
    """Where the machine runs out of memory, the kernel ends this process before others."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:  # no /proc; the limits hold all the same
        return


def _limit(memory: int) -> None:
    with open("/proc/self/statm") as file:
        fields = [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in file.read().split()]
    size, data = fields[0], fields[5]
    _rlimits.limit(
        {},
        hard={
            "AS": size + memory,  # shared mappings as well, which DATA does not count
            "DATA": data + memory,
            "STACK": _STACK,
            "CORE": 0,
            "FSIZE": 0,
            "NOFILE": _FILES,
            "NPROC": 0,
            "MEMLOCK": 0,
            "MSGQUEUE": 0,
            "NICE": 0,
            "RTPRIO": 0,
        },
    )
