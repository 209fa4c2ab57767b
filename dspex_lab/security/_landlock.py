"""Landlock: a process gives up rights over files, ports and signals, for good. Linux 5.13 and later, no package needed.

Constants and structures from the kernel's ``include/uapi/linux/landlock.h``. Standard library only: see ``sandbox/_zygote.py``.
"""

from __future__ import annotations

import ctypes
import os
import stat
from types import TracebackType

from dspex_lab.security._syscalls import no_new_privileges, syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(13, 16))

#: What changes a file or a folder; between READ_DIR and REFER are the rights to remove and to make what is in a folder.
WRITING = WRITE_FILE | sum(1 << bit for bit in range(4, 15))
READING = READ_FILE | READ_DIR
EVERYTHING = (1 << 16) - 1

#: What a rule for a file, not a folder, may hold.
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
#: The first ABI that knows the rights beyond those of ABI 1.
_SINCE = {REFER: 2, TRUNCATE: 3, IOCTL_DEV: 5}
_TCP = 0b11  # bind and connect, ABI 4
_SCOPES = 0b11  # abstract sockets and signals, ABI 6


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # Python 3.14 wants it said
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Return the version of Landlock that this kernel has; 0 where there is none or it is switched off."""
    try:
        return syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:
        return 0


class Ruleset:
    """Rights that a process will keep: what is ``handled`` and not allowed by a rule is refused after :meth:`restrict`.

    Args:
        handled: rights over files; those that this kernel does not know are left out.
        network: refuse TCP, from ABI 4.
        scoped: refuse signals to, and abstract sockets of, processes outside, from ABI 6.

    Raises:
        OSError: this kernel has no Landlock.
    """

    def __init__(self, handled: int, *, network: bool = False, scoped: bool = False) -> None:
        self.abi = abi()
        self.handled = handled & ~sum(right for right, since in _SINCE.items() if since > self.abi)
        attr = _RulesetAttr(self.handled, _TCP if network and self.abi >= 4 else 0, _SCOPES if scoped and self.abi >= 6 else 0)
        # An older kernel knows a shorter structure, and takes a longer one only where the rest is zero: it is.
        self.fd = syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)), ctypes.c_uint32(0))

    def allow(self, path: str, rights: int) -> bool:
        """Allow ``rights`` on a file, or on all that is beneath a folder. False where ``path`` cannot be reached.

        Raises:
            OSError: the kernel did not take the rule.
        """
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= _OF_A_FILE
            if rights & self.handled:
                rule = _PathBeneathAttr(rights & self.handled, fd)
                syscall(_ADD_RULE, self.fd, _RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
            return True
        finally:
            os.close(fd)

    def restrict(self) -> None:
        """Give up, in this thread and all that it starts from now on, what the rules do not allow; for good.

        Raises:
            OSError: the kernel did not do it; nothing was given up.
        """
        no_new_privileges()
        syscall(_RESTRICT_SELF, self.fd, ctypes.c_uint32(0))

    def close(self) -> None:
        """Forget the rules; what was given up stays so."""
        os.close(self.fd)

    def __enter__(self) -> Ruleset:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
