"""A prompt made ready to be answered: what is asked, what was shown, what is demanded, and the evidence as it is found."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from dspex_lab.lms.exemplar import _numbers as numbers
from dspex_lab.lms.exemplar._constraints import NONE, Constraints, constraints_in, merged
from dspex_lab.lms.exemplar._prompt import Demonstration, FieldSpec, Prompt, Task
from dspex_lab.lms.exemplar._qa import question_in
from dspex_lab.lms.exemplar._shapes import Shape
from dspex_lab.lms.exemplar._similarity import Features, Scores, features, index, vocabulary
from dspex_lab.lms.exemplar._trajectory import Call, read_trajectory, results_text

#: The last part of the names of fields that say why.
REASONS = vocabulary("reasoning rationale thought thoughts explanation justification")
_TRAJECTORY = "trajectory"


class Reading:
    """What the answers to one prompt are made from.

    Attributes:
        inputs: the fields of the question; what tools gave stands in the place of a trajectory.
        given: the inputs of each demonstration, as one text.
        likeness: how alike each demonstration is to the question.
        calls: what an agent did for this question, in order.
        evidence: sentences that say what each answer rests on.
        share: the part of the evidence that spoke for the last choice; None before there is one.
    """

    def __init__(self, prompt: Prompt, task: Task) -> None:
        self.task = task
        self.inputs = prompt.question
        self.feedback = prompt.feedback
        self.calls: list[Call] = read_trajectory(self.inputs[_TRAJECTORY]) if _TRAJECTORY in self.inputs else []
        if self.calls and task.role != "agent":
            self.inputs[_TRAJECTORY] = "\n".join(results_text(self.calls))
        self.text = "\n".join(self.inputs.values())
        self.question = features(self.text)
        self.demonstrations = prompt.demonstrations
        self.given = ["\n".join(d.inputs.values()) for d in self.demonstrations]
        self.likeness = _likeness(self.inputs, self.demonstrations, self.given)
        self.evidence: list[str] = []
        self.share: float | None = None

    def say(self, sentence: str) -> None:
        """Note what an answer rests on."""
        self.evidence.append(sentence)

    def about(self, field: FieldSpec) -> str:
        """Return all that the prompt says on a field and the task."""
        said = f"{self.task.instructions}\n{field.description}"
        return f"{said}\n{self.feedback}" if self.feedback else said

    def wanted(self, field: FieldSpec) -> Constraints:
        """Return what the prompt demands of a field: its form by the instructions, and all that feedback says."""
        names = tuple(f.name for f in self.task.outputs)
        told = constraints_in(f"{self.task.instructions}\n{field.description}", field.name, names, False)
        if not self.feedback:
            return told
        return merged(told, constraints_in(self.feedback, field.name, names, True))

    def refusals(self, field: FieldSpec) -> Constraints:
        """Return what feedback demands of a field; nothing without feedback."""
        if not self.feedback:
            return NONE
        return constraints_in(self.feedback, field.name, tuple(f.name for f in self.task.outputs), True)

    def blamed(self, field: FieldSpec) -> bool:
        """Whether feedback is about this field: it names it, or names none and there is no other."""
        said = {f.name for f in self.task.outputs for line in self.feedback.splitlines() if _names(line, f.name)}
        if said:
            return field.name in said
        return sum(not explains(f) for f in self.task.outputs) == 1

    def asked(self) -> tuple[str, list[str]] | None:
        """Return the question and the passages that may answer it; None where the inputs are no such pair."""
        return question_in(self.inputs)

    def request(self) -> str:
        """Return what was asked of an agent: all inputs but what its tools gave."""
        return "\n".join(v for n, v in self.inputs.items() if n != _TRAJECTORY)

    def labelled(self, name: str) -> str | None:
        """Return what the text gives behind ``name:`` at the beginning of a line; None if it does not."""
        if ":" not in self.text:
            return None
        spoken = name.replace("_", " ")
        if name not in self.text and spoken not in self.text.lower():
            return None
        found = re.search(rf"^[\s*•-]*(?:{re.escape(name)}|{re.escape(spoken)})[ \t]*:[ \t]*(\S.*)$", self.text, re.I | re.M)
        return found.group(1).strip() if found else None


def explains(field: FieldSpec) -> bool:
    """Whether a field says why, by the end of its name."""
    return field.shape.kind == "str" and field.name.lower().rsplit("_", 1)[-1] in REASONS


def _names(line: str, name: str) -> bool:
    """Whether a line of feedback that is no earlier answer names a field."""
    return not line.startswith(f"{name}: ") and bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line))


def _likeness(inputs: dict[str, str], demonstrations: Sequence[Demonstration], given: Sequence[str]) -> Scores:
    """Return how alike each demonstration is to the question, on the inputs that the demonstration supplies."""
    out = np.zeros(len(demonstrations))
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, demonstration in enumerate(demonstrations):
        groups.setdefault(tuple(demonstration.inputs), []).append(i)
    for names, places in groups.items():
        asked: Features = features("\n".join(inputs.get(name, "") for name in names))
        out[places] = index(tuple(given[i] for i in places)).likeness(asked)
    return out


def read_value(shape: Shape, raw: Any) -> Any:
    """Return a demonstrated value as its type; None if it is not of that type."""
    if raw is None or not isinstance(raw, str):
        return numbers.to_number(raw) if shape.kind in ("int", "float") else raw
    if shape.kind in ("int", "float"):
        return numbers.to_number(raw)
    if shape.kind == "bool":
        return {"true": True, "false": False}.get(raw.strip().lower())
    if shape.kind in ("list", "object", "tuple"):
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            return None
    return raw


def spread(given: Sequence[tuple[int, Any]], count: int) -> list[Any]:
    """Return one value for each of ``count`` demonstrations, None where one gives nothing."""
    out: list[Any] = [None] * count
    for i, value in given:
        out[i] = value
    return out


def short(text: str, limit: int = 60) -> str:
    """Return ``text`` in one line of at most ``limit`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
