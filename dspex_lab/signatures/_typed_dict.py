"""``typing.TypedDict`` in the form Pydantic can read: before Python 3.12 it takes only that of ``typing_extensions``."""

from __future__ import annotations

import sys
import typing
import weakref
from typing import Any, get_args, get_origin

from ._types import rebuild

_made: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def readable(tp: Any) -> Any:
    """Return ``tp`` with each ``typing.TypedDict`` in it replaced by an equal one that Pydantic reads; else ``tp`` itself."""
    return tp if sys.version_info >= (3, 12) else rebuild(tp, _readable_leaf)


def _readable_leaf(tp: Any) -> Any:
    if not (typing.is_typeddict(tp) and type(tp).__module__ == "typing"):
        return tp
    if tp not in _made:
        _made[tp] = tp  # one that is made of itself finds itself, and is refused by Pydantic in words
        _made[tp] = _again(tp)
    return _made[tp]


def _again(tp: Any) -> Any:
    import typing_extensions as te

    items: dict[str, Any] = {}
    for key, hint in typing.get_type_hints(tp, include_extras=True).items():
        need = key not in tp.__optional_keys__
        while get_origin(hint) in (te.Required, te.NotRequired, te.ReadOnly):
            need = need if get_origin(hint) is te.ReadOnly else get_origin(hint) is te.Required
            hint = get_args(hint)[0]
        hint = readable(hint)
        items[key] = hint if need else te.NotRequired[hint]
    make: Any = te.TypedDict  # the names are not known to a type checker
    made = make(tp.__name__, items)
    made.__doc__, made.__module__, made.__qualname__ = tp.__doc__, tp.__module__, tp.__qualname__
    if hasattr(tp, "__pydantic_config__"):
        made.__pydantic_config__ = tp.__pydantic_config__
    return made
