"""``dspy``: any DSPy module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._modules import is_dspy_module, module_shape
from dspex_lab.pipelines._step import Step, label


@step_kind
class DspyKind(Kind):
    """A module's signature tells its fields; without one, its ``forward`` and its last predictor do."""

    name = "dspy"
    pooled = True

    def accepts(self, target: Any) -> bool:
        """Take a ``dspy.Module``."""
        return is_dspy_module(target)

    def shape(self, name: str, item: Step) -> Shape:
        """Read the fields off the module."""
        return module_shape(name, item.target, item.outputs)

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Call the module, or the one that an optimizer put in its place."""
        target = work.context.modules.get(work.name, item.target)
        return await work.carry_out(label(target), target, item.pool, inputs)

    def plain(self, item: Step) -> bool:
        """A module is called in the thread that asks."""
        return True

    def asks(self, item: Step) -> tuple[float, float] | None:
        """Tell a predictor's calls; another module's depend on what it sees."""
        return module_calls(item.target)

    def repeatable(self, item: Step) -> bool:
        """A bare predictor does nothing but ask."""
        return module_calls(item.target) is not None and not hasattr(item.target, "tools")

    def label(self, item: Step) -> str:
        """Return the module's class."""
        return label(item.target)


def module_calls(module: Any) -> tuple[float, float] | None:
    """Return the least and the most LM calls of one call of a DSPy module, None where it cannot be told from outside.

    The most counts that an answer which cannot be read is asked for again in JSON.
    """
    import dspy

    if type(module) in (dspy.Predict, dspy.ChainOfThought):
        return 1, 2
    if type(module) is dspy.ReAct:
        return 2, 2 * (module.max_iters + 1)
    return None
