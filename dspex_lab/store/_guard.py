"""A lock of our own beside the store's file.

DuckDB locks its file with POSIX record locks, and those are lost as soon as *anything* in the process opens and closes the
file: ``open(path)``, a copy made by ``shutil``, ``read_blob`` in SQL. A second process could then write into a file that is
being written. An ``flock`` on a file beside it has no such trap, and it can say who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where DuckDB's own lock is mandatory and has no such trap
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("dspex_lab")


class Held(Exception):
    """Another process holds the file; ``pid`` is that process where it can be known."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid


class Guard:
    """Holds ``<path>.lock`` from construction to :meth:`release`.

    Raises:
        Held: another process has it.
        OSError: the lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".lock")
        self._fd: int | None = None
        while fcntl is not None and self._fd is None:
            self._fd = self._take()

    def _take(self) -> int | None:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(fd, 32)
            os.close(fd)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise Held(int(holder) if holder.isdigit() else None) from None
            raise
        if not self._is_current(fd):
            os.close(fd)  # the holder before us unlinked it between our open and our lock
            return None
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        except OSError:  # the disk is full
            self.path.unlink(missing_ok=True)
            os.close(fd)
            raise
        return fd

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the lock file and let others in."""
        if self._fd is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            os.close(self._fd)
            self._fd = None

    def forget(self) -> None:
        """In a forked child: drop the inherited handle, which would otherwise hold the lock after the parent's end."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
