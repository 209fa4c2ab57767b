"""Which part of a value cannot travel, said as one would write it in Python."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

from dspex_lab.errors import Unserialisable
from dspex_lab.pools import _frames
from dspex_lab.pools._serializers import REGISTRY
from dspex_lab.security import redact

_DEPTH = 32
#: Letters of a key or a member of a set in a path.
_LONGEST = 60


def name_of(function: Callable[..., Any]) -> str:
    """Return what people call this callable."""
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__name__", None) or type(inner).__name__)


def roots_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """Return the callable and its arguments, each under the name that it has: ``find_orders``, ``config``, ``args[1]``."""
    names: list[str] = []
    try:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                break
            names.append(parameter.name)
    except (TypeError, ValueError):  # some built-in ones have none
        names = []
    rest = (f"args[{i}]" for i in range(len(arguments)))
    named = [names[i] if i < len(names) else other for i, other in enumerate(rest)]
    return [(name_of(function), function), *zip(named, arguments, strict=True)]


def find_culprit(roots: list[tuple[str, Any]]) -> tuple[str, Any]:
    """Return the path to the innermost part that cannot be pickled, and that part.

    A path begins with the name of a root and reads as Python: ``config.client.lock``, ``orders['new'][0]._lock``. What
    Python has no simple way to write is in angle brackets: ``find_orders.<closure client>._lock``, ``.<global …>``,
    ``.<default …>``. Costs a pickling for each part beside the path.
    """
    path = ""
    value: Any = None
    parts: Iterator[tuple[str, Any]] = iter(roots)
    seen: set[int] = set()
    for _ in range(_DEPTH):
        for step, part in parts:
            if id(part) not in seen and not _travels(part):
                path += step
                value, parts = part, _parts(part)
                seen.add(id(part))
                break
        else:
            break
    return (path, value) if path else roots[0]


def unserialisable(
    path: str,
    kind: str,
    why: str,
    *,
    what: str,
    pool: str | None = None,
    label: str | None = None,
    worker: str | None = None,
    back: bool = False,
) -> Unserialisable:
    """Return the error for a part (``path``, of type ``kind``) that cannot travel.

    Args:
        what: what it is a part of.
        back: whether it was on its way from a worker.
    """
    place = f" pool {pool!r}" if pool else " its worker"
    hint = "Return what it was made from." if back else "Make it inside the function, or pass what it is made from"
    if kind in ("generator", "async_generator") and back:
        hint = "Call it with pool.stream(…) or on_chunk=…, or return a list."
    elif not back:
        hint += ", or say how it travels: dx.register_serializer."
    error = Unserialisable(
        f"{what} cannot {'come back from' if back else 'be sent to'}{place}: {path} is a {kind} ({why.rstrip('.')}).",
        pool=pool,
        worker=worker,
        task=label,
        hint=hint,
    )
    error.path = path
    return error


def unserialisable_part(what: str, roots: list[tuple[str, Any]], error: Exception, **where: Any) -> Unserialisable:
    """Return the error for the part of ``roots`` that cannot travel, as ``error`` showed."""
    path, part = find_culprit(roots)
    return unserialisable(path, type(part).__name__, redact(str(error)), what=what, **where)


def _travels(value: Any) -> bool:
    try:
        _frames.pack(value)
    except Exception:
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value is made of, with how to say it; nothing of what has a serialiser, or a reducer that refused it, which
    alone know."""
    if any(kind in REGISTRY.serializers for kind in type(value).__mro__) or _refused(value):
        return
    if isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args[{i}]", a) for i, a in enumerate(value.args))
        yield from ((f".keywords[{_short(k)}]", a) for k, a in value.keywords.items())
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, type):
        yield from ((f".{name}", part) for name, part in vars(value).items() if name not in ("__dict__", "__weakref__"))
    elif isinstance(value, dict):
        yield from ((f".<key {_short(k)}>", k) for k in value)
        yield from ((f"[{_short(k)}]", v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", v) for i, v in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f".<member {_short(v)}>", v) for v in value)
    yield from _attributes(value)


def _refused(value: Any) -> bool:
    reducer = REGISTRY.find(type(value))
    if reducer is None:
        return False
    try:
        reducer(value)
    except Exception:
        return True
    return False


def _short(key: Any) -> str:
    """Return how a key is written. It may be long, and hold what nobody should read in an error: the settings of a model."""
    if isinstance(key, str | bytes | int | float | complex | None):
        text = redact(repr(key))
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f"a {type(key).__name__}"


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in an object, without asking its properties."""
    if isinstance(value, type | types.FunctionType | types.MethodType | functools.partial):
        return
    yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items() if isinstance(name, str))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            name = f"_{kind.__name__.lstrip('_')}{slot}" if slot.startswith("__") and not slot.endswith("__") else slot
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".<closure {name}>", cell.cell_contents
        except ValueError:  # a closure over a name not yet bound
            continue
    defaults = function.__defaults__ or ()
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    yield from ((f".<default {n}>", d) for n, d in zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    yield from ((f".<default {n}>", d) for n, d in (function.__kwdefaults__ or {}).items())
    names = set(_names(function.__code__))
    yield from ((f".<global {n}>", v) for n, v in function.__globals__.items() if n in names)
    if (wrapped := getattr(function, "__wrapped__", None)) is not None:
        yield ".__wrapped__", wrapped


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
