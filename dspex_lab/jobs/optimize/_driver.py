"""What differs from one optimizer to the next: the contract, and what holds for most."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from dspex_lab.errors import ConfigurationError

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course

#: How it goes on after a stop or a death: from a state of its own (``"state"``); by running again with the same seed, where
#: answers of models come from DSPy's cache (``"replay"``); with the best candidate so far as its student (``"best"``); or it
#: begins at the beginning, because it tries but one (``"again"``).
Resume = Literal["state", "replay", "best", "again"]

#: The rows by which candidates are compared.
Judged = Literal["val", "train", "either"]


@dataclass(frozen=True)
class Task:
    """What is known of an optimization before it starts.

    Args:
        program: the student.
        train, val: how many rows of each; ``own_val`` says whether validation rows were given.
        init, compile: the settings, by where they go.
        given: the optimizer's class, or the instance that was given.
        seed: for random choices; None leaves the optimizer its own.
    """

    program: Any
    train: int
    val: int
    own_val: bool
    init: Mapping[str, Any]
    compile: Mapping[str, Any]
    given: Any
    seed: int | None = None

    @property
    def predictors(self) -> int:
        """Calls of models that one call of the program takes, at least."""
        return max(1, len(self.program.predictors()))

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting as it will be: the one given, that of the instance, or the default."""
        if name in self.compile:
            return self.compile[name]
        if name in self.init:
            return self.init[name]
        return default if isinstance(self.given, type) else getattr(self.given, name, default)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an optimizer will take.

    Args:
        rows: calls of the program whose answers are scored.
        calls: calls of models besides: proposals and reflections.
        most: it is an upper limit, and often takes less.
    """

    rows: int
    calls: int = 0
    most: bool = False


class Driver(Protocol):
    """How one optimizer is made, run, watched, resumed and estimated. Without state; one serves all jobs.

    Attributes:
        name: as users write it; ``other`` are further names.
        path: ``module:class`` of the optimizer; empty where there is no one class.
        resume: how it goes on.
        differs: why the same seed may not give the same result; empty where it does, as long as the model's answers are the
            same.
        measures: it evaluates the unchanged program on the validation rows itself.
        judged: the rows by which it compares candidates: ``"val"``, ``"train"``, or ``"either"``.
        evaluates: its evaluations by ``dspy.Evaluate`` are its trials.
        by_hand: it calls program and metric itself: as many rows as there are, scored in turn, are one. The watch is then in
            ``dspy.context``, which costs 0.3 ms a call.
        accepts: parameters behind its ``**kwargs``; None where all are.
    """

    name: ClassVar[str]
    other: ClassVar[tuple[str, ...]]
    path: ClassVar[str]
    resume: ClassVar[Resume]
    differs: ClassVar[str]
    measures: ClassVar[bool]
    judged: ClassVar[Judged]
    evaluates: ClassVar[bool]
    by_hand: ClassVar[bool]

    def cls(self) -> Any:
        """Return the optimizer's class, imported now."""
        ...

    def accepts(self) -> Sequence[str]:
        """Return what its ``**kwargs`` take."""
        ...

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """Return settings that nobody gave and without which its own defaults would not do for these rows."""
        ...

    def check(self, task: Task) -> Sequence[str]:
        """Refuse what cannot be done, before anything is spent; return what a person should know.

        Raises:
            ConfigurationError: why not.
        """
        ...

    def divided(self, train: list[Any], val: list[Any] | None, seed: int | None) -> tuple[list[Any], list[Any]]:
        """Return the rows of training and of validation, in the order in which it gets them."""
        ...

    def estimate(self, task: Task) -> Estimate:
        """Return what it will take at most."""
        ...

    def make(self, course: Course, task: Task) -> Any:
        """Return the optimizer, ready to compile. Models and settings are those of the job."""
        ...

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """Return the program that it finds."""
        ...


class Base:
    """What holds for most optimizers of DSPy."""

    name: ClassVar[str] = ""
    other: ClassVar[tuple[str, ...]] = ()
    path: ClassVar[str] = ""
    resume: ClassVar[Resume] = "replay"
    differs: ClassVar[str] = ""
    measures: ClassVar[bool] = False
    judged: ClassVar[Judged] = "val"
    evaluates: ClassVar[bool] = True
    by_hand: ClassVar[bool] = False
    #: Settings that choose nothing random of their own: the rows are shuffled with the seed instead.
    shuffles: ClassVar[bool] = False

    def cls(self) -> Any:
        """Return the optimizer's class."""
        module, name = self.path.split(":")
        return getattr(importlib.import_module(module), name)

    def accepts(self) -> Sequence[str]:
        """Nothing: what is not named is refused."""
        return ()

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """None."""
        return {}

    def check(self, task: Task) -> Sequence[str]:
        """Nothing to refuse."""
        return ()

    def divided(self, train: list[Any], val: list[Any] | None, seed: int | None) -> tuple[list[Any], list[Any]]:
        """Where there are no validation rows, those of training are."""
        validation = train if val is None else val
        return (shuffled(train, seed) if self.shuffles else train), validation

    def estimate(self, task: Task) -> Estimate:
        """Nobody knows: the rows of training, once."""
        return Estimate(task.train)

    def make(self, course: Course, task: Task) -> Any:
        """Return the instance that was given with the job's metric in the place of its own, or a new one."""
        if isinstance(task.given, type):
            return task.given(**self.arguments(course, task))
        return with_metric(task.given, course.judge)

    def arguments(self, course: Course, task: Task) -> dict[str, Any]:
        """Return what its class is called with."""
        return {"metric": course.judge, **task.init}

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """Return what it finds, from all that it takes."""
        takes = course.parameters(optimizer)
        given = {"trainset": course.train, "valset": course.val, "seed": course.seed}
        chosen = {name: value for name, value in given.items() if name in takes and value is not None}
        return optimizer.compile(course.student, **{**chosen, **task.compile})


def shuffled(rows: list[Any], seed: int | None) -> list[Any]:
    """Return rows in an order that the seed says; as they are without one."""
    import random

    if seed is None:
        return rows
    order = list(rows)
    random.Random(seed).shuffle(order)  # noqa: S311 - no secret
    return order


def with_metric(given: Any, judge: Any) -> Any:
    """Return a copy of an optimizer with another metric, in it and in those it is made of."""
    made = copy.copy(given)
    for name in ("metric", "metric_fn"):
        if getattr(made, name, None) is not None or name in vars(made):
            setattr(made, name, judge)
    parts = getattr(made, "optimizers", None)
    if isinstance(parts, dict):
        made.optimizers = {key: with_metric(part, judge) for key, part in parts.items()}
    return made


def refuse(name: str, why: str, key: str, expected: str, actual: Any = None, hint: str | None = None) -> ConfigurationError:
    """Return the error by which an optimizer is refused."""
    return ConfigurationError(f"{name}: {why}", key=key, expected=expected, actual=actual, hint=hint)
