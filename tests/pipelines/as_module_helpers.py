"""A pipeline as a program, its examples and a metric."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.pipelines import when

TEAMS = [("parcel lost in the post", "P7"), ("refund my money", "K2"), ("reset the password", "X9")]
MORE = [("the parcel came late", "P7"), ("money back please", "K2"), ("my password is gone", "X9")]


def examples(times: int = 2) -> list[dspy.Example]:
    return [dspy.Example(text=t, team=c).with_inputs("text") for t, c in (TEAMS + MORE) * times]


def right(example: Any, prediction: Any, trace: Any = None, *rest: Any) -> bool:
    return bool(example.team == prediction.team)


@pytest.fixture
def teams() -> dx.Pipeline:
    """A native step, a DSPy step, a routed operation in a branch, and a native step."""
    return dx.pipeline(
        "teams",
        text=dx.step(lambda text: text.strip(), replaces=True, outputs=["text"]),
        team=dspy.Predict("text -> team: Literal['P7', 'K2', 'X9']"),
        note=when("team == 'K2'", dx.chain_of_thought("text -> note")),
        code=lambda team: team.lower(),
    )


@pytest.fixture
def program(teams: dx.Pipeline, lab: dx.Lab) -> Any:
    return teams.as_module(lab)
