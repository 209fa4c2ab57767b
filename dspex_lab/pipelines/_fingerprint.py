"""What a step does and what it is given, as a short text that another process finds again."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Hashable, Mapping
from typing import Any

from dspex_lab.pipelines._cache_key import NoKey, Same, form
from dspex_lab.pipelines._modules import is_dspy_module
from dspex_lab.pipelines._step import Operation, Step


def fingerprint(item: Step, inputs: Mapping[str, Any]) -> str | None:
    """Return what tells one piece of work from another: the step's code and settings, and its inputs.

    Returns:
        None where an input has no form to compare by.
    """
    try:
        told = (_step(item), _stable(form(dict(inputs))))
    except NoKey:
        return None
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _step(item: Step) -> tuple[Any, ...]:
    parts = item.how.parts(item)
    if parts:
        inner = tuple((name, _step(part)) for name, part in parts.items())
        return (item.kind, item.how.label(item), _stable_model(item.lm), inner)
    return (item.kind, _target(item.target), _stable_model(item.lm), item.outputs)


def _stable_model(lm: Any) -> str:
    return str(getattr(lm, "model", lm))


def _target(target: Any) -> Any:
    if isinstance(target, Operation):
        return (target.name, str(target.signature), [str(d) for d in target.demos], str(target.config))
    if is_dspy_module(target):
        return (type(target).__qualname__, json.dumps(target.dump_state(), sort_keys=True, default=str))
    if isinstance(target, types.FunctionType):
        return _function(target)
    return _stable(form(target)) if isinstance(target, Hashable) and hasattr(target, "cache_token") else _named(target)


def _function(function: types.FunctionType) -> tuple[Any, ...]:
    defaults = (function.__defaults__, function.__kwdefaults__)
    return (function.__qualname__, _code(function.__code__), _plain(defaults))


def _code(code: types.CodeType) -> tuple[Any, ...]:
    consts = tuple(_code(c) if isinstance(c, types.CodeType) else _plain(c) for c in code.co_consts)
    return (code.co_code.hex(), consts, code.co_names, code.co_varnames)


def _plain(value: Any) -> Any:
    try:
        return _stable(form(value))
    except NoKey:
        return _named(value)


def _named(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _stable(value: Hashable) -> Any:
    """Return a form without what differs from process to process: identities, and the order of sets."""
    if isinstance(value, Same):
        return _function(value.it) if isinstance(value.it, types.FunctionType) else _named(value.it)
    if isinstance(value, tuple):
        return tuple(_stable(v) for v in value)
    if isinstance(value, frozenset):
        return sorted(repr(_stable(v)) for v in value)
    return _named(value) if isinstance(value, type) else value
