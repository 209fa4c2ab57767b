"""Who may ask, how much and how fast: in front of every route, before a byte of a body is read."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from dspex_lab.errors import ConfigurationError
from dspex_lab.web._errors import Refused

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: What anybody may ask: they say nothing of the Lab.
OPEN = frozenset({"/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"})
#: Where the pages of the documentation have their scripts.
ASSETS = "/static-offline-docs/"


@dataclass(frozen=True)
class Rules:
    """What the gate lets in.

    Args:
        token: that a request must show (``Authorization: Bearer …``).
        hosts: the accepted ``Host`` headers: ``name:port``.
        largest: bytes of a body.
        patience: seconds until a body must be there, and within which a client must read something of what waits for it.
        rate: requests of a client: ``"600/minute"``; None for any.
    """

    token: str = field(repr=False)
    hosts: frozenset[str]
    largest: int = 4 << 20
    patience: float = 10.0
    rate: str | None = "6000/minute"

    @cached_property
    def limit(self) -> RateLimitItem | None:
        """The rate, read.

        Raises:
            ConfigurationError: it says none.
        """
        try:
            return None if self.rate is None else parse(self.rate)
        except ValueError:
            raise ConfigurationError(
                f"{self.rate!r} is no rate of requests.", key="rate", expected="600/minute, or None for any", actual=self.rate
            ) from None


class Gate:
    """An ASGI middleware that refuses what the rules do not let in.

    Against names that are bound to 127.0.0.1 anew the ``Host`` must be one of the server's; against pages of other sites the
    ``Origin``, where there is one, must be this server's.

    Args:
        app: gets the others.
        count: told of each response: to which request, and its status.
    """

    def __init__(self, app: Any, rules: Rules, count: Callable[[Scope, int], None]) -> None:
        self._app, self.rules, self._count = app, rules, count
        self._rate = rules.limit
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._token = rules.token.encode()
        self._origins = {f"{scheme}://{host}" for host in rules.hosts for scheme in ("http", "https")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"])
            await send(message)

        try:
            self._admit(scope["path"], {name.lower(): value for name, value in scope["headers"]})
            await self._slow_down(scope)
            body = await self._body(receive)
        except Refused as refused:
            await refused.response()(scope, receive, counted)
            return
        if body is None:
            return
        waiting: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

        async def read() -> MutableMapping[str, Any]:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, read, counted)

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the body of a request, no larger and no slower than the rules say; None where the client has gone."""
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.rules.patience):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > self.rules.largest:
                        raise too_large(self.rules.largest)
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError:
            raise Refused(
                408, "The request did not come in time.", code="request_timeout", headers={"Connection": "close"}
            ) from None

    def _admit(self, path: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host not in self.rules.hosts:
            raise Refused(403, f"This server does not answer for the host {host!r}.", code="wrong_host")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() not in self._origins:
            raise Refused(403, "Pages of other sites may not ask this server.", code="wrong_origin")
        if _is_open(path):
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
            raise Refused(
                401,
                "A token is needed: Authorization: Bearer TOKEN. Whoever started the server was told it.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.rules.largest:
            raise too_large(self.rules.largest)

    async def _slow_down(self, scope: Scope) -> None:
        if self._rate is None or _is_open(scope["path"]):
            return  # what needs no token takes nothing from those who have one
        client = (scope.get("client") or ("?",))[0]
        if not await self._limiter.hit(self._rate, client):
            window = await self._limiter.get_window_stats(self._rate, client)
            wait = max(1, round(window.reset_time - time.time()))
            raise Refused(
                429,
                f"More than {self.rules.rate} requests.",
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(wait)},
            )


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(ASSETS)


def too_large(largest: int) -> Refused:
    """Return what a request gets that is too large.

    The connection stays open until the rest of it has come or the patience is at its end: closed with bytes that nobody has
    read it would be reset, and its client might never see the answer.
    """
    return Refused(413, f"A request may have {largest:,} bytes.", code="request_too_large")
