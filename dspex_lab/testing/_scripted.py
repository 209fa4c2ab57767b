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
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from dspex_lab.lms._exemplar import events, messages_of, respond
from dspex_lab.lms._prompt import Prompt, read_prompt
from dspex_lab.lms._style import write

if TYPE_CHECKING:
    import dspy
    from dspy.lm15 import Request, Response

#: One answer: the completion as it stands, or the value of each output field.
Answer: TypeAlias = str | Mapping[str, Any]
#: All answers: the same for every call, one after the other in a circle, or computed from the prompt.
Script: TypeAlias = Answer | Sequence[Answer] | Callable[[Prompt], Answer]


class ScriptedEngine:
    """A DSPy engine that answers from a script. Thread-safe; can be pickled if its script can.

    Args:
        script: one answer for every call, a sequence of answers used in turn and then from the start again, or a
            function of the prompt. An answer is the text of a completion, or a dict of output fields, which is
            written in the form the prompt's adapter reads. The function gets ``prompt.text`` (the last user
            message), ``prompt.question`` (the input fields), ``prompt.demonstrations`` and ``prompt.task``.
        delay: seconds to wait before each answer.
        faults: what to raise instead of answering, by the number of the call, counted from 1.

    Attributes:
        calls: how many calls were made, faulty ones included; sync and async calls count together.
    """

    simulated = True

    def __init__(
        self, script: Script, *, delay: float = 0.0, faults: Mapping[int, BaseException | type[BaseException]] | None = None
    ) -> None:
        if isinstance(script, Sequence) and not script:
            raise ValueError("a script needs at least one answer")
        self.script = script
        self.delay = delay
        self.faults = dict(faults or {})
        self.calls = 0
        self._lock = threading.Lock()

    def complete(self, request: Request) -> Response:
        """Answer one request, or raise its fault."""
        number = self.count()
        if self.delay:
            time.sleep(self.delay)
        return self.reply(request, number)

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the events of one answer, word by word."""
        return events(self.complete(request))

    def close(self) -> None:
        """Do nothing; the engine holds no resource."""

    def count(self) -> int:
        """Count one more call and return its number."""
        with self._lock:
            self.calls += 1
            return self.calls

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
        self._lock = threading.Lock()

    def dump_state(self) -> dict[str, Any]:
        """Return the script as JSON-able data; faults and a script that is a function cannot be saved so."""
        if callable(self.script) or self.faults:
            raise TypeError("a scripted engine with a function or with faults is no plain data")
        script = self.script if isinstance(self.script, str | Mapping) else list(self.script)
        return {"script": script, "delay": self.delay}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> ScriptedEngine:
        """Make an engine from what :meth:`dump_state` returned."""
        return cls(**state)


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
        """Yield the events of one answer, word by word."""
        for event in events(await self.complete(request)):
            yield event

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
    faults: Mapping[int, BaseException | type[BaseException]] | None = None,
    cache: bool = False,
    **options: Any,
) -> dspy.LM:
    """Return a ``dspy.LM`` over a new :class:`ScriptedEngine`, which is its ``engine``.

    Each has a model string of its own, so that no two share entries of DSPy's cache. The cache is off unless asked
    for, because a script often answers the same prompt in different ways. DSPy's retries are off too.

    Args:
        script: see :class:`ScriptedEngine`; ``delay`` (seconds) and ``faults`` likewise.
        cache: whether DSPy may answer from its cache.
        options: handed to ``dspy.LM``.
    """
    import dspy

    engine = ScriptedEngine(script, delay=delay, faults=faults)
    name = options.pop("model", f"scripted/{uuid.uuid4().hex[:12]}")
    options.setdefault("num_retries", 0)
    return dspy.LM(name, engine=engine, async_engine=AsyncScriptedEngine(engine), cache=cache, **options)
