"""The doors to data for training: what people said of runs, examples made of runs, and data sets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.events import Event, new_id
from dspex_lab.jobs import Dataset, score_of
from dspex_lab.pipelines import Pipeline, Result
from dspex_lab.store import DatasetTable, FeedbackRow, FeedbackTable, ProgramTable, RecordedRun, recorded_runs
from dspex_lab.workbench._job_parts import metric_of
from dspex_lab.workbench._jobs import JobDoors

_GOOD: tuple[Any, ...] = (1, True, "up", "good", "+1", "yes", "👍")
_BAD: tuple[Any, ...] = (-1, False, "down", "bad", "-1", "no", "👎")
_STATUSES = ("complete", "partial")
#: What the store writes where it kept less than there was; nobody should be taught that.
_CUT = ("…[cut: ", "[cut: ", "[cut]", "[not kept: ")


@dataclass(frozen=True)
class Said:
    """What all that was said of a run comes to.

    Args:
        verdict: the last one, ``"good"``, ``"bad"`` or None.
        correction: the fields as they should have been: the last word on each.
    """

    verdict: str | None = None
    correction: Mapping[str, Any] | None = None

    @property
    def usable(self) -> bool:
        """Whether an example may be made of the run: nobody found it bad, or somebody said what is right."""
        return self.verdict != "bad" or self.correction is not None


class ExampleDoors(JobDoors):
    """``feedback``, ``examples``, ``dataset`` and ``guard``."""

    def feedback(
        self,
        run: Any = None,
        verdict: Any = None,
        correction: Mapping[str, Any] | None = None,
        note: str | None = None,
        step: str | None = None,
        who: str | None = None,
    ) -> FeedbackRow:
        """Keep what somebody says of a run: a thumb, the right answer, or both.

        Args:
            run: a result, the id of a run, or None for the last one.
            verdict: ``+1``, ``"up"`` or ``"good"``; ``-1``, ``"down"`` or ``"bad"``; None where only a correction is given.
            correction: output fields as they should have been; examples have these.
            note: why.
            step: what is said is said of that step.
            who: says it.

        Raises:
            ConfigurationError: no verdict and no correction, a field that the run does not give, or no such step.
            StoreError: there is no such run that has ended.
        """
        self._ensure_open()
        result = self.last_result if run is None else run
        if result is None:
            raise ConfigurationError("There is no run yet that something could be said of.", key="run", hint="lab.run(…)")
        run_id = result.run_id if hasattr(result, "run_id") else str(result)
        good = _verdict(verdict)
        if good is None and correction is None and note is None:
            raise ConfigurationError(
                "Nothing was said of the run.", key="verdict", expected="'up' or 'down', or a correction", actual=None
            )
        known = recorded_runs(self.store, run_id=run_id)
        if known:
            _check_fields(correction, [*known[0].outputs, *(result.outputs if isinstance(result, Result) else ())])
            _check_step(step, self.pipelines.get(known[0].name), result)
        row = FeedbackRow(
            new_id(), run_id, good, time.time(), step, None if correction is None else dict(correction), note, who
        )
        watched = known and good is not None and ProgramTable(self.store).in_use(known[0].name) is not None
        if watched:
            self.jobs  # noqa: B018 - what watches is made with the jobs, and reads what was said before
        FeedbackTable(self.store).add(row)
        if watched:
            started = known[0].started.replace(tzinfo=UTC).timestamp()
            self._adopting.guards.said(known[0].name, started, good == "good")
        self.bus.emit(Event("run.feedback", row.time, run_id=run_id, step=step, data={"verdict": row.verdict}))
        return row

    def examples(
        self,
        x: Any,
        where: Callable[[RecordedRun], bool] | Mapping[str, Any] | None = None,
        split: Mapping[str, float] | None = None,
        *,
        status: str | Sequence[str] = "complete",
        verdict: str | None = None,
        since: datetime | timedelta | float | None = None,
        session: str | None = None,
        tags: str | Sequence[str] = (),
        min_score: float | None = None,
        metric: Any = None,
        unique: bool = True,
        seed: int = 0,
        limit: int = 10_000,
    ) -> Any:
        """Return what runs of ``x`` did well as ``dspy.Examples``, the oldest first; with ``split`` as a data set in parts.

        Corrections stand in the place of what was answered. A run that somebody found bad is left out, unless it was
        corrected; failed runs always are, and runs of which the store has kept less than there was.

        Args:
            x: a pipeline or its name, or the name under which runs were recorded.
            where: a function of the run (``inputs, outputs, verdict, started, note`` …), or values that its inputs and outputs
                must have: ``{"language": "de"}``.
            split: the share of each part, ``{"train": 0.8, "test": 0.2}``: rows of the same inputs come to the same part.
            status: ``"complete"``, or both that and ``"partial"``.
            verdict: ``"good"``: only what people found good, or corrected.
            since: a time, seconds since the epoch, or a ``timedelta`` back from now.
            session, tags: of the runs; all of the tags.
            min_score: what ``metric(example, prediction)``, or the metric of that name, has to give at least.
            unique: of runs with the same inputs only the last.
            seed: another one, another division.

        Raises:
            ConfigurationError: a filter that makes no sense, or, with ``split``, no run that is left.
        """
        self._ensure_open()
        _check_scoring(min_score, metric)
        pipeline = self._pipeline_of(x)
        name = pipeline.name if pipeline is not None else str(x)
        inputs = list(pipeline.inputs) if pipeline is not None else None
        recorded = recorded_runs(
            self.store,
            name,
            status=_statuses(status),
            since=_epoch(since),
            session=session,
            tags=[tags] if isinstance(tags, str) else tags,
            limit=limit,
        )
        runs = [run for run in recorded if _whole(run)]
        said = self._said([run.run_id for run in runs])
        found: dict[Any, dict[str, Any]] = {}
        for run in runs:
            about = said.get(run.run_id, Said())
            run = replace(run, verdict=about.verdict, correction=None if about.correction is None else dict(about.correction))
            if not about.usable or (verdict is not None and not _as_wanted(verdict, about)) or not _met(where, run):
                continue
            row = _row(run, pipeline)
            if row is None or not _reaches(row, run, min_score, metric):
                continue
            key = repr(sorted((k, repr(v)) for k, v in run.inputs.items())) if unique else run.run_id
            found.pop(key, None)
            found[key] = row
        return _made(list(found.values()), inputs or sorted({n for run in runs for n in run.inputs}), name, split, seed)

    def dataset(
        self,
        name: str,
        data: Any = None,
        *,
        split: Mapping[str, float] | str | None = None,
        inputs: Sequence[str] | None = None,
        by: Sequence[str] | None = None,
        seed: int = 0,
        version: int | None = None,
    ) -> Dataset:
        """Keep rows under a name and return them as a data set with its version and fingerprint; without ``data``, the one of
        that name.

        The same rows under the same name are the same version; others are the next one.

        Args:
            data: a DataFrame, a list of dicts, ``dspy.Examples``, the path of a file, or a data set; see
                :meth:`~dspex_lab.jobs.Dataset.of`, also for ``split``, ``inputs``, ``by`` and ``seed``.
            version: of the one that is kept; by default the newest.

        Raises:
            StoreError: there is none of that name, or it is too large to be kept.
            ConfigurationError: the rows cannot be read, or stand in two parts.
        """
        self._ensure_open()
        table = DatasetTable(self.store)
        if data is None:
            return Dataset.load(table, name, version)
        if isinstance(data, Dataset) and split is None:
            made = Dataset(name, data.parts, tuple(inputs) if inputs is not None else data.inputs, 0, data.source)
        else:
            known = inputs if inputs is not None else getattr(data, "inputs", None)
            made = Dataset.of(data, name, split=split, seed=seed, by=by, inputs=known)
        return made.check().save(table, time.time())

    def guard(self, program: str, mode: str | None = None, *, metric: Any = None, baseline: float | None = None) -> Any:
        """Return how an adopted program does live, and what happens when its score falls.

        Args:
            program: its name, as in ``lab.programs``.
            mode: ``"off"``, ``"suggest"`` (say so) or ``"auto"`` (bring the version before back).
            metric: ``metric(example, prediction)`` of each run from now on, 0 to 1; without it, what people say of runs.
            baseline: the mean that is asked of the live scores; by default the lower end of what was measured at adoption.

        Raises:
            ConfigurationError: nothing that a job found is in use under that name.
        """
        self.jobs  # noqa: B018 - the watches are made with the jobs
        judge = None if metric is None else metric_of(metric)
        guards = self._adopting.guards
        if mode is None and judge is None and baseline is None:
            return guards.of(program)
        return guards.set(program, mode, judge, baseline)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _pipeline_of(self, x: Any) -> Pipeline | None:
        if isinstance(x, str) and x not in self.pipelines and "->" not in x:
            return None
        return self._find(x)[0]

    def _said(self, run_ids: Sequence[str]) -> dict[str, Said]:
        found: dict[str, Said] = {}
        for row in FeedbackTable(self.store).of(run_ids):
            now = found.get(row.run_id, Said())
            correction = now.correction if row.correction is None else {**(now.correction or {}), **row.correction}
            found[row.run_id] = Said(row.verdict or now.verdict, correction)
        return found


def _verdict(verdict: Any) -> str | None:
    if verdict is None:
        return None
    asked = verdict.strip().lower() if isinstance(verdict, str) else verdict
    for word, known in (("good", _GOOD), ("bad", _BAD)):
        if any(asked == each and isinstance(asked, str) == isinstance(each, str) for each in known):
            return word
    raise ConfigurationError(f"{verdict!r} is no verdict.", key="verdict", expected="'up' or 'down' (+1 or -1)", actual=verdict)


def _check_fields(correction: Mapping[str, Any] | None, outputs: Sequence[str]) -> None:
    for name in correction or {}:
        if name not in outputs:
            raise ConfigurationError(
                f"The run gave no field {name!r} that could be corrected.{did_you_mean(name, outputs)}",
                key=f"correction.{name}",
                expected=sorted(set(outputs)),
                actual=name,
            )


def _check_step(step: str | None, pipeline: Pipeline | None, result: Any) -> None:
    known = list(result.steps) if isinstance(result, Result) else list(pipeline.every_step) if pipeline is not None else []
    if step is not None and known and step.partition(".")[0] not in {name.partition(".")[0] for name in known}:
        raise ConfigurationError(
            f"The run has no step {step!r}.{did_you_mean(step, known)}", key="step", expected=known, actual=step
        )


def _statuses(status: str | Sequence[str]) -> tuple[str, ...]:
    asked = (status,) if isinstance(status, str) else tuple(status)
    for each in asked:
        if each not in _STATUSES:
            raise ConfigurationError(
                f"Examples are not made of runs that are {each!r}.{did_you_mean(str(each), _STATUSES)}",
                key="status",
                expected=list(_STATUSES),
                actual=each,
            )
    return asked


def _check_scoring(min_score: float | None, metric: Any) -> None:
    if (min_score is None) != (metric is None):
        raise ConfigurationError("min_score= and metric= go together.", key="min_score", actual=min_score)


def _epoch(since: datetime | timedelta | float | None) -> float | None:
    if since is None:
        return None
    if isinstance(since, timedelta):
        return time.time() - since.total_seconds()
    if isinstance(since, datetime):
        return (since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp()
    if isinstance(since, bool) or not isinstance(since, int | float) or not math.isfinite(since):
        raise ConfigurationError(f"since={since!r} is no time.", key="since", expected="a datetime, timedelta or seconds")
    return float(since)


def _as_wanted(verdict: str, said: Said) -> bool:
    return _verdict(verdict) == (said.verdict if said.correction is None else "good")


def _whole(run: RecordedRun) -> bool:
    return not any(_cut(value) for value in (*run.inputs.values(), *run.outputs.values(), *run.inputs, *run.outputs))


def _cut(value: Any) -> bool:
    if isinstance(value, str):
        return any(mark in value for mark in _CUT)
    if isinstance(value, Mapping):
        return any(_cut(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(map(_cut, value))


def _met(where: Any, run: RecordedRun) -> bool:
    if where is None:
        return True
    if isinstance(where, Mapping):
        has = {**run.outputs, **(run.correction or {}), **run.inputs}
        return all(name in has and has[name] == value for name, value in where.items())
    if not callable(where):
        raise ConfigurationError(f"where={where!r}.", key="where", expected="a function of a run, or values by field")
    return bool(where(run))


def _row(run: RecordedRun, pipeline: Pipeline | None) -> dict[str, Any] | None:
    """Return the fields of an example; None where an output is missing that a correction does not give."""
    outputs = {**run.outputs, **(run.correction or {})}
    asked = [name for name in (pipeline.outputs if pipeline is not None else ()) if name not in run.inputs]
    if any(outputs.get(name) is None for name in asked) and run.status != "complete":
        return None
    return {**outputs, **run.inputs}


def _reaches(row: Mapping[str, Any], run: RecordedRun, min_score: float | None, metric: Any) -> bool:
    if min_score is None:
        return True
    import dspy

    example = dspy.Example(**row).with_inputs(*run.inputs)
    return score_of(metric_of(metric)(example, dspy.Prediction(**{**run.outputs, **(run.correction or {})})))[0] >= min_score


def _made(rows: list[dict[str, Any]], inputs: Sequence[str], name: str, split: Mapping[str, float] | None, seed: int) -> Any:
    if split is not None:
        return Dataset.of(rows, name, split=split, seed=seed, inputs=inputs, source={"runs_of": name})
    import dspy

    return [dspy.Example(**row).with_inputs(*(n for n in inputs if n in row)) for row in rows]
