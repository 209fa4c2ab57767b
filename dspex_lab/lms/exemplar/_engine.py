"""The offline engine: answers a DSPy prompt from the prompt itself, without a model, a key or a network.

It reads the instructions, the definitions of the fields, the demonstrations and the question, and answers by
similarity of spelling, by definitions the instructions give, by the form of what a field asks for, by a small
arithmetic, and with tools by what the prompt says about them. It looks nothing up elsewhere and knows no data set, so
its answers get better exactly when instructions and demonstrations do.

The answer depends on the prompt alone, with one exception: instructions that it is asked to *propose* (by GEPA, COPRO,
MIPROv2, SIMBA, InferRules) also depend on the request's temperature and seed, and on which of ``n`` candidates is asked
for (see ``_draws``); the same settings give the same proposals. ``stop``, ``max_tokens``, ``response_format``, ``tools``
and ``tool_choice`` are honoured; other settings change nothing.

Simulated: the count of tokens (one for every four characters, rounded up), the pieces in which a stream arrives
(words), and the latency, which is what the engine is told to wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Self

from dspex_lab.lms.exemplar._reply import answered, messages_of, reply, respond, stream_events, token_count

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

__all__ = [
    "VERSION",
    "AsyncExemplarEngine",
    "ExemplarEngine",
    "answer",
    "messages_of",
    "respond",
    "stream_events",
    "token_count",
]

#: Changes whenever the same prompt may get another answer, so that caches of answers do not outlive the engine.
VERSION = 2
#: What a request may set, by the names DSPy's adapters know it by.
_PARAMETERS = frozenset(
    ["temperature", "max_tokens", "stop", "seed", "n", "response_format", "tools", "tool_choice", "parallel_tool_calls"]
)


def answer(system: str, turns: list[tuple[str, str]]) -> str:
    """Return the completion of a prompt.

    Args:
        system: the system message; may be empty.
        turns: the other messages in order, each as role (``"user"`` or ``"assistant"``) and text.
    """
    return answered(system, turns)


class _Half:
    """What both halves of the engine are and have."""

    #: It imitates a provider: calls cost nothing and counts of tokens are computed, not billed.
    simulated = True
    #: It answers in this process and cannot ail: no breaker, retries or limit stand around it (``_gateway.py``).
    in_process = True
    #: What DSPy's adapters may ask of it natively.
    supports_function_calling = True
    supports_response_schema = True
    supported_params = _PARAMETERS

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency

    def dump_state(self) -> dict[str, Any]:
        """Return the settings as JSON-able data."""
        return {"latency": self.latency}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> Self:
        """Make an engine from what :meth:`dump_state` returned."""
        return cls(**state)


class ExemplarEngine(_Half):
    """The offline engine as a DSPy engine; see the module's text for what it does.

    Thread-safe, holds no state but its settings, and can be pickled.

    Args:
        latency: seconds to wait before each answer, as a provider would make one wait.
    """

    def complete(self, request: Request) -> Response:
        """Answer one request."""
        if self.latency:
            time.sleep(self.latency)
        return reply(request)

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the events of one answer: a simulated stream, whose words come at once when the answer is there."""
        yield from stream_events(self.complete(request))

    def close(self) -> None:
        """Do nothing; the engine holds no resource."""


class AsyncExemplarEngine(_Half):
    """The async half of :class:`ExemplarEngine`; same argument, same answers."""

    async def complete(self, request: Request) -> Response:
        """Answer one request; the wait can be cancelled."""
        if self.latency:
            await asyncio.sleep(self.latency)
        return reply(request)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the events of one answer: a simulated stream, whose words come at once when the answer is there."""
        for event in stream_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Do nothing; the engine holds no resource."""
