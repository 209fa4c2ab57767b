"""``when``: a step that runs only where a condition holds, or else another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._step import Step, as_step, step, step_shape
from dspex_lab.pipelines.kinds._inner import pass_on
from dspex_lab.pipelines.kinds._tests import Test


class When:
    """A condition and the steps it chooses between; made by :func:`when`."""

    def __init__(self, condition: str | Callable[..., Any], then: Any, otherwise: Any = None) -> None:
        self.test = Test(condition, "when")
        self.then = as_step(then)
        self.otherwise = None if otherwise is None else as_step(otherwise)

    @property
    def steps(self) -> dict[str, Step]:
        """The steps it chooses between."""
        return {"then": self.then, **({"otherwise": self.otherwise} if self.otherwise is not None else {})}


def when(condition: str | Callable[..., Any], then: Any, otherwise: Any = None) -> Step:
    """Return a step that does ``then`` where ``condition`` holds, and else ``otherwise`` or nothing.

    It gives the fields of both; what did not happen is None.

    Args:
        condition: a text over fields (``"urgency > 0.8 and intent == 'card'"``), or a function of named fields.
        then: a function, module, operation, template, pipeline or step; ``otherwise`` likewise.

    Raises:
        PipelineError: the condition cannot be read, or a branch cannot be a step.
    """
    return step(When(condition, then, otherwise))


@step_kind
class WhenKind(Kind):
    """Its inputs are those of the condition and of both branches; a single value of a branch is named like the step."""

    name = "when"

    def accepts(self, target: Any) -> bool:
        """Take what :func:`when` made."""
        return isinstance(target, When)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the fields of condition and branches; each output may be None."""
        inputs, outputs = dict(item.target.test.inputs), dict[str, StepField]()
        kinds: dict[str, list[Any]] = {}
        for branch in item.target.steps.values():
            shape = step_shape(name, branch)
            for field, declared in shape.inputs.items():
                known = inputs.get(field)
                if known is None or known.type is Any:
                    inputs[field] = StepField(field, declared.type, declared.required or (known is not None and known.required))
                elif declared.required:
                    inputs[field] = StepField(field, known.type, True)
            for field, declared in shape.outputs.items():
                kinds.setdefault(field, []).append(declared.type)
        for field, types in kinds.items():
            kind = types[0] if all(t == types[0] for t in types) else Any
            always = len(types) == 2 or kind is Any
            outputs[field] = StepField(field, kind if always else Optional[kind])  # noqa: UP045 - a value, not an annotation
        return Shape(inputs, outputs)

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Test, and run the branch it chooses."""
        name = "then" if await item.target.test.holds(work, inputs) else "otherwise"
        chosen = item.target.steps.get(name)
        work.implementation = name if chosen is not None else "nothing"
        found: Mapping[str, Any] = {}
        if chosen is not None:
            found = pass_on(work, await work.step(name, chosen, inputs, gives=work.field))
        return {f: found.get(f) for f in work.shape.outputs}

    def parts(self, item: Step) -> Mapping[str, Step]:
        """Return the branches."""
        steps: Mapping[str, Step] = item.target.steps
        return steps

    def with_parts(self, item: Step, parts: Mapping[str, Step]) -> Any:
        """Return the same with other branches."""
        steps = {**item.target.steps, **parts}
        return When(item.target.test.source, steps["then"], steps.get("otherwise"))

    def plain(self, item: Step) -> bool:
        """Ask the condition and the branches."""
        return item.target.test.plain and all(s.plain for s in item.target.steps.values())

    def label(self, item: Step) -> str:
        """Return the condition."""
        return str(item.target.test)
