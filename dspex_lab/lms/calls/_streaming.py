"""Passes on what a language model writes while it is writing it, to whoever watches the run.

DSPy streams an LM call where the setting ``send_stream`` is there. That changes what the program does: a sync call works in
anyio's threads only, an answer that was begun is neither retried nor asked for again in JSON, a decision is refused. Here the
program's call stays the one it is: where DSPy chooses the engine for a call (``_gateway.py``), one that somebody watches gets
the engine inside a ``LiveEngine`` (``_live_engine.py``). Its
``complete`` reads the engine's ``stream``, tells of each piece, and returns the assembled response. So the cache, retries,
history, usage, callbacks, tool calls and structured output are DSPy's own, and the result is that of an unwatched run.

What cannot be streamed (several candidates, log probabilities, an engine without ``stream``, an LM class with a ``forward``
of its own, what DSPy sends through LiteLLM, an answer from the cache) is told of when it is there, in one token a field.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from dspex_lab.events import new_id
from dspex_lab.lms._make import describe, is_simulated
from dspex_lab.lms.calls._attribution import Reader, reader_of
from dspex_lab.lms.calls._live_engine import live_engine


class Token(NamedTuple):
    """A piece of what a model writes. Has the first fields of a run's other stream events, in their order.

    Args:
        kind: always ``"token"``.
        step: the step on whose behalf the model is asked.
        field: the output field the piece belongs to; None for free text and for what is said around the fields.
        value: the text.
        time: when it came, in seconds since the epoch.
        data: ``call_id``, that of the call's ``LMCall`` record; ``attempt``, counted from 1, where DSPy asks again for the
            same answer (after an error, or by another adapter): tokens of earlier attempts are void; ``model``;
            ``simulated``; ``part``: ``"text"``, ``"thinking"`` or ``"tool_call"``; ``whole``: it did not come in pieces;
            ``cached``: it came from DSPy's cache; ``candidate``: which of several answers, counted from 0.
    """

    kind: Literal["token"]
    step: str | None
    field: str | None
    value: str
    time: float
    data: dict[str, Any]


class Listener(Protocol):
    """Watches a run. Thread-safe; neither method blocks or raises."""

    #: Nobody watches any more: what is still being done for the run should end.
    closed: bool

    def __call__(self, event: Any) -> None:
        """Take note of an event of the run, a :class:`Token` among them; it is ignored when nobody watches any more."""
        ...

    def on_close(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called when nobody watches any more, at once if that is so; return what takes it back."""
        ...


class LiveCall:
    """One call of a language model that somebody watches.

    Args:
        listen: who watches.
        step: the step on whose behalf it is made; ``lm`` is the model.
        system: the system message, which says the fields of the answer; may be empty.
    """

    def __init__(self, listen: Listener, step: str | None, lm: Any, system: str) -> None:
        self.listen = listen
        self.call_id = new_id()
        self.asked = False  # an engine was; where none is, the answer comes from the cache
        self.first_piece: float | None = None
        self._clock = time.perf_counter()
        self._step = step
        self._system = system
        self._told = self._begun = False
        self._attempt = _Attempts.of_this_call()
        self._about = {"call_id": self.call_id, "model": describe(lm), "simulated": is_simulated(lm)}
        self._reader: Reader = reader_of(system)

    def refuse_if_abandoned(self) -> None:
        """Keep the call from being made, or from going on, once nobody watches.

        Raises:
            asyncio.CancelledError: nobody does. It passes code that catches ``Exception``.
        """
        if getattr(self.listen, "closed", False):
            raise asyncio.CancelledError("the stream of the run was abandoned")

    def begin(self) -> None:
        """Take note that an engine is asked: the first time, or again after an error."""
        self._attempt.count += 1
        self._begun, self._told = True, False
        self._reader = reader_of(self._system)

    def on_close(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called once nobody watches; return what takes it back. A plain function watches for ever."""
        register = getattr(self.listen, "on_close", None)
        return (lambda: None) if register is None else register(callback)

    def event(self, event: Any) -> None:
        """Tell of an event of an engine's stream.

        Raises:
            asyncio.CancelledError: nobody watches any more.
        """
        self.refuse_if_abandoned()
        if self.first_piece is None and event.type == "delta":
            self.first_piece = time.perf_counter() - self._clock
        if event.type == "end":
            self._tell_pieces(self._reader.end())
        elif event.type == "delta":
            delta = event.delta
            if delta.type == "text":
                self._tell_pieces(self._reader.feed(delta.text or ""))
            elif delta.type == "thinking":
                self._tell(None, delta.text, part="thinking")
            elif delta.type == "tool_call":
                self._tell(None, delta.input, part="tool_call", **({"tool": delta.name} if delta.name else {}))

    def finish(self, answer: Any) -> None:
        """Tell of what the call gave, unless its pieces have been told already.

        Args:
            answer: what DSPy's LM returned: its outputs, or a response.
        """
        if self._told:
            return
        cached = not self.asked
        if not self._begun:
            self._attempt.count += 1
        outputs = answer if isinstance(answer, list) else [_output_of(answer)]
        for index, output in enumerate(outputs):
            about = {"whole": True, "cached": cached, **({"candidate": index} if len(outputs) > 1 else {})}
            parts = output if isinstance(output, Mapping) else {"text": output}
            if parts.get("reasoning_content"):
                self._tell(None, parts["reasoning_content"], part="thinking", **about)
            reader = reader_of(self._system)
            self._tell_pieces(_joined([*reader.feed(parts.get("text") or ""), *reader.end()]), **about)

    def _tell_pieces(self, pieces: Any, **about: Any) -> None:
        for field, text in pieces:
            self._tell(field, text, **about)

    def _tell(self, field: str | None, text: str | None, *, part: str = "text", **about: Any) -> None:
        if not text:
            return
        self._told = True
        data = {**self._about, "attempt": self._attempt.count, "part": part, "whole": False, "cached": False, **about}
        self.listen(Token("token", self._step, field, text, time.time(), data))


class _Attempts:
    """Counts how often the same answer was asked for. DSPy's adapters mark what belongs to one answer by a context variable."""

    def __init__(self) -> None:
        self.count = 0

    @classmethod
    def of_this_call(cls) -> _Attempts:
        from dspy.clients import call_context

        marks = getattr(call_context, "_adapter_calls", None)
        scopes = marks.get() if marks is not None else ()
        if not scopes:
            return cls()
        # An adapter that asks again in another form does so inside its own mark.
        found: _Attempts = vars(scopes[0]).setdefault("_dspex_attempts", cls())
        return found


def _joined(pieces: list[tuple[str | None, str]]) -> Iterator[tuple[str | None, str]]:
    """Yield one piece a field, in order of appearance."""
    texts: dict[str | None, str] = {}
    for field, text in pieces:
        texts[field] = texts.get(field, "") + text
    yield from texts.items()


def _output_of(response: Any) -> dict[str, Any]:
    thinking = [part.text for part in response.message.parts if part.type == "thinking"]
    return {"text": response.text, "reasoning_content": "".join(thinking)}


def system_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return the system message among the arguments of an LM call, the empty text where there is none."""
    request: Any = kwargs.get("request") or (args[0] if args else None)
    if hasattr(request, "messages"):
        system = request.system
        return system if isinstance(system, str) else "".join(getattr(p, "text", None) or "" for p in system or ())
    messages = kwargs.get("messages") or (args[1] if len(args) > 1 else None) or []
    first = messages[0] if messages else None
    if not isinstance(first, Mapping) or first.get("role") not in ("system", "developer"):
        return ""
    content = first.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def live_call(recorder: Any, lm: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LiveCall | None:
    """Return the call that begins, where somebody watches the run of ``recorder``; None where nobody does."""
    listen = getattr(recorder.context, "listen", None)
    return None if listen is None else LiveCall(listen, recorder.step, lm, system_of(args, kwargs))


def streamed(engine: Any, request: Any, provider: str | None, call: Any, live: LiveCall | None, asynchronous: bool) -> Any:
    """Return ``engine`` so that ``live`` is told of each piece of its answer; the engine itself where nobody watches.

    Args:
        request: what the engine is asked; ``call`` is the call as DSPy prepared it.
    """
    if live is None:
        return engine
    live.asked = True
    # Without a request DSPy hands the engine the call in its older form, which is answered as a whole.
    if request is None or call.n > 1 or request.config.logprobs is not None:
        return engine
    return live_engine(engine, live, asynchronous, provider)
