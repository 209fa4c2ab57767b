"""Programs that an optimizer gives in the place of what DSPy's gives and that cannot be pickled, saved or changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.teleprompt import BootstrapFewShot

from dspex_lab.jobs._programs import PartDiff, diff_programs
from dspex_lab.jobs.optimize._optimized import HUNG


class NearestFewShot(dspy.Module):
    """What KNNFewShot makes of a program: it bootstraps from the nearest rows for each question.

    DSPy puts a function in the place of ``forward``, which holds the program as it was: a copy of the result runs the old
    one, its async form runs without any demonstrations, and nothing but cloudpickle carries it.

    Args:
        student: the program.
        nearest: finds rows, ``dspy.predict.knn.KNN``.
        arguments: of ``BootstrapFewShot``.
        teacher: makes the answers to learn from; by default the program itself.
    """

    def __init__(self, student: Any, nearest: Any, arguments: dict[str, Any], teacher: Any = None) -> None:
        super().__init__()
        self.student, self.nearest, self.arguments, self.teacher = student, nearest, arguments, teacher

    def forward(self, **inputs: Any) -> Any:
        """Answer with demonstrations for this question."""
        chosen = self.nearest(**inputs)
        made = BootstrapFewShot(**self.arguments).compile(self.student, teacher=self.teacher, trainset=chosen)
        return made(**inputs)

    async def aforward(self, **inputs: Any) -> Any:
        """As :meth:`forward`, in a thread."""
        return await dspy.asyncify(self.forward)(**inputs)


class Ensembled(dspy.Module):
    """Several programs whose answers are brought together.

    DSPy's own is a class within a function, and its members, which are compiled, are in none of its states.

    Args:
        programs: the members.
        reduce_fn: makes one answer of several; None gives all of them.
        size: how many are asked, drawn anew each time; None is all.
    """

    def __init__(self, programs: Sequence[Any], reduce_fn: Callable[..., Any] | None = None, size: int | None = None) -> None:
        super().__init__()
        self.programs, self.reduce_fn, self.size = list(programs), reduce_fn, size

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """Ask the members."""
        import random

        chosen = random.sample(self.programs, self.size) if self.size else self.programs
        answers = [program(*args, **inputs) for program in chosen]
        return self.reduce_fn(answers) if self.reduce_fn else answers


def changed(before: Any, after: Any) -> list[PartDiff]:
    """Return what the program that was found changed of the one that was given."""
    return diff_programs(before, after.student if isinstance(after, NearestFewShot) else after)


def unfrozen(program: Any) -> Any:
    """Return the program with no part of it marked as compiled: what is marked is in no state, and is lost when it is saved."""
    for _, module in program.named_sub_modules():
        if getattr(module, "_compiled", False):
            module._compiled = False
    return program


def frozen_parts(program: Any) -> list[str]:
    """Return the paths of sub-modules that are marked as compiled."""
    named = program.named_sub_modules()
    return [
        path.removeprefix("self.") for path, module in named if getattr(module, "_compiled", False) and module is not program
    ]


def bare(program: Any) -> Any:
    """Return the program without what optimizers hang on it: all their candidates, which trials have."""
    for name in HUNG:
        if name in vars(program):
            delattr(program, name)
    return program
