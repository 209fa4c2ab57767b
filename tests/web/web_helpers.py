"""Pipelines that are served, and clients of them that say exactly what goes over the wire."""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import dspex_lab as dx
from dspex_lab.events import RunRecord
from dspex_lab.web._offers import Offer
from dspex_lab.web._server import Served

#: Seconds after which a test gives something up that has to come.
LONG = 120.0


def offer(name: str, says: str = "", **steps: Any) -> Offer:
    """Return an offer; without steps one that gives its text back."""
    return Offer(name, dx.pipeline(name, **(steps or {"out": dx.step(same)})), says)


def same(text: str) -> str:
    return text


def ask(
    served: Served, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body (JSON, else text) of a response; a body that is no bytes goes as JSON."""
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    allowed = {"Authorization": f"Bearer {served.token if token is None else token}"}
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=LONG)) as connection:
        connection.request(method, path, raw, {**allowed, **kind, **{k.replace("_", "-"): v for k, v in headers.items()}})
        response = connection.getresponse()
        text = response.read().decode()
        found = {name.lower(): value for name, value in response.getheaders()}
    return response.status, found, json.loads(text) if found.get("content-type") == "application/json" and text else text


def chat(served: Served, text: Any, model: str = "auto", **more: Any) -> tuple[int, dict[str, str], Any]:
    """Ask as OpenAI's clients do."""
    return ask(
        served, "POST", "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": text}], **more}
    )


def head(served: Served, path: str, *more: str, method: str = "POST", length: int | None = None) -> bytes:
    """Return the head of a request; the body is the test's."""
    sized = [] if length is None else [f"Content-Length: {length}"]
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{served.port}",
        f"Authorization: Bearer {served.token}",
        "Content-Type: application/json",
        *sized,
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def line(served: Served) -> Iterator[socket.socket]:
    """A connection to the server."""
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=LONG)) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    pieces = []
    try:
        while piece := connection.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def until(connection: socket.socket, mark: bytes) -> bytes:
    """Return what comes until something has come."""
    got = b""
    while mark not in got:
        piece = connection.recv(65_536)
        assert piece, f"the connection was closed before {mark!r} came: {got!r}"
        got += piece
    return got


def events(text: str) -> list[dict[str, str]]:
    """Return server-sent events by their fields; comments are left out."""
    found = [
        dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")) for block in text.split("\n\n")
    ]
    return [event for event in found if event]


class Held:
    """An async step that waits until the test lets it go; says when it has begun."""

    def __init__(self) -> None:
        self.begun: queue.Queue[str] = queue.Queue()
        self._waiting: list[Callable[[], object]] = []
        self._free = False

    async def step(self, text: str) -> str:
        loop, go = asyncio.get_running_loop(), asyncio.Event()
        self._waiting.append(lambda: loop.is_closed() or loop.call_soon_threadsafe(go.set))
        self.begun.put(text)
        if not self._free:
            await go.wait()
        return text

    def let_go(self) -> None:
        self._free = True
        for wake in self._waiting:
            wake()


class Ends:
    """The runs of a Lab that have ended, in the order in which they did."""

    def __init__(self, lab: dx.Lab) -> None:
        self._ended: queue.Queue[RunRecord] = queue.Queue()
        lab.bus.subscribe(lambda record: self._ended.put(record) if isinstance(record, RunRecord) else None)

    def next(self) -> RunRecord:
        return self._ended.get(timeout=LONG)


def together(*work: Callable[[], Any]) -> Sequence[Any]:
    """Do several things at once, each in a thread; return what they gave."""
    given: list[Any] = [None] * len(work)

    def do(at: int) -> None:
        given[at] = work[at]()

    threads = [threading.Thread(target=do, args=(at,)) for at in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given
