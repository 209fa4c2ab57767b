"""A language model that says what your test tells it to say.

::

    from dspex_lab.testing import scripted_lm

    lm = scripted_lm({"label": "billing"})                 # every answer, written as the adapter wants it
    lm = scripted_lm(["first", "second"])                  # in turn, and round again
    lm = scripted_lm(lambda prompt: {"n": len(prompt.text)})   # computed from what was asked
    lm = scripted_lm({"n": 1}, delay=0.05, faults={2: TimeoutError("slow")})   # the second call raises

    with dspy.context(lm=lm):
        ...
    assert lm.engine.calls == 1

A stream arrives word by word, or as ``split`` says. A :class:`Gate` holds it until the test lets pieces through, so that
a test of streaming needs no sleep::

    gate = Gate()
    lm = scripted_lm({"answer": "one two"}, gate=gate)
    ...
    gate.open(1)                          # the first piece may come
    assert gate.reached(2)                # the engine stands before the second
    gate.open()                           # all that is left
    assert lm.engine.streams == Streams(opened=1, ended=1, closed=1)
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dspex_lab.lms.exemplar._engine import messages_of, respond, stream_events
from dspex_lab.lms.exemplar._prompt import Prompt, read_prompt
from dspex_lab.lms.exemplar._style import write

if TYPE_CHECKING:
    import dspy
    from dspy.lm15 import Request, Response

#: One answer: the completion as it stands, or the value of each output field.
Answer: TypeAlias = str | Mapping[str, Any]
#: All answers: the same for every call, one after the other in a circle, or computed from the prompt.
Script: TypeAlias = Answer | Sequence[Answer] | Callable[[Prompt], Answer]
Fault: TypeAlias = BaseException | type[BaseException]


class Streams(NamedTuple):
    """How many streams an engine opened, how many of them reached their end, and how many were closed, ended or not."""

    opened: int = 0
    ended: int = 0
    closed: int = 0


class Gate:
    """Holds the pieces of streams until the test lets them through. Thread-safe, for threads and event loops alike."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed: float = 0
        self._asked = 0
        self._passed = 0
        self._waiters: list[Callable[[], object]] = []

    def open(self, pieces: int | None = None) -> None:
        """Let so many more pieces through; None: all that come."""
        with self._changed:
            self._allowed = float("inf") if pieces is None else self._allowed + pieces
            self._changed.notify_all()
            waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def reached(self, piece: int, timeout: float = 30.0) -> bool:
        """Wait until an engine stands before the piece of that number, counted from 1 over all streams."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asked >= piece, timeout)

    def _ask(self) -> None:
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def _free(self) -> bool:
        if self._passed >= self._allowed:
            return False
        self._passed += 1
        return True

    def wait(self) -> None:
        """Wait for leave to hand out one more piece."""
        self._ask()
        with self._changed:
            self._changed.wait_for(self._free)

    async def await_(self) -> None:
        """Wait for leave to hand out one more piece; can be cancelled."""
        self._ask()
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        while True:
            event.clear()
            with self._changed:
                if self._free():
                    return
                self._waiters.append(wake)
            await event.wait()


class ScriptedEngine:
    """A DSPy engine that answers from a script. Thread-safe; can be pickled if its script can.

    Args:
        script: one answer for every call, a sequence of answers used in turn and then from the start again, or a
            function of the prompt. An answer is the text of a completion, or a dict of output fields, which is
            written in the form the prompt's adapter reads. The function gets ``prompt.text`` (the last user
            message), ``prompt.question`` (the input fields), ``prompt.demonstrations`` and ``prompt.task``.
        delay: seconds to wait before each answer.
        faults: what to raise instead of answering, by the number of the call, counted from 1.
        breaks: how many pieces a stream gives before it raises what, by the number of the call.
        gate: holds each piece of a stream back until it is let through.
        split: cuts a completion into the pieces of its stream; at the ends of words by default.

    Attributes:
        calls: how many calls were made, faulty ones included; sync and async calls count together.
        streams: how many of them were streams, and what became of these.
    """

    simulated = True

    def __init__(
        self,
        script: Script,
        *,
        delay: float = 0.0,
        faults: Mapping[int, Fault] | None = None,
        breaks: Mapping[int, tuple[int, Fault]] | None = None,
        gate: Gate | None = None,
        split: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        if isinstance(script, Sequence) and not script:
            raise ValueError("a script needs at least one answer")
        self.script = script
        self.delay = delay
        self.faults = dict(faults or {})
        self.breaks = dict(breaks or {})
        self.gate = gate
        self.split = split
        self.calls = 0
        self.streams = Streams()
        self._lock = threading.Condition()

    def complete(self, request: Request) -> Response:
        """Answer one request, or raise its fault."""
        number = self.count()
        if self.delay:
            time.sleep(self.delay)
        return self.reply(request, number)

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the events of one answer, piece by piece; nothing is asked before the first is."""
        number = self.count()
        self.note(opened=1)
        try:
            if self.delay:
                time.sleep(self.delay)
            for event in self.events(request, number):
                if self.gate is not None and event.type == "delta":
                    self.gate.wait()
                yield self.unbroken(event)
            self.note(ended=1)
        finally:
            self.note(closed=1)

    def close(self) -> None:
        """Do nothing; the engine holds no resource."""

    def count(self) -> int:
        """Count one more call and return its number."""
        with self._lock:
            self.calls += 1
            return self.calls

    def note(self, **more: int) -> None:
        """Count what became of a stream."""
        with self._lock:
            self.streams = Streams(*(getattr(self.streams, name) + more.get(name, 0) for name in Streams._fields))
            self._lock.notify_all()

    def closed(self, streams: int, timeout: float = 30.0) -> bool:
        """Wait until so many streams have been closed, and say whether they have."""
        with self._lock:
            return self._lock.wait_for(lambda: self.streams.closed >= streams, timeout)

    def events(self, request: Request, number: int) -> Iterator[Any]:
        """Yield the events of the stream that answers the call of that number; where it breaks, the last is an error."""
        response = self.reply(request, number)
        after, fault = self.breaks.get(number, (-1, None))
        given = 0
        for event in stream_events(response, None if self.split is None else self.split(response.text or "")):
            if fault is not None and event.type == "delta" and given == after:
                yield _Break(fault)
                return
            given += event.type == "delta"
            yield event
        if fault is not None and given <= after:
            raise ValueError(f"call {number} was to break after {after} pieces, but has only {given}")

    @staticmethod
    def unbroken(event: Any) -> Any:
        """Return the event, or raise where it says that the stream breaks here."""
        if isinstance(event, _Break):
            raise event.fault
        return event

    def reply(self, request: Request, number: int) -> Response:
        """Return the answer to the call of that number, or raise its fault."""
        if number in self.faults:
            raise self.faults[number]
        prompt = read_prompt(*messages_of(request))
        if callable(self.script):
            answer = self.script(prompt)
        elif isinstance(self.script, str | Mapping):
            answer = self.script
        else:
            answer = self.script[(number - 1) % len(self.script)]
        if isinstance(answer, str):
            return respond(request, answer)
        return respond(request, write(answer, prompt.task.style if prompt.task else "json"))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Condition()

    def dump_state(self) -> dict[str, Any]:
        """Return the script as JSON-able data; functions, faults and a gate cannot be saved so."""
        if callable(self.script) or self.faults or self.breaks or self.gate is not None or self.split is not None:
            raise TypeError("a scripted engine with a function, with faults or with a gate is no plain data")
        script = self.script if isinstance(self.script, str | Mapping) else list(self.script)
        return {"script": script, "delay": self.delay}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> ScriptedEngine:
        """Make an engine from what :meth:`dump_state` returned."""
        return cls(**state)


class _Break:
    """Stands in a stream where it is to raise."""

    type = "delta"

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class AsyncScriptedEngine:
    """The async half of a :class:`ScriptedEngine`, with which it shares script and count."""

    simulated = True

    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """Answer one request, or raise its fault; the wait can be cancelled."""
        number = self.engine.count()
        if self.engine.delay:
            await asyncio.sleep(self.engine.delay)
        return self.engine.reply(request, number)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the events of one answer, piece by piece; waiting for the next can be cancelled."""
        engine = self.engine
        number = engine.count()
        engine.note(opened=1)
        try:
            if engine.delay:
                await asyncio.sleep(engine.delay)
            for event in engine.events(request, number):
                if engine.gate is not None and event.type == "delta":
                    await engine.gate.await_()
                yield engine.unbroken(event)
            engine.note(ended=1)
        finally:
            engine.note(closed=1)

    async def aclose(self) -> None:
        """Do nothing; the engine holds no resource."""

    def dump_state(self) -> dict[str, Any]:
        """Return the script as JSON-able data."""
        return self.engine.dump_state()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncScriptedEngine:
        """Make an engine with a script of its own from what :meth:`dump_state` returned."""
        return cls(ScriptedEngine.load_state(state))


def scripted_lm(
    script: Script,
    *,
    delay: float = 0.0,
    faults: Mapping[int, Fault] | None = None,
    breaks: Mapping[int, tuple[int, Fault]] | None = None,
    gate: Gate | None = None,
    split: Callable[[str], Sequence[str]] | None = None,
    cache: bool = False,
    **options: Any,
) -> dspy.LM:
    """Return a ``dspy.LM`` over a new :class:`ScriptedEngine`, which is its ``engine``.

    Each has a model string of its own, so that no two share entries of DSPy's cache. The cache is off unless asked
    for, because a script often answers the same prompt in different ways. DSPy's retries are off too.

    Args:
        script: see :class:`ScriptedEngine`; ``delay`` (seconds), ``faults``, ``breaks``, ``gate`` and ``split`` likewise.
        cache: whether DSPy may answer from its cache.
        options: handed to ``dspy.LM``.
    """
    import dspy

    engine = ScriptedEngine(script, delay=delay, faults=faults, breaks=breaks, gate=gate, split=split)
    name = options.pop("model", f"scripted/{uuid.uuid4().hex[:12]}")
    options.setdefault("num_retries", 0)
    return dspy.LM(name, engine=engine, async_engine=AsyncScriptedEngine(engine), cache=cache, **options)
