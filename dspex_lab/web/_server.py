"""The server: a thread of its own with an event loop, on the loopback unless told otherwise."""

from __future__ import annotations

import asyncio
import html
import os
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from dspex_lab.errors import ConfigurationError
from dspex_lab.web._gate import Gate, Rules

ADDRESS = "127.0.0.1"
#: The environment's variable with the token; without it one is made.
TOKEN = "DSPEX_SERVE_TOKEN"  # noqa: S105 - a name
#: Characters of a token at least: fewer could be guessed.
SHORTEST = 16
#: Seconds that requests under way are given when the server stops.
FAREWELL = 5.0


class Patient(H11Protocol):
    """Ends connections whose request line and headers do not come in time, or who leave unread what is sent to them."""

    #: Seconds.
    patience = 10.0
    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        # A token must not wait until the one before it is acknowledged (40 ms). asyncio sees to that only for sockets that
        # name their protocol, which those of socket.create_server do not.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Take a piece; wait for the rest of the headers, if they are not whole."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._settle()
        elif self._late is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._settle()
        self._read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait until the client reads: an answer that nobody takes would keep its place for ever."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        self._read()
        super().resume_writing()

    def _watch(self) -> None:
        self._unread = self.loop.call_later(self.patience, self._look, self.transport.get_write_buffer_size())

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _look(self, before: int) -> None:
        """Wait on while the client reads, however slowly; else end the connection."""
        if self.transport.get_write_buffer_size() < before:
            self._watch()
        else:
            self.transport.abort()

    def _expect(self) -> None:
        self._late = self.loop.call_later(self.patience, self._end)

    def _settle(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        if not self.transport.is_closing():
            if self.conn.our_state is h11.IDLE:  # else it has its answer, and the rest of its body does not come
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()


class Served:
    """Pipelines that are being served; made by :func:`dspex_lab.web.serve`. May be used as a context manager. Thread-safe.

    Attributes:
        url: the address; OpenAI's clients take ``url + "/v1"`` as their base and the token as their key.
        token: that requests must show.
        port: of the server.
        chat: the address of the chat page, with its token; None where there is none.
    """

    def __init__(
        self,
        make: Callable[[], FastAPI],
        *,
        host: str = ADDRESS,
        port: int = 0,
        hosts: Iterable[str] = (),
        token: str | None = None,
        rate: str | None = "6000/minute",
        largest: int = 4 << 20,
        patience: float = 10.0,
    ) -> None:
        self.token = _token(token)
        rules = Rules(self.token, frozenset(), largest, patience, rate)
        rules.limit  # noqa: B018 - refused here, before anything listens
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}"
        self.chat: str | None = None
        self._make = make
        self._closers: list[Callable[[], None]] = []
        near = (shown, "localhost", ADDRESS)
        names = frozenset(each.lower() for each in (*(f"{name}:{self.port}" for name in near), *hosts))
        self._rules = replace(rules, hosts=names)
        self._failure: BaseException | None = None
        self._stopped = threading.Lock()
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(up,), name="dspex-web", daemon=True)
        self._thread.start()
        up.wait()
        if self._failure is not None:
            raise self._failure

    _server: uvicorn.Server

    @property
    def running(self) -> bool:
        """Whether it is being served."""
        return self._thread.is_alive()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` when it stops."""
        self._closers.append(callback)

    def stop(self, within: float = FAREWELL) -> None:
        """End serving and wait until no thread is left. May be called twice.

        Args:
            within: seconds that requests under way are given; runs that go on by themselves are cancelled at once.
        """
        self._server.config.timeout_graceful_shutdown = within  # type: ignore[assignment]
        self._server.should_exit = True
        if self._thread is not threading.current_thread():
            self._thread.join()
        with self._stopped:
            while self._closers:
                self._closers.pop()()

    def wait(self) -> None:
        """Return when it has been stopped."""
        self._thread.join()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Served({self.url!r}{'' if self.running else ', stopped'})"

    def _repr_html_(self) -> str:
        if not self.running:
            return "<p>The server was stopped.</p>"
        chat = "" if self.chat is None else f' · <a href="{html.escape(self.chat, quote=True)}" target="_blank">chat</a>'
        docs = f'<a href="{html.escape(self.url, quote=True)}/docs" target="_blank" rel="noreferrer">API</a>'
        return f"<p>Served at <code>{html.escape(self.url)}/v1</code> · {docs}{chat} · the key is in <code>.token</code></p>"

    def _run(self, up: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(up))

    async def _serve(self, up: threading.Event) -> None:
        try:
            protocol = type("Patient", (Patient,), {"patience": self._rules.patience})
            app = self._make()
            room = app.state.room
            config = uvicorn.Config(
                Gate(app, self._rules, room.metrics.responded),
                http=protocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # else a client says by itself whose requests its own are
                lifespan="on",
                backlog=2048,
            )
            self._server = _Server(config, up, room.runs.close)
            await self._server.serve(sockets=[self._socket])
        except BaseException as error:
            self._failure = error
            self._socket.close()
        finally:
            up.set()


class _Server(uvicorn.Server):
    """Says when it is up, and ends what goes on by itself before it waits for its clients, who may be following that."""

    def __init__(self, config: uvicorn.Config, up: threading.Event, end: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._up, self._end = up, end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._end()
        await super().shutdown(sockets=sockets)


def _token(given: str | None) -> str:
    token = given if given is not None else os.environ.get(TOKEN) or secrets.token_urlsafe(32)
    if len(token) < SHORTEST or not token.isascii() or any(c.isspace() for c in token):
        raise ConfigurationError(
            "The token is too short, or has white space or letters that are not ASCII.",
            key="token",
            expected=f"{SHORTEST} characters or more",
            hint="Leave it out: a good one is made and shown.",
        )
    return token


def _listen(host: str, port: int) -> socket.socket:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise _no_port(host, port, "a port is a whole number from 0 to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise _no_port(host, port, str(error)) from error
    listening.setblocking(False)
    return listening


def _no_port(host: str, port: object, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Nothing can be served on port {port!r} of {host}: {why}.",
        key="port",
        expected="a free port, or 0 for any",
        actual=port,
        hint="Choose another port, or leave it out to get a free one.",
    )
