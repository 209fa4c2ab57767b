"""The pipeline that a notebook cell writes: each assignment is a step."""

from __future__ import annotations

import ast
import itertools
import linecache
import weakref
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import PipelineError, SignatureError, did_you_mean
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import as_step, step_shape


@dataclass(frozen=True, slots=True)
class Cell:
    """What a pipeline was made of: the text, and what the names in it meant that it did not define itself."""

    source: str
    names: dict[str, Any]


_cells: weakref.WeakKeyDictionary[Pipeline, Cell] = weakref.WeakKeyDictionary()


def cell_of(pipeline: Pipeline) -> Cell | None:
    """Return the text a pipeline was made of by :func:`pipeline_from_source`, None for any other."""
    return _cells.get(pipeline)


def names_in(source: str) -> set[str]:
    """Return the names that Python source mentions; none where it is not valid."""
    try:
        return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    except (SyntaxError, ValueError, RecursionError):
        return set()


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
            place = _place(error, filename, node)
            if getattr(error, "line", None) is None and isinstance(error, PipelineError | SignatureError):
                raise error.at(source, *place) from error.__cause__
            if isinstance(error, PipelineError | SignatureError):
                # It points into a text of its own: a condition, a template, a signature.
                raise PipelineError(f"The pipeline {name!r}: {error.message}", hint=error.hint).at(source, *place) from error
            near = did_you_mean(error.name or "", _public(scope)) if isinstance(error, NameError) else ""
            raise PipelineError(f"The pipeline {name!r}: {type(error).__name__}: {error}{near and '.' + near}").at(
                source, *place
            ) from error
        if target is not None and not target.startswith("_"):
            if target in steps:
                raise PipelineError(f"The step {target!r} is assigned twice.", step=target, hint="Rename one.").at(
                    source, node.lineno, node.col_offset + 1
                )
            steps[target] = scope[target]
            lines[target] = (node.lineno, node.col_offset + 1)
    made = _located(name, steps, lines, source)
    _cells[made] = Cell(source, {n: namespace[n] for n in names_in(source) if n in namespace})
    return made


def _place(error: BaseException, filename: str, node: ast.stmt) -> tuple[int, int]:
    """Return the line and column of a statement that the error came from, by its traceback: it may be many lines long."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == filename and code.co_name == "<module>":
            line, _, column, _ = next(itertools.islice(code.co_positions(), trace.tb_lasti // 2, None))
            if line is not None and column is not None:
                return line, column + 1
        trace = trace.tb_next
    return node.lineno, node.col_offset + 1


def _public(scope: dict[str, Any]) -> list[str]:
    return [n for n in scope if not n.startswith("_")]


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
        # The step it names may be one inside that of the cell.
        place = lines.get(current or (error.step or "").partition(".")[0])
        if place and error.line is None:
            error.at(source, *place)
        raise
