"""What makes two requests to a step equal: its inputs in one hashable form, the step itself, and the model.

Two values have the same form only where a step cannot tell them apart, so types are told apart (1, 1.0 and True differ)
and the order of a dict counts: a prompt shows it. Equal values may have different forms; that costs a miss and nothing else.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import pathlib
import sys
import types
import uuid
from collections.abc import Hashable, Iterable
from typing import Any

from dspex_lab.pipelines._modules import is_dspy_module

#: A longer text stands in a key as its digest, so that ten thousand keys do not hold ten thousand documents.
LONG = 256
#: Values nested deeper than this have no key: they contain themselves, or nobody meant them as an input.
DEPTH = 64

#: Attributes of a DSPy module that do not change its answers.
_UNTOLD = frozenset({"history", "callbacks", "traces", "train", "stage", "_compiled"})

_BY_REPR = frozenset(
    {
        complex,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        fractions.Fraction,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.WindowsPath,
        range,
        uuid.UUID,
    }
)
_BY_IDENTITY = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    types.GenericAlias,
)


class NoKey(Exception):
    """The value has no form to compare by; ``str()`` of it says which value that is."""


class Same:
    """An object that is equal to itself alone; it is kept alive, so that its place is not taken by another."""

    __slots__ = ("it",)

    def __init__(self, it: object) -> None:
        self.it = it

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.it is self.it


def form(value: Any, depth: int = DEPTH) -> Hashable:
    """Return ``value`` in a hashable form.

    Raises:
        NoKey: it has none: it cannot be pickled, or contains itself.
    """
    kind = type(value)
    if kind is str:
        return value if len(value) <= LONG else ("long", len(value), _digest(value.encode("utf-8", "surrogatepass")))
    if value is None or kind is bool:
        return (value,)
    if kind is int:
        return ("i", value)
    if kind is float:
        return ("f", value.hex())
    if depth <= 0:
        raise NoKey(f"a {kind.__name__} nested {DEPTH} deep")
    if kind is list or kind is tuple:
        return (kind, *[form(v, depth - 1) for v in value])
    if kind is dict:
        return (dict, *[form(part, depth - 1) for pair in value.items() for part in pair])
    return _rarer(value, kind, depth - 1)


def _rarer(value: Any, kind: type, depth: int) -> Hashable:
    if kind is bytes or kind is bytearray:
        return (kind, len(value), _digest(value) if len(value) > LONG else bytes(value))
    if kind in _BY_REPR:
        return (kind, repr(value))
    if kind is set or kind is frozenset:
        return (kind, frozenset(form(v, depth) for v in value))
    if isinstance(value, enum.Enum):
        return (kind, value.name)
    if isinstance(value, _BY_IDENTITY):
        return Same(value)
    if kind is Same:
        return value
    if hasattr(kind, "cache_token"):
        return (kind, form(value.cache_token(), depth))
    if dataclasses.is_dataclass(value):
        return (kind, *[form(getattr(value, f.name), depth) for f in dataclasses.fields(value)])
    fields = getattr(kind, "model_fields", None)
    if isinstance(fields, dict):
        rest = (value.__pydantic_extra__, value.__pydantic_private__)
        return (kind, form(dict(vars(value)), depth), form(rest, depth))
    return _library(value, kind, depth)


def _library(value: Any, kind: type, depth: int) -> Hashable:
    """Return the form of a value of NumPy, pandas or DSPy, none of which is loaded here; pickle the rest."""
    numpy, pandas = _loaded("numpy", "ndarray", "generic"), _loaded("pandas", "DataFrame", "Series", "Index")
    if numpy is not None and kind is numpy.ndarray:
        return (kind, repr(value.dtype), value.shape, _array(value, depth))
    if numpy is not None and isinstance(value, numpy.generic):
        return (kind, repr(value.dtype), value.tobytes())
    if pandas is not None and kind is pandas.DataFrame:
        columns = [_column(value.iloc[:, i], depth) for i in range(value.shape[1])]
        return (kind, _column(value.columns, depth), _column(value.index, depth), *columns)
    if pandas is not None and (kind is pandas.Series or isinstance(value, pandas.Index)):
        return (kind, form(value.name, depth), _column(value, depth))
    if _is_example(value):
        keys = sorted(getattr(value, "_input_keys", None) or ())
        return (kind, form(dict(value._store), depth), *keys)
    return (kind, _pickled(value))


def _loaded(name: str, *needed: str) -> Any:
    """Return a module if it is loaded; one that another thread is still importing has no values yet that could be met."""
    found = sys.modules.get(name)
    return found if all(hasattr(found, each) for each in needed) else None


def _array(value: Any, depth: int) -> Hashable:
    return form(value.tolist(), depth) if value.dtype.hasobject else _digest(value.tobytes())


def _column(column: Any, depth: int) -> Hashable:
    """Return the form of a column, an index or the labels of a frame; what only pandas has, as Python values."""
    names = form(list(getattr(column, "names", None) or ()), depth)
    if column.dtype.kind in "biufcmM" and hasattr(column.dtype, "str"):
        return (names, str(column.dtype), len(column), _digest(column.to_numpy().tobytes()))
    return (names, str(column.dtype), form(column.tolist(), depth))


def _is_example(value: Any) -> bool:
    """Say whether it is a ``dspy.Example`` or ``dspy.Prediction``."""
    return type(value).__module__.startswith("dspy.primitives.") and isinstance(vars(value).get("_store"), dict)


def _pickled(value: Any) -> bytes:
    import cloudpickle

    try:
        return _digest(cloudpickle.dumps(value))
    except Exception as error:
        raise NoKey(f"a {type(value).__name__} ({type(error).__name__}: {error})") from error


def _digest(data: bytes | bytearray) -> bytes:
    return hashlib.blake2b(data, digest_size=20).digest()


def state(value: Any) -> Hashable:
    """Return what is known of an object that does the work: itself, and what in it changes its answers.

    A function is itself alone: what it reads from elsewhere is not seen. A DSPy module is itself, the plain attributes of it
    and of all modules in it (demonstrations, instructions, settings, number of passages), and the identity of all others.
    """
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
        return Same(value)
    if is_dspy_module(value):
        return _module(value)
    if isinstance(value, types.MethodType):
        return (Same(value.__func__), state(value.__self__))
    if isinstance(value, functools.partial):
        return (state(value.func), _attribute(value.args), _attribute(value.keywords))
    if hasattr(type(value), "cache_token"):
        return form(value)
    return (Same(value), *[(name, _attribute(held)) for name, held in getattr(value, "__dict__", {}).items()])


def _module(module: Any) -> Hashable:
    found: list[Hashable] = []
    for part in _submodules(module):
        found.append(Same(part))
        found.extend((name, _attribute(value)) for name, value in vars(part).items() if name not in _UNTOLD)
    return tuple(found)


def _submodules(module: Any) -> Iterable[Any]:
    # A bare predictor, which most steps are, has none in it; the walk costs more than the rest.
    import dspy

    return (module,) if type(module) is dspy.Predict else (part for _, part in module.named_sub_modules())


def _attribute(value: Any) -> Hashable:
    """Return the form of what an object keeps; of what is neither plain nor made to be compared, the identity."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool, bytes):
        return form(value)
    if kind is list or kind is tuple:
        return (kind, *[_attribute(v) for v in value])
    if kind is dict:
        return (dict, *[(_attribute(k), _attribute(v)) for k, v in value.items()])
    if isinstance(value, type) and hasattr(value, "input_fields"):
        # A signature's fields are made once; its instructions can be set.
        return (Same(value), value.__doc__)
    if hasattr(kind, "update_history"):
        return model_state(value)
    if dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields") or hasattr(kind, "cache_token") or _is_example(value):
        try:
            return form(value)
        except NoKey:
            return Same(value)
    return Same(value)


def model_state(lm: Any) -> Hashable:
    """Return what tells one language model and its settings from another; None for no model."""
    if lm is None:
        return None
    engine = getattr(lm, "engine", None)
    return (
        type(lm),
        str(getattr(lm, "model", "")),
        str(getattr(lm, "model_type", "")),
        engine if isinstance(engine, str) else Same(engine),
        _attribute(getattr(lm, "kwargs", {})),
    )
