"""Which fields a program is given and a metric looks at, found before anything runs."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs._datasets import check_fields
from dspex_lab.native.metrics import Metric


def inputs_of(program: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the fields that a program is given: those its ``forward`` (or the function) names, else those that its signatures
    ask for and do not give.

    Raises:
        ConfigurationError: neither says.
    """
    own = getattr(getattr(program, "pipeline", None), "inputs", None)
    if isinstance(own, Mapping):  # a pipeline as a module says it itself; what a step can do without need not be there
        return tuple(n for n, field in own.items() if getattr(field, "required", True) or any(n in row for row in rows))
    named = _parameters(program)
    if named:
        return named
    predictors = getattr(program, "predictors", None)
    if callable(predictors):
        signatures = [predictor.signature for predictor in predictors()]
        made = {name for signature in signatures for name in signature.output_fields}
        asked = dict.fromkeys(name for signature in signatures for name in signature.input_fields if name not in made)
        fields = {name for row in rows for name in row}
        if asked:
            # What rows never have is made on the way: the context of a retriever, the history of an agent.
            return tuple(name for name in asked if name in fields) or tuple(asked)
    raise ConfigurationError(
        f"Nobody says which fields {type(program).__name__} is given.",
        key="inputs",
        expected="the names of fields",
        hint="Give inputs=('question',), or dspy.Examples with .with_inputs(…).",
    )


def named_by(metric: Callable[..., Any], rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the fields that a metric asks of an example: as an attribute (``example.label``) or key (``example["label"]``) of
    its first parameter, or as its ``reference`` or ``field``. What it asks for by ``get`` or ``getattr`` it can do without.

    Only fields that at least one row has: an example has attributes of its own.
    """
    fields = {name for row in rows for name in row}
    if isinstance(metric, Metric):
        found = {metric.reference or metric.field}
    else:
        function = inspect.unwrap(metric) if inspect.isroutine(metric) else getattr(metric, "__call__", None)  # noqa: B004
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        found = set(_asked(code, inspect.ismethod(function))) if isinstance(code, types.CodeType) else set()
    return tuple(sorted(name for name in found if name in fields))


def check_rows(
    rows: Sequence[Mapping[str, Any]],
    inputs: Sequence[str],
    metric: Callable[..., Any],
    name: str,
    like: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Refuse rows on which a program or a metric could do nothing.

    Args:
        name: what they are called.
        like: other rows of the same kind: what the metric finds in them it asks of these too.

    Raises:
        ConfigurationError: there are none, or one lacks a field; it names the row, counted from 0, and the field.
    """
    if not rows:
        raise ConfigurationError(f"{name} has no rows.", key=name, expected="one row or more", actual=0)
    check_fields(rows, inputs, name)
    check_fields(rows, tuple(dict.fromkeys((*named_by(metric, like), *named_by(metric, rows)))), name)


def _parameters(program: Any) -> tuple[str, ...]:
    function, bound = program, False
    if not inspect.isroutine(program):
        for name in ("forward", "aforward", "__call__"):
            found = inspect.getattr_static(program, name, None)  # DSPy warns where somebody reads a module's forward
            if inspect.isroutine(found):
                function, bound = found, inspect.isfunction(found) and name not in vars(program)
                break
    try:
        parameters = list(inspect.signature(function).parameters.values())[int(bound) :]
    except (TypeError, ValueError):  # some built-in ones have none
        return ()
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
        return ()
    return tuple(p.name for p in parameters if p.default is p.empty)


def _asked(code: types.CodeType, bound: bool) -> Iterator[str]:
    """Yield the attributes and keys that are asked of the first parameter, as the compiled code says."""
    if code.co_argcount <= bound:
        return
    first = code.co_varnames[int(bound)]
    for each in (code, *(constant for constant in code.co_consts if isinstance(constant, types.CodeType))):
        steps = list(dis.get_instructions(each))
        for at, step in enumerate(steps[:-1]):
            value = step.argval[-1] if isinstance(step.argval, tuple) and step.argval else step.argval
            if not step.opname.startswith(("LOAD_FAST", "LOAD_DEREF")) or value != first:
                continue
            after = steps[at + 1]
            if after.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                yield str(after.argval)
            elif after.opname == "LOAD_CONST" and isinstance(after.argval, str) and _subscript(steps[at + 2 :]):
                yield after.argval


def _subscript(steps: Sequence[dis.Instruction]) -> bool:
    return bool(steps) and (steps[0].opname == "BINARY_SUBSCR" or steps[0].argrepr == "[]")
