"""``compute``: fields worked out by expressions, so that a file needs no Python for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.native import Condition
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._step import Step, step


class Compute:
    """Expressions by the name of the field each one gives; made by :func:`compute`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        if not values:
            raise PipelineError("compute: there is nothing to compute.", hint='Write: compute(total="price * count")')
        for name in values:
            if not name.isidentifier():
                raise PipelineError(f"compute: {name!r} is no name of a field.")
        self.texts = dict(values)
        self.parts = {name: Condition(text) for name, text in values.items()}

    def cache_token(self) -> tuple[Any, ...]:
        """Return what tells this from others."""
        return tuple(self.texts.items())


def compute(**values: str) -> Step:
    """Return a step that gives a field for each keyword, worked out by an expression over fields.

    The expressions are in the language of conditions: ``compute(total="price * count", late="days > 3")``.

    Raises:
        PipelineError: one of them cannot be read.
    """
    return step(Compute(values))


@step_kind
class ComputeKind(Kind):
    """Its inputs are the fields the expressions read, its outputs those they are called by."""

    name = "compute"

    def accepts(self, target: Any) -> bool:
        """Take what :func:`compute` made."""
        return isinstance(target, Compute)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the fields that are read, and those that are given."""
        read = dict.fromkeys(n for part in item.target.parts.values() for n in part.names)
        return Shape({n: StepField(n) for n in read}, {n: StepField(n) for n in item.target.parts})

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Work them out; none sees what another gives."""
        return {name: part(inputs) for name, part in item.target.parts.items()}

    def repeatable(self, item: Step) -> bool:
        """It does nothing but compute."""
        return True

    def plain(self, item: Step) -> bool:
        """Nothing is awaited."""
        return True

    def label(self, item: Step) -> str:
        """Return the expressions."""
        return ", ".join(f"{n} = {t}" for n, t in item.target.texts.items())
