"""Any LM, whatever its engine: asked, streamed and closed in the same way."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any


def echo(asked: Any) -> str:
    """Answer with what was asked: a script for a :class:`ScriptedEngine` and a :class:`FaultyServer` alike."""
    return f"answer to {getattr(asked, 'prompt', asked).text}"


def ask(lm: Any, text: str = "Say it.", *, tools: list[tuple[str, str, Any]] | None = None, **config: Any) -> Any:
    """Return a request to a model."""
    from dspy.lm15 import Config, FunctionTool, Message, Request

    given = tuple(FunctionTool(name, description, dict(parameters)) for name, description, parameters in tools or [])
    config.setdefault("max_tokens", 64)
    return Request(model=lm.model, messages=(Message.user(text),), tools=given, config=Config(**config))


def _backend(lm: Any, request: Any, *, asynchronous: bool) -> tuple[Any, Any]:
    """Return what answers a request, with the request as it takes it."""
    if not isinstance(lm.engine, str):
        return (lm._async_engine_spec if asynchronous else lm.engine), request
    from dspy.clients import execution

    call = execution.prepare(lm, None, None, {"request": request}, asynchronous=asynchronous)
    backend, request, _ = execution._engine(lm, call, asynchronous)
    return backend, request


def stream(lm: Any, request: Any) -> Any:
    """Return the generator of events that answers a request."""
    backend, request = _backend(lm, request, asynchronous=False)
    return backend.stream(request)


def astream(lm: Any, request: Any) -> AsyncGenerator[Any, None]:
    """Return the async generator of events that answers a request; to be called on a loop."""
    backend, request = _backend(lm, request, asynchronous=True)
    return backend.stream(request)


def text_of(events: Any) -> str:
    """Return the text of all pieces of a stream."""
    return "".join(e.delta.text for e in events if e.type == "delta" and e.delta.type == "text")


def assembled(request: Any, events: Any) -> Any:
    """Return a stream as the response that DSPy makes of it."""
    from dspy._vendor.lm15.result import StreamAccumulator

    accumulator = StreamAccumulator(request)
    for event in events:
        accumulator.push(event)
    return accumulator.response()


def close(lm: Any) -> None:
    """Close the sync half of an LM."""
    if isinstance(lm.engine, str):
        lm.close()
    else:
        lm.engine.close()


async def aclose(lm: Any) -> None:
    """Close the async half of an LM."""
    if isinstance(lm.engine, str):
        await lm.aclose()
    elif lm._async_engine_spec is not None:
        await lm._async_engine_spec.aclose()
