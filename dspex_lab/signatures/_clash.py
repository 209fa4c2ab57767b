"""Whether a value of one type can ever be taken where another is wanted: only what is certain to fail is said.

What "taken" means is the strict check of :meth:`Signature.validate_inputs`, which also reads a value made of JSON's types as
JSON: a list as a tuple or set, a dict as a model, a text as a date. What is not known to fail is taken to fit; an empty list
counts as one of its declared items.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import numbers
import sys
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ._meta import Read
from ._types import base_of, is_bare_alias, is_dspy_type, runs
from ._write import Names, write

#: How deep types are looked into, and how many subclasses are looked at; what lies beyond is taken to fit.
MAX_DEPTH = 30
MAX_SUBCLASSES = 500

#: Py_TPFLAGS_HEAPTYPE: the class was made at run time, by a ``class`` statement for instance.
_HEAP = 1 << 9

#: What JSON is made of; such values are read as JSON where they do not fit as they are.
_JSON = (str, int, float, bool, types.NoneType, list, dict)
#: Classes whose check is known to be that of the class and of what :data:`_ALSO` lists.
_CLOSED = (str, int, float, complex, bool, bytes, bytearray, types.NoneType, list, tuple, set, frozenset, dict)
_ALSO: dict[type, tuple[type, ...]] = {
    bytes: (str,),
    complex: (str, int, float),
    float: (int,),
    frozenset: (list,),
    set: (list,),
    tuple: (list,),
}


def why_not(produced: Any, wanted: Any) -> str | None:
    """Return why no value of the type ``produced`` can be taken where ``wanted`` is, as ``"list[str] is no int"``, or None.

    Only definite clashes are told. ``Any``, type variables, forward references, types with validators of their own and
    whatever is unknown fit; of a union it is enough that one member fits one; containers clash where their items do.
    """
    try:
        fits = _fits(produced, wanted, 0)
    except (TypeError, AttributeError, ValueError, RecursionError):  # a class may do anything when it is asked about itself
        return None
    return None if fits else f"{write(produced, Names())} is no {write(wanted, Names())}"


def _fits(produced: Any, wanted: Any, depth: int) -> bool:
    if depth > MAX_DEPTH or produced is wanted:
        return True
    produced, wanted = _unwrapped(produced, given=True), _unwrapped(wanted)
    if _unknown(produced) or _unknown(wanted):
        return True
    given, asked = _members(produced), _members(wanted)
    if len(given) > 1 or len(asked) > 1:
        return any(_fits(one, other, depth + 1) for one in given for other in asked)
    if get_origin(produced) is Literal:
        return any(_value_fits(value, wanted, depth) for value in get_args(produced))
    if get_origin(wanted) is Literal:
        return any(_may_equal(produced, value) for value in get_args(wanted))
    return _class_fits(produced, wanted, depth)


def _unwrapped(tp: Any, *, given: bool = False) -> Any:
    """Take off names and annotations; ``Any`` where an annotation may change what is taken."""
    for _ in range(MAX_DEPTH):
        if get_origin(tp) is Annotated:
            tp = get_args(tp)[0] if given or all(map(_harmless, runs(tp.__metadata__))) else Any
        elif isinstance(tp, typing.NewType):
            tp = tp.__supertype__
        elif type(tp).__name__ == "TypeAliasType" or type(get_origin(tp)).__name__ == "TypeAliasType":
            tp = getattr(get_origin(tp) or tp, "__value__", Any)
        elif is_bare_alias(tp):
            tp = tp.__origin__
        else:
            return types.NoneType if tp is None else tp
    return Any


def _harmless(run: Read | tuple[Any]) -> bool:
    if isinstance(run, Read):
        return run.constraints.get("strict") is not False
    (item,) = run
    return not hasattr(item, "__get_pydantic_core_schema__") and not type(item).__module__.startswith("pydantic")


def _unknown(tp: Any) -> bool:
    if tp is Any or tp is object or tp is inspect.Parameter.empty:
        return True
    if get_origin(tp) in (Union, types.UnionType, Literal):
        return False
    cls = base_of(tp)
    return cls is None or bool(getattr(cls, "_is_protocol", False))


def _members(tp: Any) -> tuple[Any, ...]:
    return get_args(tp) if get_origin(tp) in (Union, types.UnionType) else (tp,)


# -- values -----------------------------------------------------------------------------------------------------------
def _value_fits(value: Any, wanted: Any, depth: int) -> bool:
    if get_origin(wanted) is Literal:
        return any(_alike(value, other) for other in get_args(wanted))
    return _fits(type(value), wanted, depth + 1)


def _alike(value: Any, other: Any) -> bool:
    plain = [item.value if isinstance(item, enum.Enum) else item for item in (value, other)]
    return bool(value == other or plain[0] == plain[1])


def _may_equal(produced: Any, value: Any) -> bool:
    """Whether a value of the type ``produced`` may stand for the literal ``value``."""
    cls = _class(produced)
    if isinstance(value, enum.Enum):
        return isinstance(value, cls) or _may_equal(cls, value.value)
    if isinstance(value, int):
        return _is_numeric(cls)
    return isinstance(value, cls) or issubclass(cls, type(value))


def _is_numeric(cls: type) -> bool:
    return issubclass(cls, numbers.Number) or hasattr(cls, "__float__") or hasattr(cls, "__index__")


# -- classes ----------------------------------------------------------------------------------------------------------
def _class(tp: Any) -> type:
    cls = base_of(tp)
    assert cls is not None  # noqa: S101 (others are unknown, and fit)
    return dict if _is_typed_dict(cls) else cls


def _class_fits(produced: Any, wanted: Any, depth: int) -> bool:
    have, want = _class(produced), _class(wanted)
    if want is bool:  # neither stands for the other in a strict check, though a bool is an int to Python
        return have is bool
    if have is bool and want in (int, float):
        return False
    if issubclass(have, want) or issubclass(want, have):
        return _items_fit(_items(produced), _items(wanted), depth)
    if want in _CLOSED:
        near = any(issubclass(have, cls) or issubclass(cls, have) for cls in _ALSO.get(want, ()))
        numeric = want in (float, complex) and have not in _CLOSED and _is_numeric(have)
        return (near or numeric) and _items_fit(_items(produced), _items(wanted), depth)
    return _takes(want, have) or _common_subclass(have, want)


def _takes(want: type, have: type) -> bool:
    """Whether the check of a class that is not closed may take values of an unrelated class."""
    if _checks_itself(want):
        return True
    if issubclass(want, enum.Enum):
        own = getattr(want._missing_, "__func__", None) is not getattr(enum.Enum._missing_, "__func__", None)
        return own or (have in _JSON and any(_may_equal(have, member.value) for member in want))
    if dataclasses.is_dataclass(want) or hasattr(want, "model_fields"):
        return issubclass(have, collections.abc.Mapping)
    if hasattr(want, "_fields"):  # a named tuple
        return issubclass(have, collections.abc.Iterable) and not issubclass(have, str | bytes)
    module = want.__module__.partition(".")[0]
    if inspect.isabstract(want) or want.__module__ == "numbers":
        return have not in _CLOSED
    if module == "collections":
        return issubclass(have, list | dict)
    if module in sys.stdlib_module_names:
        return issubclass(have, str | bytes) or (_is_numeric(want) and _is_numeric(have))
    return False


def _checks_itself(cls: type) -> bool:
    """Whether a class brings validators of its own, which may take anything."""
    if is_dspy_type(cls) or hasattr(cls, "__get_validators__") or getattr(cls, "__pydantic_root_model__", False):
        return True
    pydantic = sys.modules.get("pydantic")
    hook = getattr(cls, "__get_pydantic_core_schema__", None)
    if hook is not None and getattr(hook, "__func__", hook) is not getattr(
        pydantic and pydantic.BaseModel.__get_pydantic_core_schema__, "__func__", None
    ):
        return True
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    if config.get("from_attributes") or config.get("strict") is False:
        return True
    validators = getattr(getattr(cls, "__pydantic_decorators__", None), "model_validators", {})
    return any(validator.info.mode != "after" for validator in validators.values())


def _common_subclass(have: type, want: type) -> bool:
    """Whether a class is known that is both, or so many are that it is not worth looking."""
    if _never_both(have, want):
        return False
    waiting, seen = [have], 0
    while waiting and seen < MAX_SUBCLASSES:
        cls, seen = waiting.pop(), seen + 1
        if issubclass(cls, want):
            return True
        waiting += type.__subclasses__(cls)
    return bool(waiting)


def _never_both(have: type, want: type) -> bool:
    """Whether no class can be both, as their instances are laid out differently in memory."""
    one, other = _layout(have), _layout(want)
    return not (issubclass(one, other) or issubclass(other, one))


def _layout(cls: type) -> type:
    """Return the built-in class that says how instances of ``cls`` are laid out (CPython: best_base in typeobject.c)."""
    base = cls.__base__
    while base is not None and (cls.__flags__ & _HEAP or cls.__basicsize__ == base.__basicsize__):
        cls, base = base, base.__base__
    return cls


def _is_typed_dict(cls: type) -> bool:
    return type(cls).__name__ == "_TypedDictMeta"


# -- what containers hold ---------------------------------------------------------------------------------------------
def _items(tp: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Return what a container holds: ``("each", types)`` by place, ``("many", (item,))``, ``("map", (key, value))`` or None."""
    cls, args = _class(tp), get_args(tp)
    if cls.__module__.partition(".")[0] not in ("builtins", "collections", "typing"):
        return None
    if cls is tuple and args:
        return ("many", args[:1]) if args[-1] is ... else ("each", args if args != ((),) else ())
    if issubclass(cls, collections.abc.Mapping):
        return ("map", args) if len(args) == 2 else None
    return ("many", args) if len(args) == 1 and cls is not type else None


def _items_fit(given: tuple[str, tuple[Any, ...]] | None, asked: tuple[str, tuple[Any, ...]] | None, depth: int) -> bool:
    if given is None or asked is None:
        return True
    (kind, have), (other, want) = given, asked
    if "map" in (kind, other):
        # A key that is a text is read as the key that is wanted, as JSON has no others.
        return kind != other or ((_fits(have[0], want[0], depth + 1) or have[0] is str) and _fits(have[1], want[1], depth + 1))
    if kind == other == "each":
        return len(have) == len(want) and all(_fits(a, b, depth + 1) for a, b in zip(have, want, strict=True))
    return all(_fits(a, b, depth + 1) for a in have for b in want)
