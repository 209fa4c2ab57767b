"""Who may talk to served pages: whoever knows its token, from this machine, and no other site's page."""

from __future__ import annotations

import hmac
from typing import Any

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application, RequestHandler


class Gate(Router):
    """Passes on the requests that may be answered and answers 403 to all others, web sockets included.

    The token is the first part of the path, so no cookie is set (cookies are shared by all ports of a host) and
    every request proves that it knows it. The ``Host`` must be the server's own, against names rebound to
    127.0.0.1; the ``Origin``, where a browser sends one, must be this server's.

    Args:
        application: what answers.
        token: the secret part of the path.
        hosts: the accepted ``name:port``.
        refusal: what the others are told.
    """

    def __init__(self, application: Application, token: str, hosts: frozenset[str], refusal: str) -> None:
        self._application = application
        self._token = token.encode()
        self._hosts = hosts
        self._refusal = Application([(r".*", _Refuse, {"said": refusal})], log_function=lambda handler: None)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate | None:
        """Return who answers the request."""
        answering = self._application if self.admits(request) else self._refusal
        return answering.find_handler(request, **kwargs)

    def admits(self, request: HTTPServerRequest) -> bool:
        """Say whether the request may be answered."""
        origin = request.headers.get("Origin")
        given = request.path.lstrip("/").partition("/")[0].encode()
        return (
            request.headers.get("Host", "").lower() in self._hosts
            and (origin is None or origin.lower() in {f"http://{host}" for host in self._hosts})
            and hmac.compare_digest(given, self._token)
        )


class _Refuse(RequestHandler):
    def initialize(self, said: str) -> None:
        self._said = said

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._said)
