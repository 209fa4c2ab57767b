"""What a tune job tries next: values that meet all constraints, and what counts besides at that moment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.errors import ConstraintError, JobError, VariableError
from dspex_lab.jobs.tune._study import Study
from dspex_lab.variables import Snapshot, Space

if TYPE_CHECKING:
    from dspex_lab.jobs.tune._work import Tune

#: Proposals in a row that break constraints; then values that do not are looked for.
REFUSED = 20


class Proposal(NamedTuple):
    """What is tried next.

    Args:
        trial: Optuna's.
        values: of the variables that are moved.
        snapshot: all that counts with them.
        others: the versions of the variables that are not moved.
    """

    trial: Any
    values: dict[str, Any]
    snapshot: Snapshot
    others: dict[str, int]


class Proposals:
    """Asks the study, and refuses what breaks a constraint. In the thread of the course.

    Args:
        seed: for values that are looked for.

    Attributes:
        infeasible: how many were refused.
    """

    def __init__(self, work: Tune, space: Space, study: Study, seed: int) -> None:
        self._work, self._space, self._study, self._seed = work, space, study, seed
        self.infeasible = 0
        self._refused: Counter[str] = Counter()

    def next(self, measured: Callable[[], int]) -> Proposal | None:
        """Return what is tried next; None where every combination was tried.

        Args:
            measured: gives how many combinations need not be tried.

        Raises:
            JobError: no values are found that meet the constraints.
        """
        size, refused = self._study.search.size(), 0
        while True:
            if self._study.exhausted and not self._study.waiting():
                return None
            if size is not None and measured() + len(self._refused) >= size and not self._study.waiting():
                return None
            trial = self._study.ask()
            try:
                values = self._study.search.suggest(trial, self._space)
                snapshot, others = self._checked(values)
            except VariableError as error:
                self._infeasible(trial, error)
                refused += 1
                if refused == REFUSED:
                    self._find()
                elif refused > 2 * REFUSED:
                    raise JobError(
                        f"Nothing more can be tried: {error}", hint="Another job may have changed the space."
                    ) from error
                continue
            return Proposal(trial, values, snapshot, others)

    def others(self) -> dict[str, int]:
        """Return the versions of what the program has besides: variables that others write, whether they count now or not."""
        names = tuple(self._space) if self._work.build.names is None else self._work.build.names
        mine = set(self._study.search.names)
        every = [name for name in names if name not in mine and name in self._space]
        return {name: self._space[name].version for name in every if self._space[name].derived is None}

    def key(self, values: Mapping[str, Any], others: Mapping[str, int]) -> str:
        """Return what tells values, with what there was besides, from others."""
        search = self._study.search
        return json.dumps([search.as_json(values), dict(others)], sort_keys=True, default=str)

    def _checked(self, values: Mapping[str, Any]) -> tuple[Snapshot, dict[str, int]]:
        """Return what would count with these values, and the versions of the others: of one moment.

        Raises:
            VariableError: a constraint would not hold.
        """
        while True:
            version, others = self._space.version, self.others()
            snapshot = self._space.check(values)
            if self._space.version == version:
                return replace(snapshot, version=version), others

    def _infeasible(self, trial: Any, error: VariableError) -> None:
        self.infeasible += 1
        name = (error.constraint if isinstance(error, ConstraintError) else None) or error.name or "feasible"
        self._refused[json.dumps(trial.params, sort_keys=True, default=str)] += 1
        self._study.infeasible(trial, name)

    def _find(self) -> None:
        """Have values tried that meet the constraints, as the sampler proposes none."""
        search = self._study.search
        found = self._space.feasible(search.names, seed=self._seed + self.infeasible).check()
        self._study.give(search.params({**{n: self._space.get(n) for n in search.names}, **found.values}), "feasible")
