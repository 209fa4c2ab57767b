"""A pipeline: steps joined by field names, checked as a whole before anything runs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines._fields import Shape, StepField, constant_outputs, misfit, type_name
from dspex_lab.pipelines._graph import Graph, build
from dspex_lab.pipelines._graph_view import GraphView, graph_of
from dspex_lab.pipelines._modules import facts_of
from dspex_lab.pipelines._step import Operation, Step, as_step, check_name, label, step_shape
from dspex_lab.signatures import why_not

if TYPE_CHECKING:
    from dspex_lab.pipelines.dryrun import CheckReport, Surroundings


class Pipeline:
    """Steps joined by field names; immutable.

    Args:
        name: how it is called in runs and views.
        steps: each step under its name: a :class:`Step`, a function, a DSPy module, a signature or an operation.

    Raises:
        PipelineError: there is no step, two steps give one field, steps wait for each other, or a step needs a field of
            another type than the one it is given.

    Attributes:
        steps: the steps by name, in order of definition.
        inputs: the fields that no step gives and that a run must (or, with a default, may) bring.
        outputs: the fields the steps give.
        defaults: values of inputs that a run need not bring; see :meth:`with_defaults`.
    """

    def __init__(self, name: str, /, **steps: Any) -> None:
        if not steps:
            raise PipelineError(f"The pipeline {name!r} has no steps.", hint="Give at least one: step_name=function.")
        self.name = name
        for n in steps:
            check_name(n)
        self.steps: dict[str, Step] = {n: as_step(value, n) for n, value in steps.items()}
        self.shapes: dict[str, Shape] = {n: step_shape(n, s) for n, s in self.steps.items()}
        for n, s in self.steps.items():
            if s.on_error == "fallback" and not callable(s.fallback):
                constant_outputs(n, self.shapes[n], s.fallback)
        replacing = frozenset(n for n, s in self.steps.items() if s.replaces)
        self.structure: Graph = build(self.shapes, replacing)
        self.nodes = tuple((n, s, self.shapes[n]) for n, s in self.steps.items())
        #: Which steps are async functions with nothing around them; the engine has a shorter way for these.
        self.quick = tuple(_is_quick(s) for s in self.steps.values())
        self.mixed = any(self.quick) and not all(self.quick)
        self._refuse_clashes()
        self.defaults: dict[str, Any] = {}
        #: For each input the steps that read it, with what each declares.
        self._readers: dict[str, list[tuple[str, StepField]]] = {f: [] for f in self.structure.inputs}
        for node in self.structure.nodes:
            for field, (_, producer) in node.reads.items():
                if producer < 0:
                    self._readers[field].append((node.name, self.shapes[node.name].inputs[field]))
        #: For each input the types that its readers declare, each one once.
        self._types: dict[str, list[Any]] = {f: _distinct(d.type for _, d in found) for f, found in self._readers.items()}
        self.inputs: dict[str, StepField] = {f: self._input(f) for f in self.structure.inputs}
        shapes = list(self.shapes.values())
        self.outputs: dict[str, StepField] = {f: shapes[i].outputs[f] for f, (_, i) in self.structure.last.items()}
        #: For each output the step that gives it as the last one.
        self.givers = tuple((f, self.nodes[i][0]) for f, (_, i) in self.structure.last.items())

    @property
    def plain(self) -> bool:
        """Say whether a run may happen in one thread: one step after the other, none on a pool, async or with a timeout."""
        return self.structure.sequential and all(s.plain for s in self.steps.values())

    @property
    def uses_lm(self) -> bool:
        """Say whether a step asks a language model, as far as that can be seen from outside."""
        return any(_may_ask(s) for s in self.steps.values())

    def _refuse_clashes(self) -> None:
        names = [n for n, _, _ in self.nodes]
        for node in self.structure.nodes:
            for field, (_, producer) in node.reads.items():
                if producer < 0:
                    continue
                source = names[producer]
                why = why_not(self.shapes[source].outputs[field].type, self.shapes[node.name].inputs[field].type)
                if why is not None:
                    raise PipelineError(
                        f"Step {node.name!r} cannot take the field {field!r} from step {source!r}: {why}.",
                        step=node.name,
                        hint="Correct one of the types, or put a step between them.",
                    )

    def _input(self, field: str) -> StepField:
        declared = [d for _, d in self._readers[field]]
        kind = next((d.type for d in declared if d.type is not Any), Any)
        return StepField(field, kind, any(d.required for d in declared))

    @functools.cached_property
    def every_step(self) -> dict[str, Step]:
        """The steps and all steps in them, by dotted name."""
        return dict(_with_parts(self.steps, ""))

    @functools.cached_property
    def pools(self) -> frozenset[str]:
        """The pools that its steps run on."""
        return frozenset(s.pool for s in self.every_step.values() if s.pool is not None)

    @functools.cached_property
    def operations(self) -> dict[str, str]:
        """The keys of the routed operations its steps ask for, each with the operation's name."""
        return {s.target.key: s.target.name for s in self.every_step.values() if isinstance(s.target, Operation)}

    def with_defaults(self, **values: Any) -> Pipeline:
        """Return the pipeline with values for inputs that a run does not bring.

        Raises:
            PipelineError: one names no input, or its value does not fit.
        """
        problems = [p for name, value in values.items() for p in (self._misfit(name, value) if name in self.inputs else ())]
        unknown = [n for n in values if n not in self.inputs]
        if unknown:
            problems.append(f"{unknown[0]!r} is not an input.{did_you_mean(unknown[0], self.inputs)}")
        if problems:
            raise PipelineError(
                f"The pipeline {self.name!r} cannot have these defaults: " + "; ".join(problems),
                hint=f"Its inputs are {', '.join(self.inputs) or 'none'}.",
            )
        other = copy.copy(self)
        other.defaults = {**self.defaults, **values}
        other.inputs = {n: replace(f, required=False) if n in other.defaults else f for n, f in self.inputs.items()}
        return other

    def with_steps(self, steps: Mapping[str, Any]) -> Pipeline:
        """Return the pipeline with other steps of these names in the place of its own."""
        return Pipeline(self.name, **{n: steps.get(n, s) for n, s in self.steps.items()}).with_defaults(**self.defaults)

    def completed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``inputs`` with the defaults of those that are missing."""
        return {**self.defaults, **inputs}

    def accept(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``inputs``, with defaults, if the pipeline can start on them.

        Raises:
            PipelineError: an input is missing, unknown, or of the wrong type. Nothing was run.
        """
        problems = []
        for name, declared in self.inputs.items():
            if name in inputs:
                value = inputs[name]
                if any(misfit(kind, value) is not None for kind in self._types[name]):
                    problems.extend(self._misfit(name, value))
            elif declared.required:
                needed = [repr(s) for s, d in self._readers[name] if d.required]
                readers = f"step{'s' * (len(needed) > 1)} {', '.join(needed)} need{'s' * (len(needed) == 1)}"
                near = did_you_mean(name, [k for k in inputs if k not in self.inputs])
                problems.append(f"input {name!r} ({type_name(declared.type)}) is missing; {readers} it.{near}")
        for name in inputs:
            if name not in self.inputs:
                near = did_you_mean(name, [n for n in self.inputs if n not in inputs])
                problems.append(f"{name!r} is not an input.{near}")
        if problems:
            takes = ", ".join(f"{n}: {type_name(f.type)}{'' if f.required else ' (optional)'}" for n, f in self.inputs.items())
            raise PipelineError(
                f"The pipeline {self.name!r} cannot start: " + "; ".join(problems),
                hint=f"It takes {takes or 'no inputs'}.",
            )
        return self.completed(inputs)

    def _misfit(self, name: str, value: Any) -> list[str]:
        readers: dict[str, list[str]] = {}
        for reader, declared in self._readers[name]:
            why = misfit(declared.type, value)
            if why is not None:
                readers.setdefault(why, []).append(repr(reader))
        return [f"input {name!r} does not fit step{'s' * (len(n) > 1)} {', '.join(n)}: {why}" for why, n in readers.items()]

    def check(
        self, inputs: Mapping[str, Any] | None = None, *, rows: int = 1, around: Surroundings | None = None
    ) -> CheckReport:
        """Return what can be told of a run before anything is run: the dry run; no model is called.

        Args:
            inputs: the inputs it would be given; with them the estimate is closer.
            rows: the number of rows of a map, for the sum over all of them.
            around: the place it would run in; :meth:`Lab.check` gives its own.

        Raises:
            PipelineError: ``inputs`` are such that it could not start; ``rows`` is no number of rows.
        """
        from dspex_lab.pipelines.dryrun import check

        return check(self, inputs, rows=rows, around=around)

    def graph(self) -> GraphView:
        """Return the graph: plain data, which a notebook shows as a picture and ``.svg()`` gives as one.

        Returns:
            ``nodes`` with their fields, options and inner steps, ``edges`` (from "" means an input of the pipeline), ``inputs``
            and ``outputs``.
        """
        return GraphView(graph_of(self))

    def as_module(self, lab: Any = None) -> Any:
        """Return the pipeline as a ``dspy.Module``; its predictors are those of its steps.

        Args:
            lab: the Lab it runs in; None is the Lab that is in use when it is called.
        """
        from dspex_lab.pipelines._module import make_module

        return make_module(self, lab)

    def with_modules(self, program: Any) -> Pipeline:
        """Return the pipeline with the DSPy modules of ``program``, an optimized ``as_module()`` of it, in its steps.

        Raises:
            PipelineError: ``program`` was not made from a pipeline with these steps.
        """
        from dspex_lab.pipelines._module import with_modules

        if getattr(program, "replaced", False):
            raise PipelineError(
                f"An optimizer put another forward() around the steps of {self.name!r}, which no step could hold.",
                hint="Run the program itself, or make it a step: dx.step(program).",
            )
        modules = getattr(program, "step_modules", None)
        found = modules() if callable(modules) else {}
        if not callable(modules) or {n.partition(".")[0] for n in found} - set(self.steps):
            raise PipelineError(
                f"{type(program).__name__} is not made from the pipeline {self.name!r}.",
                hint="Give what an optimizer returned for pipeline.as_module().",
            )
        return self.with_steps({n: with_modules(s, n, found) for n, s in self.steps.items()})

    #: What it is for, as its file says.
    description: str | None = None

    def to_yaml(self, path: str | Path | None = None) -> str:
        """Return the pipeline as YAML, which ``dx.load_pipeline`` reads; with ``path`` also write it there.

        Functions stand in it by name, DSPy modules with their signature, demonstrations and settings.

        Raises:
            PipelineError: a part of it cannot be written; says which.
        """
        from dspex_lab.pipelines.files import to_yaml

        return to_yaml(self, path)

    def __deepcopy__(self, memo: dict[int, Any]) -> Pipeline:
        return self

    def __repr__(self) -> str:
        takes, gives = ", ".join(self.inputs), ", ".join(self.outputs)
        return f"Pipeline({self.name!r}: {takes} -> {gives}; steps {', '.join(self.steps)})"


def pipeline(name: str, /, **steps: Any) -> Pipeline:
    """Return a pipeline called ``name`` of the given steps; see :class:`Pipeline`."""
    return Pipeline(name, **steps)


def single(value: Any, name: str | None = None) -> Pipeline:
    """Return anything that can be run as a pipeline: a pipeline as it is, anything else as its only step."""
    if isinstance(value, Pipeline):
        return value
    item = as_step(value, name)
    if hasattr(item.target, "step_modules"):
        # A program made from a pipeline whose steps may replace its inputs.
        item, name = replace(item, replaces=True), name or item.target.pipeline.name
    own = label(item.target) if item.kind in ("native", "dspy", "operation") else item.kind
    chosen = name or item.name or own
    chosen = chosen.split("(")[0] if not chosen.isidentifier() else chosen
    return Pipeline(chosen, **{chosen if chosen.isidentifier() else "step": item})


def _distinct(types: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for kind in types:
        if not any(kind is other for other in found):
            found.append(kind)
    return found


def _may_ask(item: Step) -> bool:
    calls = item.how.asks(item)
    return calls is None or calls[1] > 0 or any(_may_ask(part) for part in item.how.parts(item).values())


def _is_quick(item: Step) -> bool:
    """Say whether it is an async function with nothing around it; one that uses DSPy is given DSPy's settings first."""
    if item.kind != "native" or not item.bare:
        return False
    facts = facts_of(item.target)
    return facts.awaited and not facts.acall and not facts.names_dspy


def _with_parts(steps: Mapping[str, Step], prefix: str) -> Iterator[tuple[str, Step]]:
    for name, item in steps.items():
        yield prefix + name, item
        yield from _with_parts(item.how.parts(item), f"{prefix}{name}.")
