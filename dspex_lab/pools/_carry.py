"""A call on its way to a worker, and what comes of it on its way back: packed here, and named here where it fails.

Everything goes through cloudpickle (:mod:`_frames`), so notebook functions, lambdas and classes travel by value.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import GpuOutOfMemory, OutOfMemory, PoolError, TaskImportError
from dspex_lab.pools import _frames
from dspex_lab.pools._culprit import find_culprit, name_of, roots_of, unserialisable, unserialisable_part
from dspex_lab.pools._serializers import REGISTRY
from dspex_lab.pools._sources import sources_of
from dspex_lab.pools._task import TaskCancelled
from dspex_lab.pools._wire import Call, Code, Kind, Packed, Reply

log = logging.getLogger("dspex_lab")

_HERE = __file__.rsplit("/", 1)[0]

__all__ = ["Parcel", "decode", "encode", "encode_error", "name_of", "pack", "said", "unpack", "user_traceback"]


@dataclass(slots=True)
class Parcel:
    """A callable with its arguments, packed. ``digest`` names all that ``code`` holds, so that a worker that has it need not
    be sent it again."""

    digest: str
    code: Code
    arguments: Packed
    label: str

    def call(self, call_id: str, *, send: bool, streams: bool = False, cpu: float | None = None) -> Call:
        """Return it as it is sent to a worker; ``send``: with the callable."""
        return Call(call_id, self.digest, self.code if send else None, self.arguments, self.label, streams, cpu)


def pack(function: Callable[..., Any], arguments: tuple[Any, ...], *, pool: str, label: str | None = None) -> Parcel:
    """Pack a call.

    The callable is pickled anew for every call: what it refers to (a variable of the notebook, a closure) may have
    changed since. Only its sending is spared. Large arrays among the arguments are not copied: they must not change until
    the call has its answer.

    Raises:
        Unserialisable: a part of the callable or of an argument cannot travel; the error names the part.
    """
    label = label or name_of(function)
    defined: list[Any] = []
    try:
        code = _frames.dumps(function, defined)
        values = _frames.pack(arguments, defined)
        serializers = REGISTRY.packed(_frames.dumps)
    except MemoryError:
        raise
    except Exception as error:
        raise unserialisable_part(label, roots_of(function, arguments), error, pool=pool, label=label) from error
    if values.note:
        log.warning("%s for pool %r: %s.", label, pool, values.note)
    sources, classes = sources_of(defined) if defined else ({}, {})
    digest = hashlib.blake2b(code, digest_size=16)
    for part in (serializers[1], *sources, *classes):
        digest.update(part.encode("utf-8", "replace"))
    return Parcel(digest.hexdigest(), Code(code, _folders(tuple(sys.path)), sources, classes, serializers), values, label)


@functools.lru_cache(maxsize=8)
def _folders(path: tuple[str, ...]) -> list[str]:
    return [os.path.abspath(entry) for entry in path]


# ---- in the worker -------------------------------------------------------------------------------------------------


def encode(value: Any) -> Reply:
    """Pack a result, or say which part of it cannot travel."""
    try:
        return Reply("value", _frames.pack(value))
    except MemoryError:
        raise
    except Exception as error:
        path, part = find_culprit([("result", value)])
        return said("unserialisable", path, type(part).__name__, str(error))


def encode_error(error: BaseException) -> Reply:
    """Pack an exception with its traceback as text; one that does not survive the journey goes as its text only."""
    text = user_traceback(error)
    if isinstance(error, TaskCancelled):
        return said("cancelled", str(error), text)
    # Torch says so with an error of its own.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return said("memory", str(error), text)
    if _is_gpu_memory(error):
        return said("gpu_memory", str(error), text)
    if isinstance(error, Exception):
        try:
            packed = _frames.dumps(error)
            if type(pickle.loads(packed)).__name__ == type(error).__name__:  # noqa: S301 - packed a line above
                return said("error", packed, type(error).__name__, str(error), text)
        except Exception:
            log.debug("%s cannot travel, its text does", type(error).__name__, exc_info=True)
    return said("opaque", type(error).__name__, str(error), text)


def encode_unloadable(error: Exception) -> Reply:
    """Say that a callable or its arguments could not be loaded here."""
    text = user_traceback(error)
    if isinstance(error, ImportError):
        return said("import", error.name or "", f"{type(error).__name__}: {error}", text)
    return said("unloadable", f"{type(error).__name__}: {error}", text)


def said(kind: Kind, *parts: str | bytes) -> Reply:
    """Return a reply of another kind than a value, with what is to be said of it."""
    data = pickle.dumps(parts)
    return Reply(kind, Packed(data, size=len(data)))


def user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without this room's own frames at its top."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _is_gpu_memory(error: BaseException) -> bool:
    """Whether a GPU's memory ran out. torch has a class for it (torch.OutOfMemoryError), and says it by a plain RuntimeError
    where a library below it failed (cuBLAS, cuDNN); CuPy's is a MemoryError of its own and comes before."""
    if type(error).__name__ == "OutOfMemoryError" and type(error).__module__.split(".")[0] in ("torch", "cupy"):
        return True
    signs = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "HIP out of memory")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


# ---- in the kernel -------------------------------------------------------------------------------------------------


def decode(reply: Reply, *, pool: str, worker: str, label: str) -> Any:
    """Return the result that a worker sent, or raise what it sent.

    An exception of the callable is raised as itself, with the worker's traceback as a note (``__notes__``). One that
    cannot be rebuilt here, and ``SystemExit`` and its like, are raised as :class:`PoolError`.

    Raises:
        TaskImportError: the worker lacks a module: to load the call, or, in the function itself, one that can be imported
            here. A
            function that looks for what is nowhere gets its own ImportError.
        OutOfMemory, GpuOutOfMemory, Unserialisable, PoolError: as they say.
    """
    if reply.kind == "value":
        if reply.body.note:
            log.warning("The result of %s from pool %r: %s.", label, pool, reply.body.note)
        return unpack(reply.body, pool=pool, worker=worker, label=label)
    parts = pickle.loads(reply.body.head)  # noqa: S301 - from our own worker, over TLS
    if reply.kind == "error":
        raise _rebuilt(*parts, pool=pool, worker=worker, label=label)
    raise _named(reply.kind, parts, pool=pool, worker=worker, label=label)


def unpack(packed: Packed, *, pool: str, worker: str, label: str) -> Any:
    """Return a value that a worker sent.

    Raises:
        PoolError: it cannot be loaded here.
    """
    try:
        return _frames.unpack(packed)
    except Exception as error:
        raise PoolError(
            f"What {label} sent from pool {pool!r} came and could not be loaded: {type(error).__name__}: {error}.",
            pool=pool,
            worker=worker,
            task=label,
            hint="Send plain values, or objects whose class can be imported here.",
        ) from error


def _rebuilt(packed: bytes, kind: str, message: str, text: str, *, pool: str, worker: str, label: str) -> Exception:
    where = {"pool": pool, "worker": worker, "label": label}
    try:
        error: Exception = pickle.loads(packed)  # noqa: S301
    except Exception:
        return _named("opaque", (kind, message, text), **where)
    if isinstance(error, ModuleNotFoundError) and error.name and _is_here(error.name):
        return _named("import", (error.name, f"{kind}: {message}", text), **where)
    error.add_note(f"In worker {worker} of pool {pool!r}:\n{text.rstrip()}")
    return error


def _is_here(module: str) -> bool:
    """Whether the kernel has a module that a worker lacks."""
    top = module.split(".")[0]
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _named(kind: Kind, parts: tuple[str, ...], *, pool: str, worker: str, label: str) -> PoolError:
    """Return the error for what a worker said."""
    if kind == "unserialisable":
        return unserialisable(*parts, what=f"The result of {label}", pool=pool, worker=worker, label=label, back=True)
    named, message, hint = _words(kind, parts, pool, f"worker {worker} of pool {pool!r}", label)
    return named(message, pool=pool, worker=worker, task=label, traceback=parts[-1], hint=hint)


def _words(kind: Kind, parts: tuple[str, ...], pool: str, place: str, label: str) -> tuple[type[PoolError], str, str | None]:
    """Return the class of the error, what it says and what is to be done."""
    if kind == "memory":
        setting = f"Work on smaller pieces, or set DSPEX_POOL_{pool.upper()}_MEMORY to more."
        return OutOfMemory, f"{label} needed more memory than {place} may have.", setting
    if kind == "gpu_memory":
        smaller = "Use smaller batches or a smaller model, or fewer workers on each GPU (workers_per_gpu)."
        return GpuOutOfMemory, f"{label} needed more memory of its GPU than {place} could get: {parts[0]}", smaller
    if kind == "import":
        module = f"module {parts[0]!r}" if parts[0] else "something"
        installed = "Install it where the workers run, put its folder on sys.path before the call, or send it along: "
        return (
            TaskImportError,
            f"{label} needs {module} that {place} cannot import: {parts[1]}.",
            f"{installed}cloudpickle.register_pickle_by_value(module).",
        )
    if kind == "unloadable":
        found = "What it is made of must be the same here and in the worker; restart the pool after a module was changed."
        return PoolError, f"{label} could not be loaded in {place}: {parts[0]}.", found
    if kind == "cancelled":
        return PoolError, f"{label} was asked to stop in {place}, and did.", None
    text = "The exception itself could not be carried home; .traceback has its text."
    return PoolError, f"{label} raised {parts[0]} in {place}: {parts[1]}", text
