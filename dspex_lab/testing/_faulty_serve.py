"""How one request is answered: what stands in the answer, and what happens to it on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from dspex_lab.testing import _faulty_openai as openai
from dspex_lab.testing._faulty_fault import Fault
from dspex_lab.testing._faulty_http import Exchange
from dspex_lab.testing._faulty_log import Arrival
from dspex_lab.testing._reply import Reply

if TYPE_CHECKING:
    from dspex_lab.testing._gate import Gate

_BLOCK = 64 << 10
_JSON, _EVENTS, _HTML = "application/json", "text/event-stream; charset=utf-8", "text/html"
#: Where a redirect without an address leads; what arrives there is answered.
REDIRECTED = "/redirected"


def read_body(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body, or None."""
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def complaint(arrival: Arrival, key: str | None, models: Sequence[str] | None) -> Fault | None:
    """Return what a provider finds wrong with a request, as a fault; None where nothing is."""
    if key is not None and arrival.key != key:
        return Fault.wrong_key()
    if arrival.path.endswith("/models"):
        return None
    if arrival.body is None:
        return Fault.error(400, "We could not parse the JSON body of your request.")
    for path, field in (("/chat/completions", "messages"), ("/completions", "prompt"), ("/embeddings", "input")):
        if arrival.path.endswith(path):
            if not arrival.body.get(field):
                return Fault.error(400, f"Missing required parameter: '{field}'.", code="missing_required_parameter")
            break
    else:
        return Fault.error(404, f"Invalid URL ({arrival.method} {arrival.path})")
    n = arrival.body.get("n")
    if n is not None and (not isinstance(n, int) or not 1 <= n <= 128):
        return Fault.error(400, f"Invalid value for 'n': {n!r}.", code="invalid_value")
    return Fault.unknown_model() if models is not None and arrival.model not in models else None


class Served:
    """Answers requests.

    Args:
        gate: holds each piece of a stream; ``hold`` each answer before its first byte.
        split: cuts a text into the pieces of a stream.
        wall: seconds since 1970.
        models: what ``/v1/models`` lists.
    """

    def __init__(
        self,
        gate: Gate | None,
        hold: Gate | None,
        split: Callable[[str], Sequence[str]],
        wall: Callable[[], float],
        models: Sequence[str],
    ) -> None:
        self._gate, self._hold, self._split, self._wall, self._models = gate, hold, split, wall, models
        self._released, self._upto = asyncio.Event(), 0

    def release(self, upto: int) -> None:
        """Let the requests up to that number go on, where they hang; later ones hang again."""
        self._upto = upto
        self._released.set()
        self._released = asyncio.Event()

    async def _hang(self, arrival: Arrival) -> None:
        while arrival.number > self._upto:
            await self._released.wait()

    def waits(self, arrival: Arrival, fault: Fault | None, delay: float) -> bool:
        """Whether the answer has to wait for anything."""
        if delay or self._hold is not None or (self._gate is not None and arrival.stream):
            return True
        return fault is not None and fault.kind in ("hang", "drip", "huge")

    async def answer(
        self, exchange: Exchange, arrival: Arrival, fault: Fault | None, replies: list[Reply], delay: float
    ) -> None:
        """Answer one request."""
        if delay:
            await asyncio.sleep(delay)
        if self._hold is not None:
            await self._hold.await_()
        headers = _headers(arrival)
        if fault is not None and fault.after is None:
            if fault.kind == "hang":
                await self._hang(arrival)
                fault = None
            elif fault.kind == "reset":
                exchange.reset()
                return
        if fault is not None and fault.kind in ("status", "redirect"):
            self._refuse(exchange, arrival, fault, headers)
        elif arrival.path.endswith("/models"):
            await self._body(exchange, arrival, headers, openai.models(self._models), fault)
        elif arrival.path.endswith("/embeddings"):
            await self._body(exchange, arrival, headers, openai.embeddings(arrival, fault), fault)
        else:
            await self._completion(exchange, arrival, fault, [openai.shaped(r, arrival, fault) for r in replies], headers)

    def _refuse(self, exchange: Exchange, arrival: Arrival, fault: Fault, headers: list[tuple[str, str]]) -> None:
        headers = [*headers, *fault.headers]
        if fault.kind == "redirect":
            exchange.send(fault.status, [*headers, ("location", fault.variant or f"{REDIRECTED}{arrival.path}")], b"")
            return
        if fault.retry_after is not None:
            value = f"{fault.retry_after:g}"
            if fault.as_date:
                value = formatdate(self._wall() + fault.retry_after, usegmt=True)
            headers.append(("retry-after", value))
        kind = _HTML if fault.variant == "html" else _JSON
        exchange.send(fault.status, [*headers, ("content-type", kind)], openai.error_body(fault, arrival))

    async def _completion(
        self, exchange: Exchange, arrival: Arrival, fault: Fault | None, replies: list[Reply], headers: list[tuple[str, str]]
    ) -> None:
        chat = arrival.path.endswith("/chat/completions")
        if arrival.stream:
            frames = (openai.chat_frames if chat else openai.text_frames)(arrival, replies, self._cut(fault), fault)
            await self._stream(exchange, arrival, headers, frames, fault)
        elif chat:
            await self._body(exchange, arrival, headers, openai.chat(arrival, replies, self._split, fault), fault)
        else:
            await self._body(exchange, arrival, headers, openai.text_completion(arrival, replies, fault), fault)

    def _cut(self, fault: Fault | None) -> Callable[[str], Sequence[str]]:
        """Return what cuts a text for a stream: by the script's rule, or in blocks where it is huge."""
        if fault is not None and fault.kind == "huge":
            return lambda text: [text[at : at + _BLOCK] for at in range(0, len(text), _BLOCK)]
        return self._split

    async def _body(
        self, exchange: Exchange, arrival: Arrival, headers: list[tuple[str, str]], body: bytes, fault: Fault | None
    ) -> None:
        """Send an answer that is one body."""
        kind = "" if fault is None else fault.kind
        headers = [*headers, ("content-type", _JSON)]
        if fault is not None:
            body = _spoilt(body, fault)
        if kind in ("cut", "reset", "hang"):
            exchange.head(200, headers, len(body))
            if kind == "hang":
                await self._hang(arrival)
                exchange.piece(body, last=True)
                exchange.end()
                return
            exchange.piece(body[: len(body) // 2])
            exchange.cut() if kind == "cut" else exchange.reset()
        elif kind in ("drip", "huge"):
            exchange.head(200, headers)
            await self._slowly(exchange, body, fault)
            exchange.end()
        else:
            exchange.send(200, headers, body, close=kind == "stale")

    async def _slowly(self, exchange: Exchange, data: bytes, fault: Fault | None) -> None:
        """Send bytes one by one, or a huge body as fast as its reader takes it."""
        if fault is not None and fault.kind == "drip":
            for at in range(len(data)):
                if fault.gate is not None:
                    await fault.gate.await_()
                exchange.piece(data[at : at + 1])
                await asyncio.sleep(0)
            return
        for at in range(0, len(data), _BLOCK):
            exchange.piece(data[at : at + _BLOCK])
            await exchange.drain()

    async def _stream(
        self,
        exchange: Exchange,
        arrival: Arrival,
        headers: list[tuple[str, str]],
        frames: Iterable[openai.Frame],
        fault: Fault | None,
    ) -> None:
        """Send an answer piece by piece, and break it where the fault says, at the latest before its end."""
        kind = "" if fault is None else fault.kind
        exchange.head(200, [*headers, ("content-type", _EVENTS), ("cache-control", "no-cache")])
        if fault is not None and kind == "garbage":
            exchange.piece(fault.message.encode())
            frames = ()
        given, pending = 0, fault is not None and kind in ("cut", "reset", "hang", "bad_sse", "error_event")
        for frame in frames:
            if fault is not None and pending and (given == fault.after if frame.piece else given):
                pending = False
                if await self._broken(exchange, arrival, fault):
                    return
            if frame.piece:
                given += 1
                if self._gate is not None:
                    await self._gate.await_()
            if kind in ("drip", "huge"):
                await self._slowly(exchange, frame.data, fault)
            else:
                exchange.piece(frame.data)
        exchange.end(close=kind == "stale")

    async def _broken(self, exchange: Exchange, arrival: Arrival, fault: Fault) -> bool:
        """Do to a stream what the fault says, and return whether it is over."""
        if fault.kind == "hang":
            await self._hang(arrival)
        elif fault.kind == "reset":
            exchange.reset()
        elif fault.kind == "bad_sse":
            exchange.piece(
                b": a comment\nevent: oops\n" + openai.sse(b'{"choices": [{"delta": {"content": "lo') + b"no colon here\n\n"
            )
        elif fault.kind == "error_event":
            exchange.piece(openai.sse(_error(fault)))
            exchange.end()
        elif fault.variant == "clean":
            exchange.end()
        else:
            exchange.cut()
        return exchange.over


def _headers(arrival: Arrival) -> list[tuple[str, str]]:
    return [
        ("x-request-id", f"req-{arrival.number}"),
        ("x-ratelimit-limit-requests", "1000"),
        ("x-ratelimit-remaining-requests", "999"),
    ]


def _spoilt(body: bytes, fault: Fault) -> bytes:
    if fault.kind == "garbage":
        return fault.message.encode()
    if fault.kind == "bad_sse":
        return body[: len(body) // 2]
    if fault.kind == "error_event":
        return _error(fault)
    return b"" if fault.kind == "empty" and fault.variant == "body" else body


def _error(fault: Fault) -> bytes:
    return json.dumps({"error": {"message": fault.message, "type": fault.type, "param": None, "code": fault.code}}).encode()
