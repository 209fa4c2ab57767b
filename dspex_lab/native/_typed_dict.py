"""``typing.TypedDict`` in the form that Pydantic reads: before Python 3.12 it takes only that of ``typing_extensions``."""

from __future__ import annotations

import functools
import operator
import sys
import types
import typing
from typing import Any, Union, get_args, get_origin

import typing_extensions


def readable(kind: Any) -> Any:
    """Return ``kind`` with each ``typing.TypedDict`` in it replaced by an equal one that Pydantic reads.

    Raises:
        RecursionError: one is made of itself.
    """
    if sys.version_info >= (3, 12):
        return kind
    if typing.is_typeddict(kind):
        return _again(kind) if type(kind).__module__ == "typing" else kind
    args = get_args(kind)
    inner = tuple(readable(arg) for arg in args)
    if all(new is old for new, old in zip(inner, args, strict=True)):
        return kind
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, inner)
    return kind.copy_with(inner[:1]) if origin is typing.Annotated else origin[inner]


def _again(kind: Any) -> Any:
    items: dict[str, Any] = {}
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        optional = key in kind.__optional_keys__  # says nothing of what is marked in an annotation that was a text
        if get_origin(hint) in (typing_extensions.Required, typing_extensions.NotRequired):
            optional = get_origin(hint) is typing_extensions.NotRequired
            hint = get_args(hint)[0]
        hint = readable(hint)
        items[key] = typing_extensions.NotRequired[hint] if optional else hint
    make: Any = typing_extensions.TypedDict  # the names are not known to a type checker
    return make(kind.__name__, items)
