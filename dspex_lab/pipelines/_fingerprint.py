"""What a step does and what it is given, as a short text that another process finds again.

Two pieces of work have the same text only where they do the same, as far as can be told: the code of functions and of the
functions, classes and constants of the user's own that they use by name, what partial functions and closures hold, the
prompts, demonstrations and settings of DSPy modules, and the model. Not seen are what is reached through another module's
name (``helpers.clean``), installed packages, and objects that can only be told apart by where they are in memory.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dspex_lab
from dspex_lab.pipelines._cache_key import NoKey, Same, form
from dspex_lab.pipelines._fields import Shape, type_name
from dspex_lab.pipelines._modules import is_dspy_module
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Operation, Step
from dspex_lab.signatures import Signature

#: How deep objects are looked into.
DEPTH = 8
#: Settings of a model that do not change what it answers, or are secrets.
_UNTOLD = frozenset({"api_key", "api_base", "base_url", "cache", "num_retries", "headers", "extra_headers", "timeout"})
#: Attributes of a DSPy module that say nothing about its work, or are told in another way.
_NOT_WORK = frozenset({"history", "callbacks", "traces", "train", "stage", "_compiled", "signature", "demos", "lm"})
#: Where code stands that is not the user's own.
_INSTALLED = (
    "<frozen",
    str(Path(dspex_lab.__file__).parent),
    *{sysconfig.get_path(n) for n in ("stdlib", "purelib", "platlib")},
)


def fingerprint(item: Step, inputs: Mapping[str, Any], shape: Shape | None = None, model: Any = None) -> str | None:
    """Return what tells one piece of work from another: the step's code and settings, its inputs, and the model.

    Args:
        shape: the fields it takes and gives; other types are other work.
        model: the model that answers, where it asks one.

    Returns:
        None where an input has no form to compare by.
    """
    return joined(work_of(item, shape), inputs, model)


def joined(work: Hashable, inputs: Mapping[str, Any], model: Any = None) -> str | None:
    """Return the text for what :func:`work_of` gave, on these inputs."""
    try:
        given = _stable(form(dict(inputs)))
    except NoKey:
        return None
    return hashlib.sha256(repr((work, given, _model(model))).encode("utf-8", "surrogatepass")).hexdigest()


def work_of(item: Step, shape: Shape | None = None) -> Hashable:
    """Return what the step does, without its inputs."""
    types_of = () if shape is None else tuple((n, type_name(f.type)) for n, f in {**shape.inputs, **shape.outputs}.items())
    return (_told(item, DEPTH, frozenset()), types_of)


def _told(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    """Return ``value`` as nested tuples of plain values, equal in each process where the value is."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value) if type(value) in (type(None), bool, int, float, str, bytes) else (_named(value), repr(value))
    if depth <= 0 or id(value) in seen:
        return _named(value)
    seen |= {id(value)}
    for kinds, teller in _TELLERS:
        if isinstance(value, kinds):
            told: Hashable = teller(value, depth - 1, seen)
            return told
    if is_dspy_module(value):
        return _module(value, depth - 1, seen)
    return _object(value, depth - 1, seen)


def _object(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    """Return an object by its class and what it holds; of one that is not the user's and cannot be compared, the class."""
    kind = type(value)
    if hasattr(kind, "update_history"):
        return _model(value)
    if hasattr(kind, "cache_token"):
        return (_named(kind), _told(value.cache_token(), depth, seen))
    if not _is_own(kind.__module__) and not kind.__module__.startswith("dspex_lab."):
        return _compared(value)
    held = {**getattr(value, "__dict__", {}), **{n: getattr(value, n, None) for n in _slots(kind)}}
    return (_told(kind, depth, seen), *[(n, _told(v, depth, seen)) for n, v in sorted(held.items())])


def _compared(value: Any) -> Hashable:
    """Return the form of a value of a library (an array, a date, a Pydantic model), its class where it has none."""
    if isinstance(value, types.ModuleType) or type(value).__module__ in ("_thread", "threading", "logging", "weakref"):
        return _named(value)
    try:
        return (_named(value), _stable(form(value)))
    except NoKey:
        return _named(value)


def _step(item: Step, depth: int, seen: frozenset[int]) -> Hashable:
    # Steps within steps are as deep as the user wrote them.
    return (item.kind, _told(item.target, DEPTH, seen), _told(item.lm, depth, seen), item.outputs, item.name)


def _pipeline(value: Pipeline, depth: int, seen: frozenset[int]) -> Hashable:
    steps = tuple((name, _told(item, DEPTH, seen), item.replaces) for name, item in value.steps.items())
    return (steps, _told(value.defaults, depth, seen))


def _operation(value: Operation, depth: int, seen: frozenset[int]) -> Hashable:
    demos = tuple(_told(dict(demo), depth, seen) for demo in value.demos)
    return (value.name, str(value.signature), demos, _told(value.config, depth, seen))


def _function(value: types.FunctionType, depth: int, seen: frozenset[int]) -> Hashable:
    if not _is_own_file(value.__code__.co_filename):
        return _named(value)
    held: list[Hashable] = []
    for cell in value.__closure__ or ():
        try:
            held.append(_used(cell.cell_contents, depth, seen))
        except ValueError:  # not filled yet
            held.append(None)
    read, written = _globals(value.__code__)
    for name in sorted(read - written):
        if name in value.__globals__:
            held.append((name, _used(value.__globals__[name], depth, seen)))
    defaults = _used((value.__defaults__, tuple((value.__kwdefaults__ or {}).items())), depth, seen)
    return (value.__qualname__, _code(value.__code__), defaults, tuple(held))


def _used(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    """Return what a function uses by name: what it can change on the way (a list, a counter) only by its class."""
    if isinstance(value, tuple):
        return tuple(_used(v, depth, seen) for v in value)
    plain = value is None or isinstance(value, bool | int | float | str | bytes | enum.Enum)
    code = isinstance(value, type | types.FunctionType | types.MethodType | functools.partial | Step | Pipeline | Operation)
    return _told(value, depth, seen) if plain or code or is_dspy_module(value) else _named(value)


@functools.lru_cache(maxsize=1024)
def _globals(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the global names that code reads, and those it writes."""
    read, written = set[str](), set[str]()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            written.add(instruction.argval)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            inner = _globals(const)
            read |= inner[0]
            written |= inner[1]
    return frozenset(read), frozenset(written)


def _code(code: types.CodeType) -> Hashable:
    consts = tuple(_code(c) if isinstance(c, types.CodeType) else _stable(form(c)) for c in code.co_consts)
    return (code.co_code.hex(), consts, code.co_names, code.co_varnames, code.co_freevars)


def _class(value: type, depth: int, seen: frozenset[int]) -> Hashable:
    """Return a class: of the user's own its functions, of a signature its fields, of any other its name."""
    if hasattr(value, "input_fields"):
        return _contract(value)
    if not _is_own(value.__module__):
        return _named(value)
    members: list[tuple[str, Hashable]] = []
    for name, member in sorted(vars(value).items()):
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        elif isinstance(member, property):
            member = member.fget
        if isinstance(member, types.FunctionType):
            members.append((name, _told(member, depth, seen)))
    fields = getattr(value, "__annotations__", {})
    bases = tuple(_told(base, depth, seen) for base in value.__bases__)
    return (_named(value), bases, tuple(members), tuple((n, str(t)) for n, t in fields.items()))


def _contract(value: Any) -> Hashable:
    """Return what a ``dspy.Signature`` says: its instructions and its fields in order, with types and descriptions."""
    fields = [
        (n, type_name(f.annotation), str((f.json_schema_extra or {}).get("desc")), f.json_schema_extra.get("__dspy_field_type"))
        for n, f in value.fields.items()
    ]
    return (value.instructions, tuple(fields))


def _module(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    found: list[Hashable] = []
    for name, part in value.named_sub_modules():
        kept = {n: v for n, v in vars(part).items() if n not in _NOT_WORK and not is_dspy_module(v)}
        demos = tuple(_told(dict(d), depth, seen) for d in getattr(part, "demos", ()))
        own = (_told(type(part), depth, seen), demos, _told(getattr(part, "lm", None), depth, seen))
        contract = getattr(part, "signature", None)
        written = _contract(contract) if isinstance(contract, type) and hasattr(contract, "input_fields") else None
        found.append((name, own, written, *[(n, _told(v, depth, seen)) for n, v in sorted(kept.items())]))
    return tuple(found)


def _model(lm: Any) -> Hashable:
    """Return a model by its name and settings; no secret, no address."""
    if lm is None or isinstance(lm, str):
        return lm
    settings = {k: v for k, v in (getattr(lm, "kwargs", None) or {}).items() if k not in _UNTOLD}
    return (str(getattr(lm, "model", _named(lm))), *sorted((k, repr(_compared(v))) for k, v in settings.items()))


def _sequence(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    return (type(value).__name__, *[_told(v, depth, seen) for v in value])


def _set(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    return (type(value).__name__, *sorted(repr(_told(v, depth, seen)) for v in value))


def _dict(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    return (type(value).__name__, *[(_told(k, depth, seen), _told(v, depth, seen)) for k, v in value.items()])


def _method(value: types.MethodType, depth: int, seen: frozenset[int]) -> Hashable:
    return (_told(value.__func__, depth, seen), _told(value.__self__, depth, seen))


def _partial(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    return ("partial", *[_told(v, depth, seen) for v in (value.func, value.args, value.keywords)])


def _builtin(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    owner = value.__self__
    bound = None if owner is None or isinstance(owner, types.ModuleType) else _told(owner, depth, seen)
    return (_named(value), bound)


def _text(value: Any, depth: int, seen: frozenset[int]) -> Hashable:
    return (_named(type(value)), str(value))


def _enum(value: enum.Enum, depth: int, seen: frozenset[int]) -> Hashable:
    return (_named(type(value)), value.name)


#: How each kind of value is told; the first that fits counts.
_TELLERS: tuple[tuple[Any, Any], ...] = (
    (Step, _step),
    (Pipeline, _pipeline),
    (Operation, _operation),
    (Signature, _text),
    (enum.Enum, _enum),
    (types.FunctionType, _function),
    (types.MethodType, _method),
    (types.BuiltinFunctionType, _builtin),
    (types.GenericAlias, _text),
    (functools.partial, _partial),
    (type, _class),
    (list | tuple, _sequence),
    (set | frozenset, _set),
    (dict, _dict),
)


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        yield from (n for n in ((slots,) if isinstance(slots, str) else slots) if n not in ("__weakref__", "__dict__"))


@functools.lru_cache(maxsize=1024)
def _is_own(module: str) -> bool:
    """Say whether a class of this module is the user's own: of a notebook or script, or of a file nobody installed."""
    if module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and _is_own_file(file)


def _is_own_file(name: str) -> bool:
    """Say whether code from this file (a cell's name is one too) is the user's own."""
    return not name.startswith(_INSTALLED)


def _named(value: Any) -> str:
    """Return the name of a class or function, of anything else that of its class."""
    kind = value if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _stable(value: Hashable) -> Any:
    """Return a form without what differs from process to process: identities, and the order of sets."""
    if isinstance(value, Same):
        return _told(value.it, DEPTH, frozenset())
    if isinstance(value, tuple):
        return tuple(_stable(v) for v in value)
    if isinstance(value, frozenset):
        return ("set", *sorted(repr(_stable(v)) for v in value))
    return _named(value) if isinstance(value, type) else value
