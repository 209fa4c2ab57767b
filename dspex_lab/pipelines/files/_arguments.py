"""The inputs of a pipeline from the arguments of a command line."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pipelines._fields import misfit
from dspex_lab.pipelines._pipeline import Pipeline


def read_fields(pipeline: Pipeline, arguments: Iterable[str]) -> dict[str, Any]:
    """Return the inputs that ``FIELD=VALUE`` arguments say.

    The value of a field of texts is the text as it stands. Any other value is Python (``3``, ``[1, 2]``, ``"quoted"``) where it
    can be read as such and fits, else a text.

    Raises:
        ConfigurationError: an argument is not of this form, or names no input.
    """
    found: dict[str, Any] = {}
    takes = ", ".join(f"{n}=…" for n in pipeline.inputs) or "none"
    for argument in arguments:
        name, sign, text = argument.partition("=")
        if not sign or name not in pipeline.inputs:
            why = f"{name!r} is no input." if sign else f"{argument!r} is not FIELD=VALUE."
            raise ConfigurationError(
                f"{why}{did_you_mean(name, pipeline.inputs)}", key=name, actual=argument, hint=f"Arguments: {takes}"
            )
        if name in found:
            raise ConfigurationError(f"{name!r} is given twice.", key=name, actual=argument)
        found[name] = _value(text, pipeline.inputs[name].type)
    return found


def _value(text: str, kind: Any) -> Any:
    if kind is str or _texts_only(kind):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return text if misfit(kind, value) is not None and misfit(kind, text) is None else value


def _texts_only(kind: Any) -> bool:
    """Say whether every value of a type is a text or None."""
    origin = get_origin(kind)
    if origin is Literal:
        return all(isinstance(one, str) for one in get_args(kind))
    return origin in (Union, types.UnionType) and all(one in (str, types.NoneType) for one in get_args(kind))
