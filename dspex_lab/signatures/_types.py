"""Types: which names are known without a namespace, taking types apart, putting them into one form."""

from __future__ import annotations

import collections
import collections.abc
import importlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ._meta import Described, Read, read_metadata, to_metadata

#: Built-in types that DSPy's grammar knows by name.
BUILTINS: Mapping[str, Any] = {
    t.__name__: t for t in (int, str, float, bool, list, tuple, dict, set, frozenset, complex, bytes, bytearray)
}
#: Names of ``typing``; those among them that are no types are refused where a type is wanted.
TYPING: Mapping[str, Any] = {name: getattr(typing, name) for name in typing.__all__} | {
    "NoneType": types.NoneType,
    "defaultdict": collections.defaultdict,
}
#: Modules whose types are known by their dotted names. Importing one of them does nothing but define names.
MODULES = frozenset(
    {
        *("collections", "collections.abc", "datetime", "decimal", "enum", "fractions", "ipaddress", "numbers"),
        *("pathlib", "re", "typing", "types", "uuid", "zoneinfo"),
    }
)

_NUMBERS = frozenset({("builtins", "int"), ("builtins", "float"), ("decimal", "Decimal"), ("fractions", "Fraction")})

#: Names of ``typing`` that need something in brackets to be a type, and those that are never the type of a value.
_NEED_ARGS = frozenset({"Annotated", "Literal", "Optional", "Union"})
_NO_TYPES = _NEED_ARGS | {
    *(
        "ClassVar",
        "Concatenate",
        "Final",
        "ForwardRef",
        "Generic",
        "NamedTuple",
        "Never",
        "NewType",
        "NoReturn",
        "NotRequired",
        "LiteralString",
    ),
    *("ParamSpec", "Protocol", "Required", "Self", "TypeAlias", "TypeGuard", "TypeVar", "TypeVarTuple", "TypedDict", "Unpack"),
}
_QUALIFIERS = (typing.ClassVar, typing.Final, typing.Required, typing.NotRequired)
_ALIASES = (type(list[int]), type(typing.List[int]), types.UnionType)  # noqa: UP006 (the class of the old alias is wanted)


def known_module(root: str) -> Any:
    """Return the module that a dotted name may begin with, or None. Only ``dspy`` and :data:`MODULES` are imported."""
    if root in MODULES or root == "dspy":
        return importlib.import_module(root)
    return None


def is_dspy_type(tp: Any) -> bool:
    """Whether ``tp`` is one of DSPy's own types (``dspy.Image``, …) or derived from one; DSPy is not imported for it."""
    return isinstance(tp, type) and any(
        base.__name__ == "Type" and base.__module__ == "dspy.adapters.types.base_type" for base in tp.__mro__[:-1]
    )


def why_no_type(tp: Any) -> str | None:
    """Return why ``tp`` cannot be the type of a value (it completes "… is"), or None when it can."""
    if isinstance(tp, types.ModuleType):
        return "a module, not a type"
    name = getattr(tp, "__name__", None) or getattr(tp, "_name", None)
    if getattr(tp, "__module__", None) in ("typing", "typing_extensions") and not get_args(tp) and name in _NO_TYPES:
        return (
            f"no type of its own; it needs its part in brackets, as in {name}[…]"
            if name in _NEED_ARGS
            else "no type of a value"
        )
    if get_origin(tp) in _QUALIFIERS:
        return "a mark for attributes, not a type of a value"
    if isinstance(tp, (type, *_ALIASES)) or tp is Any or tp is None or get_origin(tp) is not None:
        return None
    if isinstance(tp, typing.NewType) or type(tp).__name__ == "TypeAliasType" or is_bare_alias(tp):
        return None
    return f"{'a ' + type(tp).__name__ + ' value' if not callable(tp) else 'a function'}, not a type"


def is_bare_alias(tp: Any) -> bool:
    """Whether ``tp`` is an alias such as ``typing.List`` without its brackets."""
    return type(tp).__module__ == "typing" and type(tp).__name__ in ("_SpecialGenericAlias", "_CallableType", "_TupleType")


# -- taking apart -----------------------------------------------------------------------------------------------------
def rebuild(tp: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return ``tp`` with ``leaf`` applied to the types it is made of, innermost first; ``tp`` itself if nothing changes."""
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        base = rebuild(args[0], leaf)
        return leaf(tp if base is args[0] else Annotated[(base, *tp.__metadata__)])
    if not args or origin is Literal:
        return leaf(tp)
    if origin is collections.abc.Callable:
        return leaf(tp)
    new = tuple(rebuild(arg, leaf) if arg is not ... else arg for arg in args)
    if isinstance(tp, types.GenericAlias):  # list[None] and list[NoneType] are not equal to Python; DSPy writes the first
        new = tuple(None if arg is types.NoneType else arg for arg in new)
    if all(a is b for a, b in zip(new, args, strict=True)):
        return leaf(tp)
    if origin in (Union, types.UnionType):
        return leaf(union(new))
    if isinstance(tp, types.GenericAlias):
        return leaf(types.GenericAlias(origin, new))
    return leaf(tp.copy_with(new) if hasattr(tp, "copy_with") else origin[new])


def union(members: Iterable[Any]) -> Any:
    """Return the union of types; ``None`` goes behind the type before or after it, as in DSPy, whose prompt shows the order."""
    parts = list(members)
    if len(parts) == 1:
        return parts[0]
    if parts[0] is None:
        parts[:2] = parts[1], None
    return Union[tuple(parts)]  # noqa: UP007 (objects, no annotation); all at once, as one by one takes quadratic time


def canonical_metadata(metadata: Iterable[Any]) -> list[Any]:
    """Return metadata in one form; between items of unknown kinds the order stays, as it may matter to them."""
    parts: list[Any] = []
    for run in runs(metadata):
        if isinstance(run, Read):
            parts += to_metadata(run.constraints)
            parts += [Described(run.description)] if run.description else []
        else:
            parts.append(run[0])
    return parts


def runs(metadata: Iterable[Any]) -> list[Read | tuple[Any]]:
    """Return what each run of known metadata says, and between them each unknown item, in a tuple of its own."""
    found: list[Read | tuple[Any]] = []
    for item in metadata:
        if read_metadata([item]).rest:
            found.append((item,))
        elif found and isinstance(found[-1], Read):
            read_metadata([item], found[-1])
        else:
            found.append(read_metadata([item]))
    return found


def _annotate(tp: Any, metadata: Iterable[Any]) -> Any:
    parts = tuple(metadata)
    return Annotated[(tp, *parts)] if parts else tp


def canonical(tp: Any) -> Any:
    """Put the metadata inside ``tp`` into one form, so that equal types are equal however they were written."""
    return rebuild(tp, _canonical_leaf)


def _canonical_leaf(tp: Any) -> Any:
    if get_origin(tp) is Annotated:
        return _annotate(get_args(tp)[0], canonical_metadata(tp.__metadata__))
    if is_code_in_language(tp):
        return code_type(tp.__mro__[1], tp.language)
    return tp


def is_code_in_language(tp: Any) -> bool:
    """Whether ``tp`` is ``dspy.Code["python"]`` or its like, and not a class derived from ``dspy.Code`` by hand."""
    return is_dspy_type(tp) and tp.__mro__[1].__name__ == "Code" and str(tp.__name__).startswith("Code_")


_code_types: dict[tuple[type, str], type] = {}


def code_type(code: Any, language: Any) -> Any:
    """Return ``dspy.Code[language]``, the same class each time (DSPy makes another one for every use).

    DSPy's own string grammar hands the language over as a tuple, ``('python',)``; it is unpacked here.
    """
    if isinstance(language, tuple):
        (language,) = language
    if (code, language) not in _code_types:
        _code_types[code, language] = code[language]
    return _code_types[code, language]


def peel(tp: Any) -> tuple[Any, Read]:
    """Split the outermost ``Annotated`` of a field: the type, and what the metadata says.

    Metadata of unknown kinds stays with the type, and so do the constraints before it, which hold for what it is given.
    """
    if is_bare_alias(tp):
        tp = tp.__origin__
    if get_origin(tp) is not Annotated:
        return canonical(tp), Read({}, None, [], [])
    parts = runs(tp.__metadata__)
    last = Read({}, None, [], [])
    if isinstance(parts[-1], Read):
        last = parts[-1]
        del parts[-1]
    inner: list[Any] = []
    for part in parts:
        if isinstance(part, Read):
            inner += to_metadata(part.constraints)
            last.description = last.description or part.description
            last.default = last.default or part.default
        else:
            inner.append(part[0])
    return _annotate(canonical(get_args(tp)[0]), inner), last


def constrained(tp: Any, constraints: Mapping[str, Any]) -> Any:
    """Return ``tp`` with ``constraints`` as ``Annotated`` metadata."""
    return _annotate(tp, to_metadata(constraints))


def base_of(tp: Any) -> Any:
    """Return the class that a value of ``tp`` is an instance of, or None where there is no single one."""
    origin = get_origin(tp)
    if origin is Annotated:
        return base_of(get_args(tp)[0])
    if isinstance(tp, typing.NewType):
        return base_of(tp.__supertype__)
    cls = origin or (tp.__origin__ if is_bare_alias(tp) else tp)
    return cls if isinstance(cls, type) and cls is not types.UnionType else None


def is_number(tp: Any) -> bool:
    """Whether a range after ``tp`` bounds its value, not its length."""
    cls = base_of(tp)
    return cls is not None and (cls.__module__, cls.__name__) in _NUMBERS


def suffixable(base: Any) -> bool:
    """Whether a range or a pattern may follow ``base``: numbers, text, bytes and collections of any length."""
    cls = base_of(base)
    if cls is None or cls is bool:
        return False
    if is_number(base):
        return True
    if get_origin(base) is tuple and (len(get_args(base)) != 2 or get_args(base)[1] is not ...):
        return False
    return cls in (str, bytes, bytearray, list, tuple, dict, set, frozenset) or (
        getattr(cls, "__module__", "") in ("collections.abc", "collections") and issubclass(cls, collections.abc.Sized)
    )
