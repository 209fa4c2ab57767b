"""``pipeline``: a pipeline as a step of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step
from dspex_lab.pipelines.kinds._inner import run_inner


@step_kind
class PipelineKind(Kind):
    """Its inputs and outputs are those of the pipeline; its steps are run and recorded as ``outer.inner``."""

    name = "pipeline"

    def accepts(self, target: Any) -> bool:
        """Take a pipeline."""
        return isinstance(target, Pipeline)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the pipeline's own fields."""
        return Shape(dict(item.target.inputs), dict(item.target.outputs))

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Run its steps."""
        return await run_inner(work, item.target, inputs)

    def parts(self, item: Step) -> Mapping[str, Step]:
        """Return the pipeline's steps."""
        steps: Mapping[str, Step] = item.target.steps
        return steps

    def with_parts(self, item: Step, parts: Mapping[str, Step]) -> Any:
        """Return the pipeline with other steps of these names."""
        return item.target.with_steps(parts)

    def plain(self, item: Step) -> bool:
        """Ask the pipeline."""
        return bool(item.target.plain)

    def label(self, item: Step) -> str:
        """Return the pipeline's name."""
        return str(item.target.name)
