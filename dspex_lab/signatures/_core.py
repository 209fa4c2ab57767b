"""Core schemas of plain types, written down without Pydantic's generator, which costs 50 times what its result does.

Only what is certain stands here: scalars, ``Any``, ``Literal``, collections, unions of these, our own constraints, and Pydantic
models, which bring the schema they were made with. One field of another type, and the whole record goes through Pydantic; a
test holds that both ways accept and return the same.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from ._meta import Described, engine_of, read_metadata

if TYPE_CHECKING:
    from ._field import Field

Core = dict[str, Any]

_SCALARS = {str: "str", int: "int", float: "float", bool: "bool", bytes: "bytes", types.NoneType: "none", None: "none"}
_ONE = {list: "list", set: "set", frozenset: "frozenset"}
_NUMERIC = frozenset({"ge", "gt", "le", "lt", "multiple_of"})
_LENGTHS = frozenset({"min_length", "max_length"})


def record_validator(fields: Mapping[str, Field], types_of: Mapping[str, Any]) -> Callable[..., dict[str, Any]] | None:
    """Return pydantic-core's function that checks a record of ``fields``, or None when one of them is not plain."""
    items: dict[str, Core] = {}
    for name, field in fields.items():
        schema = core_of(types_of[name])
        if schema is None:
            return None
        if not field.required:
            schema = {"type": "default", "schema": schema, "default": field.default}
        items[name] = {"type": "typed-dict-field", "schema": schema, "required": field.required}
    from pydantic_core import SchemaError, SchemaValidator

    record: Any = {"type": "typed-dict", "fields": items, "extra_behavior": "forbid"}
    try:
        validate: Callable[..., dict[str, Any]] = SchemaValidator(record).validate_python
    except SchemaError:  # Pydantic says in words what is wrong
        return None
    return validate


def core_of(tp: Any) -> Core | None:
    """Return the core schema of a plain type, or None for any other."""
    try:
        scalar = _SCALARS.get(tp)
    except TypeError:  # something unhashable
        return None
    if scalar is not None:
        return {"type": scalar}
    if tp is Any or tp is object:
        return {"type": "any"}
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        return _limited(args[0], tp.__metadata__)
    if origin is Literal:
        return {"type": "literal", "expected": list(args)} if all(_is_plain_value(arg) for arg in args) else None
    if origin in (Union, types.UnionType):
        return _one_of(args)
    return _collection(origin or tp, args) or (None if args else _model(tp))


def _model(tp: Any) -> Core | None:
    """Return the schema that a finished Pydantic model carries; pydantic-core then uses the model's own validator."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(tp, type) or not issubclass(tp, pydantic.BaseModel):
        return None
    model: Any = tp
    own = (
        getattr(model.__get_pydantic_core_schema__, "__func__", None)
        is pydantic.BaseModel.__get_pydantic_core_schema__.__func__
    )
    schema = model.__dict__.get("__pydantic_core_schema__")
    return schema if own and model.__pydantic_complete__ and isinstance(schema, dict) else None


def _is_plain_value(value: Any) -> bool:
    return value is None or type(value) in (str, int, bool)


def _one_of(members: Iterable[Any]) -> Core | None:
    kept = [core_of(member) for member in members if member is not types.NoneType]
    nullable = len(kept) < len(tuple(members))
    if not all(kept):
        return None
    whole = kept[0] if len(kept) == 1 else {"type": "union", "choices": kept}
    return {"type": "nullable", "schema": whole} if nullable else whole


def _collection(origin: Any, args: tuple[Any, ...]) -> Core | None:
    if origin in _ONE and len(args) <= 1:
        items = core_of(args[0]) if args else {"type": "any"}
        return {"type": _ONE[origin], "items_schema": items} if items else None
    if origin is dict and len(args) in (0, 2):
        keys, values = (core_of(arg) for arg in args or (Any, Any))
        return {"type": "dict", "keys_schema": keys, "values_schema": values} if keys and values else None
    if origin is tuple and len(args) == 2 and args[1] is ...:
        items = core_of(args[0])
        return {"type": "tuple", "items_schema": [items], "variadic_item_index": 0} if items else None
    if origin is tuple and args and ... not in args:
        parts = [core_of(arg) for arg in args]
        return {"type": "tuple", "items_schema": parts} if all(parts) else None
    return None


def _limited(base: Any, metadata: Iterable[Any]) -> Core | None:
    """Add our own constraints, where they are of the kind the type's schema has keys for."""
    said = read_metadata(item for item in metadata if not isinstance(item, Described))
    schema = core_of(base)
    if schema is None or said.rest or said.default or get_origin(base) is Annotated:
        return None
    kind = schema["type"]
    for key, value in said.constraints.items():
        if key in _NUMERIC and kind in ("int", "float"):
            good = type(value) is int or (kind == "float" and type(value) is float)
        elif key in _LENGTHS:
            good = kind in ("str", "bytes", "list", "set", "frozenset", "dict") and type(value) is int and value >= 0
        else:
            good = key == "pattern" and kind == "str" and type(value) is str
        if not good:
            return None
        if key == "pattern":
            schema["regex_engine"] = engine_of(value)
        schema[key] = value
    return schema
