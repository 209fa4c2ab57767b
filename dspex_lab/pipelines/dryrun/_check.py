"""The dry run of a pipeline: everything that can be told of a run before anything is run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import DspexError, PipelineError, did_you_mean
from dspex_lab.lms import describe, is_listed, is_simulated, make_lm
from dspex_lab.pipelines._modules import is_dspy_module
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Operation, Step
from dspex_lab.pipelines.dryrun import _reach, _shape
from dspex_lab.pipelines.dryrun._cost import Estimate, Measured
from dspex_lab.pipelines.dryrun._report import CheckReport, Connection, Finding
from dspex_lab.store import Store, calls_by_step, seconds_by_step

if TYPE_CHECKING:
    import pandas as pd

#: How bad a finding is, in the order in which they are told.
_ORDER = ("error", "warning", "note")


def _model_around() -> Any:
    """Return the model that DSPy's settings name, None where DSPy is not loaded or names none."""
    dspy = sys.modules.get("dspy")
    return None if dspy is None else dspy.settings.lm


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a dry run knows of the place in which the run would be; a Lab gives its own.

    Args:
        lm: gives the model in use, None where it is not known.
        model: makes the one a step asks for by name; calls nothing.
        pools: the names of the worker pools, None where they are not known.
        implementations: the names of what can carry out an operation, None where that is not known.
        store: where the runs of this pipeline were recorded.
    """

    lm: Callable[[], Any] = _model_around
    model: Callable[[Any], Any] = make_lm
    pools: Collection[str] | None = None
    implementations: Callable[[Operation], list[str]] | None = None
    store: Store | None = None


def check(
    pipeline: Pipeline, inputs: Mapping[str, Any] | None = None, *, rows: int = 1, around: Surroundings | None = None
) -> CheckReport:
    """Return what can be told of a run of ``pipeline``; nothing is run and no model is called.

    Args:
        inputs: the inputs it would be given; with them the estimate is closer.
        rows: the number of rows of a map, for the sum over all of them.
        around: the place it would run in.

    Raises:
        PipelineError: ``inputs`` are such that it could not start; ``rows`` is no number of rows.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise PipelineError(f"rows={rows!r} is no number of rows.", hint="Give a whole number, 1 or more.")
    known = {**pipeline.defaults, **({} if inputs is None else pipeline.accept(inputs))}
    place = around or Surroundings()
    findings = _of_places(pipeline, place)
    estimate = Estimate(lambda item: _models(item, place), _measured(pipeline, place))
    run = estimate.pipeline(pipeline, known)
    findings += [*estimate.findings, *_of_models(pipeline, place)]
    broken = {f.step: f.text for f in findings if f.severity == "error" and f.step is not None}
    joined = []
    for prefix, each in _shape.pipelines_in(pipeline):
        joined += _shape.connections(prefix, each)
        findings += [*_shape.unread(prefix, each), *_shape.quarrels(prefix, each), *_reach.missing(prefix, each, broken)]
    findings += [*_reach.conditions(pipeline.steps), *_of_types(joined)]
    seconds = _seconds(pipeline, place)
    timed = all(name in seconds for name in pipeline.steps)
    weights = {n: seconds[n] if timed else estimate.steps[n].spend.calls.least + 1e-6 for n in pipeline.steps}
    path = _shape.longest(pipeline.structure, weights)
    return CheckReport(
        name=pipeline.name,
        findings=tuple(sorted(dict.fromkeys(findings), key=lambda f: _ORDER.index(f.severity))),
        connections=tuple(joined),
        results=_shape.results(pipeline),
        levels=_shape.levels(pipeline.structure),
        width=_shape.width(pipeline.structure),
        path=path,
        path_seconds=sum(weights[n] for n in path) if timed else None,
        steps=estimate.steps,
        run=run,
        rows=rows,
        assumptions=tuple(estimate.assumptions),
    )


# --- the place it would run in ----------------------------------------------------------------------------------


def _of_places(pipeline: Pipeline, place: Surroundings) -> list[Finding]:
    """Return the pools and implementations that are missing."""
    found = []
    for path, item in _shape.parts_of(pipeline.steps):
        if item.pool is not None and place.pools is not None and item.pool not in place.pools:
            near = did_you_mean(item.pool, place.pools)
            found.append(Finding("error", path, f"there is no pool {item.pool!r}.{near}"))
        able = place.implementations if isinstance(item.target, Operation) else None
        if able is not None and not able(item.target):
            found.append(Finding("error", path, f"nothing carries out the operation {item.target.name!r}"))
    return found


def _models(item: Step, place: Surroundings) -> list[Any]:
    """Return the models that a step itself would ask; None stands for one that is not known.

    Raises:
        DspexError: one cannot be made: there is none of that name, or its key is missing.
    """
    own: list[Any] = [p.lm for _, p in item.target.named_predictors()] if is_dspy_module(item.target) else []
    if own and all(lm is not None for lm in own):
        return own
    chosen = place.lm() if item.lm is None else place.model(item.lm)
    return [chosen if lm is None else lm for lm in own] or [chosen]


def _of_models(pipeline: Pipeline, place: Surroundings) -> list[Finding]:
    """Return what is to be said of the models of all steps; those that cannot be made are told with their step."""
    found: dict[str, Finding] = {}
    for path, item in _shape.parts_of(pipeline.steps):
        asks = item.how.asks(item)
        if asks is not None and asks[1] == 0:
            continue
        try:
            models = _models(item, place)
        except DspexError:
            continue
        for lm in models:
            name = "" if lm is None else describe(lm)
            if lm is None:
                found[name] = Finding("note", None, "which model answers is not known here; lab.check(...) knows")
            elif is_simulated(lm):
                found[name] = Finding("note", None, f"{name} answers, which only imitates a model")
            elif "/" in name and not is_listed(name):
                found[name] = Finding("warning", path, f"{name!r} is not in the list of known models")
    return list(found.values())


# --- what was measured ------------------------------------------------------------------------------------------


def _measured(pipeline: Pipeline, place: Surroundings) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    if place.store is not None:
        for row in _rows(calls_by_step(place.store, pipeline.name)):
            told = [_number(row[n]) for n in ("prompt_tokens", "completion_tokens", "cost")]
            seen = Measured(row["model"], row["executions"], row["least"], row["most"], *told)
            found.setdefault(row["step"], []).append(seen)
    return found


def _seconds(pipeline: Pipeline, place: Surroundings) -> dict[str, float]:
    if place.store is None:
        return {}
    return {row["step"]: float(row["seconds"]) for row in _rows(seconds_by_step(place.store, pipeline.name))}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _number(value: Any) -> float | None:
    """Return a number out of a DataFrame, None for a missing one."""
    return None if value is None or value != value else float(value)


# --- types ------------------------------------------------------------------------------------------------------


def _of_types(joined: Iterable[Connection]) -> list[Finding]:
    between = [c for c in joined if c.source]
    loose = [c for c in between if not c.checked]
    if not loose:
        return []
    shown = ", ".join(f"{c.source}.{c.field} → {c.target}" for c in loose[:5]) + (", …" if len(loose) > 5 else "")
    text = f"{len(loose)} of {len(between)} connections between steps are not checked, as one side declares no type: {shown}"
    return [Finding("note", None, text)]
