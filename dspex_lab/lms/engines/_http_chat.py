"""lm15's Chat Completions dialect over the transports of an endpoint: its writer and readers, our wire."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspy._vendor.lm15.access import AccessPolicy
from dspy._vendor.lm15.compat import OpenAIChatCompat
from dspy._vendor.lm15.features import EndpointSupport
from dspy._vendor.lm15.providers.async_base import AsyncOpenAIChatLM
from dspy._vendor.lm15.providers.base import (
    HttpResponse,
    _attach_error_metadata,
    _reply_error_metadata,
    _stream_error_metadata,
)
from dspy._vendor.lm15.providers.openai_chat import OpenAIChatLM
from dspy._vendor.lm15.result import response_to_events
from dspy._vendor.lm15.sse import SSEEvent, aparse_sse, parse_sse
from dspy._vendor.lm15.transports import TransportError as WireError
from dspy._vendor.lm15.transports import TransportRequest
from dspy.lm15 import LM15Error, ProviderError

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.engines import _http_answers as answers
from dspex_lab.lms.engines._http_transport import AsyncTransport, Lines, TimedRequest, TooLarge, aread, read

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

    from dspex_lab.lms.engines._http_endpoint import Endpoint

_REDIRECTS = 3
_LIMITS = {"max_line_bytes": 1 << 62, "max_event_bytes": 1 << 62}  # Lines bounds them
#: What most servers take: the role "system", ``max_tokens``, usage at the end of a stream.
_PLAIN = OpenAIChatCompat(
    instruction_role="system",
    max_tokens_field="max_tokens",
    stream_usage="include",
    thinking_format="reasoning_effort",
    tool_result_name="omit",
    strict_tools="omit",
    cache_control="none",
    tool_result_media="reject",
)


def dialect_of(endpoint: Endpoint) -> Any:
    """Return how the server spells things.

    Raises:
        ConfigurationError: lm15 knows no such dialect.
    """
    name = endpoint.dialect or endpoint.server
    if name is None:
        return _PLAIN
    try:
        return OpenAIChatCompat.preset(name)
    except ValueError as error:
        raise ConfigurationError(
            f"There is no dialect {name!r}.", key="dialect", hint="Leave it out, or see dspy.lm15."
        ) from error


class Chat(OpenAIChatLM):
    """The sync half, and the writer and readers of both."""

    def __init__(self, endpoint: Endpoint, transport: Any) -> None:
        env_keys = (endpoint.api_key_env,) if endpoint.api_key_env else endpoint._usual_variables()
        access = AccessPolicy(
            endpoint.provider, EndpointSupport(complete=True, stream=True, models=True), ("bearer",), env_keys=env_keys
        )
        super().__init__(
            api_key=endpoint.key, transport=transport, base_url=endpoint.api_base, compat=dialect_of(endpoint), access=access
        )
        self.endpoint = endpoint
        self._credential_origin = endpoint.origin_of_key()

    def _emit(self, **options: Any) -> TransportRequest:
        self.api_key = self.endpoint.key()  # read now: it may have changed, and there may be none
        return super()._emit(**options)

    def _headers(self) -> dict[str, str]:
        return {**super()._headers(), **self.endpoint.all_headers()}

    def parse_response(self, request: Request, response: HttpResponse) -> Response:
        """Read an answer.

        Raises:
            ProviderError: it is garbled.
            UnusableAnswer: it is empty.
        """
        try:
            return answers.checked(self._parsed(request, response), self.provider)
        except answers.MISSHAPEN as error:
            message = f"{self.endpoint.authority} answered with no completion ({error}): {answers.excerpt(response.body)}."
            raise self._misshapen(message, response) from error

    def _parsed(self, request: Request, response: HttpResponse) -> Response:
        try:
            found = super().parse_response(request, response)
        except answers.MISSHAPEN:
            mended = replace(response, body=json.dumps(answers.readable_usage(response.json())).encode())
            found = super().parse_response(request, mended)
        body = found.provider_data
        if isinstance(body, dict) and not body.get("choices"):
            raise answers.UnusableAnswer(
                f"{self.endpoint.authority} answered without choices: {answers.excerpt(response.body)}.",
                reason="empty", partial=found, provider=self.provider, status=response.status,
            )  # fmt: skip
        return found

    def _misshapen(self, message: str, response: HttpResponse) -> ProviderError:
        error = ProviderError(message)
        _reply_error_metadata(error, response)
        return error

    def request_of(self, request: TransportRequest) -> TimedRequest:
        """Return the request with the endpoint's limits, which begin now."""
        total = self.endpoint.total_timeout
        return TimedRequest.of(request, self.endpoint, None if total is None else time.monotonic() + total)

    def masked(self, data: bytes) -> bytes:
        """Return what the server said without what it must not repeat."""
        for secret in self.endpoint.secrets():
            if secret in data:
                data = data.replace(secret, b"***")
        return data

    def masked_headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the server's headers likewise."""
        return [(name, self.masked(value.encode("latin-1")).decode("latin-1")) for name, value in headers]

    def reply(self, response: Any, body: bytes) -> HttpResponse:
        """Return an answer as lm15's readers take it."""
        return HttpResponse(
            response.status, response.reason, self.masked_headers(response.headers), self.masked(body), response.http_version,
            provider=self.provider,
        )  # fmt: skip

    def target(self, response: Any, request: TimedRequest) -> TimedRequest | None:
        """Return the request that a redirect asks for, None where there is none."""
        url = answers.redirected(response.status, response.header("location"), request.url, self.endpoint)
        return None if url is None else request.to(url)

    def too_many(self) -> ProviderError:
        """More redirects than are followed."""
        return ProviderError(f"{self.endpoint.authority} redirects in a circle.", provider=self.provider)

    def events(self, request: Request, raw: SSEEvent, assembly: answers.Assembly, headers: Any) -> list[Any]:
        """Return the events in one line of a stream.

        Raises:
            LM15Error: the line tells of an error, or is none.
        """
        try:
            for words in answers.refusals(raw.data):
                assembly.refuse(words)
            found = self._read_event(request, raw)
        except answers.MISSHAPEN as error:
            raise assembly.garbled(raw.data) from error
        return [assembly.push(_stream_error_metadata(event, headers)) for event in found]

    def _read_event(self, request: Request, raw: SSEEvent) -> list[Any]:
        try:
            return list(self.parse_stream_events(request, raw))
        except answers.MISSHAPEN:
            if '"usage"' not in raw.data:
                raise
            mended = json.dumps(answers.readable_usage(json.loads(raw.data)))
            return list(self.parse_stream_events(request, replace(raw, data=mended)))

    def whole(self, request: Request, response: HttpResponse) -> Iterator[Any]:
        """Yield the events of an answer that came whole although a stream was asked for.

        Raises:
            ProviderError: it tells of an error.
        """
        if response.status >= 400:
            raise self._http_error(response)
        yield from response_to_events(self.parse_response(request, response))

    def in_one_piece(self, response: Any) -> bool:
        """Whether the server answers with a body instead of a stream."""
        return "json" in (response.header("content-type") or "").lower()

    # The wire, sync.

    @contextmanager
    def _exchange(self, request: TimedRequest) -> Iterator[Any]:
        for _ in range(_REDIRECTS + 1):
            with self.transport.stream(request) as response:
                try:
                    following = self._following(response, request)
                    if following is None:
                        yield response
                        return
                finally:
                    response._chunks.close()  # gives the place in the pool back; an error's traceback would keep it
            request = following
        raise self.too_many()

    def _following(self, response: Any, request: TimedRequest) -> TimedRequest | None:
        if 300 <= response.status < 400:
            read(iter(response), self.endpoint.max_body)
        return self.target(response, request)

    def _send(self, request: TransportRequest) -> HttpResponse:
        timed = self.request_of(request)
        got = bytearray()
        try:
            with self._exchange(timed) as response:
                return self.reply(response, read(_kept(iter(response), got), self.endpoint.max_body))
        except (WireError, TooLarge) as error:
            raise answers.failure(error, self.endpoint, timed.deadline, self.masked(bytes(got))) from error

    def _stream_raw(self, request: Request, req: TransportRequest | None = None) -> Iterator[Any]:
        timed = self.request_of(req if req is not None else self.build_request(request, stream=True))
        assembly = answers.Assembly(request, self.provider)
        try:
            with self._exchange(timed) as response:
                if response.status >= 400 or self.in_one_piece(response):
                    yield from self.whole(request, self.reply(response, read(iter(response), self.endpoint.max_body)))
                    return
                headers = self.masked_headers(response.headers)
                try:
                    lines = Lines(self.endpoint)
                    for raw in parse_sse(self._lines(lines, response), **_LIMITS):
                        yield from self.events(request, raw, assembly, headers)
                    assembly.finish(self.masked(lines.head))
                except LM15Error as error:
                    _attach_error_metadata(error, headers)
                    raise
        except (WireError, TooLarge) as error:
            raise assembly.broken(answers.failure(error, self.endpoint, timed.deadline)) from error

    def _lines(self, lines: Lines, response: Any) -> Iterator[bytes]:
        for chunk in response:
            for line in lines.feed(chunk):
                yield self.masked(line)
        for line in lines.end():
            yield self.masked(line)


def _kept(chunks: Iterator[bytes], got: bytearray) -> Iterator[bytes]:
    """Yield the chunks and keep the beginning of them for an error."""
    for chunk in chunks:
        if len(got) < 512:
            got += chunk[:512]
        yield chunk


class AsyncChat(AsyncOpenAIChatLM):
    """The async half; it belongs to one event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.chat = Chat(endpoint, transport=None)
        self.endpoint = endpoint
        super().__init__(
            api_key="none", transport=AsyncTransport(endpoint), base_url=endpoint.api_base, access=self.chat.access
        )
        self._inner = self.chat

    async def _build(self, build: Any, *args: Any, **options: Any) -> Any:
        return build(*args, **options)  # the key is in the environment: there is nothing to wait for

    @asynccontextmanager
    async def _exchange(self, request: TimedRequest) -> AsyncIterator[Any]:
        for _ in range(_REDIRECTS + 1):
            response = await _by(request.deadline, self.transport.stream(request))
            try:
                if 300 <= response.status < 400:
                    await _by(request.deadline, aread(aiter(response), self.endpoint.max_body))
                following = self.chat.target(response, request)
                if following is None:
                    yield response
                    return
            finally:
                await response.aclose()
            request = following
        raise self.chat.too_many()

    async def _send(self, request: TransportRequest) -> HttpResponse:
        timed = self.chat.request_of(request)
        got = bytearray()
        try:
            async with self._exchange(timed) as response:
                chunks = _akept(aiter(response), got)
                return self.chat.reply(response, await _by(timed.deadline, aread(chunks, self.endpoint.max_body)))
        except LM15Error:
            raise  # one of them is a TimeoutError, too
        except (WireError, TooLarge, TimeoutError) as error:
            raise answers.failure(error, self.endpoint, timed.deadline, self.chat.masked(bytes(got))) from error

    async def _stream_raw(self, request: Request, req: TransportRequest | None = None) -> AsyncIterator[Any]:
        timed = self.chat.request_of(req if req is not None else self.chat.build_request(request, stream=True))
        assembly = answers.Assembly(request, self.provider)
        try:
            async with self._exchange(timed) as response:
                if response.status >= 400 or self.chat.in_one_piece(response):
                    body = await _by(timed.deadline, aread(aiter(response), self.endpoint.max_body))
                    for event in self.chat.whole(request, self.chat.reply(response, body)):
                        yield event
                    return
                headers = self.chat.masked_headers(response.headers)
                try:
                    lines = Lines(self.endpoint)
                    async for raw in aparse_sse(self._lines(lines, response, timed.deadline), **_LIMITS):
                        for event in self.chat.events(request, raw, assembly, headers):
                            yield event
                    assembly.finish(self.chat.masked(lines.head))
                except LM15Error as error:
                    _attach_error_metadata(error, headers)
                    raise
        except LM15Error:
            raise
        except (WireError, TooLarge, TimeoutError) as error:
            raise assembly.broken(answers.failure(error, self.endpoint, timed.deadline)) from error

    async def _lines(self, lines: Lines, response: Any, deadline: float | None) -> AsyncIterator[bytes]:
        chunks = aiter(response)
        while (chunk := await _by(deadline, anext(chunks, None))) is not None:
            for line in lines.feed(chunk):
                yield self.chat.masked(line)
        for line in lines.end():
            yield self.chat.masked(line)


async def _akept(chunks: AsyncIterator[bytes], got: bytearray) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if len(got) < 512:
            got += chunk[:512]
        yield chunk


async def _by(deadline: float | None, work: Any) -> Any:
    """Await ``work``, by the deadline if there is one: piece by piece, because a stream also waits for its reader."""
    if deadline is None:
        return await work
    async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
        return await work
