"""A language model that says what your test tells it to say.

::

    from dspex_lab.testing import Reply, ToolUse, scripted_lm

    lm = scripted_lm({"label": "billing"})                 # every answer, written as the adapter wants it
    lm = scripted_lm(["first", "second"])                  # in turn, and round again
    lm = scripted_lm(lambda prompt: {"n": len(prompt.text)})   # computed from what was asked
    lm = scripted_lm(Reply(tools=[ToolUse("search", {"q": "card"})]))   # tools, thinking, log probabilities, usage
    lm = scripted_lm({"n": 1}, delay=0.05, faults={2: TimeoutError("slow")})   # the second call raises
    lm = scripted_lm({"n": 1}, chances={ServerError("sorry"): 0.1}, seed=7)    # one in ten, the same ones in each run

    with dspy.context(lm=lm):
        ...
    assert lm.engine.calls == 1
    print(lm.engine.prompts[0].question)

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
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dspex_lab.lms.exemplar._engine import messages_of
from dspex_lab.lms.exemplar._prompt import Prompt, read_prompt
from dspex_lab.testing._gate import Gate
from dspex_lab.testing._reply import Answer, answer_from, check_script
from dspex_lab.testing._scripted_events import events_of, respond

if TYPE_CHECKING:
    import dspy
    from dspy.lm15 import Request, Response

__all__ = ["Answer", "AsyncScriptedEngine", "Delay", "Fault", "Gate", "Script", "ScriptedEngine", "Streams", "scripted_lm"]

#: All answers: the same for every call, one after the other in a circle, or computed from the prompt.
Script: TypeAlias = Answer | Sequence[Answer] | Callable[[Prompt], Answer]
Fault: TypeAlias = BaseException | type[BaseException]
#: Seconds before an answer: always the same, in turn and round again, or computed from the prompt.
Delay: TypeAlias = float | Sequence[float] | Callable[[Prompt], float]


class Streams(NamedTuple):
    """How many streams an engine opened, how many of them reached their end, and how many were closed, ended or not."""

    opened: int = 0
    ended: int = 0
    closed: int = 0


class ScriptedEngine:
    """A DSPy engine that answers from a script. Thread-safe; can be pickled if its script can.

    Args:
        script: one answer for every call, a sequence of answers used in turn and then from the start again, or a
            function of the prompt. An answer is the text of a completion, a dict of output fields, which is
            written in the form the prompt's adapter reads (as JSON where the request asks for it, as the call of a tool where
            the request forces one), or a :class:`Reply`. The function gets ``prompt.text`` (the last user
            message), ``prompt.question`` (the input fields), ``prompt.demonstrations`` and ``prompt.task``.
        delay: seconds to wait before each answer; see :data:`Delay`.
        faults: what to raise instead of answering, by the number of the call, counted from 1.
        chances: the probability of each fault, drawn for each call from ``seed``; which calls fail depends on their number
            alone, not on the threads they come from.
        breaks: how many pieces a stream gives before it raises what, by the number of the call.
        gate: holds each piece of a stream back until it is let through.
        split: cuts a completion into the pieces of its stream; at the ends of words by default.
        usage: token counts of each answer (``input_tokens``, …) in place of the simulated ones.
        keep: how many requests are kept, the latest ones.

    Attributes:
        calls: how many calls were made, faulty ones included; sync and async calls count together.
        streams: how many of them were streams, and what became of these.
    """

    simulated = True

    def __init__(
        self,
        script: Script,
        *,
        delay: Delay = 0.0,
        faults: Mapping[int, Fault] | None = None,
        chances: Mapping[Fault, float] | None = None,
        seed: int = 0,
        breaks: Mapping[int, tuple[int, Fault]] | None = None,
        gate: Gate | None = None,
        split: Callable[[str], Sequence[str]] | None = None,
        usage: Mapping[str, int] | None = None,
        keep: int = 1000,
    ) -> None:
        check_script(script)
        self.script = script
        self.delay = delay
        self.faults = dict(faults or {})
        self.chances = dict(chances or {})
        if any(not 0 <= p <= 1 for p in self.chances.values()) or sum(self.chances.values()) > 1 + 1e-9:
            raise ValueError("the probabilities of faults lie between 0 and 1 and add up to at most 1")
        self.seed = seed
        self.breaks = dict(breaks or {})
        self.gate = gate
        self.split = split
        self.usage = dict(usage or {})
        self.calls = 0
        self.streams = Streams()
        self._seen: deque[tuple[Request, Prompt]] = deque(maxlen=keep)
        self._lock = threading.Condition()

    @property
    def requests(self) -> list[Request]:
        """The requests that are kept, in their order."""
        with self._lock:
            return [request for request, _ in self._seen]

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts of :attr:`requests`, as a function of the script sees them."""
        with self._lock:
            return [prompt for _, prompt in self._seen]

    def complete(self, request: Request) -> Response:
        """Answer one request, or raise its fault."""
        number = self.count()
        prompt = self.read(request)
        if seconds := self.wait(number, prompt):
            time.sleep(seconds)
        return self.reply(request, number, prompt)

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the events of one answer, piece by piece; nothing is asked before the first is."""
        number = self.count()
        self.note(opened=1)
        try:
            prompt = self.read(request)
            if seconds := self.wait(number, prompt):
                time.sleep(seconds)
            for event in self.events(request, number, prompt):
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
            self._lock.notify_all()
            return self.calls

    def read(self, request: Request) -> Prompt:
        """Keep a request, and return its prompt."""
        prompt = read_prompt(*messages_of(request))
        with self._lock:
            self._seen.append((request, prompt))
        return prompt

    def reached(self, calls: int, timeout: float = 30.0) -> bool:
        """Wait until so many calls have been made, and say whether they have."""
        with self._lock:
            return self._lock.wait_for(lambda: self.calls >= calls, timeout)

    def note(self, **more: int) -> None:
        """Count what became of a stream."""
        with self._lock:
            self.streams = Streams(*(getattr(self.streams, name) + more.get(name, 0) for name in Streams._fields))
            self._lock.notify_all()

    def closed(self, streams: int, timeout: float = 30.0) -> bool:
        """Wait until so many streams have been closed, and say whether they have."""
        with self._lock:
            return self._lock.wait_for(lambda: self.streams.closed >= streams, timeout)

    def wait(self, number: int, prompt: Prompt) -> float:
        """Return the seconds to wait before the answer to the call of that number."""
        if callable(self.delay):
            return self.delay(prompt)
        if isinstance(self.delay, Sequence):
            return self.delay[(number - 1) % len(self.delay)] if self.delay else 0.0
        return self.delay

    def fault(self, number: int) -> Fault | None:
        """Return what the call of that number raises, if anything."""
        if number in self.faults:
            return self.faults[number]
        if self.chances:
            at = random.Random(f"{self.seed}/{number}").random()  # noqa: S311 - a repeatable draw
            for fault, chance in self.chances.items():
                if at < chance:
                    return fault
                at -= chance
        return None

    def events(self, request: Request, number: int, prompt: Prompt) -> Iterator[Any]:
        """Yield the events of the stream that answers the call of that number; where it breaks, the last is an error."""
        response = self.reply(request, number, prompt)
        after, fault = self.breaks.get(number, (-1, None))
        given = 0
        for event in events_of(response, self.split):
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

    def reply(self, request: Request, number: int, prompt: Prompt) -> Response:
        """Return the answer to the call of that number, or raise its fault."""
        fault = self.fault(number)
        if fault is not None:
            raise fault
        return respond(request, answer_from(self.script, number, prompt), prompt, self.usage)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        # What was asked stays here: a pickle must not carry the prompts of a process to another.
        state["_seen"] = deque(maxlen=self._seen.maxlen)
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Condition()

    def dump_state(self) -> dict[str, Any]:
        """Return the script as JSON-able data; functions, replies, faults and a gate cannot be saved so."""
        held = (self.faults, self.breaks, self.chances, self.gate, self.split)
        answers = list(self.script) if isinstance(self.script, Sequence) and not isinstance(self.script, str) else [self.script]
        if callable(self.delay) or any(held) or not all(isinstance(answer, str | Mapping) for answer in answers):
            raise TypeError("a scripted engine with a function, a Reply, with faults or with a gate is no plain data")
        script = self.script if isinstance(self.script, str | Mapping) else answers
        state = {"script": script, "delay": self.delay if isinstance(self.delay, int | float) else list(self.delay)}
        return {**state, "usage": self.usage} if self.usage else state

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
        prompt = self.engine.read(request)
        if seconds := self.engine.wait(number, prompt):
            await asyncio.sleep(seconds)
        return self.engine.reply(request, number, prompt)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the events of one answer, piece by piece; waiting for the next can be cancelled."""
        engine = self.engine
        number = engine.count()
        engine.note(opened=1)
        try:
            prompt = engine.read(request)
            if seconds := engine.wait(number, prompt):
                await asyncio.sleep(seconds)
            for event in engine.events(request, number, prompt):
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


def scripted_lm(script: Script, *, cache: bool = False, model: str | None = None, **options: Any) -> dspy.LM:
    """Return a ``dspy.LM`` over a new :class:`ScriptedEngine`, which is its ``engine``.

    Each has a model string of its own, so that no two share entries of DSPy's cache. The cache is off unless asked
    for, because a script often answers the same prompt in different ways. DSPy's retries are off too.

    Args:
        script: see :class:`ScriptedEngine`.
        cache: whether DSPy may answer from its cache.
        model: the model string, ``"scripted/…"`` where None.
        options: the arguments of :class:`ScriptedEngine`, by their names; all others are handed to ``dspy.LM``.
    """
    import dspy

    engine = ScriptedEngine(script, **{name: options.pop(name) for name in _ENGINE_OPTIONS if name in options})
    options.setdefault("num_retries", 0)
    name = model or f"scripted/{uuid.uuid4().hex[:12]}"
    return dspy.LM(name, engine=engine, async_engine=AsyncScriptedEngine(engine), cache=cache, **options)


# ``seed`` goes to the engine, which draws from it, and not into the request.
_ENGINE_OPTIONS = ("delay", "faults", "chances", "seed", "breaks", "gate", "split", "usage", "keep")
