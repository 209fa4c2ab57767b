"""What a tune job found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, JobError, did_you_mean
from dspex_lab.jobs._card import Sheet
from dspex_lab.jobs._compare import Comparison, compare_scores
from dspex_lab.jobs.tune._going import shown
from dspex_lab.jobs.tune._objectives import Objective, front_of
from dspex_lab.jobs.tune._sampling import settled
from dspex_lab.jobs.tune._study import read_study, silent
from dspex_lab.jobs.tune._tried import Tried
from dspex_lab.security import one_line
from dspex_lab.variables import value_words

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tuned:
    """The trials of a tune job, and the best of them. A cell shows it as a table.

    Args:
        best: the trial that was taken; None where none is complete.
        tried: all of them, in their order; those too that were pruned, failed or not finished.
        objectives: as ``name: direction``, the first one first.
        rule: by which the best was taken, in words.
        notes: what a person should know.
        study: the path of Optuna's study: ``optuna-dashboard PATH`` shows it.
        committed: the version of the space at which the best became the present values; None where it did not.
        infeasible: how many proposals broke a constraint; nothing was spent on them.
    """

    best: Tried | None
    tried: Sequence[Tried]
    objectives: Mapping[str, str]
    rule: str = ""
    notes: tuple[str, ...] = ()
    study: str | None = None
    committed: int | None = None
    infeasible: int = 0
    _front: Sequence[int] = field(default=(), repr=False)

    @property
    def values(self) -> dict[str, Any]:
        """The best trial's values, by variable; none where none is complete."""
        return dict(self.best.values) if self.best else {}

    @property
    def score(self) -> float | None:
        """The best trial's first objective."""
        return next(iter(self.best.scores.values())) if self.best else None

    @property
    def scores(self) -> dict[str, float]:
        """The best trial's objectives by name."""
        return dict(self.best.scores) if self.best else {}

    @property
    def front(self) -> list[Tried]:
        """The trials that no other beats in all objectives; with one objective the best."""
        chosen = set(self._front)
        return [each for each in self.tried if each.number in chosen]

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The trials as a DataFrame: ``number, status, origin``, the objectives, the variables, ``rows, failed, seconds, cost,
        calls, version, error, note``. Of demonstrations it says how many there are; ``tried`` has them."""
        import pandas as pd

        names = list(dict.fromkeys(name for each in self.tried for name in each.values))
        after = ("rows", "failed", "seconds", "cost", "calls", "version", "error", "note")
        rows = [
            [each.number, each.status, each.origin]
            + [each.scores.get(name) for name in self.objectives]
            + [_cell(each.values.get(name)) for name in names]
            + [getattr(each, name) for name in after]
            for each in self.tried
        ]
        return pd.DataFrame(rows, columns=["number", "status", "origin", *self.objectives, *names, *after])

    def importance(self, objective: str | None = None) -> dict[str, float]:
        """Return how much of what trials scored each variable explains, the most important first; the shares sum to 1.

        By Optuna's PED-ANOVA: it compares where the better trials lie with where all of them lie. With few trials it is a
        guess.

        Args:
            objective: of several, for which; the first one where None.

        Raises:
            ConfigurationError: there is no such objective.
            JobError: fewer than four trials are complete, or the study's file is gone.
        """
        names = list(self.objectives)
        name = names[0] if objective is None else objective
        if name not in names:
            raise ConfigurationError(
                f"There is no objective {name!r}.{did_you_mean(name, names)}", key="objective", expected=names, actual=name
            )
        if sum(each.status == "complete" for each in self.tried) < 4:
            raise JobError("Fewer than four trials are complete: nobody can say which variable matters.")
        study = _of_one(read_study(self.study or ""), names.index(name), self.objectives[name])
        found = require("optuna.importance", "for importances")
        shares = found.get_param_importances(study, evaluator=settled(found.PedAnovaImportanceEvaluator))
        return dict(shares)

    def compare(self, number: int, other: int, *, level: float = 0.95, seed: int = 0) -> Comparison:
        """Return by how much a trial is better than another on the rows that have a score in both, and how likely that is by
        chance.

        Raises:
            JobError: one of them is not there, or they have no scored row in common.
        """
        known = {each.number: each for each in self.tried}
        for asked in (number, other):
            if asked not in known:
                raise JobError(f"There is no trial {asked}.", hint="tuned.trials lists them.")
        one, two = known[number].row_scores, known[other].row_scores
        both = sorted(one.keys() & two.keys())
        if not both:
            raise JobError(f"Trials {number} and {other} have no scored row in common.")
        left = len(one.keys() | two.keys()) - len(both)
        return compare_scores([one[at] for at in both], [two[at] for at in both], level, seed=seed, left_out=left)

    @property
    def note(self) -> str:
        """What is to be said beside the score."""
        return " ".join(self.notes)

    def summary(self) -> dict[str, Any]:
        """Return what is kept of it for people, as plain data."""
        counts = {status: sum(each.status == status for each in self.tried) for status in dict.fromkeys(_statuses(self.tried))}
        found = {"score": self.score, "scores": self.scores, "trials": len(self.tried), "statuses": counts, "study": self.study}
        values = {name: one_line(str(value), 200) for name, value in self.values.items()}
        return {**found, "values": values, "number": self.best.number if self.best else None, "committed": self.committed}

    def sheet(self) -> Sheet:
        """Return it as a table: the best values, then the trials of the front or the best ones."""
        said = "no trial is complete" if self.best is None else f"trial {self.best.number}, {shown(self.scores)}"
        listed = self.front if len(self.objectives) > 1 else []
        if not listed:
            done = [each for each in self.tried if each.status == "complete"]
            name = next(iter(self.objectives), "score")
            up = self.objectives.get(name) == "maximize"
            listed = sorted(done, key=lambda each: (-each.scores[name] if up else each.scores[name], each.number))
        rows = [(str(each.number), each.status, shown(each.scores), shown(each.values), str(each.rows)) for each in listed[:10]]
        note = f". {one_line(self.note, 300)}" if self.notes else ""
        return Sheet(f"Tuned: {said}{note}", ("trial", "status", "scores", "values", "rows"), rows, said)

    def __repr__(self) -> str:
        return repr(self.sheet())

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()


def _of_one(study: Any, at: int, direction: str) -> Any:
    """Return a study in memory of one objective of another one, as the evaluator warns of each other way to name one."""
    optuna = require("optuna", "for importances")
    with silent():
        made = optuna.create_study(direction=direction)
    done = (each for each in study.get_trials(deepcopy=False) if each.values is not None and each.state.name == "COMPLETE")
    for each in done:
        more = {"params": each.params, "distributions": each.distributions}
        made.add_trial(optuna.trial.create_trial(value=each.values[at], **more))
    return made


def _cell(value: Any) -> Any:
    return value_words(value) if isinstance(value, tuple) else value


def _statuses(tried: Sequence[Tried]) -> list[str]:
    return [each.status for each in tried]


def tuned_of(
    best: Tried | None, tried: Sequence[Tried], objectives: Sequence[Objective], candidates: Sequence[Tried], **more: Any
) -> Tuned:
    """Return the result.

    Args:
        candidates: the trials among which the best was: the front is theirs.
    """
    front = tuple(each.number for each in front_of(candidates, objectives))
    return Tuned(best, tuple(tried), {o.name: o.direction for o in objectives}, _front=front, **more)
