"""lm15's HTTP transports with what they lack: an end to all waiting, and an end to all reading.

Measured against the alternatives (``tests/bench/http_engine.py``), lm15's transport needs the least: raw ``httpx`` takes
about three times as long per call. It keeps connections alive, closes them when a call is cancelled or a stream is left,
and decodes gzip. What it lacks is here: one limit for the whole answer, limits of size, an end to idle connections before
the server's own, keep-alive above file number 1,023 (``select``), head and body in one packet. And it looks through the
environment for a proxy at every call, which is half of its time; here that is done once.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport, TransportRequest, WriteError, WriteTimeout
from dspy._vendor.lm15.transports._async import _AsyncConnection
from dspy._vendor.lm15.transports._sync import _SyncConnection

if TYPE_CHECKING:
    from dspex_lab.lms.engines._http_endpoint import Endpoint

_AGENT = "dspex-lab"
_HEAD = 512


class TooLarge(Exception):
    """An answer beyond the limit; ``limit`` says which one, ``size`` its bytes."""

    def __init__(self, limit: str, size: int) -> None:
        super().__init__(limit, size)
        self.limit, self.size = limit, size


@dataclass(slots=True)
class TimedRequest(TransportRequest):
    """A request with the moment (``time.monotonic()``) by which its answer must be whole; None: no limit."""

    deadline: float | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, request: TransportRequest, endpoint: Endpoint, deadline: float | None) -> TimedRequest:
        """Return ``request`` with the limits of the endpoint."""
        connect = endpoint.connect_timeout
        if deadline is not None:
            connect = max(min(connect, deadline - time.monotonic()), 1e-3)
        return cls(request.method, request.url, request.headers, request.body, connect, deadline=deadline)

    def to(self, url: str) -> TimedRequest:
        """Return the same request to another address; its limits go on."""
        return type(self)(self.method, url, self.headers, self.body, self.connect_timeout, deadline=self.deadline)


def _options(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "connect_timeout": endpoint.connect_timeout,
        "read_timeout": endpoint.read_timeout,
        "write_timeout": endpoint.read_timeout,
        "pool_timeout": endpoint.read_timeout,
        "max_connections": endpoint.max_connections,
        "verify": endpoint.verify,
        "ca_bundle": endpoint.ca_bundle,
        "user_agent": _AGENT,
        "proxy": endpoint.proxy_address(),
        "trust_env": False,
    }


class _TimedSocket:
    """A socket whose every wait ends at the deadline of the request it carries, and that sends head and body as one."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._timeout: float | None = None
        self._held: list[bytes] = []
        self.deadline: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def _arm(self) -> None:
        seconds = self._timeout
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the time for the whole answer is up")
            seconds = left if seconds is None else min(seconds, left)
        self._sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        self._arm()
        received: bytes = self._sock.recv(size)
        return received

    def sendall(self, data: bytes) -> None:
        self._held.append(data)

    def flush(self) -> None:
        data, self._held = b"".join(self._held), []
        self._arm()
        self._sock.sendall(data)

    def fileno(self) -> int:
        number: int = self._sock.fileno()
        return number

    def close(self) -> None:
        self._sock.close()


def _readable(sock: Any) -> bool:
    """Whether an idle connection has something to read: its end, or bytes that nobody asked for. Either way it is done."""
    if not hasattr(select, "poll"):  # Windows, where select has no limit of numbers
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class _JoinedWriter:
    """A ``StreamWriter`` that sends head and body as one."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, data: bytes) -> None:
        self._held.append(data)

    async def drain(self) -> None:
        data, self._held = b"".join(self._held), []
        self._writer.write(data)
        await self._writer.drain()


class _Connection(_SyncConnection):
    usable_until = math.inf

    def is_stale(self) -> bool:
        try:
            return self.closed or time.monotonic() > self.usable_until or _readable(self.sock)
        except (OSError, ValueError):
            return True


class _AsyncKept(_AsyncConnection):
    usable_until = math.inf

    def is_stale(self) -> bool:
        sock = None if self.closed or self.writer.is_closing() else self.writer.get_extra_info("socket")
        try:
            return sock is None or time.monotonic() > self.usable_until or self.reader.at_eof() or _readable(sock)
        except (OSError, ValueError):
            return True


class Transport(StdlibTransport):
    """lm15's sync transport on an endpoint. Thread-safe."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(**_options(endpoint))
        self._keep = endpoint.keep_alive

    def _make_release(self, conn: Any, keep_alive: bool) -> Any:
        release = super()._make_release(conn, keep_alive)

        def released(consumed: bool) -> None:
            conn.usable_until = time.monotonic() + self._keep
            release(consumed)

        return released

    def _open(self, *args: Any, **kwargs: Any) -> _Connection:
        opened = super()._open(*args, **kwargs)
        return _Connection(opened.origin, _TimedSocket(opened.sock))

    def _send_request(self, conn: Any, request: TimedRequest, *args: Any, **kwargs: Any) -> None:
        conn.sock.deadline = request.deadline
        super()._send_request(conn, request, *args, **kwargs)
        try:
            conn.sock.flush()
        except TimeoutError as error:
            raise WriteTimeout(f"write timed out: {error}") from error
        except (BrokenPipeError, ConnectionResetError):
            raise  # a kept connection that has died: lm15 opens another one
        except OSError as error:
            raise WriteError(f"write failed: {error}") from error


class AsyncTransport(StdlibAsyncTransport):
    """lm15's async transport on an endpoint. It belongs to one event loop; whoever calls it bounds the whole answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(**_options(endpoint))
        self._keep = endpoint.keep_alive

    def _make_release(self, conn: Any, keep_alive: bool) -> Any:
        release = super()._make_release(conn, keep_alive)

        async def released(consumed: bool) -> None:
            conn.usable_until = time.monotonic() + self._keep
            await release(consumed)

        return released

    async def _open(self, *args: Any, **kwargs: Any) -> _AsyncKept:
        opened = await super()._open(*args, **kwargs)
        return _AsyncKept(opened.origin, opened.reader, _JoinedWriter(opened.writer))

    def forsake(self) -> list[Any]:
        """Return the idle connections and forget them without closing them.

        For a forked child: they are its parent's, and closing them through the event loop would take them out of the
        parent's selector, which both share.
        """
        idle = self._pool._idle
        kept = [connection for each in idle.values() for connection in each]
        idle.clear()
        return kept


def read(chunks: Iterator[bytes], limit: int) -> bytes:
    """Read a body to its end.

    Raises:
        TooLarge: it is longer than ``limit`` bytes.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise TooLarge("max_body", limit)
    return bytes(body)


async def aread(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """The async form of :func:`read`."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise TooLarge("max_body", limit)
    return bytes(body)


class Lines:
    """Cuts chunks into lines, none longer than ``max_event`` and all together no longer than ``max_body`` bytes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._max_line, self._max_all = endpoint.max_event, endpoint.max_body
        self._rest = bytearray()
        self._all = 0
        self.head = b""  # how it began, to be quoted

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes.

        Raises:
            TooLarge: a line, or all of them, are beyond the limit.
        """
        self._all += len(chunk)
        if len(self.head) < _HEAD:
            self.head += chunk[:_HEAD]
        if self._all > self._max_all:
            raise TooLarge("max_body", self._max_all)
        start = len(self._rest)
        self._rest += chunk
        if self._rest.find(b"\n", start) < 0:
            lines: list[bytes] = []
        else:
            *whole, last = bytes(self._rest).split(b"\n")
            lines, self._rest = [line + b"\n" for line in whole], bytearray(last)
        if len(self._rest) > self._max_line or any(len(line) > self._max_line for line in lines):
            raise TooLarge("max_event", self._max_line)
        return lines

    def end(self) -> list[bytes]:
        """Return what is left as a line."""
        return [bytes(self._rest)] if self._rest else []
