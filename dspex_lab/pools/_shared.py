"""Large values between processes of one machine: written once into a file in memory, mapped by the other side.

A :class:`SharedFolder` is the kernel's, in ``/dev/shm`` where that is large enough. It holds a lock on its folder as long as
it lives, so that what a kernel left behind that was killed is known for that and removed by whoever comes next: its
forkserver when it ends (:func:`sweep`), else the next kernel. A worker has the :class:`Share` of it: where to write, and
from what size on.

A file is removed by who maps it, at once: the mapping keeps what is in it. One that nobody maps is removed when its call ends
(:meth:`Share.lend`, and the worker's ``Host.cancel``); whatever there may be else goes with the folder.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import logging
import mmap
import os
import resource
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dspex_lab.pools._wire import Call, Packed

log = logging.getLogger("dspex_lab")

#: Bytes that must be free in memory files for them to be used; containers often have 64 MB there.
ENOUGH = 1 << 30

_PREFIX = "dspex-shared-"
#: Where each part begins: at a page, so that arrays are aligned for whatever reads them.
_ALIGN = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Share:
    """A folder for large values, and the bytes from which a value is large."""

    folder: str
    above: int

    def write(self, name: str, parts: list[Any]) -> tuple[str, tuple[int, ...]] | None:
        """Write parts into a new file; return its name and their sizes, or None where it cannot be (no room, not allowed)."""
        path = os.path.join(self.folder, name)
        sizes = tuple(memoryview(part).nbytes for part in parts)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            log.debug("no file for a large value in %s", self.folder, exc_info=True)
            return None
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for part, (start, _) in zip(parts, _places(sizes), strict=True):
                    _write_all(file.fileno(), part, start)
                file.truncate(sum(map(_padded, sizes)))
        except OSError:
            log.debug("a large value does not fit into %s", self.folder, exc_info=True)
            remove(path)
            return None
        except BaseException:
            remove(path)
            raise
        return name, sizes

    def read(self, name: str, sizes: tuple[int, ...]) -> list[memoryview]:
        """Map the parts in a file, writable, and remove it.

        Raises:
            MemoryError: this process may not have so much.
            OSError: the file is gone, or is not what was said.
        """
        if os.path.basename(name) != name:
            raise OSError(f"{name!r} is not the name of a file in {self.folder}")
        path = os.path.join(self.folder, name)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            status, whole = os.fstat(descriptor), sum(map(_padded, sizes))
            if not stat.S_ISREG(status.st_mode) or status.st_size != whole:
                raise OSError(f"{path} is not the file that was announced: {status.st_size} bytes, not {whole}")
            _afford(whole)
            mapped = _mapped(descriptor, whole)
        finally:
            os.close(descriptor)
            remove(path)
        return [mapped[start:end] for start, end in _places(sizes)]

    @contextmanager
    def lend(self, call: Call) -> Iterator[Call]:
        """Give a call as it is to be sent, its arguments in a file if they are large. None of its files is left when this
        ends: take the answer within, if there is one. To write a large one takes a while (0.1 s for 100 MB): do not enter
        this on a loop then."""
        lent = replace(call, arguments=self.put(call.arguments, f"{call.id}.call"))
        try:
            yield lent
        except BaseException:
            self.forget(call.id)
            raise
        if lent.arguments.shared is not None:
            remove(os.path.join(self.folder, f"{call.id}.call"))

    def put(self, packed: Packed, name: str) -> Packed:
        """Return a packed value as it is to be sent: if it is large, with its bytes in a file of this name."""
        if packed.size < self.above or packed.shared is not None:
            return packed
        shared = self.write(name, [packed.head, *packed.buffers])
        if shared is None:
            packed.protocol = "buffers" if packed.buffers else "inline"
            return packed
        packed.protocol = "shared"  # for whoever says how it travelled
        return replace(packed, shared=shared)

    def take(self, packed: Packed) -> Packed:
        """Return a packed value that came, with its bytes mapped if they are in a file."""
        if packed.shared is None:
            return packed
        head, *buffers = self.read(*packed.shared)
        return replace(packed, head=head, buffers=buffers, shared=None, own=False)

    def forget(self, call_id: str) -> None:
        """Remove what a call may have left."""
        for name in (f"{call_id}.call", f"{call_id}.reply"):
            remove(os.path.join(self.folder, name))


class SharedFolder(Share):
    """The kernel's folder for large values.

    Args:
        above: bytes from which a value goes into a file.
        base: where the folder is made; by default in memory if there is room, else with the temporary files.
    """

    __slots__ = ("_lock",)
    _lock: int

    def __init__(self, above: int, base: str | None = None) -> None:
        sweep(base)
        base = base or home()
        folder, lock = _locked(base)
        for name, value in (("folder", folder), ("above", above), ("_lock", lock)):
            object.__setattr__(self, name, value)

    @property
    def share(self) -> Share:
        """What a worker is given."""
        return Share(self.folder, self.above)

    def close(self) -> None:
        """Remove the folder with all that is in it; what is mapped stays until it is let go. Idempotent."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            object.__setattr__(self, "_lock", -1)


def _locked(base: str) -> tuple[str, int]:
    """Make a folder and lock it; again, if another kernel's sweep came in between."""
    while True:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return folder, lock
        os.close(lock)


def home() -> str:
    """Return where large values go: into memory (``/dev/shm``) where a GB is free there, else to the temporary files."""
    try:
        free = os.statvfs("/dev/shm")  # noqa: S108 - the files there are made exclusively, in a folder of our own
        if free.f_bavail * free.f_frsize >= ENOUGH and os.access("/dev/shm", os.W_OK):  # noqa: S108
            return "/dev/shm"  # noqa: S108
    except OSError:
        log.debug("no memory files here", exc_info=True)
    return tempfile.gettempdir()


def sweep(base: str | None = None) -> None:
    """Remove the folders of kernels that are gone: those that nobody holds the lock of."""
    bases = {base} if base else {"/dev/shm", tempfile.gettempdir()}  # noqa: S108 - where others of ours may have been
    for folder in (folder for place in bases for folder in Path(place).glob(f"{_PREFIX}*")):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # another's, or gone this moment
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def remove(path: str) -> None:
    """Remove a file that may be gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _places(sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    start = 0
    for size in sizes:
        yield start, start + size
        start += _padded(size)


def _write_all(file: int, part: Any, start: int) -> None:
    rest = memoryview(part).cast("B")
    while rest:
        written = os.pwrite(file, rest, start)
        rest, start = rest[written:], start + written


def _mapped(descriptor: int, size: int) -> memoryview:
    """Map a file, writable, until nothing refers to the memory any more; it may be closed meanwhile.

    Python's own ``mmap`` keeps a descriptor for as long (``trackfd=False`` is there from 3.13 on), so that whoever keeps a
    thousand large values could open nothing more.
    """
    libc = _libc()
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, libc.munmap, address, size).atexit = False  # at the end somebody may still look at it
    return memoryview(memory).cast("B")


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_ssize_t)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


def _afford(size: int) -> None:
    """Count a mapping against the memory this process may have, which the operating system does not do."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY:
        return
    with open("/proc/self/status") as status:
        used = next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:")), 0)
    if used + size > limit:
        raise MemoryError(f"a value of {size:,} bytes does not fit: {used:,} of {limit:,} bytes are in use")
