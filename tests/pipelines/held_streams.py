"""Streams that are held after their first word."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from stream_helpers import real

import dspex_lab as dx
from dspex_lab.testing import Gate, Streams, scripted_lm


class Held:
    """A pipeline whose model stands still after its first word; then a step that must not begin."""

    def __init__(self, lab: dx.Lab, on_loop: bool) -> None:
        self.lab = lab
        self.gate = Gate()
        self.on_loop = on_loop
        self.others = set(threading.enumerate())
        self.lm = lab.use(scripted_lm({"answer": "one two three"}, gate=self.gate, split=lambda t: [*t.partition("one ")]))
        if on_loop:
            real(self.lm)
        self.began: list[str] = []
        self.recorded = threading.Event()
        lab.bus.subscribe(lambda record: self.recorded.set() if type(record).__name__ == "RunRecord" else None)
        self.gate.open(2)

    def pipeline(self) -> dx.Pipeline:
        def after(answer: str) -> str:
            self.began.append(answer)
            return answer

        return dx.pipeline("p", a=dspy.Predict("question -> answer"), b=after)

    def check(self) -> None:
        """Look whether all has ended: on the loop by itself, in a thread with the engine's next word."""
        assert self.recorded.wait(30)
        if not self.on_loop:
            self.gate.open()
        assert self.lm.engine.closed(1)
        assert self.lm.engine.streams == Streams(opened=1, closed=1)
        for thread in set(threading.enumerate()) - self.others:
            if thread.name == "dspex-stream":
                thread.join(30)
                assert not thread.is_alive()
        assert self.began == []
        self.lab.store.flush()
        runs = self.lab.sql("SELECT status FROM runs")
        assert list(runs["status"]) == ["cancelled"]
        assert list(self.lab.sql("SELECT name, status FROM spans WHERE kind = 'step'").iloc[0]) == ["a", "cancelled"]
        assert self.lab.run(lambda x: x, x=1).status == "complete", "the Lab lives on"


@pytest.fixture(params=[False, True], ids=["thread", "loop"])
def held(lab: dx.Lab, request: pytest.FixtureRequest) -> Held:
    return Held(lab, request.param)


def until_token(events: Iterator[Any]) -> None:
    for event in events:
        if event.kind == "token":
            return
