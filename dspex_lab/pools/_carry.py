"""What travels between kernel and worker: packed callables and arguments, and what comes of them.

Everything goes through cloudpickle, so notebook functions, lambdas and classes travel by value.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import cloudpickle

from dspex_lab.errors import OutOfMemory, PoolError, Unserialisable

Kind: TypeAlias = Literal["value", "error", "opaque", "memory", "unserialisable", "unloadable", "missing"]
#: What a worker answers: what kind of thing, and its bytes.
Reply: TypeAlias = tuple[Kind, bytes]
#: A packed callable and the entries of the kernel's ``sys.path``: what it imports is found in the worker too.
Code: TypeAlias = tuple[bytes, list[str]]

_HERE = __file__.rsplit("/", 1)[0]
_DEPTH = 32


@dataclass(slots=True)
class Task:
    """One call, packed. ``digest`` names ``function``, so that a worker that has it need not be sent it again."""

    digest: str
    function: bytes
    arguments: bytes
    label: str
    timeout: float | None = None
    idempotent: bool = False
    tags: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> Code:
        """The callable as it is sent to a worker that has not got it."""
        return self.function, [os.path.abspath(entry) for entry in sys.path]


def name_of(function: Callable[..., Any]) -> str:
    """Return what people call this callable."""
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__name__", None) or type(inner).__name__)


def pack(function: Callable[..., Any], arguments: tuple[Any, ...], *, pool: str, label: str | None = None) -> Task:
    """Pack a call.

    The callable is pickled anew for every call: what it refers to (a variable of the notebook, a closure) may have
    changed since. Only its sending is spared.

    Raises:
        Unserialisable: a part of the callable or of an argument cannot travel; the error names the part.
    """
    label = label or name_of(function)
    try:
        code = cloudpickle.dumps(function)
        values = cloudpickle.dumps(arguments)
    except Exception as error:
        path, part = find_culprit([(name_of(function), function)] + [(f"argument {i}", a) for i, a in enumerate(arguments, 1)])
        raise unserialisable(path, type(part).__name__, str(error), pool=pool, label=label) from error
    return Task(hashlib.blake2b(code, digest_size=16).hexdigest(), code, values, label)


def unserialisable(path: str, kind: str, why: str, *, pool: str, label: str, worker: str | None = None) -> Unserialisable:
    """Return the error for a part (``path``, of type ``kind``) that cannot travel."""
    way = f"come back from pool {pool!r}" if worker else f"be sent to pool {pool!r}"
    error = Unserialisable(
        f"{label} cannot {way}: {path} is a {kind} ({why}).",
        pool=pool,
        worker=worker,
        hint="Return what it was made from." if worker else "Make it inside the function, or pass what it is made from.",
    )
    error.path = path
    return error


def find_culprit(roots: list[tuple[str, Any]]) -> tuple[str, Any]:
    """Return the path to the innermost part that cannot be pickled, such as ``"f → closure 'client' → attribute '_lock'"``,
    and that part. Costs a pickling for each part beside the path."""
    path: list[str] = []
    parts: Iterator[tuple[str, Any]] = iter(roots)
    value: Any = None
    seen: set[int] = set()
    for _ in range(_DEPTH):
        for label, part in parts:
            if id(part) not in seen and not _travels(part):
                path.append(label)
                value, parts = part, _parts(part)
                seen.add(id(part))
                break
        else:
            break
    return (" → ".join(path), value) if path else roots[0]


def _travels(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value is made of, with how to say it."""
    if isinstance(value, functools.partial):
        yield "the partial's function", value.func
        yield from ((f"the partial's argument {i}", a) for i, a in enumerate(value.args, 1))
        yield from ((f"the partial's argument {k!r}", a) for k, a in value.keywords.items())
    elif isinstance(value, types.MethodType):
        yield "its object", value.__self__
        yield "its function", value.__func__
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, dict):
        yield from ((f"[{k!r}]", v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", v) for i, v in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"member {v!r}", v) for v in value)
    else:
        names = list(getattr(value, "__dict__", {}))
        names += [s for c in type(value).__mro__ for s in _slots(c) if hasattr(value, s)]
        yield from ((f"attribute {n!r}", getattr(value, n)) for n in names if hasattr(value, n))


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"closure {name!r}", cell.cell_contents
        except ValueError:  # a closure over a name not yet bound
            continue
    yield from ((f"default {i}", d) for i, d in enumerate(function.__defaults__ or (), 1))
    yield from ((f"default {k!r}", d) for k, d in (function.__kwdefaults__ or {}).items())
    names = set(_names(function.__code__))
    yield from ((f"global {n!r}", v) for n, v in function.__globals__.items() if n in names)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


# ---- in the worker -------------------------------------------------------------------------------------------------


def encode(value: Any) -> Reply:
    """Pack a result, or say which part of it cannot travel."""
    try:
        return "value", cloudpickle.dumps(value)
    except MemoryError:
        raise
    except Exception as error:
        path, part = find_culprit([("the result", value)])
        return "unserialisable", pickle.dumps((path, type(part).__name__, str(error)))


def encode_error(error: BaseException) -> Reply:
    """Pack an exception with its traceback as text; one that does not survive the journey goes as its text only."""
    text = user_traceback(error)
    if isinstance(error, MemoryError):
        return "memory", pickle.dumps((str(error), text))
    if isinstance(error, Exception):
        try:
            packed = cloudpickle.dumps(error)
            if type(pickle.loads(packed)).__name__ == type(error).__name__:  # noqa: S301 - packed a line above
                return "error", pickle.dumps((packed, type(error).__name__, str(error), text))
        except Exception:  # noqa: S110 - an exception may do anything when (un)pickled; its text is sent instead
            pass
    return "opaque", pickle.dumps((type(error).__name__, str(error), text))


def user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without this room's own frames at its top."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


# ---- in the kernel -------------------------------------------------------------------------------------------------


def decode(reply: Reply, *, pool: str, worker: str, label: str) -> Any:
    """Return the result that a worker sent, or raise what it sent.

    An exception of the callable is raised as itself, with the worker's traceback as a note (``__notes__``). One that
    cannot be rebuilt here, and ``SystemExit`` and its like, are raised as :class:`PoolError`.
    """
    kind, payload = reply
    if kind == "value":
        try:
            return pickle.loads(payload)  # noqa: S301 - from our own worker, over TLS
        except Exception as error:
            raise PoolError(
                f"The result of {label} came back from pool {pool!r} and could not be loaded: {type(error).__name__}: {error}.",
                pool=pool,
                worker=worker,
                hint="Return plain values, or objects whose class can be imported here.",
            ) from error
    if kind == "error":
        raise _rebuilt(payload, pool=pool, worker=worker, label=label)
    raise _named(kind, pickle.loads(payload), pool=pool, worker=worker, label=label)  # noqa: S301


def _rebuilt(payload: bytes, *, pool: str, worker: str, label: str) -> Exception:
    packed, kind, message, text = pickle.loads(payload)  # noqa: S301
    try:
        error = pickle.loads(packed)  # noqa: S301
    except Exception:
        return _named("opaque", (kind, message, text), pool=pool, worker=worker, label=label)
    error.add_note(f"In worker {worker} of pool {pool!r}:\n{text.rstrip()}")
    return error


def _named(kind: Kind, parts: tuple[str, ...], *, pool: str, worker: str, label: str) -> PoolError:
    if kind == "unserialisable":
        return unserialisable(*parts, pool=pool, label=f"The result of {label}", worker=worker)
    text = parts[-1]
    if kind == "memory":
        return OutOfMemory(
            f"{label} needed more memory than worker {worker} of pool {pool!r} may have.",
            pool=pool,
            worker=worker,
            traceback=text,
            hint=f"Work on smaller pieces, or set DSPEX_POOL_{pool.upper()}_MEMORY to more.",
        )
    if kind == "unloadable":
        return PoolError(
            f"{label} could not be loaded in worker {worker} of pool {pool!r}: {parts[0]}.",
            pool=pool,
            worker=worker,
            traceback=text,
            hint="What it imports must be installed, or importable from a folder of sys.path.",
        )
    return PoolError(
        f"{label} raised {parts[0]} in worker {worker} of pool {pool!r}: {parts[1]}",
        pool=pool,
        worker=worker,
        traceback=text,
        hint="The exception itself could not be carried home; .traceback has its text.",
    )
