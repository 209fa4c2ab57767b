"""What was turned in a step, as a file has it: ``values`` of a function's parameters, the ``adapter`` of a module."""

from __future__ import annotations

import inspect
from typing import Any

from dspex_lab.errors import PipelineError, VariableError, did_you_mean
from dspex_lab.pipelines._tuned import Tuned, tuned
from dspex_lab.pipelines.files._nodes import Node
from dspex_lab.pipelines.files._reader import StepReader
from dspex_lab.pipelines.files._writer import Tree
from dspex_lab.variables import expose


def read_values(read: StepReader, function: Any) -> Any:
    """Return a function with the ``values`` of a step; itself where there are none.

    Raises:
        PipelineError: a value has no parameter, or is none that it can have.
    """
    values = read.mapping("values")
    if not values:
        return function
    try:
        written = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise read.fail("values", f"cannot be given to a function whose parameters nobody can tell ({error}).") from error
    for name, node in values.items():
        if name not in written:
            raise _wrong(
                read,
                read.need("values").keys[name],
                f"its function has no parameter {name!r}.{did_you_mean(name, written)}",
                f"It has {', '.join(written) or 'none'}.",
            )
        function = tuned(function, name, _value(read, node, name, written[name].default))
    return function


def _value(read: StepReader, node: Node, name: str, default: Any) -> Any:
    """Return a value for a parameter: a plain one, of the type of the default that it has."""
    value: Any = node.value
    if not expose.is_plain(value):
        found = value if isinstance(value, float) else node.kind
        raise _wrong(read, node, f"{name} is {found}, not a number, a truth value or a text.")
    if type(default) is float and type(value) is int:
        return float(value)
    if expose.is_plain(default) and type(value) is not type(default):
        kind = type(default).__name__
        raise _wrong(
            read, node, f"{name} is {value!r:.80}, and its default {default!r:.80} is {kind}.", f"Write another {kind}."
        )
    return value


def _wrong(read: StepReader, node: Node, message: str, hint: str | None = None) -> PipelineError:
    return read.loader.document.error(node, f"step {read.name!r}: {message}", hint)


def written_values(function: Any) -> tuple[Any, Tree]:
    """Return the function as it was written, and its values for the tree of a step."""
    return (function.function, {"values": dict(function.values)}) if isinstance(function, Tuned) else (function, {})


def read_adapter(read: StepReader, module: Any) -> Any:
    """Return a module that asks by the ``adapter`` of a step; itself where there is none.

    Raises:
        PipelineError: there is no adapter of that name.
    """
    adapter = read.text("adapter")
    if adapter is None:
        return module
    try:
        return expose.build(module, {"adapter": adapter})
    except VariableError as error:
        raise read.fail("adapter", f"is {adapter!r}: {error.message}") from error


def written_adapter(module: Any) -> Tree:
    """Return the adapter of a module for the tree of a step."""
    adapter = expose.adapter_of(module)
    return {} if adapter is None else {"adapter": adapter}
