"""``parallel``: steps that run at the same time, as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step, as_step, step
from dspex_lab.pipelines.kinds._inner import run_inner


class Parallel:
    """Steps of which none needs what another gives; made by :func:`parallel`."""

    def __init__(self, steps: Mapping[str, Any]) -> None:
        self.inner = Pipeline("parallel", **steps)
        fed = [n.name for n in self.inner.structure.nodes if n.needs]
        if fed:
            node = next(n for n in self.inner.structure.nodes if n.name == fed[0])
            field = next(f for f, s in node.reads.items() if s[1] >= 0)
            raise PipelineError(
                f"parallel: step {fed[0]!r} needs {field!r} from another of its steps, so they cannot run at the same time.",
                step=fed[0],
                hint="Put them into the pipeline one by one; what can run at once, does.",
            )


def parallel(*steps: Any, **named: Any) -> Step:
    """Return steps that run at the same time as one step, with the fields of all.

    In a pipeline, steps that do not need each other run at the same time anyway; this gives them one name, one timeout and
    one ``on_error``.

    Args:
        steps: functions, modules, operations or steps; called by their own names.
        named: the same, under names given here.

    Raises:
        PipelineError: two have one name or give one field, or one needs what another gives.
    """
    given: dict[str, Any] = {}
    for place, value in enumerate(steps, 1):
        item = as_step(value)
        name = item.name or item.how.label(item)
        name = name if name.isidentifier() else f"{item.kind}{place}"
        if name in given or name in named:
            raise PipelineError(f"parallel: two steps are called {name!r}.", step=name, hint=f"Name one: {name}2=...")
        given[name] = item
    return step(Parallel({**given, **named}))


@step_kind
class ParallelKind(Kind):
    """Runs its steps as a pipeline without edges."""

    name = "parallel"

    def accepts(self, target: Any) -> bool:
        """Take what :func:`parallel` made."""
        return isinstance(target, Parallel)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the fields of all its steps together."""
        return Shape(dict(item.target.inner.inputs), dict(item.target.inner.outputs))

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Run all of them."""
        return await run_inner(work, item.target.inner, inputs)

    def parts(self, item: Step) -> Mapping[str, Step]:
        """Return its steps."""
        steps: Mapping[str, Step] = item.target.inner.steps
        return steps

    def with_parts(self, item: Step, parts: Mapping[str, Step]) -> Any:
        """Return the same with other steps of these names."""
        return Parallel({**item.target.inner.steps, **parts})

    def label(self, item: Step) -> str:
        """Return the names of its steps."""
        return ", ".join(item.target.inner.steps)
