"""The offline engine: answers a DSPy prompt from the prompt itself, without a model, a key or a network.

It reads the instructions, the definitions of the fields, the demonstrations and the question, and answers by
similarity of spelling, by definitions the instructions give, and by the form of what a field asks for. It looks
nothing up elsewhere and knows no data set, so its answers get better exactly when instructions and demonstrations do.
The answer depends on the prompt alone: temperature, length limits and seeds change nothing.

Simulated: the count of tokens (one for every four characters, rounded up), the pieces in which a stream arrives
(words), and the latency, which is what the engine is told to wait.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.lms.exemplar._answer import Answerer
from dspex_lab.lms.exemplar._prompt import read_prompt
from dspex_lab.lms.exemplar._style import write
from dspex_lab.lms.exemplar._text import reply_to

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

#: Changes whenever the same prompt may get another answer, so that caches of answers do not outlive the engine.
VERSION = 1
_CHARACTERS_PER_TOKEN = 4
_PIECE = re.compile(r"\s*\S+\s*")


def answer(system: str, turns: list[tuple[str, str]]) -> str:
    """Return the completion of a prompt.

    Args:
        system: the system message; may be empty.
        turns: the other messages in order, each as role (``"user"`` or ``"assistant"``) and text.
    """
    prompt = read_prompt(system, turns)
    if prompt.task is None:
        return reply_to(prompt.text)
    return write(Answerer(prompt, prompt.task).answers(), prompt.task.style)


def token_count(text: str) -> int:
    """Return the simulated number of tokens of ``text``: a quarter of its characters, rounded up."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def messages_of(request: Request) -> tuple[str, list[tuple[str, str]]]:
    """Return the system message of a request and its other messages as role and text."""
    system = request.system
    if system is None or isinstance(system, str):
        text = system or ""
    else:
        text = "".join(getattr(part, "text", None) or "" for part in system)
    return text, [(message.role, message.text or "") for message in request.messages]


def respond(request: Request, text: str) -> Response:
    """Return ``text`` as the response to ``request``, with the simulated count of tokens."""
    from dspy.lm15 import Message, Response, TextPart, Usage

    system, turns = messages_of(request)
    asked = token_count(system + "".join(t for _, t in turns))
    usage = Usage(input_tokens=asked, output_tokens=token_count(text))
    return Response(
        id=None, model=request.model, message=Message.assistant([TextPart(text)]), finish_reason="stop", usage=usage
    )


def stream_events(response: Response, pieces: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield ``response`` as the events of a stream that is only simulated: the whole answer is there before the first.

    Args:
        pieces: the pieces in which its text comes; word by word where None.
    """
    from dspy.lm15 import StreamDeltaEvent, StreamEndEvent, StreamStartEvent, TextDelta

    text = response.text or ""
    words = _PIECE.findall(text) or ([text] if text else [])
    yield StreamStartEvent(id=response.id, model=response.model)
    for piece in words if pieces is None else pieces:
        yield StreamDeltaEvent(TextDelta(piece))
    yield StreamEndEvent(finish_reason=response.finish_reason, usage=response.usage)


class ExemplarEngine:
    """The offline engine as a DSPy engine; see the module's text for what it does.

    Thread-safe, holds no state but its settings, and can be pickled.

    Args:
        latency: seconds to wait before each answer, as a provider would make one wait.
    """

    #: It imitates a provider: calls cost nothing and counts of tokens are computed, not billed.
    simulated = True

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency

    def complete(self, request: Request) -> Response:
        """Answer one request."""
        if self.latency:
            time.sleep(self.latency)
        return respond(request, answer(*messages_of(request)))

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the events of one answer: a simulated stream, whose words come at once when the answer is there."""
        yield from stream_events(self.complete(request))

    def close(self) -> None:
        """Do nothing; the engine holds no resource."""

    def dump_state(self) -> dict[str, Any]:
        """Return the settings as JSON-able data."""
        return {"latency": self.latency}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> ExemplarEngine:
        """Make an engine from what :meth:`dump_state` returned."""
        return cls(**state)


class AsyncExemplarEngine:
    """The async half of :class:`ExemplarEngine`; same argument, same answers."""

    simulated = True

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency

    async def complete(self, request: Request) -> Response:
        """Answer one request; the wait can be cancelled."""
        if self.latency:
            await asyncio.sleep(self.latency)
        return respond(request, answer(*messages_of(request)))

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the events of one answer: a simulated stream, whose words come at once when the answer is there."""
        for event in stream_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Do nothing; the engine holds no resource."""

    def dump_state(self) -> dict[str, Any]:
        """Return the settings as JSON-able data."""
        return {"latency": self.latency}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncExemplarEngine:
        """Make an engine from what :meth:`dump_state` returned."""
        return cls(**state)
