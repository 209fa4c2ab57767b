"""Calls of Linux that Python has no function for. Standard library only: see ``sandbox/_zygote.py``."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38

#: root is nobody special, for good, and neither is a program that it starts (``NOROOT``, ``NO_SETUID_FIXUP``, each locked).
_SECUREBITS = 0b1111
_CAPABILITY_VERSION_3 = 0x20080522

_SECCOMP_MODE_FILTER = 2
_BYTES_OF_AN_INSTRUCTION = 8

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: Any) -> int:
    """Make a system call by its number.

    Raises:
        OSError: what the kernel answered.
    """
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def prctl(option: int, value: int) -> int:
    """Set an attribute of this process.

    Raises:
        OSError: what the kernel answered.
    """
    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def no_new_privileges() -> None:
    """Make sure that nothing this process starts can have more rights than it has; for good."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` to this process when the thread that made it ends."""
    prctl(_PR_SET_PDEATHSIG, signal)


def hide_from_tracers() -> None:
    """Let no process of the same user trace this one, or read its memory; it leaves no core dump either."""
    prctl(_PR_SET_DUMPABLE, 0)


def drop_capabilities() -> None:
    """Give up every capability, for good. Where there are none (no root), nothing happens."""
    with contextlib.suppress(OSError):  # beyond the last one this kernel knows, or no right to drop: then there was none
        for capability in range(64):
            prctl(_PR_CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        prctl(_PR_SET_SECUREBITS, _SECUREBITS)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, none), "capset")


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def set_filter(program: bytes) -> None:
    """Have the kernel ask a seccomp filter (compiled BPF) about every system call of this thread and its children; for good.

    Raises:
        OSError: what the kernel answered.
    """
    described = _FilterProgram(len(program) // _BYTES_OF_AN_INSTRUCTION, program)
    _checked(_libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(described)), "seccomp")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)
