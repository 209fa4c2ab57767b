"""The study: Optuna's, in a file that ``optuna-dashboard`` opens and a resumed job goes on with."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.errors import JobError
from dspex_lab.jobs.tune._objectives import Objective
from dspex_lab.jobs.tune._sampling import make_pruner, make_sampler
from dspex_lab.jobs.tune._search import Search
from dspex_lab.jobs.tune._tried import Tried

#: The file of a study in its job's folder.
FILE = "study.log"
#: Under which of its own attributes Optuna keeps what is ours.
TRIED, ORIGIN, RULES, PRESENT = "tried", "origin", "rules", "present"


class Study:
    """Asks and tells. One thread uses it.

    Args:
        path: the file; made where there is none.
        name: of the study.
        search: what is moved; of a study that is there, it is moved as it was then.
        objectives: what is made best.
        sampler, pruner: by name.
        seed: of its random choices.
        trials: how many there will be.
        parallel: several trials are under way at once.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        search: Search,
        objectives: Sequence[Objective],
        *,
        sampler: str,
        pruner: str,
        seed: int | None,
        trials: int,
        parallel: bool,
    ) -> None:
        self.path = path
        self._sampler, self._seed, self._trials, self._parallel = sampler, seed, trials, parallel
        self._optuna = require("optuna", "to tune variables")
        self._storage = storage_of(path)
        directions = [self._optuna.study.StudyDirection[o.direction.upper()] for o in objectives]
        if not any(each.study_name == name for each in self._storage.get_all_studies()):
            with silent():
                self._storage.create_new_study(directions, name)
        self.study = self._optuna.load_study(study_name=name, storage=self._storage, pruner=make_pruner(pruner))
        if [o.name for o in objectives] != self.study.metric_names:
            # As Study.set_metric_names does, which warns each time that it is experimental.
            self._storage.set_study_system_attr(self.study._study_id, "study:metric_names", [o.name for o in objectives])
        if PRESENT not in self.study.user_attrs:
            self.study.set_user_attr(PRESENT, search.as_json(search.present))
        self.search = search_in(self.study, search)
        self._number = len(self.study.trials)
        #: Those that did not end and are begun again: with them left out, a trial has the number that it would have had.
        self._twice = sum(each.status == "unfinished" for each in self.tried())
        self.exhausted = False

    # ---- what there is -----------------------------------------------------------------------------------------------

    def tried(self) -> list[Tried]:
        """Return the trials that were told of, in their order."""
        every = self.study.get_trials(deepcopy=False)
        return [Tried.from_json(each.user_attrs[TRIED], self.search) for each in every if TRIED in each.user_attrs]

    def adrift(self) -> list[Any]:
        """Return the trials of Optuna's that were under way when their process died."""
        return self.study.get_trials(deepcopy=False, states=(self._state.RUNNING,))

    def waiting(self) -> list[Any]:
        """Return the trials that were given beforehand and not begun."""
        return self.study.get_trials(deepcopy=False, states=(self._state.WAITING,))

    @property
    def _state(self) -> Any:
        return self._optuna.trial.TrialState

    # ---- asking ------------------------------------------------------------------------------------------------------

    def ask(self) -> Any:
        """Return the next trial of Optuna's."""
        self.study.sampler = make_sampler(
            self._sampler, self._seed, self._number - self._twice, trials=self._trials, parallel=self._parallel
        )
        trial = self.study.ask()
        self._number = max(self._number, trial.number + 1)
        return trial

    def give(self, params: Mapping[str, Any], origin: str, **more: Any) -> None:
        """Have something tried before what the sampler says; variables that it does not name are the sampler's."""
        self.study.enqueue_trial(dict(params), user_attrs={ORIGIN: origin, **more})

    def add(self, params: Mapping[str, Any], values: Sequence[float]) -> None:
        """Add what an earlier study has measured."""
        distributions = {name: self.search.distribution(name) for name in params}
        attrs = {ORIGIN: "earlier study"}
        made = self._optuna.trial.create_trial(
            params=dict(params), distributions=distributions, values=list(values), user_attrs=attrs
        )
        self.study.add_trial(made)
        self._number += 1

    # ---- telling -----------------------------------------------------------------------------------------------------

    def complete(self, trial: Any, tried: Tried, values: Sequence[float]) -> None:
        """Tell what values came to."""
        self._keep(trial, tried)
        self._tell(trial, values=list(values))

    def prune(self, trial: Any, tried: Tried) -> None:
        """Tell that the rest of the rows is not worth it."""
        self._keep(trial, tried)
        self._tell(trial, state=self._state.PRUNED)

    def fail(self, trial: Any, tried: Tried) -> None:
        """Tell that nothing came of values."""
        self._twice += tried.status == "unfinished"
        self._keep(trial, tried)
        self._tell(trial, state=self._state.FAIL)

    def infeasible(self, trial: Any, constraint: str) -> None:
        """Tell that values break a constraint; nothing was spent on them. Samplers keep away from there."""
        trial.set_constraint(constraint[:200], 1.0)
        self._tell(trial, state=self._state.PRUNED)

    def lost(self, frozen: Any, tried: Tried) -> None:
        """Tell of one that was under way when its process died."""
        self._twice += 1
        self._storage.set_trial_user_attr(frozen._trial_id, TRIED, _plain(tried.as_json(self.search)))
        self.study.tell(frozen.number, state=self._state.FAIL)

    def _keep(self, trial: Any, tried: Tried) -> None:
        trial.set_user_attr(TRIED, _plain(tried.as_json(self.search)))

    def _tell(self, trial: Any, **what: Any) -> None:
        try:
            self.study.tell(trial, **what)
        except RuntimeError as error:
            # Optuna's way to say that a grid is done; it has told by then.
            if "Study.stop" not in str(error):
                raise
            self.exhausted = True


def search_in(study: Any, search: Search) -> Search:
    """Return a search as it is in a study: with the values that were present when that began."""
    return search.at(search.from_json(study.user_attrs[PRESENT])) if PRESENT in study.user_attrs else search


def storage_of(path: Path) -> Any:
    """Return the storage of a study's file, which a process that was killed may have left half written."""
    journal = require("optuna.storages.journal", "to tune variables")
    storages = require("optuna.storages", "to tune variables")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _mend(path)
    return storages.JournalStorage(journal.JournalFileBackend(str(path)))


def _mend(path: Path) -> None:
    """Take off a last line that was not written to its end, and the lock of a process that is gone: the next line would be
    lost behind the one, and nobody could write for half a minute because of the other. Only a job writes to its study."""
    Path(f"{path}.lock").unlink(missing_ok=True)
    with path.open("r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)


def read_study(path: str | Path) -> Any:
    """Return the study of a file, as Optuna has it.

    Raises:
        JobError: there is no such file, or no study in it.
    """
    optuna = require("optuna", "to read a study")
    journal = require("optuna.storages.journal", "to read a study")
    found = Path(path)
    if not found.is_file():
        raise JobError(f"There is no study {str(path)!r}.", hint="job.result().study has the path of a tune job's study.")
    try:
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(found)))
        studies = storage.get_all_studies()
    except Exception as error:  # whatever is in the file
        raise JobError(f"{found.name} is no study: {type(error).__name__}: {error}.") from error
    if not studies:
        raise JobError(f"{found.name} has no study in it.")
    return optuna.load_study(study_name=studies[0].study_name, storage=storage)


@contextmanager
def silent() -> Iterator[None]:
    """Keep Optuna's word on a new study, which stands in the middle of a cell, from being printed; its level stays as it is."""
    logs = [logging.getLogger(f"optuna.storages.{name}") for name in ("journal._storage", "_in_memory")]

    def above(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO

    for log in logs:
        log.addFilter(above)
    try:
        yield
    finally:
        for log in logs:
            log.removeFilter(above)


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Return it as JSON has it, now: what Optuna cannot write down would break the trial."""
    return json.loads(json.dumps(told, default=str))
