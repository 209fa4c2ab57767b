"""The file of a tape: JSON Lines, each line whole on the disk or not there; with ``.gz`` each line is a gzip member of its own.

A line that was cut off by a kill is left out when the file is read, and removed when it is written on. Nothing in a file is
believed: sizes are capped before anything is unpacked, and lines are only ever read as JSON.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms.tape._errors import TapeError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ENDINGS = (".jsonl", ".jsonl.gz")
FORMAT, VERSION = "dspex_lab tape", 1
#: Bytes, unpacked: of one line and of all. A line holds a whole answer; 32 MiB hold a generated image.
LONGEST_LINE, LONGEST_FILE = 32 << 20, 512 << 20
_CHUNK, _UNPACKED = 1 << 16, 1 << 20


class Line(NamedTuple):
    """A whole line, its number from 1, and where in the file it ends."""

    number: int
    text: bytes
    end: int


def tape_path(path: str | Path) -> Path:
    """Return the path of a tape.

    Raises:
        ConfigurationError: it does not end in ``.jsonl`` or ``.jsonl.gz``, its folder is not there, or it is no plain file.
    """
    found = Path(os.path.abspath(Path(path).expanduser()))
    if not found.name.endswith(ENDINGS):
        raise ConfigurationError(
            f"{str(path)!r} is no tape.", key="tape", expected=" or ".join(ENDINGS), actual=str(path), hint="End it in .jsonl."
        )
    if not found.parent.is_dir():
        raise ConfigurationError(f"There is no folder {found.parent} for the tape {found.name}.", key="tape", hint="Make it.")
    try:
        plain = stat.S_ISREG(found.stat().st_mode)
    except FileNotFoundError:
        return found
    except OSError as error:
        raise ConfigurationError(f"{str(path)!r} can be no tape: {error}", key="tape", hint="Name another file.") from error
    if not plain:
        raise ConfigurationError(f"{found} is no plain file.", key="tape", hint="Name a file.")
    return found


def read_tape(path: Path) -> tuple[list[tuple[int, Any]], int, int]:
    """Return the calls on a tape with their line numbers, where the last whole line ends, and how many bytes are cut off.

    Raises:
        TapeError: the file is not there, too large, of another version, or holds a line that is no JSON.
    """
    try:
        size = path.stat().st_size
        lines = list(_gzip_lines(path) if path.name.endswith(".gz") else _plain_lines(path))
    except FileNotFoundError:
        beside = [each.name for each in path.parent.iterdir() if each.name.endswith(ENDINGS)]
        raise TapeError(
            f"There is no tape {path}.{did_you_mean(path.name, beside)}", hint="Record one: mode='record', with a key."
        ) from None
    except (OSError, zlib.error) as error:
        raise TapeError(f"The tape {path} cannot be read: {error}", hint="Record it anew.") from error
    if not size:
        return [], 0, 0
    head = _json(path, lines[0]) if lines else None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise TapeError(f"{path} is no tape: its first line does not say so.", hint="Name another file.")
    if head.get("version") != VERSION:
        raise TapeError(
            f"The tape {path} has version {head.get('version')!r}; {VERSION} is understood.", hint="Update dspex_lab."
        )
    return [(line.number, _json(path, line)) for line in lines[1:]], lines[-1].end, size - lines[-1].end


def _json(path: Path, line: Line) -> Any:
    try:
        return json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise TapeError(f"Line {line.number} of the tape {path} is no JSON: {error}", hint="Mend or remove it.") from error


def _plain_lines(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        number = end = 0
        while text := file.readline(LONGEST_LINE + 1):
            _check_size(path, len(text), end + len(text))
            number, end = number + 1, end + len(text)
            if text.endswith(b"\n"):
                yield Line(number, text, end)


def _gzip_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of all members that are whole; the end of a line is that of its member."""
    number = unpacked = 0
    for member, end in _members(path):
        unpacked += len(member)
        _check_size(path, 0, unpacked)
        for text in bytes(member).splitlines(keepends=True):
            number += 1
            _check_size(path, len(text), unpacked)
            if text.endswith(b"\n"):
                yield Line(number, text, end)


def _members(path: Path) -> Iterator[tuple[bytearray, int]]:
    """Yield each whole gzip member, unpacked, and where it ends in the file."""
    with path.open("rb") as file:
        read, rest = 0, b""
        while True:
            unpack, member = zlib.decompressobj(zlib.MAX_WBITS | 16), bytearray()
            while not unpack.eof:
                given = rest or file.read(_CHUNK)
                if not given:
                    return  # the end, or a member that was cut off
                member += unpack.decompress(given, _UNPACKED)
                rest = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
                read += len(given) - len(rest)
                _check_size(path, len(member) - member.rfind(b"\n") - 1, len(member))
            yield member, read


def _check_size(path: Path, line: int, whole: int) -> None:
    for size, most, what in ((line, LONGEST_LINE, "a line"), (whole, LONGEST_FILE, "all")):
        if size > most:
            raise TapeError(f"The tape {path} is too large: {what} of it is over {most >> 20} MiB.", hint="Record it anew.")


class TapeWriter:
    """Writes on a tape, whose file it holds until it is closed. Not thread-safe: its tape has a lock.

    Args:
        path: the file, of :func:`tape_path`; made where it is not there.
        head: what the first line of a new tape says beside its format and version.

    Attributes:
        calls: what the tape held, with line numbers; ``cut`` is how many bytes of a torn line were removed.

    Raises:
        TapeError: another is writing on it, or it cannot be read or written.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self._path, self._packed = path, path.name.endswith(".gz")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as error:
            raise TapeError(f"The tape {path} cannot be written: {error}", hint="Name another file.") from error
        try:
            self._take()
            self.calls, self._end, self.cut = read_tape(path)
            os.ftruncate(self._fd, self._end)
            self._lines = self.calls[-1][0] if self.calls else int(self._end > 0)
            self._size = path.stat().st_size if not self._packed else sum(len(member) for member, _ in _members(path))
            if not self._end:
                self.write(json.dumps({"format": FORMAT, "version": VERSION, **head}).encode() + b"\n")
        except BaseException:
            os.close(self._fd)
            raise

    def _take(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TapeError(
                f"The tape {self._path} is being written by another process, or by another tape of this one.",
                hint="Close that one first, or record on a tape of your own.",
            ) from error

    def write(self, line: bytes) -> int:
        """Write a line and return its number; it is in the file, whole, when this returns.

        Raises:
            OSError: it could not be written; nothing of it stays in the file.
        """
        if self._size + len(line) > LONGEST_FILE:
            raise OSError(errno.EFBIG, f"a tape of over {LONGEST_FILE >> 20} MiB is not read again", str(self._path))
        data = memoryview(gzip.compress(line, mtime=0) if self._packed else line)
        end = self._end
        try:
            os.lseek(self._fd, end, os.SEEK_SET)
            while data:
                written = os.write(self._fd, data)
                data, end = data[written:], end + written
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise
        self._end, self._lines, self._size = end, self._lines + 1, self._size + len(line)
        return self._lines

    def close(self) -> None:
        """Let others write on it."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
