"""The work of a tune job, and the function that makes it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, JobError, VariableError, did_you_mean
from dspex_lab.jobs._evaluate import Evaluate
from dspex_lab.jobs._fields import inputs_of
from dspex_lab.jobs._reading import declared_inputs, rows_of
from dspex_lab.jobs._splits import fingerprint, together
from dspex_lab.jobs._work import Found, Plan, Reporter, Work
from dspex_lab.jobs.tune._building import Build, build_of
from dspex_lab.jobs.tune._course import Course
from dspex_lab.jobs.tune._going import shown, tell_of
from dspex_lab.jobs.tune._objectives import Objective, best_of, check_prefer, objectives_of
from dspex_lab.jobs.tune._sampling import check_sampler, pruner_name, sampler_name
from dspex_lab.jobs.tune._search import Search, Wanted, search_of
from dspex_lab.jobs.tune._spaces import know_space, known_space
from dspex_lab.jobs.tune._study import FILE, ORIGIN, RULES, TRIED, Study, read_study, search_in
from dspex_lab.jobs.tune._tried import Tried
from dspex_lab.jobs.tune._tuned import Tuned, tuned_of
from dspex_lab.jobs.tune._waiting import leased
from dspex_lab.jobs.tune._warm import warm
from dspex_lab.lms import Budget
from dspex_lab.variables import Space

#: When the best values become the present ones.
COMMITS = ("end", "improvement", "never")


@dataclass(frozen=True)
class Tune(Work):
    """Variables moved by Optuna until a program is at its best; :func:`tune` makes it.

    It goes on from its study's file. The space stays in its process: the work travels and is kept without it.

    Args:
        build: makes the program of a trial.
        search: what is moved.
        rows: the data; ``inputs`` are the fields that the program is given.
        metric: ``metric(example, prediction)``.
        trials: how many values are tried.
        key: under which the space is known (:func:`know_space`).
        rules: tells what is measured: the metric, the rows and the objectives.
    """

    build: Build
    search: Search
    rows: Sequence[Mapping[str, Any]]
    inputs: tuple[str, ...]
    metric: Callable[..., Any]
    trials: int
    key: str
    objectives: tuple[Objective, ...] = (Objective("score", "maximize"),)
    prefer: Mapping[str, float] | None = None
    sampler: str = "tpe"
    pruner: str = "none"
    parallel: int | None = None
    concurrency: int = 16
    history: int = 3
    studies: tuple[str, ...] = ()
    commit: str = "end"
    failure: float | None = None
    again: bool = False
    folder: str | None = None
    rules: str = ""
    space: Space | None = field(default=None, compare=False, repr=False)
    kind: str = "tune"
    spread: bool = True
    continues: bool = True

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "space": None}

    @property
    def home(self) -> Space:
        """The space.

        Raises:
            JobError: it is not open in this process.
        """
        return self.space if self.space is not None else known_space(self.key)

    def at_once(self, workers: int) -> int:
        """Return how many trials are under way at once."""
        return max(1, min(workers, self.parallel or workers, self.trials))

    def examples(self) -> list[Any]:
        """Return the rows as DSPy has them."""
        import dspy

        return [dspy.Example(**row).with_inputs(*self.inputs) for row in self.rows]

    def check(self, budget: Budget) -> Plan:
        """Return what it expects to take.

        Raises:
            ConstraintError: no values meet the constraints.
            ConfigurationError: there are no rows, or one lacks a field; or Optuna is not installed.
        """
        require("optuna", "to tune variables")
        space = self.home
        found = space.feasible(self.search.names).check()
        present = {name: space.get(name) for name in self.search.names}
        try:
            snapshot = space.check({})
        except VariableError:
            snapshot = space.check({**present, **found.values})
        program = self.build(snapshot.values)
        one = Evaluate(program, self.rows, self.inputs, self.metric).check(budget)
        size, notes = self.search.size(), list(self.search.notes)
        if size is not None and size < self.trials and not self.again:
            notes.append(f"There are only {size:,} combinations: it ends when all were tried.")
        if {o.name for o in self.objectives} & {"cost", "latency", "seconds", "calls"}:
            notes.append("Answers from a cache cost nothing and take no time: run it with fresh models where that counts.")

        def all_of(each: int | None) -> int | None:
            return None if each is None else each * self.trials

        tokens = all_of(one.prompt_tokens), all_of(one.answer_tokens)
        return Plan(self.trials, all_of(one.calls), *tokens, notes=tuple(notes))

    def run(self, reporter: Reporter) -> Tuned | None:
        """Try values, and commit the best.

        Raises:
            JobError: not one trial is complete, or the space is not open in this process.
        """
        space = self.home
        lease = leased(space, self.search.names, f"tune {reporter.job_id}", lambda: reporter.stopping)
        if lease is None:
            return None
        with lease:
            study, notes = self._opened(reporter, space)
            course = Course(self, space, study, reporter, lease)
            course.go()
            best = course.best
            if best is None and not reporter.stopping:
                raise JobError(_nothing(course.tried), hint="job.partial has every trial with its error.")
            if best is not None and self.commit != "never":
                course.commit(best)
            notes += [*self._said(course, reporter), *course.notes]
            chosen = "No trial is complete." if best is None else f"The best values: {shown(best.values)}."
            reporter.progress(course.done, self.trials, " ".join([chosen, *notes]))
            return self._tuned(course.tried, notes, study.path, course)

    def partial(self, found: Found) -> Tuned | None:
        """Return the trials that were told of."""
        path = (found.state or {}).get("study")
        if path is None or not Path(path).is_file():
            return None
        study = read_study(path)
        every, search = study.get_trials(deepcopy=False), search_in(study, self.search)
        tried = [Tried.from_json(each.user_attrs[TRIED], search) for each in every if TRIED in each.user_attrs]
        return self._tuned(tried, ("It did not end by itself: nothing was committed.",), Path(path)) if tried else None

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _opened(self, reporter: Reporter, space: Space) -> tuple[Study, list[str]]:
        """Return the study, new or gone on with, and what is to be said of that."""
        path = self._path(reporter)
        is_new = not path.exists()  # what it moves is then as it is present now
        study = Study(
            path,
            f"tune {reporter.job_id}",
            self.search.now(space) if is_new else self.search,
            self.objectives,
            sampler=self.sampler,
            pruner=self.pruner,
            seed=reporter.seed,
            trials=self.trials,
            parallel=self.at_once(reporter.workers) > 1,
        )
        notes = list(study.search.notes)
        if not study.study.trials:
            study.study.set_user_attr(RULES, self.rules)
            warm(self, space, study)
            if reporter.state is not None and is_new:
                notes.append("The file of the earlier study is gone: it began at the beginning.")
        else:
            notes += self._go_on(study, reporter)
        reporter.progress(sum(each.counted for each in study.tried()), self.trials)
        reporter.keep(lambda: {"study": str(path)})
        return study, notes

    def _path(self, reporter: Reporter) -> Path:
        kept = (reporter.state or {}).get("study")
        if kept is not None:
            return Path(kept)
        if self.folder is not None:
            return Path(self.folder) / reporter.job_id / FILE
        home = reporter.folder  # the job's own
        return Path(home or tempfile.mkdtemp(prefix="dspex-tune-")) / FILE

    def _go_on(self, study: Study, reporter: Reporter) -> list[str]:
        """Have what was under way tried again; return what is to be said of it."""
        given = {each.user_attrs.get("repeats") for each in study.study.get_trials(deepcopy=False)}
        known = reporter.known
        # What its kernel was told last died with it, and the study has it.
        for tried in () if known is None else [each for each in study.tried() if each.number not in known]:
            tell_of(reporter, tried, self)
        for frozen in study.adrift():
            values = {name: study.search.value(name, chosen) for name, chosen in frozen.params.items()}
            note = "Its process ended before it did."
            origin = frozen.user_attrs.get(ORIGIN, "sampler")
            tried = Tried(frozen.number, "unfinished", values, origin=origin, cost=None, note=note)
            study.lost(frozen, tried)
            tell_of(reporter, tried, self)
        again = [
            each
            for each in study.tried()
            if each.status == "unfinished" and each.number not in given and each.origin != "rescored" and each.values
        ]
        for each in again:
            study.give(study.search.params(each.values), "repeated", repeats=each.number)
        if not again:
            return []
        reporter.again(len(again))
        numbers = ", ".join(str(each.number) for each in again)
        are = "trial" if len(again) == 1 else "trials"
        return [f"It went on after {len(study.tried()) - len(again)} trials; {are} {numbers} had not ended and began again."]

    def _said(self, course: Course, reporter: Reporter) -> list[str]:
        notes = []
        if course.at_once > 1 and reporter.seed is not None:
            notes.append(
                f"With {course.at_once} trials at once the order in which they end decides what is tried next, so the seed "
                "does not fix the result; with parallel=1 it does."
            )
        if course.infeasible:
            notes.append(f"{course.infeasible:,} proposals broke a constraint; nothing was spent on them.")
        failed = sum(each.status == "failed" for each in course.tried)
        if failed:
            notes.append(f"{failed} of {len(course.tried)} trials failed.")
        best = course.best
        if course.stale:
            notes.append("Another job has committed since the best was measured: it was not measured anew.")
        if best is not None and best.note:
            notes.append(f"The best trial: {best.note}")
        return notes

    def _tuned(self, tried: Sequence[Tried], notes: Iterable[str], path: Path, course: Course | None = None) -> Tuned:
        done = [each for each in tried if each.status == "complete"]
        best = course.best if course else best_of(done, self.objectives, self.prefer)
        more = {"committed": course.committed, "infeasible": course.infeasible} if course else {}
        candidates = course.candidates() if course else done
        rule = self._rule()
        said = tuple(dict.fromkeys(notes))
        return tuned_of(best, tried, self.objectives, candidates, rule=rule, notes=said, study=str(path), **more)

    def _rule(self) -> str:
        if self.prefer is not None:
            weights = ", ".join(f"{name} {weight:g}" for name, weight in self.prefer.items())
            return f"the greatest weighted sum on the front, each objective stretched to 0–1: {weights}"
        first = f"the best {self.objectives[0].name} ({self.objectives[0].direction})"
        return first + (f", of equal ones the best {self.objectives[1].name}" if len(self.objectives) > 1 else "")


def tune(
    program: Any,
    variables: Wanted,
    metric: Callable[..., Any],
    data: Any,
    trials: int = 40,
    *,
    space: Space | None = None,
    build: Any = None,
    inputs: Sequence[str] | None = None,
    objectives: Any = None,
    prefer: Mapping[str, float] | None = None,
    sampler: str = "tpe",
    pruner: str | None = None,
    parallel: int | None = None,
    concurrency: int = 16,
    history: int = 3,
    studies: Iterable[Any] = (),
    commit: str = "end",
    failure: float | None = None,
    again: bool = False,
    folder: str | Path | None = None,
    key: str | None = None,
) -> Tune:
    """Return the work that tunes variables; ``jobs.start(work, pool=…, budget=…, seed=…)`` starts it.

    Args:
        program: an exposure, a DSPy program whose knobs are variables, or a function with variables among its parameters.
        variables: names, patterns (``"triage.*"``) or variables; None for all of the program that can be searched.
        metric: ``metric(example, prediction)``; higher is better.
        data: as for :func:`~dspex_lab.jobs.evaluate`.
        trials: how many values are tried, the present ones among them.
        space: where the variables are; that of the exposure where None.
        build: a function of the values that makes the program of a trial, in the place of ``program``.
        inputs: the fields that the program is given.
        objectives: None for the metric's score; else names (``["quality", "cost", "latency"]``) or a dict
            (:func:`~dspex_lab.jobs.tune.objectives_of`).
        prefer: weights of objectives, by which one of the front is taken; None: the best in the first one.
        sampler: ``"tpe"``, ``"random"``, ``"grid"``, ``"cmaes"``, ``"nsga2"``, ``"nsga3"``, ``"gp"`` or ``"qmc"``.
        pruner: ``"median"``, ``"wilcoxon"`` or ``"none"``; None is median for one objective and 16 rows or more.
        parallel: trials at once; None for as many as there are workers. With 1 a seed fixes the result.
        concurrency: rows at once, of all trials.
        history: how many of the best values in the space's history are tried again.
        studies: results or files of earlier tune jobs to learn from.
        commit: ``"end"``, ``"improvement"`` (each time there is a better one) or ``"never"``.
        failure: what a failed row scores; None leaves it out of the mean.
        again: values that were tried are evaluated again where the sampler proposes them again.
        folder: where studies are kept, a folder for each job; None is the job's own.
        key: tells the space in every process that opens it; see :func:`know_space`.

    Raises:
        DspexError: an argument is none; the message says which, and what may be meant.
    """
    _check_numbers(trials=trials, concurrency=concurrency, parallel=parallel)
    if not callable(metric):
        raise ConfigurationError(f"The metric is {metric!r}.", key="metric", expected="a function of example and prediction")
    if commit not in COMMITS:
        near = did_you_mean(str(commit), COMMITS)
        raise ConfigurationError(f"There is no commit={commit!r}.{near}", key="commit", expected=COMMITS, actual=commit)
    space = space if space is not None else getattr(program, "space", None)
    if not isinstance(space, Space):
        raise ConfigurationError("Nobody says where the variables are.", key="space", expected="a Space, or an exposure")
    made = build_of(program, space, build)
    search = search_of(space, variables, made.names)
    aims, rows = objectives_of(objectives), rows_of(data)
    check_prefer(prefer, aims)
    name = sampler_name(sampler)
    check_sampler(name, search, len(aims))
    said = inputs if inputs is not None else getattr(data, "inputs", None) or declared_inputs(data)
    work = Tune(
        made,
        search,
        tuple(rows),
        tuple(said or ()),
        metric,
        trials,
        know_space(space, key),
        objectives=aims,
        prefer=prefer,
        sampler=name,
        pruner=pruner_name(pruner, len(rows), len(aims)),
        parallel=parallel,
        concurrency=concurrency,
        history=max(0, history),
        studies=tuple(_study_path(each) for each in studies),
        commit=commit,
        failure=failure,
        again=again,
        folder=None if folder is None else str(Path(folder).absolute()),
        rules=_rules(metric, rows, aims),
        space=space,
    )
    return work if work.inputs else replace(work, inputs=_inputs(work, rows))


def _inputs(work: Tune, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    named = set(getattr(work.build, "arguments", {}).values())
    program = getattr(work.build, "function", None) if named else work.build(work.home.values())
    own = getattr(getattr(program, "pipeline", None), "inputs", {})  # a pipeline can do without some of its inputs
    free = {name for name, field in own.items() if not getattr(field, "required", True)}
    asked = [name for name in inputs_of(program, rows) if name not in named]
    return tuple(name for name in asked if name not in free or any(name in row for row in rows))


def _check_numbers(**given: Any) -> None:
    for name, value in given.items():
        if name == "parallel" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            said = f"{name}={value!r} is no whole number, 1 or more."
            raise ConfigurationError(said, key=name, expected="a whole number, 1 or more", actual=value)


def _study_path(given: Any) -> str:
    path = getattr(given, "study", given)
    read_study(path)
    return str(Path(path).absolute())


def _rules(metric: Any, rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> str:
    """Return what tells whether two studies measure the same; nothing where rows hold what cannot be compared."""
    try:
        data = together(fingerprint(row) for row in rows)
    except ConfigurationError:
        return ""
    name = getattr(metric, "__qualname__", type(metric).__qualname__)
    aims = [(o.name, o.direction) for o in objectives]
    return hashlib.blake2b(repr((data, name, aims)).encode(), digest_size=16).hexdigest()


def _nothing(tried: Sequence[Tried]) -> str:
    failed = [each for each in tried if each.error]
    said = f" The first error: {failed[0].error}" if failed else ""
    return f"Not one of {len(tried)} trials is complete.{said}"
