"""A scripted answer as DSPy's engines give it: one response, or the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex_lab.lms.exemplar._engine import messages_of
from dspex_lab.lms.exemplar._prompt import Prompt
from dspex_lab.testing._reply import Reply, ToolUse, pieces_of, tokens_in

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response, Usage

_LOGPROB = -0.1


def respond(request: Request, reply: Reply, prompt: Prompt, usage: Mapping[str, int] | None = None) -> Response:
    """Return a reply as the response to a request.

    Args:
        usage: token counts that take the place of the simulated ones; the reply's own come first.
    """
    from dspy.lm15 import Message, RefusalPart, Response, TextPart, ThinkingPart, ToolCallPart

    reply = _as_asked(request, reply)
    text = reply.text(prompt, json=request.config.response_format is not None)
    parts: list[Any] = [ThinkingPart(reply.thinking)] if reply.thinking is not None else []
    if reply.refusal is not None:
        parts.append(RefusalPart(reply.refusal))
    elif text or not reply.tools:
        parts.append(TextPart(text))
    parts += [ToolCallPart(use.id or f"call_{index}", use.name, dict(use.arguments)) for index, use in enumerate(reply.tools)]
    return Response(
        id=None,
        model=request.model,
        message=Message.assistant(parts),
        finish_reason=reply.reason,
        usage=_usage(request, reply, text, {**(usage or {}), **(reply.usage or {})}),
        logprobs=_logprobs(reply, text) if request.config.logprobs is not None else None,
    )


def _as_asked(request: Request, reply: Reply) -> Reply:
    """Return the reply as a call of the one tool that the request forces, where it does."""
    choice = request.config.tool_choice
    if choice is None or choice.mode != "required" or not isinstance(reply.content, Mapping):
        return reply
    names = choice.allowed or tuple(tool.name for tool in request.tools)
    return replace(reply, content="", tools=[ToolUse(names[0], reply.content)]) if len(names) == 1 else reply


def _usage(request: Request, reply: Reply, text: str, said: Mapping[str, int]) -> Usage:
    from dspy.lm15 import Usage

    system, turns = messages_of(request)
    told = [text, reply.thinking or "", reply.refusal or "", *(f"{use.name}{dict(use.arguments)}" for use in reply.tools)]
    counted = {"input_tokens": tokens_in([system, *(t for _, t in turns)]), "output_tokens": tokens_in(told)}
    return Usage(**{**counted, **said})


def _logprobs(reply: Reply, text: str) -> tuple[Any, ...]:
    from dspy.lm15 import TokenLogprob

    said = reply.logprobs if reply.logprobs is not None else [(piece, _LOGPROB) for piece in pieces_of(text)]
    return tuple(TokenLogprob(token, value, tuple(token.encode())) for token, value in said)


def events_of(response: Response, split: Callable[[str], Sequence[str]] | None = None) -> Iterator[Any]:
    """Yield a response as the events of a stream.

    Args:
        split: cuts a text into pieces; at the ends of words where None.
    """
    from dspy.lm15 import StreamDeltaEvent, StreamEndEvent, StreamStartEvent

    yield StreamStartEvent(id=response.id, model=response.model)
    for index, part in enumerate(response.message.parts):
        for delta in _deltas(part, index, split or pieces_of, response):
            yield StreamDeltaEvent(delta)
    yield StreamEndEvent(finish_reason=response.finish_reason, usage=response.usage)


def _deltas(part: Any, index: int, split: Callable[[str], Sequence[str]], response: Response) -> Iterator[Any]:
    from dspy.lm15 import TextDelta, ThinkingDelta, ToolCallDelta

    if part.type == "thinking":
        for piece in split(part.text):
            yield ThinkingDelta(piece, part_index=index)
    elif part.type == "tool_call":
        arguments = pieces_of(json.dumps(part.input, ensure_ascii=False))
        for at, piece in enumerate(arguments):
            yield ToolCallDelta(piece, index, part.id, part.name) if at == 0 else ToolCallDelta(piece, index)
    else:
        left = list(response.logprobs or ())
        pieces = split(part.text)
        for at, piece in enumerate(pieces):
            # Each token belongs to one piece: the last takes what is left.
            given = left[at : at + 1] if at < len(pieces) - 1 else left[at:]
            yield TextDelta(piece, part_index=index, logprobs=tuple(given))
