"""``each``: a step for each item of a list."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._result import StepOutcome, message_of
from dspex_lab.pipelines._step import Step, as_step, step, step_shape


class Each:
    """A field with a list, and the step done for each of its items; made by :func:`each`."""

    def __init__(self, field: str, each_step: Any, item: str | None = None, concurrency: int = 8) -> None:
        if not isinstance(field, str) or not field.isidentifier():
            raise PipelineError(f"each: {field!r} is no name of a field.", hint='Write: dx.each("documents", summarise)')
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise PipelineError(f"each: concurrency={concurrency!r} is not 1 or more.", hint="Give a whole number.")
        self.field, self.step, self.item, self.concurrency = field, as_step(each_step), item, concurrency

    def item_of(self, name: str) -> str:
        """Return the input of the inner step that receives the item.

        Raises:
            PipelineError: it cannot be told which one that is.
        """
        inputs = step_shape(name, self.step).inputs
        if self.item is not None:
            candidates = [self.item]
        else:
            required = [n for n, f in inputs.items() if f.required]
            candidates = [self.field, self.field.removesuffix("s"), "item", *(required if len(required) == 1 else [])]
        found = next((c for c in candidates if c in inputs), None)
        if found is None:
            raise PipelineError(
                f"Step {name!r}: which input of its step receives an item of {self.field!r} cannot be told; "
                f"it takes {', '.join(map(repr, inputs)) or 'nothing'}.",
                step=name,
                hint=f"Name it: dx.each({self.field!r}, ..., item={next(iter(inputs), 'item')!r}).",
            )
        return found


def each(field: str, step_: Any, *, item: str | None = None, concurrency: int = 8) -> Step:
    """Return a step that does ``step_`` for each item of the list in ``field``, and gives lists in the same order.

    Every item is tried, also where one fails. With ``on_error="continue"`` on ``step_`` a failed item is None in the lists and
    the step ends ``partial``; otherwise the step fails when all items have ended.

    Args:
        field: the field that holds the list.
        step_: what is done for an item; its other inputs are the same for all.
        item: its input that receives the item. By default the one called like the field, like the field without its last
            ``s``, ``item``, or the only one that is required.
        concurrency: items under way at once.

    Raises:
        PipelineError: an argument is wrong.
    """
    return step(Each(field, step_, item, concurrency))


@step_kind
class EachKind(Kind):
    """A single value of the inner step is named like this one; every output is a list."""

    name = "each"

    def accepts(self, target: Any) -> bool:
        """Take what :func:`each` made."""
        return isinstance(target, Each)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the list, the inputs that are the same for all items, and a list per output."""
        target, inner = item.target, step_shape(name, item.target.step)
        one = target.item_of(name)
        kind = inner.inputs[one].type
        inputs = {target.field: StepField(target.field, Any if kind is Any else list[kind])}  # type: ignore[valid-type]
        inputs.update({n: f for n, f in inner.inputs.items() if n not in (one, target.field)})
        lost = target.step.on_error == "continue"
        outputs = {}
        for field, declared in inner.outputs.items():
            kind = declared.type
            outputs[field] = StepField(field, list if kind is Any else list[kind | None] if lost else list[kind])  # type: ignore[valid-type]
        return Shape(inputs, outputs)

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Run the step for each item, a number of them at once."""
        target = item.target
        one, values = target.item_of(work.field), _as_list(work.name, target.field, inputs[target.field])
        common = {**inputs, target.field: values}
        outcomes: list[StepOutcome | None] = [None] * len(values)
        todo = iter(enumerate(values))
        name = target.step.name or "item"

        async def worker() -> None:
            for index, value in todo:
                outcomes[index] = await work.step(name, target.step, {**common, one: value}, gives=work.field, index=index)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(target.concurrency, len(values))):
                group.create_task(worker())
        return _joined(work, target, [o for o in outcomes if o is not None])

    def parts(self, item: Step) -> Mapping[str, Step]:
        """Return the inner step."""
        return {item.target.step.name or "item": item.target.step}

    def with_parts(self, item: Step, parts: Mapping[str, Step]) -> Any:
        """Return the same with another inner step."""
        target = item.target
        return Each(target.field, parts.get(target.step.name or "item", target.step), target.item, target.concurrency)

    def label(self, item: Step) -> str:
        """Return the inner step's label and the field."""
        return f"{item.target.step.how.label(item.target.step)} for each of {item.target.field}"


def _as_list(name: str, field: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise PipelineError(
            f"Step {name!r} needs a list in {field!r}; it is {type(value).__name__}.", step=name, hint="Give a list."
        )
    return list(value)


def _joined(work: StepRun, target: Each, outcomes: list[StepOutcome]) -> dict[str, Any]:
    failed = [(i, o) for i, o in enumerate(outcomes) if o.status == "failed"]
    if failed and target.step.on_error != "continue":
        index, first = failed[0]
        raise PipelineError(
            f"Step {work.name!r}: {len(failed)} of {len(outcomes)} items failed; item {index}: {message_of(first.error)}",
            step=work.name,
            outcomes=work.parts,
            hint="To go on without those that fail, give its step on_error='continue'.",
        ) from first.error
    short = [(i, o) for i, o in enumerate(outcomes) if o.status != "complete"]
    if short:
        work.degraded = f"{len(short)} of {len(outcomes)} items: item {short[0][0]}: {short[0][1].why}"
    return {f: [o.outputs.get(f) for o in outcomes] for f in work.shape.outputs}
