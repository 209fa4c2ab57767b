"""What the tests of the HTTP engines share."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dspy.lm15 import Config, Message, Request

KEY = "sk-test-0123456789abcdef"
WAYS = ["complete", "stream", "acomplete", "astream"]


def ask(text: str = "What is it?", model: str = "http/any", **config: Any) -> Request:
    return Request(model=model, messages=(Message.user(text),), config=Config(**config))


def failure(work: Callable[[], Any]) -> Any:
    """Return what ``work`` raises, whatever it is."""
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def ways(engine: Any) -> dict[str, Callable[[Request], Any]]:
    """Return the four ways to ask an engine; each returns the text."""

    def streamed(request: Request) -> str:
        return text_of(list(engine.stream(request)))

    async def gathered(request: Request) -> list[Any]:
        return [event async for event in engine.asynchronous().stream(request)]

    return {
        "complete": lambda request: engine.complete(request).text,
        "stream": streamed,
        "acomplete": lambda request: asyncio.run(engine.asynchronous().complete(request)).text,
        "astream": lambda request: text_of(asyncio.run(gathered(request))),
    }


def text_of(events: list[Any]) -> str:
    return "".join(e.delta.text for e in events if e.type == "delta" and e.delta.type == "text")


@contextmanager
def canned(*answers: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that gives each connection one of the answers, byte for byte, and closes it; the last one ever again."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = list(answers)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    spoken = connection if tls is None else tls.wrap_socket(connection, server_side=True)
                    with spoken:
                        _read_request(spoken)
                        spoken.sendall(left.pop(0) if len(left) > 1 else left[0])
                except (ssl.SSLError, ConnectionError):
                    continue  # the client does not trust it, or has left

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client has left")
    return data


def _read_request(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")))
    while len(body) < length:
        body += _received(connection)


def http(body: bytes, kind: str = "application/json", *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers, "connection: close"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def sse(*payloads: Any) -> bytes:
    lines = [f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in payloads]
    return http("".join(lines).encode(), "text/event-stream")


def piece(text: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "delta": {**delta, **({} if text is None else {"content": text})}, "finish_reason": finish}]
    }
