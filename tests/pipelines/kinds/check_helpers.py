"""A pipeline of one checked step, and a function that answers by what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspex_lab as dx
from dspex_lab.pipelines import Pipeline, StepOutcome


def one(item: Any, name: str = "reply") -> Pipeline:
    return dx.pipeline("p", **{name: item})


def parts(outcome: StepOutcome) -> list[tuple[str, str]]:
    return [(name, part.status) for name, part in outcome.parts.items()]


class Guess:
    """A function that answers by what it is told; keeps what that was."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.heard = list(answers), list[Any]()

    def function(self) -> Callable[..., Any]:
        def guess(question: str, feedback: str | None = None) -> Any:
            self.heard.append(feedback)
            answer = self.answers[len(self.heard) - 1]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return guess
