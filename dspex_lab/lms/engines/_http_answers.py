"""What came back, judged: what is whole, what is of no use, and what went wrong on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urljoin, urlsplit

from dspy._vendor.lm15.errors import TimeoutError as LMTimeout
from dspy._vendor.lm15.errors import error_class_for_code
from dspy._vendor.lm15.result import StreamAccumulator
from dspy._vendor.lm15.transports import ConnectTimeout, ReadTimeout, WriteTimeout
from dspy._vendor.lm15.types import StreamErrorEvent
from dspy.lm15 import LM15Error, Message, ProviderError, RefusalPart, Response, StreamAssemblyError, TextPart, TransportError

from dspex_lab.lms.engines._http_transport import TooLarge

if TYPE_CHECKING:
    from dspy.lm15 import Request

    from dspex_lab.lms.engines._http_endpoint import Endpoint

Reason = Literal["cut", "empty", "garbled", "refused", "schema", "too large"]
_EXCERPT = 200
_SAME = frozenset([307, 308])  # the redirects that keep method and body (RFC 9110, 15.4)
#: What reading JSON of another shape raises.
MISSHAPEN = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError)


class UnusableAnswer(ProviderError):
    """An answer that came, was perhaps paid, and is of no use.

    Attributes:
        reason: ``cut``, ``empty``, ``garbled``, ``refused``, ``schema`` (see ``SchemaMismatch``) or ``too large``.
        partial: what there is of it as a ``Response``, with its token counts; None where there is nothing.
    """

    def __init__(self, message: str, *, reason: Reason, partial: Response | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason
        self.partial = partial

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), {**self.__dict__, "rate_limit_headers": dict(self.rate_limit_headers or {})})


class BrokenStream(UnusableAnswer, StreamAssemblyError):
    """A stream that did not come to its end, or went wrong on the way. Made by :class:`Assembly`."""

    default_code = "stream_assembly"


class LostStream(BrokenStream, TransportError):
    """A stream whose connection broke after something had come."""


def _rebuilt(cls: type[UnusableAnswer], state: dict[str, Any]) -> UnusableAnswer:
    error = cls(state["message"], reason=state["reason"])
    error.__dict__.update(state)
    return error


def excerpt(data: bytes | str) -> str:
    """Return the beginning of what came, to be quoted."""
    text = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else data
    return repr(text[:_EXCERPT] + ("…" if len(text) > _EXCERPT else ""))


def checked(response: Response, provider: str) -> Response:
    """Return a response that says something; a refusal does.

    Raises:
        UnusableAnswer: it is empty.
    """
    if all(part.type == "thinking" or (isinstance(part, TextPart) and not part.text) for part in response.message.parts):
        raise empty(response, provider)
    return response


def refused(words: str, provider: str, partial: Response | None) -> UnusableAnswer:
    """The model declined where only an answer will do: in a stream, which has no event for it, or under a schema."""
    return UnusableAnswer(f"The model refused: {words}", reason="refused", partial=partial, provider=provider)


def empty(response: Response, provider: str) -> UnusableAnswer:
    """The model said nothing."""
    why = {
        "length": "its reasoning used up max_tokens" if response.usage.reasoning_tokens else "max_tokens was used up",
        "content_filter": "the provider's content filter stopped it",
    }.get(response.finish_reason, f"finish reason {response.finish_reason!r}")
    return UnusableAnswer(f"The model's answer is empty ({why}).", reason="empty", partial=response, provider=provider)


def readable_usage(body: Any) -> Any:
    """Return a body whose token counts can be read: those that are no counts are left out, the answer is kept."""
    if not isinstance(body, dict) or body.get("usage") is None:
        return body
    return {**body, "usage": _counts(body["usage"]) if isinstance(body["usage"], dict) else None}


def _counts(usage: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            kept[name] = _counts(value)
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            kept[name] = value
    return kept


def failure(error: BaseException, endpoint: Endpoint, deadline: float | None, got: bytes = b"") -> LM15Error:
    """Return what an engine raises for a failure of the transport; to be raised from it."""
    if isinstance(error, TooLarge):
        message = f"{endpoint.authority} sent more than {error.limit}={error.size:,} bytes; the rest was not read."
        return UnusableAnswer(message, reason="too large", provider=endpoint.provider)
    if isinstance(error, TimeoutError) or (deadline is not None and time.monotonic() >= deadline):
        message = f"No whole answer from {endpoint.authority} within total_timeout={endpoint.total_timeout:g} s."
    elif isinstance(error, ConnectTimeout):
        message = f"No connection to {endpoint.authority} within connect_timeout={endpoint.connect_timeout:g} s."
    elif isinstance(error, ReadTimeout | WriteTimeout):
        message = f"Nothing from {endpoint.authority} for read_timeout={endpoint.read_timeout:g} s."
    else:
        message = f"The connection to {endpoint.authority} failed: {error}"
        return TransportError(message + (f". What came begins {excerpt(got)}." if got else ""), provider=endpoint.provider)
    return LMTimeout(message, provider=endpoint.provider)


def redirected(status: int, location: str | None, url: str, endpoint: Endpoint) -> str | None:
    """Return where a redirect leads on the same server; None where there is none to follow.

    The key goes to no other server, and a POST stays one.

    Raises:
        ProviderError: it leads elsewhere, or asks for another method.
    """
    if not 300 <= status < 400:
        return None
    target = urljoin(url, location) if location else ""
    here, there = urlsplit(url), urlsplit(target)
    if location and status in _SAME and (here.scheme, here.netloc) == (there.scheme, there.netloc):
        return target
    where = f"{there.scheme}://{there.netloc}" if there.netloc else "nowhere"
    raise ProviderError(
        f"{endpoint.authority} redirects to {where} (HTTP {status}), which is not followed: the key is for "
        f"{endpoint.authority} alone. If that is the right server, give its address as api_base.",
        provider=endpoint.provider,
        status=status,
    )


class Assembly:
    """The events of a stream on their way, and what they come to: the partial answer, where the stream fails."""

    def __init__(self, request: Request, provider: str) -> None:
        self._sum = StreamAccumulator(request)
        self._provider = provider
        self._refusal: list[str] = []
        self.ended = False

    def push(self, event: Any) -> Any:
        """Take an event and return it.

        Raises:
            LM15Error: it tells of an error.
        """
        if isinstance(event, StreamErrorEvent):
            raise self._told(event)
        self.ended = self.ended or event.type == "end"
        self._sum.push(event)
        return event

    def refuse(self, words: str) -> None:
        """Take a piece of a refusal, for which lm15 has no event."""
        self._refusal.append(words)

    def partial(self) -> Response | None:
        """Return what has come so far, None where that is nothing."""
        if not (self._sum.text_parts or self._sum.thinking_parts or self._sum.tool_call_meta or self._sum.usage):
            return None
        try:
            return self._sum.response()
        except StreamAssemblyError as error:
            return error.partial

    def finish(self, head: bytes) -> None:
        """Judge the stream at its end; ``head`` is how it began.

        Raises:
            UnusableAnswer: the model's end is missing, or it said nothing, or refused.
        """
        if not self.ended:
            raise self.cut("the stream ended before the model did", head=head)
        if self._sum.text_parts or self._sum.tool_call_meta or self._sum.audio_chunks or self._sum.image_parts:
            return
        if self._refusal:
            words = "".join(self._refusal)
            said = replace(self._sum.response(), message=Message(role="assistant", parts=(RefusalPart(text=words),)))
            raise refused(words, self._provider, said)
        raise empty(self._sum.response(), self._provider)

    def cut(self, why: object, *, head: bytes = b"", kind: type[BrokenStream] = BrokenStream) -> BrokenStream:
        """The stream broke off; ``head`` is how it began."""
        partial = self.partial()
        kept = "what had come is in .partial" if partial is not None else "nothing of an answer had come"
        kept += f"; it began {excerpt(head)}" if head and partial is None else ""
        return kind(f"The answer was cut: {why}; {kept}.", reason="cut", partial=partial, provider=self._provider)

    def garbled(self, data: str) -> BrokenStream:
        """An event is not what it should be."""
        return BrokenStream(
            f"The stream has an event that is no completion: {excerpt(data)}.",
            reason="garbled",
            partial=self.partial(),
            provider=self._provider,
        )

    def broken(self, error: LM15Error) -> LM15Error:
        """Return what a failure of the transport means for this stream: before anything came it is just that failure."""
        error.partial = self.partial()
        if error.partial is None or not isinstance(error, TransportError):
            return error
        return self.cut(error.message, kind=LostStream)

    def _told(self, event: StreamErrorEvent) -> LM15Error:
        http = event.error.http_response
        error = error_class_for_code(event.error.code)(
            event.error.message,
            provider=self._provider,
            provider_code=event.error.provider_code,
            request_id=http.get("request_id"),
            retry_after=http.get("retry_after"),
            rate_limit_headers=http.get("rate_limit_headers"),
        )
        error.partial = self.partial()
        return error


def refusals(data: str) -> Iterator[str]:
    """Yield the pieces of a refusal in an event of a stream."""
    if '"refusal"' not in data:
        return
    for choice in json.loads(data).get("choices") or []:
        words = (choice.get("delta") or {}).get("refusal") if isinstance(choice, dict) else None
        if isinstance(words, str) and words:
            yield words
