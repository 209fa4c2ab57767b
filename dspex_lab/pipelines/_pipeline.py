"""A pipeline: steps joined by field names, checked as a whole before anything runs."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspex_lab.errors import PipelineError, SignatureError, did_you_mean
from dspex_lab.pipelines._fields import Shape, StepField, constant_outputs, misfit, type_name
from dspex_lab.pipelines._graph import Graph, build
from dspex_lab.pipelines._step import Step, as_step, is_async, label, step_shape


class Pipeline:
    """Steps joined by field names; immutable.

    Args:
        name: how it is called in runs and views.
        steps: each step under its name: a :class:`Step`, a function, a DSPy module, a signature or an operation.

    Raises:
        PipelineError: there is no step, two steps give one field, or steps wait for each other.

    Attributes:
        steps: the steps by name, in order of definition.
        inputs: the fields that no step gives and that a run must (or, with a default, may) bring.
        outputs: the fields the steps give.
    """

    def __init__(self, name: str, /, **steps: Any) -> None:
        if not steps:
            raise PipelineError(f"The pipeline {name!r} has no steps.", hint="Give at least one: step_name=function.")
        self.name = name
        self.steps: dict[str, Step] = {n: as_step(value, n) for n, value in steps.items()}
        self.shapes: dict[str, Shape] = {n: step_shape(n, s) for n, s in self.steps.items()}
        for n, s in self.steps.items():
            if s.on_error == "fallback" and not callable(s.fallback):
                constant_outputs(n, self.shapes[n], s.fallback)
        replacing = frozenset(n for n, s in self.steps.items() if s.replaces)
        self.structure: Graph = build(self.shapes, replacing)
        self.inputs: dict[str, StepField] = {f: self._input(f) for f in self.structure.inputs}
        self.outputs: dict[str, StepField] = {
            f: next(s.outputs[f] for s in reversed(self.shapes.values()) if f in s.outputs) for f in self.structure.last
        }

    @property
    def plain(self) -> bool:
        """Say whether a run may happen in one thread: one step after the other, none on a pool, async or with a timeout."""
        return self.structure.sequential and not any(s.pool or s.timeout or is_async(s.target) for s in self.steps.values())

    @property
    def uses_lm(self) -> bool:
        """Say whether a step asks a language model, as far as that can be seen from outside."""
        return any(s.kind != "native" for s in self.steps.values())

    def _readers(self, field: str) -> list[tuple[str, StepField]]:
        """Return the steps that read ``field`` as an input of the pipeline, with what each declares."""
        return [(n.name, self.shapes[n.name].inputs[field]) for n in self.structure.nodes if n.reads.get(field) == (field, -1)]

    def _input(self, field: str) -> StepField:
        declared = [d for _, d in self._readers(field)]
        kind = next((d.type for d in declared if d.type is not Any), Any)
        return StepField(field, kind, any(d.required for d in declared))

    def check(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``inputs`` if the pipeline can start on them.

        Raises:
            PipelineError: an input is missing, unknown, or of the wrong type. Nothing was run.
        """
        problems = []
        for name, declared in self.inputs.items():
            if name in inputs:
                problems.extend(self._misfit(name, inputs[name]))
            elif declared.required:
                readers = ", ".join(repr(s) for s, d in self._readers(name) if d.required)
                near = did_you_mean(name, [k for k in inputs if k not in self.inputs])
                problems.append(f"input {name!r} ({type_name(declared.type)}) is missing; step {readers} needs it.{near}")
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
        return dict(inputs)

    def _misfit(self, name: str, value: Any) -> list[str]:
        out = []
        for reader, declared in self._readers(name):
            why = misfit(declared.type, value)
            if why is not None:
                out.append(f"input {name!r} does not fit step {reader!r}: {why}")
        return out

    def graph(self) -> dict[str, Any]:
        """Return the graph as plain data: ``nodes`` with their fields, ``edges`` (from "" means an input of the pipeline)."""
        names = [n.name for n in self.structure.nodes]
        nodes = [
            {
                "name": name,
                "kind": self.steps[name].kind,
                "does": label(self.steps[name].target),
                "inputs": list(self.shapes[name].inputs),
                "outputs": list(self.shapes[name].outputs),
                "pool": self.steps[name].pool,
            }
            for name in names
        ]
        edges = [
            {"from": names[slot[1]] if slot[1] >= 0 else "", "to": node.name, "field": slot[0]}
            for node in self.structure.nodes
            for slot in node.reads.values()
        ]
        return {"name": self.name, "nodes": nodes, "edges": edges, "inputs": list(self.inputs), "outputs": list(self.outputs)}

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
        modules = getattr(program, "step_modules", None)
        if not callable(modules) or set(modules()) - set(self.steps):
            raise PipelineError(
                f"{type(program).__name__} is not made from the pipeline {self.name!r}.",
                hint="Give what an optimizer returned for pipeline.as_module().",
            )
        found = modules()
        return Pipeline(self.name, **{n: s.with_target(found[n]) if n in found else s for n, s in self.steps.items()})

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
    chosen = name or item.name or label(item.target)
    chosen = chosen.split("(")[0] if not chosen.isidentifier() else chosen
    return Pipeline(chosen, **{chosen if chosen.isidentifier() else "step": item})


def pipeline_from_source(name: str, source: str, namespace: dict[str, Any]) -> Pipeline:
    """Return the pipeline that ``source`` writes: each assignment ``name = value`` is a step, in this order.

    Imports and definitions are carried out too and may be used below; names with a leading underscore are helpers.

    Args:
        source: plain Python.
        namespace: the names it may use; it is left as it is.

    Raises:
        PipelineError: it is not valid Python, or an assignment's value cannot be a step; the line is named.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise PipelineError(f"The pipeline {name!r} is not valid Python: {error.msg}.").at(
            source, error.lineno or 1, error.offset or 1
        ) from error
    filename = f"<pipeline {name}>"
    # So that tracebacks and inspect.getsource see the cell's own lines.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    steps: dict[str, Any] = {}
    lines: dict[str, tuple[int, int]] = {}
    scope = dict(namespace)
    for node in tree.body:
        target = _step_target(name, node, source)
        try:
            exec(compile(ast.Module([node], []), filename, "exec"), scope)  # noqa: S102 - it is the user's own cell
        except Exception as error:
            if getattr(error, "line", None) is None and isinstance(error, PipelineError | SignatureError):
                raise error.at(source, node.lineno, node.col_offset + 1) from error.__cause__
            raise PipelineError(f"The pipeline {name!r}: {type(error).__name__}: {error}").at(
                source, node.lineno, node.col_offset + 1
            ) from error
        if target is not None and not target.startswith("_"):
            if target in steps:
                raise PipelineError(f"The step {target!r} is assigned twice.", step=target, hint="Rename one.").at(
                    source, node.lineno, node.col_offset + 1
                )
            steps[target] = scope[target]
            lines[target] = (node.lineno, node.col_offset + 1)
    return _located(name, steps, lines, source)


def _step_target(name: str, node: ast.stmt, source: str) -> str | None:
    """Return the name an assignment gives a step, None for any other statement; no step may be lost unsaid."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return node.target.id
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        raise PipelineError(
            f"The pipeline {name!r}: an assignment here makes one step under one name.",
            hint="Write STEP = function, one to a line.",
        ).at(source, node.lineno, node.col_offset + 1)
    return None


def _located(name: str, steps: dict[str, Any], lines: dict[str, tuple[int, int]], source: str) -> Pipeline:
    made: dict[str, Any] = {}
    current: str | None = None
    try:
        for current, value in steps.items():
            made[current] = as_step(value, current)
            step_shape(current, made[current])
        current = None
        return Pipeline(name, **made)
    except PipelineError as error:
        place = lines.get(error.step or current or "")
        if place and error.line is None:
            error.at(source, *place)
        raise
