"""Answers as OpenAI's clients read them, whole and in pieces."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from dspex_lab.pipelines import Result, StreamEvent
from dspex_lab.web._agent import Agent, Course
from dspex_lab.web._ask import Answer, Ask, written
from dspex_lab.web._errors import failed
from dspex_lab.web._fallbacks import Fallback

END = b"data: [DONE]\n\n"


def completion(answer: Answer) -> dict[str, Any]:
    """Return an answer as a ``chat.completion``; ``dspex`` has what OpenAI has no place for."""
    message = {"role": "assistant", "content": answer.content}
    return {
        **_head(answer.ask, "chat.completion", answer.offer.name),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _usage(answer.result),
        "dspex": answer.about(),
    }


async def chunks(
    agent: Agent, course: Course, *, usage: bool, done: Callable[[Answer], None] = lambda answer: None
) -> AsyncGenerator[bytes, None]:
    """Yield an answer as server-sent events: tokens as they are written, at the end what was not written as tokens.

    Args:
        usage: the last piece has the tokens that were used.
        done: called with the answer.
    """
    ask, name, said = course.ask, course.now.offer.name, Said()
    last: Answer | None = None
    yield _piece(ask, name, {"role": "assistant", "content": ""})
    async with aclosing(agent.stream(course)) as events:
        async for each in events:
            if isinstance(each, Answer):
                last = each
            elif isinstance(each, Fallback):
                name = each.offer.name
            elif each.spoken and (fresh := said.take(each.event)):
                yield _piece(ask, name, {"content": fresh})
    if last is None:
        return
    done(last)
    if not last.ok:
        yield _event({**failed(last).body(), "id": f"chatcmpl-{ask.id}"})
        yield END
        return
    about = last.about()
    if last.content.startswith(said.text):
        if rest := last.content[len(said.text) :]:
            yield _piece(ask, name, {"content": rest})
    else:
        about["corrected"] = last.content  # what was written as tokens is not what came of them
    yield _event({**_chunk(ask, name, {}, "stop"), "dspex": about})
    if usage:
        yield _event({**_head(ask, "chat.completion.chunk", name), "choices": [], "usage": _usage(last.result)})
    yield END


class Said:
    """What a client has been told of an answer. A model that begins again says it anew; the client must not read it twice."""

    def __init__(self) -> None:
        self.text = ""
        self._speaker: tuple[Any, Any] | None = None
        self._again: str | None = None

    def take(self, token: StreamEvent) -> str:
        """Return what of a token the client has not been told; nothing where the model now says something else."""
        about = token.data or {}
        speaker = about.get("call_id"), about.get("attempt")
        if speaker != self._speaker:
            self._speaker, self._again = speaker, "" if self.text else None
        fresh: str = token.value
        if self._again is not None:
            self._again += fresh
            if not self._again.startswith(self.text):
                return ""
            fresh, self._again = self._again[len(self.text) :], None
        self.text += fresh
        return fresh


def _head(ask: Ask, kind: str, name: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{ask.id}", "object": kind, "created": int(time.time()), "model": name}


def _chunk(ask: Ask, name: str, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return {**_head(ask, "chat.completion.chunk", name), "choices": [choice]}


def _piece(ask: Ask, name: str, delta: dict[str, Any]) -> bytes:
    return _event(_chunk(ask, name, delta))


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + written(data).encode() + b"\n\n"


def _usage(result: Result) -> dict[str, int]:
    prompt, written = result.prompt_tokens or 0, result.completion_tokens or 0
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
