"""Signatures from text, functions and classes."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, get_args, get_origin

from dspex_lab.errors import SignatureError

from ._dspy import is_dspy_signature
from ._field import MISSING, Field, Role
from ._grammar import parse
from ._namespace import NOT_FOUND, FrameNamespace, MappingNamespace, Namespace, still_means
from ._nodes import Call, FieldNode, SignatureNode
from ._resolve import Resolver
from ._signature import Signature
from ._source import Source

#: Texts and meanings kept compiled; the oldest goes first.
CACHE_SIZE = 512

_Entry = tuple[dict[str, Any], Signature]
_cache: dict[tuple[str, str], list[_Entry]] = {}
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Mark:
    """What :func:`input_field` and :func:`output_field` leave on a class."""

    role: Role
    words: dict[str, Any]


def input_field(description: str | None = None, *, default: Any = MISSING, **constraints: Any) -> Any:
    """Mark an attribute of a class as an input of its signature.

    Args:
        description: what it holds.
        default: what it is when not given.
        constraints: ``ge gt le lt multiple_of min_length max_length pattern``.
    """
    return Mark("input", {"description": description, "default": default, "constraints": constraints})


def output_field(description: str | None = None, *, default: Any = MISSING, **constraints: Any) -> Any:
    """Mark an attribute of a class as an output of its signature; arguments as for :func:`input_field`."""
    return Mark("output", {"description": description, "default": default, "constraints": constraints})


def signature(
    x: str | Callable[..., Any] | type | Signature, types: Mapping[str, Any] | None = None, name: str | None = None
) -> Signature:
    """Return the signature that a text, a function or a class says.

    Args:
        x: a text (see the room's docstring for the grammar); a function (parameters are inputs; a TypedDict, dataclass, named
            tuple or Pydantic model it returns gives the outputs, any other result is one output named like the function; the
            docstring is the instructions); a ``dspy.Signature`` class; a class whose attributes are marked by
            ``input_field()`` and ``output_field()`` or by DSPy's own marks; or a signature, which is returned.
        types: names that may be used as types, such as the variables of a notebook. When None, the names the caller sees.
        name: the signature's name; else the function's or class's, or ``StringSignature``.

    Raises:
        SignatureError: with line and column where ``x`` is a text.
    """
    if isinstance(x, str):
        namespace: Namespace = FrameNamespace(_caller()) if types is None else MappingNamespace(types)
        return from_text(x, namespace, name or "StringSignature")
    if isinstance(x, Signature):
        return x if name is None or name == x.name else x.replace(name=name)
    if is_dspy_signature(x):
        made = Signature.from_dspy(typing.cast(Any, x))
        return made if name is None or name == made.name else made.replace(name=name)
    namespace = FrameNamespace(_caller()) if types is None else MappingNamespace(types)
    if isinstance(x, type):
        return _from_class(x, namespace, name)
    if callable(x):
        return _from_function(x, namespace, name)
    raise SignatureError(f"Expected a text, a function or a class, found {type(x).__name__}.")


def _caller() -> FrameType:
    return sys._getframe(2)


# -- text -------------------------------------------------------------------------------------------------------------
def from_text(text: str, namespace: Namespace, name: str) -> Signature:
    """Return the signature of a text, from the cache while its names mean what they meant."""
    key = (text, name)
    for used, made in _cache.get(key, ()):
        for path, meaning in used.items():
            if not still_means(path, meaning, namespace):
                break
        else:
            return made
    source = Source(text)
    resolver = Resolver(source, namespace)
    made = _assemble(parse(source), source, resolver, name)
    with _lock:
        entries = _cache.pop(key, [])
        _cache[key] = [(resolver.used, made), *entries][:4]  # the same text in up to four meanings
        while len(_cache) > CACHE_SIZE:
            del _cache[next(iter(_cache))]
    return made


def _assemble(tree: SignatureNode, source: Source, resolver: Resolver, name: str) -> Signature:
    fields = [_field(node, "input", source, resolver) for node in tree.inputs]
    fields += [_field(node, "output", source, resolver) for node in tree.outputs]
    instructions = inspect.cleandoc(tree.instructions or "")
    return Signature(fields, name=name, instructions=instructions, names=resolver.used)


def _field(node: FieldNode, role: Role, source: Source, resolver: Resolver) -> Field:
    tp = str if node.type is None else resolver.field_type(node.type, node.name)
    words: dict[str, Any] = {}
    if isinstance(node.default, Call):
        words = resolver.field_call(node.default, node.name)
    elif node.default is not None:
        words = {"default": resolver.field_value(node.default, node.name)}
    description = node.description or words.pop("description", None)
    default = words.pop("default", MISSING)
    words.pop("description", None)
    declared = node.type is not None
    try:
        return Field(node.name, tp, role=role, description=description, default=default, constraints=words, declared=declared)
    except SignatureError as error:
        at = node.default.at if node.default is not None else node.at
        raise source.error(at, error.message, field=node.name, hint=error.hint) from error


# -- functions --------------------------------------------------------------------------------------------------------
def _from_function(function: Callable[..., Any], namespace: Namespace, name: str | None) -> Signature:
    called = getattr(function, "__name__", None) or type(function).__name__
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise SignatureError(f"{called!r} does not say which parameters it has: {error}.") from error
    hints = _hints(function, namespace)
    fields = [_parameter(called, parameter, hints) for parameter in parameters.values()]
    fields += _results(called, hints.get("return", MISSING))
    return Signature(fields, name=name or called, instructions=inspect.getdoc(function))


def _parameter(called: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> Field:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise SignatureError(f"{called}: the fields behind *{parameter.name} are not known.", hint="Name each parameter.")
    declared = parameter.name in hints
    default = MISSING if parameter.default is parameter.empty else parameter.default
    return Field(parameter.name, hints.get(parameter.name, Any), default=default, declared=declared)


def _results(called: str, returned: Any) -> list[Field]:
    fields = _members(returned)
    if fields is not None:
        return [Field(key, tp, role="output", default=default) for key, tp, default in fields]
    single = called if called.isidentifier() else "result"
    declared = returned is not MISSING
    return [Field(single, returned if declared else Any, role="output", declared=declared)]


def _members(tp: Any) -> list[tuple[str, Any, Any]] | None:
    """Return name, type and default of each member of a record type, or None for any other type."""
    while get_origin(tp) is typing.Annotated:
        tp = get_args(tp)[0]
    if not isinstance(tp, type):
        return None
    if hasattr(tp, "model_fields") and not hasattr(tp, "format"):  # a Pydantic model, but none of DSPy's types
        return [
            (
                key,
                typing.Annotated[(info.annotation, *info.metadata, *([info.description] if info.description else []))],
                _default(info),
            )
            for key, info in tp.model_fields.items()
        ]
    if not (typing.is_typeddict(tp) or hasattr(tp, "__total__") or dataclasses.is_dataclass(tp) or hasattr(tp, "_fields")):
        return None
    hints = typing.get_type_hints(tp, include_extras=True)
    if dataclasses.is_dataclass(tp):
        return [(field.name, hints[field.name], _dataclass_default(field)) for field in dataclasses.fields(tp)]
    keys = getattr(tp, "_fields", hints)
    return [(key, *_required(hints.get(key, Any), tp, key)) for key in keys]


def _required(hint: Any, tp: Any, key: str) -> tuple[Any, Any]:
    """Return the type and default of a member of a TypedDict or named tuple; what need not be there is None when it is not."""
    optional = key in getattr(tp, "__optional_keys__", ())
    while getattr(get_origin(hint), "_name", "") in ("Required", "NotRequired", "ReadOnly"):
        optional = optional or get_origin(hint)._name == "NotRequired"
        hint = get_args(hint)[0]
    defaults = getattr(tp, "_field_defaults", {})
    return hint, defaults.get(key, None if optional else MISSING)


def _default(info: Any) -> Any:
    return MISSING if info.is_required() else info.get_default(call_default_factory=True)


def _dataclass_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else MISSING


class _View(Mapping[str, Any]):
    """A namespace as the mapping ``typing.get_type_hints`` wants."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def __getitem__(self, key: str) -> Any:
        value = self._namespace.get(key)
        if value is NOT_FOUND:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return self._namespace.names()

    def __len__(self) -> int:
        return sum(1 for _ in self._namespace.names())


def _hints(x: Any, namespace: Namespace) -> dict[str, Any]:
    """Return the annotations of a function or class, the quoted ones looked up where it was written, then by the caller."""
    target = x if isinstance(x, type) or inspect.isroutine(x) else getattr(x, "__call__", x)  # noqa: B004
    target = getattr(x, "func", target)  # functools.partial
    target = inspect.unwrap(target) if callable(target) else target
    try:
        return typing.get_type_hints(target, localns=typing.cast(Any, _View(namespace)), include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        owner = getattr(x, "__name__", type(x).__name__)
        raise SignatureError(
            f"{owner}: an annotation cannot be read: {error}.", hint="Define or import the type first."
        ) from error


# -- classes ----------------------------------------------------------------------------------------------------------
def _from_class(cls: type, namespace: Namespace, name: str | None) -> Signature:
    hints = _hints(cls, namespace)
    fields = [field for key, mark in _marked(cls) if (field := _marked_field(key, mark, hints)) is not None]
    if not fields:
        raise SignatureError(
            f"The class {cls.__name__!r} has no fields that are marked as inputs or outputs.",
            hint="Mark them: 'text: str = input_field()', 'label: str = output_field()'.",
        )
    instructions = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    return Signature(fields, name=name or cls.__name__, instructions=instructions)


def _marked(cls: type) -> Iterator[tuple[str, Any]]:
    seen: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        seen |= {key: value for key, value in vars(base).items() if not key.startswith("__")}
    seen |= getattr(cls, "__pydantic_fields__", {})
    yield from seen.items()


def _marked_field(key: str, mark: Any, hints: dict[str, Any]) -> Field | None:
    declared = key in hints
    if isinstance(mark, Mark):
        return Field(key, hints.get(key, str), role=mark.role, declared=declared, **mark.words)
    if type(mark).__name__ == "FieldInfo" and isinstance(mark.json_schema_extra, dict):
        from ._dspy import field_from_info

        if mark.json_schema_extra.get("__dspy_field_type") in ("input", "output"):
            return field_from_info(key, mark, hints.get(key, str), declared)
    return None
