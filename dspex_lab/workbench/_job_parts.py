"""What the doors to jobs make of what they are given: programs of trials, metrics, and the names that people see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs import Dataset
from dspex_lab.pipelines import Alone, Pipeline, with_values
from dspex_lab.variables import Demos, Knob, Text
from dspex_lab.variables.expose import Exposure

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize import Optimize
    from dspex_lab.jobs.tune import Together, Tune


@dataclass(frozen=True)
class PipelineBuild:
    """Makes the program of a trial of a pipeline whose knobs are variables: a :class:`~dspex_lab.jobs.tune.Build`.

    Args:
        pipeline: what others are made of.
        paths: the knob's path by the variable's name.
        found: the knobs, with the ranges that their variables have.
    """

    pipeline: Pipeline
    paths: Mapping[str, str]
    found: Sequence[Knob] = field(default=(), repr=False)

    @classmethod
    def of(cls, exposure: Exposure) -> PipelineBuild:
        """Return that of an exposed pipeline."""
        knobs = tuple(exposure.knobs)
        return cls(exposure.build(), {exposure.name(knob.path): knob.path for knob in knobs}, knobs)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""
        return tuple(self.paths)

    def read(self, program: Any) -> dict[str, Any]:
        """Return the values that a program of this pipeline has, by variable."""
        made, knobs = self.pipeline.with_modules(program), {knob.path: knob for knob in self.found}
        return {name: knobs[path].read(made) for name, path in self.paths.items()}

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return the pipeline as a program, with these values."""
        chosen = {self.paths[name]: value for name, value in values.items() if name in self.paths}
        # By the exposure's knobs: where a step has another module by now, those found anew would have other paths.
        return with_values(self.pipeline, chosen, self.found or None).as_module(Alone())


@dataclass(frozen=True)
class Rounds:
    """Makes the work of each round of an optimizer that goes on beside a tune job.

    Args:
        optimizer: as for :func:`~dspex_lab.jobs.optimize.optimize`.
        train: rows, of any kind that function takes.
        settings: of the optimizer, and more of that function's arguments.
    """

    optimizer: Any
    metric: Callable[..., Any]
    train: Any
    settings: Mapping[str, Any]

    def __call__(self, program: Any, number: int) -> Optimize:
        """Return the work that optimizes a program."""
        from dspex_lab.jobs.optimize import optimize

        return optimize(program, self.optimizer, metric=self.metric, trainset=self.train, **self.settings)


def beside_of(
    beside: Any, exposure: Exposure | None, work: Tune, held: Any, rows: Callable[[Any], Any] = lambda data: data
) -> Together:
    """Return a tune job with an optimizer beside it, which writes what is text: instructions and demonstrations.

    Args:
        beside: the optimizer, or a dict with it, its settings, and its rows (``trainset``, ``valset``).
        exposure: of the program.
        held: rows on which what each gains is measured; None for those of the tune job.
        rows: gives the rows that the name of a data set stands for.

    Raises:
        ConfigurationError: a setting or data that there is not, or nothing that the optimizer could write.
    """
    from dspex_lab.jobs.tune import Optimizes, Together

    given = dict(beside) if isinstance(beside, Mapping) else {"optimizer": beside}
    optimizer, rounds = given.pop("optimizer", "gepa"), given.pop("rounds", 1)
    moved = set(work.search.names)
    texts = [] if exposure is None else [n for n in exposure.names if isinstance(exposure.space[n].domain, Text | Demos)]
    names = tuple(name for name in texts if name not in moved)
    if not names:
        raise ConfigurationError(
            "There are no instructions and demonstrations that an optimizer could write beside the tune job.",
            key="beside",
            expected="a program with instructions that variables= does not name",
            actual=list(moved),
        )
    sets = {each: rows(given.pop(each)) for each in ("trainset", "valset") if each in given}
    train = sets.pop("trainset", work.rows)
    make = Rounds(optimizer, work.metric, train, {"inputs": work.inputs, **given, **sets})
    made: Any = work.build
    side = Optimizes(make, names, made, called=make(made(work.home.values()), 0).name)
    return Together(work, side, rounds, held=held)


def metric_of(metric: Any) -> Callable[..., Any]:
    if isinstance(metric, str):
        from dspex_lab.native.metrics import metric as known

        return known(metric)
    made: Callable[..., Any] = metric
    return made


def named(metric: Any) -> str:
    return metric if isinstance(metric, str) else label_of(metric)


def label_of(value: Any) -> str:
    name = value if isinstance(value, str) else getattr(value, "__name__", None) or getattr(value, "name", None)
    return str(name or type(value).__name__)


def said_of(data: Any) -> str:
    """Return what people call the rows."""
    if isinstance(data, str | Path):
        return str(data)
    if isinstance(data, Dataset):
        return f"{data.name} version {data.version}" if data.version else data.name
    return f"{len(data):,} rows" if hasattr(data, "__len__") else type(data).__name__
