"""A seccomp filter for code that may compute and nothing else: what is not listed here answers EPERM.

libseccomp, asked through ctypes, knows the numbers of the calls on each processor and writes the filter; it is on every Debian,
Ubuntu and Fedora. (``pyseccomp`` is the same thin layer with no release since 2021.) Standard library only: see
``sandbox/_zygote.py``.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from dspex_lab.security._syscalls import no_new_privileges, set_filter

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_NOT_EQUAL, _MASKED_EQUAL = 1, 7
_ALL_32 = 0xFFFFFFFF

#: Calls that reach nothing outside the process, or only what Landlock decides on.
_PLAIN = """
read write readv writev pread64 preadv close close_range lseek dup dup2 dup3 pipe pipe2 getdents64 readlink readlinkat getcwd
stat lstat fstat newfstatat statx access faccessat faccessat2 fadvise64
select pselect6 poll ppoll epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
recvfrom shutdown
mmap munmap mprotect mremap madvise brk
rt_sigprocmask rt_sigreturn sigaltstack alarm setitimer getitimer restart_syscall
futex set_robust_list get_robust_list rseq set_tid_address arch_prctl membarrier sched_yield sched_getaffinity getcpu
getpid gettid getppid getpgrp getuid geteuid getgid getegid getgroups umask uname sysinfo
getrandom clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage getrlimit
exit exit_group
""".split()  # noqa: SIM905 - eighty lines of quotes say no more

#: Opening a file for anything but reading; a folder's handle without a right to read it.
_NOT_READING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY) | os.O_PATH
#: TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX: what Python asks of a file it has opened.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
#: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC: no locks, and no F_SETOWN, by which signals reach others.
_FCNTLS = (0, 1, 2, 3, 4, 1030)
_AF_UNIX = 1
_SIGXCPU = 24

#: (call, number of the argument, operation, mask or value, value): allowed where the argument is so.
_Rule: TypeAlias = tuple[str, int, int, int, int]

_CONDITIONAL: tuple[_Rule, ...] = (
    ("open", 1, _MASKED_EQUAL, _NOT_READING, 0),
    ("openat", 2, _MASKED_EQUAL, _NOT_READING, 0),
    *(("ioctl", 1, _MASKED_EQUAL, _ALL_32, request) for request in _IOCTLS),
    *(("fcntl", 1, _MASKED_EQUAL, _ALL_32, command) for command in _FCNTLS),
    # What asyncio wakes its loop with: a pair with both ends in this process, never an address.
    ("socketpair", 0, _MASKED_EQUAL, _ALL_32, _AF_UNIX),
    ("sendto", 4, _MASKED_EQUAL, 2**64 - 1, 0),
    ("prlimit64", 2, _MASKED_EQUAL, 2**64 - 1, 0),  # limits are read, not set
    ("rt_sigaction", 0, _NOT_EQUAL, _SIGXCPU, 0),  # the end of the processor time cannot be caught
)


class _ArgCmp(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def program() -> bytes:
    """Return the filter as the kernel takes it, for this processor.

    Raises:
        OSError: libseccomp is missing or could not write it.
    """
    lib = _library()
    context = lib.seccomp_init(ctypes.c_uint32(_ERRNO | errno.EPERM))
    if not context:
        raise OSError(errno.ENOMEM, "libseccomp could not begin a filter")
    try:
        for name in _PLAIN:
            _add(lib, context, name, [])
        for name, *condition in _CONDITIONAL:
            _add(lib, context, name, [_ArgCmp(*condition)])
        return _written(lambda fd: lib.seccomp_export_bpf(ctypes.c_void_p(context), fd))
    finally:
        lib.seccomp_release(ctypes.c_void_p(context))


def install(filter_: bytes) -> None:
    """Hold this thread, and all that it starts, to the filter; for good.

    Raises:
        OSError: the kernel did not take it.
    """
    no_new_privileges()
    set_filter(filter_)


def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        missing = "libseccomp is not installed (Debian and Ubuntu: libseccomp2; Fedora: libseccomp)"
        raise OSError(errno.ENOENT, missing) from None
    lib.seccomp_init.restype = ctypes.c_void_p
    return lib


def _add(lib: ctypes.CDLL, context: int, name: str, conditions: Sequence[_ArgCmp]) -> None:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number < 0:  # not on this processor, or younger than the library
        return
    array = (_ArgCmp * len(conditions))(*conditions)
    code = lib.seccomp_rule_add_array(ctypes.c_void_p(context), ctypes.c_uint32(_ALLOW), number, len(conditions), array)
    if code < 0:
        raise OSError(-code, f"libseccomp did not take the rule for {name}: {os.strerror(-code)}")


def _written(write: Callable[[int], int]) -> bytes:
    fd = os.memfd_create("filter")
    try:
        code = write(fd)
        if code < 0:
            raise OSError(-code, f"libseccomp could not write the filter: {os.strerror(-code)}")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
