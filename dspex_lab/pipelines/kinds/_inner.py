"""What kinds made of other steps share: running them, and taking over how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._engine import execute
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._result import StepOutcome, collect, failure_of


async def run_inner(work: StepRun, pipeline: Pipeline, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run the steps of a pipeline as parts of the step under way, and return its output fields.

    Raises:
        PipelineError: a field did not come; those that did are kept.
    """
    try:
        await execute(pipeline, pipeline.completed(inputs), work.context, work.parts, parent=work)
    finally:
        ended = {name: work.parts.pop(name) for name in pipeline.steps if name in work.parts}
        work.parts.update(ended)  # in order of definition
        work.kept = collect(pipeline, work.parts, lost=True)
    if any(f not in work.kept for f in pipeline.outputs):
        raise _failure(work, next(o for o in work.parts.values() if o.status == "failed"))
    short = [o for o in work.parts.values() if o.status != "complete"]
    if short:
        work.degraded = "; ".join(f"{o.name}: {o.why or o.status}" for o in short)
    return work.kept


def pass_on(work: StepRun, outcome: StepOutcome) -> Mapping[str, Any]:
    """Return what an inner step gave, None for a field that is lost where the step says so; note what is less than wanted.

    Raises:
        PipelineError: it failed, and its ``on_error`` is ``"stop"``.
    """
    if outcome.status == "failed" and outcome.on_error != "continue":
        work.kept = dict(outcome.outputs)
        raise _failure(work, outcome)
    if outcome.status != "complete":
        work.degraded = f"{outcome.name}: {outcome.why or outcome.status}"
    return outcome.outputs


def _failure(work: StepRun, outcome: StepOutcome) -> PipelineError:
    error, name = outcome.error, f"{work.name}.{outcome.name}"
    said = failure_of(name, error)
    inner = name if said.startswith("step ") else getattr(error, "step", name)
    failure = PipelineError(said[0].upper() + said[1:], step=inner, outcomes=work.parts, hint=getattr(error, "hint", None))
    failure.__cause__ = error
    return failure
