"""HTTP/1.1 as far as a server of tests needs it: keep-alive, bodies with a length or in chunks, answers in pieces."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, NamedTuple

from dspex_lab.testing._faulty_log import Headers

_HEAD_LIMIT = 64 << 10
_BODY_LIMIT = 64 << 20


class BadRequest(Exception):
    """Bytes that are no request; the connection is closed."""


class Head(NamedTuple):
    """The first lines of a request."""

    method: str
    path: str
    headers: Headers


class Parser:
    """Takes whole requests out of the bytes of a connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Head | None = None

    def feed(self, data: bytes) -> None:
        """Add what arrived."""
        self._buffer += data

    def take(self) -> tuple[Head, bytes] | None:
        """Return the next request that is whole, or None.

        Raises:
            BadRequest: there is none and never will be.
        """
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _HEAD_LIMIT:
                    raise BadRequest("the header is too long")
                return None
            self._head = _head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        body = self._body(self._head.headers)
        if body is None:
            return None
        head, self._head = self._head, None
        return head, body

    def _body(self, headers: Headers) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked()
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError as error:
            raise BadRequest("Content-Length is no number") from error
        if not 0 <= length <= _BODY_LIMIT:
            raise BadRequest("the length of the body is out of range")
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _chunked(self) -> bytes | None:
        body, at = bytearray(), 0
        while True:
            line = self._buffer.find(b"\r\n", at)
            if line < 0:
                return None
            try:
                size = int(bytes(self._buffer[at:line]).split(b";")[0], 16)
            except ValueError as error:
                raise BadRequest("the size of a chunk is no number") from error
            if not 0 <= size <= _BODY_LIMIT or len(body) > _BODY_LIMIT:
                raise BadRequest("the length of the body is out of range")
            at = line + 2 + size + 2
            if len(self._buffer) < at:
                return None
            body += self._buffer[line + 2 : line + 2 + size]
            if size == 0:
                del self._buffer[:at]
                return bytes(body)


def _head(data: bytes) -> Head:
    first, *lines = data.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(f"{first[:40]!r} is no request line of HTTP/1.1")
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(f"{line[:40]!r} is no header field")
        headers[name.strip().lower()] = value.strip()
    return Head(parts[0], parts[1], headers)


#: Answers a request: returns at once, or a coroutine that goes on.
Handler = Callable[["Exchange", Head, bytes], Coroutine[Any, Any, None] | None]


class Exchange:
    """One request and the answer to it on the wire."""

    def __init__(self, connection: Connection, close: bool) -> None:
        self._connection = connection
        self._close = close
        self._chunked = False
        #: Whether the answer is over, in whatever way.
        self.over = False
        #: Called once when it is over and before the client can see that, with whether the client left before.
        self.on_over: Callable[[bool], None] = _nothing

    @property
    def connection(self) -> int:
        """The number of the connection."""
        return self._connection.number

    def send(self, status: int, headers: list[tuple[str, str]], body: bytes, *, close: bool = False) -> None:
        """Send a whole answer; ``close`` as for :meth:`end`."""
        self.finish(abandoned=False)
        self._write(_start(status, [*headers, ("content-length", str(len(body)))]) + body)
        self._connection.next(close=close or self._close)

    def finish(self, *, abandoned: bool) -> None:
        """Count the answer as over; only the first time counts."""
        if not self.over:
            self.over = True
            self.on_over(abandoned)

    def head(self, status: int, headers: list[tuple[str, str]], length: int | None = None) -> None:
        """Send the head of an answer whose body follows, in chunks where no length is known."""
        self._chunked = length is None
        more = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        self._write(_start(status, [*headers, more]))

    def piece(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body; the last one of a known length ends it for the client."""
        if last:
            self.finish(abandoned=False)
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._write(data)

    async def drain(self) -> None:
        """Wait until the client has taken most of what was sent."""
        await self._connection.writable.wait()

    def end(self, *, close: bool = False) -> None:
        """End the answer; the connection stays open for the next request unless the client or ``close`` says otherwise."""
        self.finish(abandoned=False)
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._connection.next(close=close or self._close)

    def cut(self) -> None:
        """Close the connection in the middle of the answer."""
        self.finish(abandoned=False)
        self._connection.next(close=True)

    def reset(self) -> None:
        """Reset the connection: the client sees an error, not an end."""
        self.finish(abandoned=False)
        self._connection.reset()

    def _write(self, data: bytes) -> None:
        self._connection.write(data)


def _nothing(abandoned: bool) -> None:
    """Do nothing."""


def _start(status: int, headers: list[tuple[str, str]]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return "".join([f"HTTP/1.1 {status} {phrase}\r\n", *(f"{n}: {v}\r\n" for n, v in headers), "\r\n"]).encode("latin-1")


class Connection(asyncio.Protocol):
    """One connection: its requests are answered one after the other.

    Args:
        number: counted from 1.
        handle: answers a request.
        opened: told of the connection when it is made; ``closed`` when it is gone.
    """

    def __init__(
        self, number: int, handle: Handler, opened: Callable[[Connection], None], closed: Callable[[Connection], None]
    ) -> None:
        self.number = number
        self.writable = asyncio.Event()
        self.writable.set()
        self._handle, self._opened, self._closed = handle, opened, closed
        self._parser = Parser()
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a TCP server makes asyncio.Transport
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._advance()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._transport = self._exchange, None
        if exchange is not None:
            exchange.finish(abandoned=True)
        self.cancel()
        # asyncio closes the socket after this call: who is told that it is gone must find it so.
        asyncio.get_running_loop().call_soon(self._closed, self)

    def _advance(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._exchange is None and self._transport is not None and (request := self._parser.take()) is not None:
                head, body = request
                self._exchange = exchange = Exchange(self, head.headers.get("connection", "").lower() == "close")
                going = self._handle(exchange, head, body)
                if going is not None:
                    self._task = asyncio.get_running_loop().create_task(going)
        except BadRequest as error:
            self.write(_start(400, [("content-length", "0"), ("x-reason", str(error))]))
            self.next(close=True)
        finally:
            self._busy = False

    def write(self, data: bytes) -> None:
        """Send bytes, where anybody is there to take them."""
        if self._transport is not None:
            self._transport.write(data)

    def next(self, *, close: bool) -> None:
        """Be ready for the next request, or close."""
        self._exchange = self._task = None
        if close and self._transport is not None:
            self._transport.close()
        else:
            self._advance()

    def reset(self) -> None:
        """Reset the connection."""
        self._exchange = self._task = None
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def cancel(self) -> None:
        """Stop what answers."""
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Close at once; nobody is told that a client left."""
        if self._exchange is not None:
            self._exchange.finish(abandoned=False)
        self.cancel()
        if self._transport is not None:
            self._transport.abort()

    def hang_up(self) -> None:
        """Close, where no request is being answered."""
        if self._exchange is None and self._transport is not None:
            self._transport.close()
