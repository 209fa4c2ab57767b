"""GEPA's proposers with a memory: what was rejected stands in the prompt, and is not taken if it comes again."""

from __future__ import annotations

import abc
import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.teleprompt.gepa import InstructionProposer

from dspex_lab.jobs.optimize._optimized import Rejected

#: Rejected instructions that are shown, the last ones; and letters of each.
MOST, LONGEST = 8, 1500
_SAID = (
    "These instructions were tried already and were not better. Do not propose any of them again, nor one that says the same:"
)
#: How often it is asked again where it proposes what was rejected.
TRIES = 2


def remembering(proposer: Any, rejected: list[Rejected]) -> Any:
    """Return a proposer that is told what was rejected.

    The built-in one is told so by its prompt (``additional_instructions``); another by the feedback of the last example, which
    is all that a proposer must look at.

    Args:
        proposer: GEPA's ``instruction_proposer``; None is the built-in one.
        rejected: grows while GEPA runs.
    """
    inner = InstructionProposer() if proposer is None else proposer
    if isinstance(inner, InstructionProposer):
        return Remembering(inner, rejected)
    return RememberingAny(inner, rejected)


@dataclass(frozen=True)
class _Asked:
    """What a proposer is asked for: a new instruction of one component.

    Attributes:
        candidate: the instructions as they are, by component.
        dataset: what GEPA saw of it, by component.
        name: the component.
        bad: what was rejected for it.
    """

    candidate: dict[str, str]
    dataset: Mapping[str, Sequence[Mapping[str, Any]]]
    name: str
    bad: Sequence[Rejected]


class _Asking(abc.ABC):
    """Asks for each component by itself, again where the answer was rejected before."""

    def __init__(self, inner: Any, rejected: list[Rejected]) -> None:
        self.inner, self.rejected = inner, rejected

    def __call__(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> dict[str, str]:
        """Return a new instruction for each component."""
        found: dict[str, str] = {}
        for name in components_to_update:
            bad = [each for each in self.rejected if each.part == name]
            asked = _Asked(candidate, reflective_dataset, name, bad)
            texts = self.ask(asked)
            for again in range(TRIES):
                if not texts or not any(same(texts[name], each.text) for each in bad):
                    break
                lm = dspy.settings.lm
                # Another draw: the cache would say the same again.
                with dspy.context(lm=lm.copy(rollout_id=len(bad) * 10 + again + 1, temperature=1.0 - 0.2 * again)):
                    texts = self.ask(asked)
            found.update(texts)
        return found

    @abc.abstractmethod
    def ask(self, asked: _Asked) -> dict[str, str]:
        """Return what the proposer proposes, told what was rejected."""


class RememberingAny(_Asking):
    """A user's own proposer, told by the feedback of the last example."""

    def ask(self, asked: _Asked) -> dict[str, str]:
        name, dataset = asked.name, asked.dataset
        if asked.bad and dataset.get(name):
            *others, last = dataset[name]
            told = {**last, "Feedback": f"{last.get('Feedback', '')}\n\n{words(asked.bad)}"}
            dataset = {**dataset, name: [*others, told]}
        made: dict[str, str] = self.inner(candidate=asked.candidate, reflective_dataset=dataset, components_to_update=[name])
        return made


class Remembering(_Asking, InstructionProposer):
    """The built-in proposer, told by its prompt. It is one itself, so that GEPA hands it values as they are."""

    def ask(self, asked: _Asked) -> dict[str, str]:
        proposer = copy.copy(self.inner)
        if asked.bad:
            own, said = proposer.additional_instructions, words(asked.bad)
            proposer.additional_instructions = f"{own}\n\n{said}" if own else said
            proposer.propose = self.told
        made: dict[str, str] = proposer(asked.candidate, asked.dataset, [asked.name])
        return made

    @functools.cached_property
    def told(self) -> Any:
        """Its predictor with a field for what was rejected; made once, because a new class of signature costs milliseconds."""
        signature = self.inner.propose.signature
        if "additional_instructions" in signature.input_fields:
            return self.inner.propose
        field = dspy.InputField(desc="Additional requirements from the user for the new instruction. Follow them.")
        return dspy.Predict(signature.prepend("additional_instructions", field, str))


def words(bad: Sequence[Rejected]) -> str:
    """Say what was rejected."""
    lines = [_SAID]
    for each in bad[-MOST:]:
        text = each.text if len(each.text) <= LONGEST else f"{each.text[:LONGEST]}…"
        lines.append(f"<rejected{f' why={each.why!r}' if each.why else ''}>\n{text}\n</rejected>")
    return "\n".join(lines)


def same(one: str, other: str) -> bool:
    """Say whether two instructions are the same but for white space and case."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
