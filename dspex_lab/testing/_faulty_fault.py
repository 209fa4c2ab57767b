"""The faults of providers, as values, and when each of them comes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from dspex_lab.testing._faulty_log import Arrival
    from dspex_lab.testing._gate import Gate

Kind: TypeAlias = Literal[
    "status", "hang", "cut", "reset", "garbage", "empty", "drip", "usage", "schema_ignored", "redirect", "huge", "bad_sse",
    "error_event", "refusal", "content_filter", "stale",
]  # fmt: skip
#: Faults after which the provider has done the work that it bills.
_PAID = frozenset(["cut", "garbage", "empty", "drip", "usage", "schema_ignored", "huge", "bad_sse", "error_event", "refusal",
                   "content_filter", "stale"])  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One way in which a provider fails. Made by the methods below, which say what each one is.

    ``after`` counts the pieces of a stream that arrive before the fault; an answer in one body counts as none.
    """

    kind: Kind
    status: int = 200
    message: str = ""
    code: str | None = None
    type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    retry_after: float | None = None
    as_date: bool = False
    after: int | None = None
    variant: str = ""
    size: int = 0
    gate: Gate | None = None

    @property
    def paid(self) -> bool:
        """Whether a provider bills the request all the same: the model has answered, and the answer came out wrong or late."""
        return self.kind in _PAID or (self.kind in ("hang", "reset") and self.after is not None)

    @property
    def answers(self) -> bool:
        """Whether the model's answer is needed for what the client gets."""
        return self.kind not in ("status", "redirect") and not (self.kind == "reset" and self.after is None)

    # Answers with a status that says what is wrong.

    @classmethod
    def error(
        cls,
        status: int,
        message: str,
        *,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the name of the field in OpenAI's errors
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> Fault:
        """Any error in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}``."""
        given = tuple((headers or {}).items())
        return cls("status", status, message, code, type or "invalid_request_error", given, retry_after)

    @classmethod
    def rate_limit(cls, retry_after: float | None = None, *, as_date: bool = False) -> Fault:
        """429; with a Retry-After in seconds or, where ``as_date``, as an HTTP date that lies so many seconds ahead."""
        text = "Rate limit reached for requests per min (RPM): Limit 3, Used 3, Requested 1."
        return replace(
            cls.error(429, text, code="rate_limit_exceeded", type="requests"), retry_after=retry_after, as_date=as_date
        )

    @classmethod
    def quota(cls) -> Fault:
        """429 ``insufficient_quota``, as OpenAI says that the money is used up: no later attempt mends it."""
        text = "You exceeded your current quota, please check your plan and billing details."
        return cls.error(429, text, code="insufficient_quota", type="insufficient_quota")

    @classmethod
    def payment_required(cls) -> Fault:
        """402, as other providers say it."""
        return cls.error(402, "Insufficient Balance", code="invalid_request_error", type="unknown_error")

    @classmethod
    def server_error(cls) -> Fault:
        """500."""
        return cls.error(500, "The server had an error while processing your request. Sorry about that!", type="server_error")

    @classmethod
    def bad_gateway(cls) -> Fault:
        """502 with a page of HTML, as a proxy answers."""
        return cls("status", 502, "<html><head><title>502 Bad Gateway</title></head></html>", variant="html")

    @classmethod
    def unavailable(cls, retry_after: float | None = None) -> Fault:
        """503."""
        text = "The engine is currently overloaded, please try again later."
        return cls.error(503, text, type="server_error", retry_after=retry_after)

    @classmethod
    def gateway_timeout(cls) -> Fault:
        """504."""
        return cls.error(504, "The upstream server did not answer in time.", type="server_error")

    @classmethod
    def overloaded(cls) -> Fault:
        """529, as Anthropic says that it is overloaded."""
        return cls.error(529, "Overloaded", type="overloaded_error")

    @classmethod
    def wrong_key(cls, *, echo: bool = False) -> Fault:
        """401, with the key masked as OpenAI does, or whole (``echo``), as a careless provider might."""
        return replace(cls.error(401, "", code="invalid_api_key"), variant="echo" if echo else "masked")

    @classmethod
    def forbidden(cls) -> Fault:
        """403."""
        return cls.error(403, "You are not allowed to sample from this model.", code="permission_denied")

    @classmethod
    def unknown_model(cls) -> Fault:
        """404 ``model_not_found``."""
        return replace(cls.error(404, "", code="model_not_found"), variant="model")

    @classmethod
    def context_length(cls) -> Fault:
        """400 ``context_length_exceeded``."""
        text = (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
            "Please reduce the length of the messages."
        )
        return cls.error(400, text, code="context_length_exceeded")

    @classmethod
    def content_policy(cls) -> Fault:
        """400 ``content_filter``: the prompt is refused before the model sees it."""
        text = "The response was filtered due to the prompt triggering the content management policy."
        return cls.error(400, text, code="content_filter")

    @classmethod
    def redirect(cls, to: str | None = None) -> Fault:
        """307 to ``to``; to another path of this server, which answers, where it is None."""
        return cls("redirect", 307, variant=to or "")

    # What happens on the wire.

    @classmethod
    def hang(cls, after: int | None = None) -> Fault:
        """No answer, until the server is closed or :meth:`FaultyServer.release` is called; ``after=0``: the headers come,
        ``after=n``: and so many pieces of a stream."""
        return cls("hang", after=after)

    @classmethod
    def cut(cls, after: int = 0, *, clean: bool = False) -> Fault:
        """The answer ends in the middle: half of a body, or so many pieces of a stream without its end. The connection is
        closed; where ``clean``, a stream ends as HTTP wants it, only the model's end is missing."""
        return cls("cut", after=after, variant="clean" if clean else "")

    @classmethod
    def reset(cls, after: int | None = None) -> Fault:
        """The connection is reset: before any answer, or in the middle of one."""
        return cls("reset", after=after)

    @classmethod
    def drip(cls, gate: Gate | None = None) -> Fault:
        """The body comes byte by byte; a :class:`Gate` holds each byte until the test lets it through."""
        return cls("drip", gate=gate)

    @classmethod
    def stale(cls) -> Fault:
        """The answer is whole, and then the connection is closed although it was to be kept."""
        return cls("stale")

    # What stands in the answer.

    @classmethod
    def garbage(cls, body: str = '{"id": "chatcmpl-1", "choices": [{"mess') -> Fault:
        """200 with a body that is no JSON."""
        return cls("garbage", message=body)

    @classmethod
    def empty(cls, what: Literal["choices", "no_choices", "content", "null", "body"] = "choices") -> Fault:
        """200 with an empty list of choices, without one, with an empty text, with ``null``, or with no body at all."""
        return cls("empty", variant=what)

    @classmethod
    def usage(cls, what: Literal["missing", "null", "negative", "nonsense", "partial"] = "missing") -> Fault:
        """A good answer whose token counts are missing, null, negative, no numbers, or only in part there."""
        return cls("usage", variant=what)

    @classmethod
    def schema_ignored(cls, text: str = "I would rather tell you in my own words: it is about the card.") -> Fault:
        """The model answers with this text, whatever form was asked for."""
        return cls("schema_ignored", message=text)

    @classmethod
    def huge(cls, size: int = 16 << 20) -> Fault:
        """An answer of that many bytes, whose length is not announced."""
        return cls("huge", size=size)

    @classmethod
    def bad_sse(cls, after: int = 1) -> Fault:
        """After so many pieces a line of the stream is no JSON; the rest follows as if nothing were. A body is garbage."""
        return cls("bad_sse", after=after)

    @classmethod
    def error_event(cls, after: int = 1, message: str = "The server had an error while processing your request.") -> Fault:
        """After so many pieces an error stands in the stream (status 200), which then ends; so it does in a body."""
        return cls("error_event", message=message, type="server_error", after=after)

    @classmethod
    def refusal(cls, text: str = "I'm sorry, I cannot assist with that request.") -> Fault:
        """The model declines: ``refusal`` in place of content."""
        return cls("refusal", message=text)

    @classmethod
    def content_filter(cls) -> Fault:
        """The answer is stopped by the provider's filter: half of it, ``finish_reason: content_filter``."""
        return cls("content_filter")


#: When faults come: at each request; by number, counted from 1; one after the other (None: none), then no more; or computed.
Faults: TypeAlias = "Fault | Mapping[int, Fault] | Sequence[Fault | None] | Callable[[Arrival], Fault | None]"


class Plan:
    """Says which fault a request meets: an outage by hand, an outage by the clock, one of ``faults``, or one by chance.

    Args:
        faults: see :data:`Faults`.
        chances: the probability of each fault; one draw for each request, in their order, from ``seed``.
        outages: start and end of each outage, in seconds on ``clock``; ``outage_fault`` is what they bring.
    """

    def __init__(
        self,
        faults: Faults | None,
        chances: Mapping[Fault, float],
        seed: int,
        outages: Sequence[tuple[float, float]],
        outage_fault: Fault,
        clock: Callable[[], float],
    ) -> None:
        total = sum(chances.values())
        if any(not 0 <= p <= 1 for p in chances.values()) or total > 1 + 1e-9:
            raise ValueError(f"the probabilities of faults lie between 0 and 1 and add up to at most 1, not {total:g}")
        for start, end in outages:
            if not start <= end:
                raise ValueError(f"an outage ends after it starts; this one is from {start:g} to {end:g}")
        if not (faults is None or callable(faults) or isinstance(faults, Fault | Mapping | Sequence)):
            raise TypeError(f"faults are a Fault, a dict by number, a sequence or a function, not a {type(faults).__name__}")
        self._faults, self._chances = faults, dict(chances)
        self._random = random.Random(seed)  # noqa: S311 - a repeatable draw
        self._outages, self._outage_fault, self._clock = tuple(outages), outage_fault, clock
        #: The fault of an outage switched by hand; None while there is none.
        self.by_hand: Fault | None = None

    @property
    def outage_fault(self) -> Fault:
        """What an outage brings where nothing else is said."""
        return self._outage_fault

    def fault(self, arrival: Arrival) -> Fault | None:
        """Return what the request meets; to be called once for each, in order."""
        drawn = self._draw()
        if self.by_hand is not None:
            return self.by_hand
        if self._outages:
            now = self._clock()
            if any(start <= now < end for start, end in self._outages):
                return self._outage_fault
        return self._planned(arrival) or drawn

    def _draw(self) -> Fault | None:
        if not self._chances:
            return None
        at = self._random.random()
        for fault, chance in self._chances.items():
            if at < chance:
                return fault
            at -= chance
        return None

    def _planned(self, arrival: Arrival) -> Fault | None:
        faults = self._faults
        if faults is None or isinstance(faults, Fault):
            return faults
        if isinstance(faults, Mapping):
            return faults.get(arrival.number)
        if isinstance(faults, Sequence):
            return faults[arrival.number - 1] if arrival.number <= len(faults) else None
        return faults(arrival)
