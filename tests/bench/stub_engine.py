"""A DSPy engine that costs next to nothing itself: the same answer to the same prompt, after a wait.

A module of its own, so that workers can import it. What is asked for by a field with ``Literal`` is drawn from the prompt, so
programs differ in their scores and optimizers have something to choose from; any other field gets a text that none had before.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
import zlib
from typing import TYPE_CHECKING, Any

import dspy

from dspex_lab.lms import register_engine
from dspex_lab.lms.exemplar import AsyncExemplarEngine, ExemplarEngine

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

LABELS = ("K7", "Q2", "Z9", "M4")
SIGNATURE = "message: str -> code: Literal['K7', 'Q2', 'Z9', 'M4']"
#: What DSPy's chat adapter, and its JSON adapter, ask for at the end of a prompt.
_CHAT, _JSON = re.compile(r"`\[\[ ## (\w+) ## \]\]`"), re.compile(r"`(\w+)`")


@register_engine
class StubEngine:
    """The sync engine.

    Args:
        delay: seconds before each answer.
        say: how texts that nobody had before begin; another word gives another search.
    """

    simulated = True

    def __init__(self, delay: float = 0.0, say: str = "Text") -> None:
        self.delay, self.say = delay, say
        self._calls, self._texts = itertools.count(1), itertools.count(1)
        self.calls = 0

    def complete(self, request: Request) -> Response:
        """Answer one request."""
        if self.delay:
            time.sleep(self.delay)
        return self.reply(request)

    def reply(self, request: Request) -> Response:
        """Return the answer."""
        from dspy.lm15 import Message, Response, TextPart, Usage

        self.calls = next(self._calls)
        text = "\n".join(part.text for message in request.messages for part in message.parts)
        end = text[text.rfind("Respond with") :]
        asked = [name for name in _CHAT.findall(end) if name != "completed"]
        drawn = LABELS[zlib.crc32(f"{request.system}\n{text}".encode()) % len(LABELS)]
        said = {name: drawn if name == "code" else self.novel() for name in asked or _JSON.findall(end)}
        lines = [f"[[ ## {name} ## ]]\n{value}" for name, value in said.items()]
        answer = "\n\n".join([*lines, "[[ ## completed ## ]]"]) if asked else json.dumps(said)
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(answer)]),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1),
        )

    def novel(self) -> str:
        """Return a text that was not said before."""
        return f"{self.say} {next(self._texts)}."

    def close(self) -> None:
        """It holds nothing."""

    def dump_state(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return {"delay": self.delay, "say": self.say}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> StubEngine:
        """Make one from what :meth:`dump_state` gave."""
        return cls(**state)


@register_engine
class AsyncStubEngine:
    """The async half, for who asks for one."""

    simulated = True

    def __init__(self, engine: StubEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """Answer one request."""
        if self.engine.delay:
            await asyncio.sleep(self.engine.delay)
        return self.engine.reply(request)

    async def aclose(self) -> None:
        """It holds nothing."""

    def dump_state(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return self.engine.dump_state()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncStubEngine:
        """Make one from what :meth:`dump_state` gave."""
        return cls(StubEngine.load_state(state))


def stub_lm(delay: float = 0.0, *, cache: bool = False, say: str = "Text") -> Any:
    """Return a ``dspy.LM`` over a new engine, which is its ``engine``."""
    engine = StubEngine(delay, say)
    return dspy.LM("stub/engine", cache=cache, num_retries=0, engine=engine, async_engine=AsyncStubEngine(engine))


def rows(count: int, shift: int = 0) -> list[dict[str, str]]:
    """Return rows of a task of four codes."""
    return [{"message": f"Case {at * 7 + shift}", "code": LABELS[at % 4]} for at in range(count)]


def right(example: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> float:
    """A metric in the form that every optimizer takes."""
    return float(example.code == prediction.code)


def program() -> Any:
    """Return a program of one step."""
    return dspy.Predict(dspy.Signature(SIGNATURE, "Give the code."))


@register_engine
class CountingEngine(ExemplarEngine):
    """The offline engine, which writes a byte into a file for each call that is really made, whatever becomes of its process.

    Args:
        latency: seconds before each answer.
        file: whose size is the number of calls.
    """

    def __init__(self, latency: float = 0.0, file: str = "") -> None:
        super().__init__(latency)
        self.file = file

    def complete(self, request: Request) -> Response:
        """Answer one request."""
        with open(self.file, "ab") as out:
            out.write(b".")
        return super().complete(request)

    def dump_state(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return {"latency": self.latency, "file": self.file}


def counting_lm(latency: float, file: str) -> Any:
    """Return a ``dspy.LM`` over a new one; DSPy's cache is on, as it is for a model that costs money."""
    engine = CountingEngine(latency, file)
    return dspy.LM("offline/counting", cache=True, num_retries=0, engine=engine, async_engine=AsyncExemplarEngine(latency))
