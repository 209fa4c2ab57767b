"""How the work of a step is done: a function, predictor or DSPy module, called where and as it can be."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.events import new_id
from dspex_lab.lms import is_simulated
from dspex_lab.pipelines._away import carried_out
from dspex_lab.pipelines._context import RunContext
from dspex_lab.pipelines._fields import Shape, checked, split_result
from dspex_lab.pipelines._modules import Facts, facts_of, module_contract
from dspex_lab.pipelines._result import StepOutcome
from dspex_lab.pipelines._step import Step


class Calls:
    """A step under way, and the ways in which it can call what it is made of.

    Args:
        name: the step's name, with those of the steps it is in before it.
        parent: the step it is in.
        field: the name of the field that a single value becomes; ``name`` by default.
        path: ``name`` with the index of each item and round in it, unique in the run.
    """

    __slots__ = (
        "attempt",
        "context",
        "data",
        "degraded",
        "field",
        "implementation",
        "item",
        "kept",
        "lm",
        "name",
        "parent_id",
        "parts",
        "path",
        "shape",
        "span_id",
        "worker",
    )

    def __init__(
        self,
        name: str,
        item: Step,
        shape: Shape,
        context: RunContext,
        parent: Calls | None = None,
        *,
        field: str | None = None,
        path: str | None = None,
        span_id: str | None = None,
    ) -> None:
        self.name, self.item, self.shape, self.context = name, item, shape, context
        self.parent_id = context.span_id if parent is None else parent.span_id
        self.field = name if field is None else field
        self.path = name if path is None else path
        #: The model of its own, else that of the step it is in; None is the one in use.
        self.lm: Any = item.lm if item.lm is not None or parent is None else parent.lm
        self.span_id: str = span_id or new_id()
        self.implementation: str | None = None
        self.worker: str | None = None
        self.degraded: str | None = None
        self.attempt = 1
        self.parts: dict[str, StepOutcome] = {}
        self.kept: dict[str, Any] = {}
        self.data: dict[str, Any] | None = None

    def event(self, what: str, /, **data: Any) -> None:
        """Tell of an event of this step that happens now."""
        self.context.event(what, self.span_id, self.name, **data)

    async def carry_out(self, name: str, target: Any, pool: str | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the output fields of a function or DSPy module, checked against what it declares.

        Args:
            name: what the span calls the implementation.
            pool: where it runs; None is the kernel.
        """
        self.implementation = name
        facts = facts_of(target)
        if self.context.bus.watched:
            self.event("dspy.execute" if facts.module else "native.execute", pool=pool)
        if facts.module:
            return await self._module(target, facts, pool, inputs)
        if pool is not None:
            value = await self.on_pool(pool, target, inputs, module=False)
        elif facts.acall and not facts.awaited:
            value = await self._predictor(target, facts, inputs)
            if self.shape.whole is None:
                return self._fields(target, value)
        elif self.item.batch is not None and self.context.batchers is not None:
            value = await self._batched(target, inputs)
        else:
            value = await self.call(target, inputs)
        return checked(self.name, self.shape, split_result(self.field, self.shape, value))

    async def call(self, function: Callable[..., Any], inputs: Mapping[str, Any], *, lm: bool = False) -> Any:
        """Return what ``function(**inputs)`` gives; see :class:`Work`."""
        context, facts = self.context, facts_of(function)
        force = lm or facts.names_dspy
        context.enter(self.span_id, self.name, force, self.lm)
        if facts.awaited:
            return await function(**inputs) if context.wait is None else context.wait(function(**inputs))
        value = await self._in_thread(lambda: function(**inputs))
        if not inspect.isawaitable(value):
            return value
        return await context.finish(_awaited(value))

    async def on_pool(self, pool: str, target: Any, inputs: Mapping[str, Any], *, module: bool) -> Any:
        """Return what ``target(**inputs)`` gives on a worker of ``pool``; ``module``: it is a DSPy module."""
        return await carried_out(self, pool, target, inputs, module)

    async def _batched(self, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        async def together(lists: Mapping[str, Any]) -> Any:
            return await self.call(function, lists)

        context, gives = self.context, tuple(self.shape.outputs)
        assert context.batchers is not None  # noqa: S101 - asked by the caller
        key = function if isinstance(function, Hashable) else id(function)
        return await context.batchers.submit(
            key, self.name, self.item.batch, inputs, together, gives=gives, alone=context.alone()
        )

    async def _module(self, module: Any, facts: Facts, pool: str | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
        contract = module_contract(module)[0]
        if contract is not None:
            contract.validate_inputs({k: v for k, v in inputs.items() if k in contract.inputs})
        if pool is not None:
            value = await self.on_pool(pool, module, inputs, module=True)
        else:
            value = await self._predictor(module, facts, inputs)
        outputs = self._fields(module, value)
        if contract is not None:
            contract.validate_outputs({f: outputs.get(f) for f in contract.outputs})
        return outputs

    async def _predictor(self, target: Any, facts: Facts, inputs: Mapping[str, Any]) -> Any:
        """Call what asks a model: where it may, on the loop."""
        context = self.context
        context.enter(self.span_id, self.name, True, self.lm)
        if not facts.sync:
            return await context.finish(target.acall(**inputs))
        # An engine in this process answers at once: one thread costs less than the three hops of acall.
        if context.wait is None and facts.acall and not is_simulated(context.chosen(self.lm)):
            return await target.acall(**inputs)
        return await self._in_thread(lambda: target(**inputs))

    def _fields(self, target: Any, value: Any) -> dict[str, Any]:
        if not callable(getattr(value, "items", None)):
            raise PipelineError(
                f"Step {self.name!r}: {type(target).__name__} returned {type(value).__name__}, not a dspy.Prediction.",
                step=self.name,
                hint="Return dspy.Prediction(field=…) from forward().",
            )
        outputs = dict(value.items())
        missing = [f for f in self.shape.outputs if f not in outputs]
        if missing:
            raise PipelineError(f"Step {self.name!r} gave no {', '.join(map(repr, missing))}.", step=self.name)
        return outputs

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self.context.wait is not None:
            return _called(work)
        surroundings = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.context.executor, surroundings.run, _called, work)


def _called(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except StopIteration as error:
        # No future can carry it: whoever waits for that would wait for ever.
        raise RuntimeError("the function raised StopIteration") from error


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
