"""What can be turned in one step: how it is read from the step, and how a step with another value is made."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dspex_lab.errors import VariableError
from dspex_lab.pipelines._step import Operation, Step
from dspex_lab.pipelines._tuned import tuned
from dspex_lab.pipelines.kinds import LMTemplate, Loop, When
from dspex_lab.pipelines.kinds._retrieve import Retrieval
from dspex_lab.signatures import Field
from dspex_lab.variables import Knob, LMChoice, expose

#: The operations that answer one signature, by the modules that they stand for.
OPERATIONS = {"Predict": "predict", "ChainOfThought": "chain_of_thought"}


class Setting(Protocol):
    """A value of a step; steps are frozen, so another value is another step."""

    def get(self, item: Step) -> Any:
        """Return it, ``UNSET`` where the step has none of its own."""
        ...

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with it."""
        ...


@dataclass(frozen=True, slots=True)
class Option:
    """An option of :func:`~dspex_lab.pipelines.step`: a timeout, retries, a pool."""

    name: str

    def get(self, item: Step) -> Any:
        """Return it."""
        return getattr(item, self.name)

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with it."""
        return replace(item, **{self.name: value})


@dataclass(frozen=True, slots=True)
class Batching:
    """A number of a step's ``dx.Batch``."""

    name: str

    def get(self, item: Step) -> Any:
        """Return it."""
        return getattr(item.batch, self.name)

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with it."""
        return replace(item, batch=replace(item.batch, **{self.name: value}))


@dataclass(frozen=True, slots=True)
class StepModel:
    """The model of a step's own."""

    choice: LMChoice

    def get(self, item: Step) -> Any:
        """Return its name."""
        if item.lm is None:
            return expose.UNSET
        if isinstance(item.lm, str):
            return item.lm
        return next((n for n, lm in self.choice.objects.items() if lm is item.lm), item.lm)

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with the model of that name."""
        lm = None if value == expose.IN_USE else self.choice.given(value) or value
        return replace(item, lm=lm)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number that what the step does was made with: how many at once, at most, or of the best."""

    attribute: str

    def get(self, item: Step) -> Any:
        """Return it."""
        return getattr(item.target, self.attribute)

    def put(self, item: Step, value: Any) -> Step:
        """Return a step of another target with it."""
        target = item.target
        if isinstance(target, Retrieval):
            given = {n: getattr(target, n) for n in ("source", "query", "k", "output", "scores", "longest")}
            return replace(item, target=Retrieval(**{**given, self.attribute: value}))
        made = copy.copy(target)
        setattr(made, self.attribute, value)
        return replace(item, target=made)


@dataclass(frozen=True, slots=True)
class Threshold:
    """The number in a condition that compares one field with one: ``"urgency > 0.8"``."""

    def get(self, item: Step) -> Any:
        """Return it."""
        found = threshold_of(item.target.test.source)
        if found is None:
            raise VariableError(f"The condition {str(item.target.test)!r} has no threshold any more.")
        return found.value

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with the condition with another number."""
        target, source = item.target, item.target.test.source
        number = threshold_of(source)
        begin, end = number.col_offset, number.end_col_offset  # type: ignore[union-attr]
        data = source.encode()
        text = (data[:begin] + repr(value).encode() + data[end:]).decode()
        if isinstance(target, When):
            return replace(item, target=When(text, target.then, target.otherwise))
        return replace(item, target=Loop(target.step, text, target.limit))


def threshold_of(source: Any) -> ast.Constant | None:
    """Return the number of a condition that is one field, one comparison and one number; None of any other."""
    if not isinstance(source, str) or "\n" in source:
        return None
    try:
        node = ast.parse(source, mode="eval").body
    except SyntaxError:  # the language of conditions has words of its own
        return None
    if not (
        isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    ):
        return None
    sides = (node.left, node.comparators[0])
    numbers = [s for s in sides if isinstance(s, ast.Constant) and type(s.value) in (int, float)]
    return numbers[0] if len(numbers) == 1 and any(isinstance(s, ast.Name | ast.Attribute) for s in sides) else None


@dataclass(frozen=True, slots=True)
class Parameter:
    """The value of a native step's parameter where nobody gives it."""

    name: str

    def get(self, item: Step) -> Any:
        """Return its default."""
        return inspect.signature(item.target).parameters[self.name].default

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with the function with another default."""
        return replace(item, target=tuned(item.target, self.name, value))


@dataclass(frozen=True, slots=True)
class TemplateText:
    """The text of a template, or its system message (``"system"``)."""

    attribute: str = "text"

    def get(self, item: Step) -> Any:
        """Return it."""
        return item.target if isinstance(item.target, str) else getattr(item.target, self.attribute)

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with another one.

        Raises:
            VariableError: it asks for other fields than the one before.
            PipelineError: it is no template.
        """
        before = LMTemplate(item.target) if isinstance(item.target, str) else item.target
        given = {n: getattr(before, n) for n in ("text", "system", "returns", "output", "options")}
        given[self.attribute] = value
        made = LMTemplate(given.pop("text"), **given)
        if set(made.inputs) != set(before.inputs):
            fields, others = ", ".join(before.inputs) or "no fields", ", ".join(made.inputs) or "no fields"
            raise VariableError(
                f"The template takes {others}; the one before took {fields}.",
                hint="Another text fills in the same fields: {{ name }}.",
            )
        return replace(item, target=made)


@dataclass(frozen=True, slots=True)
class TemplateOption:
    """A setting of the calls of a template."""

    key: str
    default: Any

    def get(self, item: Step) -> Any:
        """Return it."""
        found = item.target.options.get(self.key) if isinstance(item.target, LMTemplate) else None
        return expose.UNSET if found is None else found

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with it."""
        before = LMTemplate(item.target) if isinstance(item.target, str) else item.target
        given = {n: getattr(before, n) for n in ("system", "returns", "output")}
        return replace(item, target=LMTemplate(before.text, **given, options={**before.options, self.key: value}))


@dataclass(frozen=True, slots=True)
class Contract:
    """What an operation's signature says: the instructions, or the description of a field."""

    field: str | None = None

    def get(self, item: Step) -> Any:
        """Return it."""
        signature = item.target.signature
        return signature.instructions if self.field is None else signature.fields[self.field].description or ""

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with a signature that says it."""
        signature = item.target.signature
        if self.field is None:
            return _operation(item, signature=signature.replace(instructions=value))
        fields = [_described(f, value) if f.name == self.field else f for f in signature.fields.values()]
        return _operation(item, signature=signature.replace(fields=fields))


def _described(field: Field, text: str) -> Field:
    given: dict[str, Any] = {n: getattr(field, n) for n in ("role", "default", "constraints", "declared")}
    return Field(field.name, field.type, description=text or None, **given)


@dataclass(frozen=True, slots=True)
class OperationDemos:
    """What an operation shows the model."""

    def get(self, item: Step) -> Any:
        """Return it as dicts."""
        return expose.as_demos(item.target.demos)

    def put(self, item: Step, value: Any) -> Step:
        """Return the step that shows these."""
        target = item.target
        return _operation(item, demos=tuple(expose.examples(value, target.demos, target.signature.inputs)))


@dataclass(frozen=True, slots=True)
class OperationSetting:
    """A setting of the calls of an operation."""

    key: str
    default: Any

    def get(self, item: Step) -> Any:
        """Return it."""
        found = (item.target.config or {}).get(self.key)
        return expose.UNSET if found is None else found

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with it."""
        return _operation(item, config={**(item.target.config or {}), self.key: value})


@dataclass(frozen=True, slots=True)
class OperationName:
    """Which operation answers: ``predict``, or ``chain_of_thought``, whose reasoning is no field of a pipeline."""

    def get(self, item: Step) -> Any:
        """Return the name of the module that it stands for."""
        return next(m for m, name in OPERATIONS.items() if name == item.target.name)

    def put(self, item: Step, value: Any) -> Step:
        """Return the step of the other operation."""
        return _operation(item, name=OPERATIONS[value])


def _operation(item: Step, **changed: Any) -> Step:
    operation: Operation = replace(item.target, **changed)
    return replace(item, target=operation)


@dataclass(frozen=True, slots=True)
class Inner:
    """A knob of a step's DSPy module (or of the module that a retrieval asks)."""

    knob: Knob

    def get(self, item: Step) -> Any:
        """Return its value."""
        return (self.knob.own or self.knob.read)(module_in(item))

    def put(self, item: Step, value: Any) -> Step:
        """Return the step with a module of its own that has it."""
        return with_values_inside(item, {self.knob.path: value}, [self.knob])


def module_in(item: Step) -> Any:
    """Return the module that a step does, or asks for passages."""
    return item.target.source if isinstance(item.target, Retrieval) else item.target


def with_module(item: Step, module: Any) -> Step:
    """Return the step with another module."""
    if isinstance(item.target, Retrieval):
        return Amount("source").put(item, module)
    return item.with_target(module)


def with_values_inside(item: Step, values: Mapping[str, Any], found: list[Knob]) -> Step:
    """Return the step with a module of its own that has these values."""
    return with_module(item, expose.build(module_in(item), values, found))
