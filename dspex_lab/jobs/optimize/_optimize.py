"""An optimization as a job's work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.events import TrialRecord
from dspex_lab.jobs._fields import check_rows, inputs_of
from dspex_lab.jobs._programs import parts_of
from dspex_lab.jobs._reading import declared_inputs, rows_of
from dspex_lab.jobs._work import Found, Plan, Reporter, Work
from dspex_lab.jobs.optimize._driver import Base, Estimate, Task
from dspex_lab.jobs.optimize._optimized import Optimized, Rejected, from_partial, rejected_in
from dspex_lab.lms import Budget

#: Tokens of an answer, for the estimate; and of what a model is asked that proposes instructions.
_ANSWER, _PROPOSAL = 200, 3000


@dataclass(frozen=True)
class Optimize(Work):
    """The optimization of a program; :func:`optimize` makes it.

    Args:
        program: a DSPy module.
        optimizer: a name, a class or instance of an optimizer, or anything with ``compile``.
        metric: ``metric(example, prediction)`` with up to five arguments, higher is better.
        train, val: the rows; without ``val``, what the optimizer takes of ``train``.
        inputs: the fields that the program is given.
        settings: of the optimizer.
        seed: where the job has none.
        budget: what the job may spend, for who starts it.
        rejected: instructions that earlier jobs of this program rejected.
    """

    program: Any
    optimizer: Any
    metric: Callable[..., Any]
    train: Sequence[Mapping[str, Any]]
    val: Sequence[Mapping[str, Any]] | None
    inputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    budget: Any = None
    rejected: tuple[Rejected, ...] = ()
    kind: str = "optimize"
    spread: bool = False
    continues: bool = True

    @property
    def name(self) -> str:
        """The optimizer's name."""
        driver, task = self.driven()
        if driver.name != "other":
            return driver.name
        return task.given.__name__ if isinstance(task.given, type) else type(task.given).__name__

    def check(self, budget: Budget) -> Plan:
        """Return what it expects to take.

        Raises:
            ConfigurationError: the optimizer cannot do it with these settings, rows and models, the program has nothing that it
                could change, or a row lacks a field that the program or the metric asks for.
        """
        driver, task = self.driven()
        if not self.program.predictors() and driver.name != "other":
            what = "only predictors that are marked as compiled" if parts_of(self.program) else "no predictors"
            raise ConfigurationError(
                f"{type(self.program).__name__} has {what}: there is nothing in it that {self.name} could change.",
                key="program",
                expected="a program with at least one dspy.Predict",
                actual=type(self.program).__name__,
            )
        for rows, name in ((self.train, "trainset"), (self.val, "valset")):
            if rows is not None:
                check_rows(rows, self.inputs, self.metric, name, like=self.train)
        notes = [*driver.check(task), *self._frozen()]
        seed = f"The same seed may give another result: {driver.differs}." if driver.differs and self.seed is not None else ""
        found = self.estimate()
        calls = found.rows * task.predictors + found.calls
        if found.most:
            notes.append(f"Estimated before it began: at most {found.rows:,} evaluations of rows.")
        tokens = self._row_tokens() * found.rows * task.predictors + _PROPOSAL * found.calls
        return Plan(found.rows, calls, tokens, calls * _ANSWER, notes=tuple(n for n in (*notes, seed) if n))

    def estimate(self) -> Estimate:
        """Return what the optimizer takes, and the evaluations before and after."""
        driver, task = self.driven()
        found = driver.estimate(task)
        around = (0 if driver.measures else task.val) + task.val
        return Estimate(found.rows + around, found.calls, found.most)

    def driven(self) -> tuple[Base, Task]:
        """Return how the optimizer is driven, and what it is asked."""
        from dspex_lab.jobs.optimize._settings import task_of

        return task_of(
            self.program,
            self.optimizer,
            self.settings,
            train=len(self.train),
            val=len(self.train if self.val is None else self.val),
            own_val=self.val is not None,
            seed=self.seed,
        )

    def examples(self) -> tuple[list[Any], list[Any] | None]:
        """Return the rows as ``dspy.Examples``."""
        import dspy

        def made(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
            return [dspy.Example(**row).with_inputs(*self.inputs) for row in rows]

        return made(self.train), None if self.val is None else made(self.val)

    def run(self, reporter: Reporter) -> Optimized | None:
        """Run the optimizer.

        Raises:
            JobError: not one row had a score.
        """
        from dspex_lab.jobs.optimize._course import Course

        return Course(self, reporter).go()

    def partial(self, found: Found) -> Optimized | None:
        """Return the best candidate until it was ended."""
        if found.best is None:
            return None
        why = "Ended from outside: the best candidate until then is the result."
        return from_partial(self.name, self.program, found.best, found.trials, found.state, why)

    def described(self) -> dict[str, Any]:
        """Return what people should see of it beside the job (``jobs.start(…, settings=)``): plain data. By ``program``
        jobs of the same program are found (:func:`remembered`)."""
        driver, _ = self.driven()
        return {
            "optimizer": self.name,
            "program": shape_of(self.program),
            "train": len(self.train),
            "val": None if self.val is None else len(self.val),
            "seed": self.seed,
            "resume": driver.resume,
            "settings": {name: _plain(value) for name, value in self.settings.items()},
        }

    def _frozen(self) -> list[str]:
        from dspex_lab.jobs.optimize._programs import frozen_parts

        found = frozen_parts(self.program)
        if not found:
            return []
        return [f"{', '.join(found)}: marked as compiled, so optimizers leave {'it' if len(found) == 1 else 'them'} as it is."]

    def _row_tokens(self) -> int:
        """Return about how many tokens a call of a predictor is asked: a token for four letters."""
        letters = sum(len(str(row[name])) for row in self.train for name in self.inputs) // max(1, len(self.train))
        state = getattr(self.program, "dump_state", None)
        return (letters + (len(json.dumps(state(), default=str)) if callable(state) else 0)) // 4


def optimize(
    program: Any,
    optimizer: Any = "miprov2",
    *,
    metric: Callable[..., Any],
    trainset: Any,
    valset: Any = None,
    seed: int | None = None,
    budget: Any = None,
    inputs: Sequence[str] | None = None,
    rejected: Iterable[Rejected] = (),
    **settings: Any,
) -> Optimize:
    """Return the work that optimizes a program; ``jobs.start`` starts it.

    Args:
        program: a DSPy module.
        optimizer: ``"miprov2"``, ``"gepa"``, ``"bootstrap"``, ``"random_search"``, ``"optuna"``, ``"simba"``, ``"copro"``,
            ``"infer_rules"``, ``"knn"``, ``"labeled"``, ``"better_together"``, ``"ensemble"``, ``"finetune"``, ``"grpo"``,
            ``"avatar"``; or a class or instance of any optimizer, or an object with ``compile``.
        metric: ``metric(example, prediction)``, with up to three more arguments (trace, name and trace of a predictor): a bool,
            a number (higher is better), or something with ``score`` and ``feedback``.
        trainset, valset: a DataFrame, a list of dicts, ``dspy.Examples``, or the path of a Parquet, CSV or JSONL file.
        seed: for random choices.
        budget: what the job may spend.
        inputs: the fields that the program is given; by default what the examples say, or the program.
        rejected: what earlier jobs of this program rejected (:func:`remembered`), so that GEPA does not propose it again.
        settings: of the optimizer, those of its ``compile`` too.

    Raises:
        ConfigurationError: an optimizer, a setting or data that there is not.
    """
    if not callable(metric):
        raise ConfigurationError(
            f"The metric is {metric!r}.", key="metric", expected="a function of example and prediction", actual=metric
        )
    if not callable(getattr(program, "named_predictors", None)) or not callable(program):
        raise ConfigurationError(
            f"The program is a {type(program).__name__}, which no optimizer can change.",
            key="program",
            expected="a DSPy module",
            actual=type(program).__name__,
            hint="A pipeline becomes one by pipeline.as_module().",
        )
    train = tuple(rows_of(trainset))
    val = None if valset is None else tuple(rows_of(valset))
    said = inputs if inputs is not None else getattr(trainset, "inputs", None) or declared_inputs(trainset)
    fields = tuple(said) if said is not None else inputs_of(program, train)
    made = Optimize(program, optimizer, metric, train, val, fields, dict(settings), seed, budget, tuple(rejected))
    made.driven()
    return made


def shape_of(program: Any) -> str:
    """Return what tells programs apart whatever their instructions and demonstrations are: class, paths and fields."""
    parts = {path: part.fields for path, part in parts_of(program).items()}
    text = json.dumps([type(program).__qualname__, parts], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def remembered(jobs: Iterable[Any], program: Any) -> tuple[Rejected, ...]:
    """Return the instructions that earlier jobs of a program rejected; what :func:`optimize` takes as ``rejected``.

    Args:
        jobs: ``lab.jobs``; those are looked at that were started with ``settings=work.described()``.
    """
    shape = shape_of(program)
    trials: list[TrialRecord] = []
    for job in jobs:
        if (job.settings.get("settings") or {}).get("program") == shape:
            trials[:0] = job.trials  # the newest come first
    return rejected_in(trials)


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return getattr(value, "model", None) or getattr(value, "__name__", None) or type(value).__name__
