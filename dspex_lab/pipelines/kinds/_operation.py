"""``operation``: work that several implementations can do; the router chooses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.events import Decision, new_id
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._modules import signature_shape
from dspex_lab.pipelines._result import describe
from dspex_lab.pipelines._step import Operation, Step, label


@step_kind
class OperationKind(Kind):
    """Tries the router's candidates in order, and tells the router how each one did."""

    name = "operation"

    def accepts(self, target: Any) -> bool:
        """Take an operation such as ``dx.predict(...)``."""
        return isinstance(target, Operation)

    def shape(self, name: str, item: Step) -> Shape:
        """Read the fields off the signature."""
        return signature_shape(item.target.signature)

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Run the router's choice; when it fails, the next implementation."""
        context, operation = work.context, item.target
        own = context.modules.get(work.name)
        if own is not None:
            return await work.carry_out(label(own), own, None, inputs)
        contract = operation.signature
        contract.validate_inputs(dict(inputs))
        pin = context.pin.get(operation.key, context.pin.get(operation.name))
        candidates, strategy, reason = context.decide.decide(operation, inputs, pin)
        names = tuple(c.name for c in candidates)
        last: Exception = PipelineError(f"Step {work.name!r} has no implementation.", step=work.name)
        for candidate in candidates:
            now = time.time()
            context.decision(
                Decision(new_id(), context.run_id, work.span_id, now, operation.key, candidate.name, names, strategy, reason)
            )
            clock = time.perf_counter()
            try:
                outputs = await work.carry_out(candidate.name, candidate.make(), candidate.pool, inputs)
                contract.validate_outputs({f: outputs[f] for f in contract.outputs})
            except Exception as error:
                context.decide.observe(operation, candidate.name, time.perf_counter() - clock, error)
                if candidate is not candidates[0]:
                    error.add_note(f"before it: {describe(last)}")
                last, reason = error, f"{candidate.name} failed: {describe(error)}"
                continue
            context.decide.observe(operation, candidate.name, time.perf_counter() - clock, None)
            return outputs
        raise last

    def plain(self, item: Step) -> bool:
        """A function or module that answers is called in the thread that asks."""
        return True

    def asks(self, item: Step) -> tuple[float, float] | None:
        """Count one call, and one more where the answer cannot be read; a fallback implementation asks again."""
        return 1, 2

    def repeatable(self, item: Step) -> bool:
        """A prediction does nothing but ask."""
        return True

    def label(self, item: Step) -> str:
        """Return the operation's key."""
        return label(item.target)
