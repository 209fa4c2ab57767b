"""The short way from kernel to worker on one machine: a socket in the worker's own folder, one line for each call at once.

A call by Dask's connection costs the kernel's loop, the worker's loop and a hop between two of its threads, each some hundred
microseconds. Here the thread that reads a call runs it and writes the answer. Only small calls go this way, those that are
plain bytes; all else (large ones, pulls, pings, other machines) goes by Dask.

The folder is the user's only (0700), and who connects says a secret first, which was handed over by TLS.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from dspex_lab.pools._wire import Frames, Wire

log = logging.getLogger("dspex_lab")

#: Bytes of the secret.
_SECRET = 32
_COUNT, _SIZE = struct.Struct("!I"), struct.Struct("!Q")


class Door:
    """The worker's end: takes the kernel's lines, each in a thread of its own.

    Args:
        answer: runs a call and returns its answer, both as they are on the wire; called in the line's thread.
        folder: where the socket is made.

    Raises:
        OSError: it cannot be made there: the path is longer than a socket's may be (unix(7): 107 bytes), for one.
    """

    def __init__(self, answer: Callable[[bytes], Wire], folder: str) -> None:
        self._answer = answer
        self.path = os.path.join(folder, f"{secrets.token_hex(4)}.calls")
        self.secret = secrets.token_bytes(_SECRET)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(self.path)
        except OSError:
            self._listener.close()
            raise
        self._listener.listen()
        threading.Thread(target=self._welcome, name="dspex-door", daemon=True).start()

    def _welcome(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            threading.Thread(target=self._serve, args=(line,), name="dspex-task", daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line:
            try:
                if not hmac.compare_digest(_read(line, _SECRET), self.secret):
                    return
                while True:
                    count = _COUNT.unpack(_read(line, _COUNT.size))[0]
                    sizes = [_SIZE.unpack(_read(line, _SIZE.size))[0] for _ in range(count)]
                    [call] = [_read(line, size) for size in sizes]
                    _write(line, self._answer(call))
            except EOFError:
                return  # the kernel has hung up
            except OSError:
                log.debug("a line to the kernel broke", exc_info=True)

    def close(self) -> None:
        """Take no more lines."""
        self._listener.shutdown(socket.SHUT_RDWR)  # else who waits for the next one would wait on
        self._listener.close()


def _read(line: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = line.recv(min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parts(wire: Wire) -> list[memoryview]:
    """Return a message as what is written: a head with the sizes, and the parts."""
    parts = [wire.head, *wire.buffers] if isinstance(wire, Frames) else [wire]
    views = [memoryview(part).cast("B") for part in parts]
    head = _COUNT.pack(len(views)) + b"".join(_SIZE.pack(view.nbytes) for view in views)
    return [memoryview(head), *views]


def _write(line: socket.socket, wire: Wire) -> None:
    head, *views = _parts(wire)
    if sum(view.nbytes for view in views) < 1 << 16:
        line.sendall(b"".join((head, *views)))
    else:
        for view in (head, *views):
            line.sendall(view)


class _Line(asyncio.Protocol):
    """The kernel's end of one line: one call at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = False
        self._answer: asyncio.Future[Wire] | None = None
        self._data = bytearray()
        self._whole = 0

    @property
    def free(self) -> bool:
        """Whether it can be given a call."""
        return self._answer is None and not self.lost

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, wire: bytes) -> asyncio.Future[Wire]:
        """Send a call; the future is its answer. Whoever cancels it leaves the line busy until the answer has come."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(b"".join(_parts(wire)))
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._whole and len(self._data) >= _COUNT.size:
            count = _COUNT.unpack_from(self._data)[0]
            head = _COUNT.size + count * _SIZE.size
            if len(self._data) >= head:
                self._whole = head + sum(_SIZE.unpack_from(self._data, _COUNT.size + n * _SIZE.size)[0] for n in range(count))
        if self._whole and len(self._data) >= self._whole:
            message, self._data, self._whole = self._data, bytearray(), 0
            answer, self._answer = self._answer, None
            if answer is not None and not answer.done():
                answer.set_result(_message(message))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error if isinstance(error, OSError) else ConnectionResetError("the worker hung up"))


def _message(data: bytearray) -> Wire:
    count = _COUNT.unpack_from(data)[0]
    whole, offset, parts = memoryview(data), _COUNT.size + count * _SIZE.size, []
    for number in range(count):
        size = _SIZE.unpack_from(data, _COUNT.size + number * _SIZE.size)[0]
        parts.append(whole[offset : offset + size])
        offset += size
    return bytes(parts[0]) if count == 1 else Frames(parts[0], *parts[1:])


class Lines:
    """The kernel's lines to one worker. On the pools' loop."""

    def __init__(self, lines: list[_Line]) -> None:
        self._lines = lines

    @classmethod
    async def open(cls, path: str, secret: bytes, threads: int) -> Lines:
        """Connect to a :class:`Door`.

        Raises:
            OSError: it is not there.
        """
        opened = cls([])
        try:
            for _ in range(threads):
                _, line = await asyncio.get_running_loop().create_unix_connection(_Line, path)
                line.transport.write(secret)
                opened._lines.append(line)
        except BaseException:
            opened.close()
            raise
        return opened

    def ask(self, wire: bytes) -> asyncio.Future[Wire] | None:
        """Send a call by a line that is free; None where none is."""
        line = next((line for line in self._lines if line.free), None)
        return None if line is None else line.ask(wire)

    def close(self) -> None:
        """Hang up."""
        for line in self._lines:
            line.transport.close()
