"""What the tests of streamed runs share: what is asked, and what its events say."""

from __future__ import annotations

from typing import Any

import dspy

import dspex_lab as dx
from dspex_lab.pipelines import StreamEvent

ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]
ANSWER = {"answer": "one two three", "score": 3}


def named(adapter: Any) -> str:
    return type(adapter).__name__


def real(lm: Any) -> Any:
    """Let a scripted model pass for a provider's, whose calls run on the event loop."""
    lm.engine.simulated = lm._async_engine_spec.simulated = False
    return lm


def tokens(events: list[StreamEvent], **about: Any) -> list[tuple[str | None, str]]:
    found = [e for e in events if e.kind == "token" and all(e.data[k] == v for k, v in about.items())]
    return [(e.field, e.value) for e in found]


def text(events: list[StreamEvent], step: str, field: str | None) -> str:
    return "".join(e.value for e in events if (e.kind, e.step, e.field) == ("token", step, field))


async def gather(stream: Any) -> list[StreamEvent]:
    return [event async for event in stream]


def asked() -> dx.Pipeline:
    return dx.pipeline("p", a=dspy.Predict("question -> answer, score: int"), size=lambda answer: len(answer))


def compare_outcomes(plain: dx.Result, streamed: dx.Result) -> None:
    assert [(s.name, s.status, s.outputs, repr(s.error)) for s in plain.steps.values()] == [
        (s.name, s.status, s.outputs, repr(s.error)) for s in streamed.steps.values()
    ]
    assert plain.outputs == streamed.outputs
