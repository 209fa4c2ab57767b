"""``native``: a Python callable, sync or async."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, function_shape
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._modules import facts_of, is_dspy_module
from dspex_lab.pipelines._step import Step, label


@step_kind
class NativeKind(Kind):
    """A function's parameters are its input fields; what it returns are its output fields."""

    name = "native"
    pooled = True

    def accepts(self, target: Any) -> bool:
        """Take what can be called, but no class."""
        return callable(target) and not isinstance(target, type) and not is_dspy_module(target)

    def shape(self, name: str, item: Step) -> Shape:
        """Read the fields off the function; with ``batch=`` those of one request.

        Raises:
            PipelineError: they cannot be told, or it is a generator.
        """
        called = item.target if inspect.isroutine(item.target) else getattr(item.target, "__call__", item.target)  # noqa: B004
        if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in (item.target, called)):
            raise PipelineError(
                f"Step {name!r}: {label(item.target)!r} is a generator, whose values nobody would take.",
                step=name,
                hint="Return a list.",
            )
        shape = function_shape(name, item.target, item.outputs)
        return shape if item.batch is None else item.batch.shape(shape)

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Call it."""
        return await work.carry_out(label(item.target), item.target, item.pool, inputs)

    def plain(self, item: Step) -> bool:
        """An async function needs a loop."""
        return not facts_of(item.target).awaited

    def label(self, item: Step) -> str:
        """Return the function's name."""
        return label(item.target)
