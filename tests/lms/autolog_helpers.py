"""What the tests of recorded DSPy calls share: what was told, and a program of two steps."""

from __future__ import annotations

from typing import Any

import dspy

from dspex_lab.events import LMCall, RunRecord

ANSWER = {"answer": "yes", "reasoning": "so"}


class Log(list[Any]):
    """What was told, by kind; thread-safe as lists are."""

    def of(self, kind: type) -> list[Any]:
        return [record for record in self if type(record) is kind]

    @property
    def runs(self) -> list[RunRecord]:
        return self.of(RunRecord)

    @property
    def calls(self) -> list[LMCall]:
        return self.of(LMCall)


class Two(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str) -> Any:
        self.first(question=question)
        return self.second(question=question)

    async def aforward(self, question: str) -> Any:
        await self.first.acall(question=question)
        return await self.second.acall(question=question)


def only(log: Log) -> RunRecord:
    (run,) = log.runs
    return run
