"""Answers in the form of OpenAI's API: completions, streams of their pieces, embeddings, models, errors."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dspex_lab.testing._faulty_fault import Fault
from dspex_lab.testing._faulty_log import Arrival, masked
from dspex_lab.testing._reply import Reply, ToolUse, pieces_of, tokens_in

#: Any fixed moment: the same request gets the same bytes.
CREATED = 1_750_000_000
_FINISH = {"tool_call": "tool_calls"}
_LOGPROB = -0.1
_DIMENSIONS = 16


class Frame(NamedTuple):
    """A part of a stream; ``piece`` says that it carries a part of the answer."""

    data: bytes
    piece: bool = False


def error_body(fault: Fault, arrival: Arrival) -> bytes:
    """Return the body of an error."""
    if fault.variant == "html":
        return fault.message.encode()
    message = fault.message
    if fault.variant in ("echo", "masked"):
        key = arrival.key or ""
        shown = key if fault.variant == "echo" else masked(key)
        message = (
            f"Incorrect API key provided: {shown}. You can find your API key at https://platform.openai.com/account/api-keys."
        )
    elif fault.variant == "model":
        message = f"The model `{arrival.model}` does not exist or you do not have access to it."
    return _json({"error": {"message": message, "type": fault.type, "param": None, "code": fault.code}})


def shaped(reply: Reply, arrival: Arrival, fault: Fault | None) -> Reply:
    """Return the reply as this request and this fault make it."""
    if fault is not None:
        if fault.kind == "huge":
            return Reply("x" * fault.size)
        if fault.kind == "schema_ignored":
            return Reply(fault.message)
        if fault.kind == "refusal":
            return Reply("", refusal=fault.message)
        if fault.kind == "empty" and fault.variant in ("content", "null"):
            return Reply("", finish="stop")
        if fault.kind == "content_filter":
            text = reply.text(arrival.prompt)
            return Reply(text[: len(text) // 2], finish="content_filter")
    forced = _forced_tool(arrival.body or {})
    if forced is not None and isinstance(reply.content, Mapping):
        return replace(reply, content="", tools=[ToolUse(forced, reply.content)])
    wants_json = (arrival.body or {}).get("response_format", {"type": "text"}) not in (None, {"type": "text"})
    return replace(reply, content=reply.text(arrival.prompt, json=wants_json))


def _forced_tool(body: Mapping[str, Any]) -> str | None:
    """Return the tool that the request forces the model to call, if it does."""
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    if isinstance(choice, Mapping):
        return str((choice.get("function") or {}).get("name"))
    if choice == "required" and len(tools) == 1:
        return str(tools[0]["function"]["name"])
    return None


def usage_of(arrival: Arrival, replies: Sequence[Reply], fault: Fault | None) -> Any:
    """Return the token counts of an answer; simulated, where the replies say nothing else. ``...`` stands for none at all."""
    asked = tokens_in(text for _, text in arrival.turns)
    told = sum(tokens_in([str(r.content), r.thinking or "", r.refusal or "", *(str(t) for t in r.tools)]) for r in replies)
    said = next((dict(r.usage) for r in replies if r.usage), {})
    asked, told = said.get("input_tokens", asked), said.get("output_tokens", told)
    whole = {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": said.get("total_tokens", asked + told)}
    variant = fault.variant if fault is not None and fault.kind == "usage" else ""
    return {
        "": whole,
        "missing": ...,
        "null": None,
        "negative": {"prompt_tokens": -asked, "completion_tokens": -told, "total_tokens": -(asked + told)},
        "nonsense": {"prompt_tokens": "many", "completion_tokens": [told], "total_tokens": 1e308},
        "partial": {"total_tokens": asked + told},
    }[variant]


def _envelope(arrival: Arrival, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{arrival.number}",
        "object": kind,
        "created": CREATED,
        "model": arrival.model,
        "system_fingerprint": f"fp_{(arrival.body or {}).get('seed', 0)}",
    }


def chat(arrival: Arrival, replies: Sequence[Reply], split: Callable[[str], Sequence[str]], fault: Fault | None) -> bytes:
    """Return a whole answer of ``/v1/chat/completions``."""
    empty = fault.variant if fault is not None and fault.kind == "empty" else ""
    body = _envelope(arrival, "chat.completion")
    if empty != "no_choices":
        body["choices"] = [] if empty == "choices" else [_choice(arrival, i, r, split, empty) for i, r in enumerate(replies)]
    return _with_usage(body, usage_of(arrival, replies, fault))


def _choice(arrival: Arrival, index: int, reply: Reply, split: Callable[[str], Sequence[str]], empty: str) -> dict[str, Any]:
    text = str(reply.content)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": reply.refusal}
    if reply.refusal is not None or empty == "null" or (reply.tools and not text):
        message["content"] = None
    if reply.thinking is not None:
        message["reasoning_content"] = reply.thinking
    if reply.tools:
        message["tool_calls"] = [{**_tool(arrival, i, use), "type": "function"} for i, use in enumerate(reply.tools)]
    logprobs = _logprobs(arrival, reply, split) if (arrival.body or {}).get("logprobs") else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": _reason(reply)}


def _reason(reply: Reply) -> str:
    return _FINISH.get(reply.reason, reply.reason)


def _tool(arrival: Arrival, index: int, use: ToolUse) -> dict[str, Any]:
    function = {"name": use.name, "arguments": json.dumps(dict(use.arguments), ensure_ascii=False, default=str)}
    return {"id": use.id or f"call_{arrival.number}_{index}", "function": function}


def _logprobs(arrival: Arrival, reply: Reply, split: Callable[[str], Sequence[str]]) -> dict[str, Any]:
    said = reply.logprobs if reply.logprobs is not None else [(piece, _LOGPROB) for piece in split(str(reply.content))]
    return {"content": [_token(arrival, token, value) for token, value in said], "refusal": None}


def _token(arrival: Arrival, token: str, value: float) -> dict[str, Any]:
    top = int((arrival.body or {}).get("top_logprobs") or 0)
    entry: dict[str, Any] = {"token": token, "logprob": value, "bytes": list(token.encode())}
    others = [{"token": f"~{rank}", "logprob": value - rank, "bytes": None} for rank in range(1, top)]
    return {**entry, "top_logprobs": [entry, *others][:top]}


def chat_frames(
    arrival: Arrival, replies: Sequence[Reply], split: Callable[[str], Sequence[str]], fault: Fault | None
) -> Iterator[Frame]:
    """Yield the parts of a streamed answer of ``/v1/chat/completions``; one :class:`Frame` for each line."""
    shell = _envelope(arrival, "chat.completion.chunk")
    usage = usage_of(arrival, replies, fault)
    wants_usage = bool(((arrival.body or {}).get("stream_options") or {}).get("include_usage")) and usage is not ...
    empty = fault.variant if fault is not None and fault.kind == "empty" else ""

    def frame(choices: list[dict[str, Any]], piece: bool = False, **more: Any) -> Frame:
        body = {**shell, "choices": choices, **more}
        if empty == "no_choices":
            del body["choices"]
        return Frame(sse(_json({**body, "usage": None} if wants_usage and not more else body)), piece)

    for index, reply in enumerate(replies if empty not in ("choices", "no_choices", "body") else ()):
        yield frame([_delta(index, {"role": "assistant", "content": None if reply.tools else ""})])
        for delta, logprobs in _deltas(arrival, reply, split):
            yield frame([_delta(index, delta, logprobs)], piece=True)
        yield frame([{**_delta(index, {}), "finish_reason": _reason(reply)}])
    if empty == "body":
        return
    if wants_usage or empty:
        yield frame([], usage=None if usage is ... else usage)
    yield Frame(sse(b"[DONE]"))


def _delta(index: int, delta: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _deltas(arrival: Arrival, reply: Reply, split: Callable[[str], Sequence[str]]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the pieces of one choice with their log probabilities."""
    if reply.thinking is not None:
        for piece in split(reply.thinking):
            yield {"reasoning_content": piece}, None
    if reply.refusal is not None:
        for piece in split(reply.refusal):
            yield {"refusal": piece}, None
    told = _logprobs(arrival, reply, split)["content"] if (arrival.body or {}).get("logprobs") else []
    for at, piece in enumerate(split(str(reply.content))):
        yield {"content": piece}, {"content": told[at : at + 1], "refusal": None} if told else None
    for index, use in enumerate(reply.tools):
        tool = _tool(arrival, index, use)
        arguments, name = tool["function"]["arguments"], tool["function"]["name"]
        yield {"tool_calls": [{"index": index, **tool, "type": "function", "function": {"name": name, "arguments": ""}}]}, None
        for part in pieces_of(arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}, None


def text_completion(arrival: Arrival, replies: Sequence[Reply], fault: Fault | None) -> bytes:
    """Return a whole answer of ``/v1/completions``."""
    choices = [
        {"index": index, "text": str(reply.content), "logprobs": None, "finish_reason": _reason(reply)}
        for index, reply in enumerate(replies)
    ]
    if fault is not None and fault.kind == "empty" and fault.variant in ("choices", "no_choices"):
        choices = []
    return _with_usage({**_envelope(arrival, "text_completion"), "choices": choices}, usage_of(arrival, replies, fault))


def text_frames(
    arrival: Arrival, replies: Sequence[Reply], split: Callable[[str], Sequence[str]], fault: Fault | None
) -> Iterator[Frame]:
    """Yield the parts of a streamed answer of ``/v1/completions``."""
    shell = _envelope(arrival, "text_completion")
    for index, reply in enumerate(replies):
        for piece in split(str(reply.content)):
            choice = {"index": index, "text": piece, "logprobs": None, "finish_reason": None}
            yield Frame(sse(_json({**shell, "choices": [choice]})), piece=True)
        end = {"index": index, "text": "", "logprobs": None, "finish_reason": _reason(reply)}
        yield Frame(sse(_json({**shell, "choices": [end]})))
    yield Frame(sse(b"[DONE]"))


def embeddings(arrival: Arrival, fault: Fault | None) -> bytes:
    """Return an answer of ``/v1/embeddings``: vectors of length 1 that follow from the text alone; the same letters in the
    same places make texts alike."""
    body = arrival.body or {}
    given = body.get("input")
    texts = (
        [given] if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int)) else given or []
    )
    size = int(body.get("dimensions") or _DIMENSIONS)
    data: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        vector: Any = embed(str(text), size)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    if fault is not None and fault.kind == "empty":
        data = []
    asked = tokens_in(str(text) for text in texts)
    usage: Any = {"prompt_tokens": asked, "total_tokens": asked}
    if fault is not None and fault.kind == "usage":
        usage = usage_of(arrival, (), fault)
    return _with_usage({"object": "list", "model": arrival.model, "data": data}, usage)


def embed(text: str, size: int = _DIMENSIONS) -> list[float]:
    """Return the vector that the server gives for a text: its hashed trigrams of characters, of length 1."""
    vector = [0.0] * size
    marked = f"  {text} "
    for at in range(len(marked) - 2):
        digest = hashlib.blake2b(marked[at : at + 3].encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big")
        vector[number % size] += 1.0 if number >> 63 else -1.0
    length = sum(x * x for x in vector) ** 0.5
    return [x / length for x in vector] if length else [1.0, *vector[1:]]


def models(names: Sequence[str]) -> bytes:
    """Return an answer of ``/v1/models``."""
    entries = [{"id": name, "object": "model", "created": CREATED, "owned_by": "dspex_lab"} for name in names]
    return _json({"object": "list", "data": entries})


def sse(data: bytes) -> bytes:
    """Return one event of a stream."""
    return b"data: %b\n\n" % data


def _with_usage(body: dict[str, Any], usage: Any) -> bytes:
    return _json(body if usage is ... else {**body, "usage": usage})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
