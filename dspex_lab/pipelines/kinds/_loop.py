"""``loop``: a step repeated until a condition holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._step import Step, as_step, step, step_shape
from dspex_lab.pipelines.kinds._inner import pass_on
from dspex_lab.pipelines.kinds._tests import Test


class Loop:
    """A step, the condition that ends it, and the most rounds; made by :func:`loop`."""

    def __init__(self, loop_step: Any, until: str | Callable[..., Any], limit: int = 10) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise PipelineError(f"loop: limit={limit!r} is not 1 or more.", hint="Give a whole number of rounds.")
        self.step, self.test, self.limit = as_step(loop_step), Test(until, "loop"), limit


def loop(step_: Any, *, until: str | Callable[..., Any], limit: int = 10) -> Step:
    """Return a step that repeats ``step_`` until a condition holds over its inputs and outputs.

    An output that has the name of an input is that input of the next round, and replaces the field for later steps. Where
    ``limit`` rounds were not enough, the fields of the last round are kept and the step ends ``partial``.

    Args:
        step_: a function, module, operation, template, pipeline or step.
        until: a condition as text (``"score >= 0.9"``) or a function of named fields; asked after each round.
        limit: the most rounds.

    Raises:
        PipelineError: an argument is wrong.
    """
    made = Loop(step_, until, limit)
    shape = step_shape("loop", made.step)
    return step(made, replaces=any(f in shape.inputs for f in shape.outputs))


@step_kind
class LoopKind(Kind):
    """Its inputs are those of the step and of the condition, its outputs those of the step."""

    name = "loop"

    def accepts(self, target: Any) -> bool:
        """Take what :func:`loop` made."""
        return isinstance(target, Loop)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the step's fields, and what else the condition reads."""
        inner = step_shape(name, item.target.step)
        asked = {n: f for n, f in item.target.test.inputs.items() if n not in inner.outputs}
        return Shape({**asked, **inner.inputs}, dict(inner.outputs))

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Repeat it."""
        target, fields = item.target, dict(inputs)
        name = target.step.name or "round"
        for index in range(target.limit):
            outcome = await work.step(name, target.step, fields, gives=work.field, index=index)
            given = pass_on(work, outcome)
            found = {**given, **{f: given.get(f) for f in work.shape.outputs}}
            fields.update(found)
            if await target.test.holds(work, fields):
                return found
        work.degraded = f"{target.limit} rounds were not enough for: {target.test}"
        return found

    def parts(self, item: Step) -> Mapping[str, Step]:
        """Return the step that is repeated."""
        return {item.target.step.name or "round": item.target.step}

    def with_parts(self, item: Step, parts: Mapping[str, Step]) -> Any:
        """Return the same with another step."""
        target = item.target
        return Loop(parts.get(target.step.name or "round", target.step), target.test.source, target.limit)

    def plain(self, item: Step) -> bool:
        """Ask the condition and the step."""
        return item.target.test.plain and item.target.step.plain

    def label(self, item: Step) -> str:
        """Return the step's label and the condition."""
        return f"{item.target.step.how.label(item.target.step)} until {item.target.test}"
