"""What a pool's worker may do: it runs the user's own code, so reading is free and writing is not."""

from __future__ import annotations

import errno
import glob
import os
from dataclasses import dataclass

from dspex_lab.security import _landlock, _rlimits

#: Devices that libraries open for writing; CUDA and ROCm among them. They can be written to, not made or removed.
_DEVICES = (
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/nvidia*",
    "/dev/dri",
    "/dev/kfd",
)

#: Where a process says something of itself, such as the names of its threads.
_OWN = "/proc/self"

#: Shared memory: semaphores and arrays of multiprocessing and torch.
_SHARED = "/dev/shm"  # noqa: S108 - a rule for it, not a file in it


@dataclass(frozen=True, slots=True)
class Confinement:
    """The limits of a worker's process.

    Attributes:
        data: bytes of memory; beyond it an allocation fails with MemoryError and the process lives. 0: any.
        writable: the folders, or single files, it may write to; a folder is made where it is missing.
        cpu: seconds of processor time from now on, None: any; raised by :func:`allow_cpu` for each task.
    """

    data: int
    writable: tuple[str, ...] = ()
    cpu: float | None = None


#: The folders this process may write to; None where it is not held to any.
_writable: tuple[str, ...] | None = None


def confine(limits: Confinement) -> str:
    """Hold this process, and all that it starts, to ``limits``; for good. Call it before there are threads.

    Landlock refuses writes, and only these, anywhere but in ``limits.writable``, in shared memory and to the usual devices.
    Where the kernel has none, only the limits of memory and time hold.

    Returns:
        What holds from now on: ``"rlimits+landlock 7"`` (the number is the version of Landlock) or ``"rlimits"``.

    Raises:
        RuntimeError: the process has threads already, which Landlock would not hold.
        OSError: a folder could not be made.
    """
    threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
    if threads > 1:
        raise RuntimeError(f"A worker is confined before it starts threads; this one has {threads}.")
    return confine_thread(limits)


def confine_thread(limits: Confinement) -> str:
    """As :func:`confine`, in a process that has other threads: they are held to the limits of memory and time, but write where
    they like; this thread does not, nor do those that it starts.

    Raises:
        OSError: a folder could not be made.
    """
    global _writable
    _rlimits.limit({"DATA": limits.data} if limits.data else {}, hard={"CORE": 0})
    if limits.cpu is not None:
        _rlimits.allow_cpu(limits.cpu)
    version = _landlock.abi()
    if not version:
        return "rlimits"
    folders = tuple(os.path.realpath(folder) for folder in limits.writable)
    with _landlock.Ruleset(_landlock.WRITING) as rules:
        for folder in folders:
            if not os.path.exists(folder):
                os.makedirs(folder, exist_ok=True)
            rules.allow(folder, _landlock.WRITING)
        rules.allow(_SHARED, _landlock.WRITING)
        for path in (_OWN, *(found for pattern in _DEVICES for found in glob.glob(pattern))):
            rules.allow(path, _landlock.WRITE_FILE | _landlock.TRUNCATE)
        rules.restrict()
    _writable = folders
    return f"rlimits+landlock {version}"


def explain(error: OSError) -> str | None:
    """Return why a worker could not write, as one sentence with what to do; None where :func:`confine` is not the reason."""
    if _writable is None or error.errno not in (errno.EACCES, errno.EXDEV):
        return None
    for name in (error.filename, error.filename2):
        path = os.path.realpath(os.fsdecode(name)) if isinstance(name, str | bytes) else ""
        # Landlock does not bind access(2): what that allows and the worker could not do was refused by Landlock.
        if path and not _within(path) and os.access(_nearest(path), os.W_OK):
            where = ", ".join(_writable) or "no folder"
            return f"This worker may write only to {where}; {path} is elsewhere. Add its folder to writable= of the pool."
    return None


def _within(path: str) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in _writable or ())


def _nearest(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
