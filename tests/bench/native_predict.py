"""``NativePredict`` against ``dspy.Predict``: the same fixed-answer engine, the same run, the same answers.

    python tests/bench/native_predict.py [rounds]

The overhead is a call's time less the engine's own, measured alone. The rows without a cache are what the engine is asked
each time; those with one are hits in DSPy's memory cache, where no engine is asked at all.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import dspy
from dspy.lm15 import Message, Response, TextPart, Usage

from dspex_lab.lms import DirectCalls
from dspex_lab.native._predict import NativePredict

CHAT = "[[ ## {} ## ]]\n{}\n\n"
TYPED = "question, context: list[str] -> answer: str, confidence: float, label: Literal['a', 'b']"


class FixedEngine:
    """Gives one answer, made anew for each call as an engine must."""

    def __init__(self, text: str) -> None:
        self.text = text

    def complete(self, request: Any) -> Response:
        message = Message.assistant([TextPart(self.text)])
        usage = Usage(input_tokens=10, output_tokens=5)
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


class AsyncFixedEngine:
    def __init__(self, engine: FixedEngine) -> None:
        self.engine = engine

    async def complete(self, request: Any) -> Response:
        return self.engine.complete(request)


def cases() -> Iterator[tuple[str, Any, dict[str, Any], dict[str, Any]]]:
    plain = {"question": "Is it?"}
    typed = {**plain, "context": ["first", "second"]}
    out = {"answer": "yes", "confidence": 0.5, "label": "a"}
    yield "Predict, 2 fields", dspy.Predict("question -> answer"), plain, {"answer": "yes"}
    yield "ChainOfThought", dspy.ChainOfThought("question -> answer"), plain, {"reasoning": "so", "answer": "yes"}
    yield "Predict, 5 typed fields", dspy.Predict(TYPED), typed, out
    shown = dspy.Predict(TYPED)
    shown.demos = [dspy.Example(**typed, **out) for _ in range(8)]
    yield "… with 8 demonstrations", shown, typed, out


def fixed_lm(text: str, cache: bool) -> tuple[FixedEngine, Any]:
    engine = FixedEngine(text)
    name = f"fixed/{uuid.uuid4().hex}"
    return engine, dspy.LM(name, engine=engine, async_engine=AsyncFixedEngine(engine), cache=cache, num_retries=0)


def times(work: Callable[[], Any], rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        clock = time.perf_counter()
        work()
        found.append(time.perf_counter() - clock)
    return found


async def atimes(work: Callable[[], Any], rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        clock = time.perf_counter()
        await work()
        found.append(time.perf_counter() - clock)
    return found


def medians(works: list[Callable[[], Any]], rounds: int, asynchronous: bool) -> list[float]:
    """Return the median of each in µs; they take turns, so that a slow moment of the machine meets all."""
    samples: list[list[float]] = [[] for _ in works]
    for turn in range(11):
        for sample, work in zip(samples, works, strict=True):
            found = asyncio.run(atimes(work, rounds // 10)) if asynchronous else times(work, rounds // 10)
            sample += found if turn else []
    return [1e6 * statistics.median(sample) for sample in samples]


def row(name: str, module: Any, inputs: dict[str, Any], out: dict[str, Any], *, form: str, cache: bool, asynchronous: bool,
        rounds: int) -> str:  # fmt: skip
    in_chat = "".join(CHAT.format(*item) for item in out.items()) + "[[ ## completed ## ]]"
    engine, lm = fixed_lm(in_chat if form == "chat" else json.dumps(out), cache)
    native = NativePredict.from_dspy(module)
    native.transport = DirectCalls()
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter() if form == "json" else None):
        assert dict(module(**inputs).items()) == native(**inputs) == out
        works: list[Callable[[], Any]] = [lambda: module(**inputs), lambda: native(**inputs)]
        if asynchronous:
            works = [lambda: module.acall(**inputs), lambda: native.acall(**inputs)]
        theirs, ours = medians(works, rounds, asynchronous)
    request = type("Asked", (), {"model": "fixed"})()
    own = 0.0 if cache else 1e6 * statistics.median(times(lambda: engine.complete(request), rounds))
    ratio = (theirs - own) / (ours - own)
    what = f"{form}{', async' if asynchronous else ''}, {'memory-cache hit' if cache else 'no cache'}"
    return f"| {name} | {what} | {own:.0f} | {theirs:.0f} | {ours:.0f} | {theirs - own:.0f} | {ours - own:.0f} | {ratio:.1f}× |"


def main(rounds: int = 1000) -> None:
    print("| what | how | engine alone, µs | dspy, µs | native, µs | overhead dspy | overhead native | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    ways = [("chat", False, False), ("chat", True, False), ("json", False, False), ("chat", False, True)]
    for form, cache, asynchronous in ways:
        for case in cases():
            print(row(*case, form=form, cache=cache, asynchronous=asynchronous, rounds=rounds), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
