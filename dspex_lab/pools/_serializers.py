"""How objects of a type travel, where pickling them as they are would not do: what users register, and what is left behind."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from dspex_lab.errors import ConfigurationError

T = TypeVar("T")

#: Gives what ``__reduce_ex__`` would, or NotImplemented for the usual way.
Reducer: TypeAlias = Callable[[Any], Any]

#: What pickle writes without asking anybody.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, type, object)

#: Types whose way is remembered at once; notebooks make new ones with every run of a cell.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Serializer:
    """How objects of a type travel, in both directions: as what ``to_worker`` makes of them, rebuilt by ``from_worker``."""

    type: type
    to_worker: Callable[[Any], Any]
    from_worker: Callable[[Any], Any]

    def reduce(self, value: Any) -> tuple[Any, ...]:
        return self.from_worker, (self.to_worker(value),)


class Registry:
    """What is known of types: serialisers by type, and attributes that stay behind and reducers by the type's full name, so
    that its package need not be loaded. Thread-safe; looking up takes no lock.
    """

    def __init__(self) -> None:
        self.serializers: dict[type, Serializer] = {}
        self._behind: dict[str, dict[str, Callable[[], Any]]] = {}
        self._reducers: dict[str, Reducer] = {}
        self._known: dict[type, Reducer | None] = {}
        self._lock = threading.Lock()
        self._packed: tuple[bytes, str] | None = None
        self._adopted = ""

    def find(self, kind: type) -> Reducer | None:
        """Return how objects of a type travel, None for the usual way."""
        try:
            return self._known[kind]
        except KeyError:
            return self._look(kind)

    def _look(self, kind: type) -> Reducer | None:
        with self._lock:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[kind] = found = self._found(kind)
        return found

    def _found(self, kind: type) -> Reducer | None:
        if issubclass(kind, types.ModuleType) and kind is not types.ModuleType:
            return _module
        behind: dict[str, Callable[[], Any]] = {}
        for base in kind.__mro__:
            if base in self.serializers:
                return self.serializers[base].reduce
            name = f"{base.__module__}.{base.__qualname__}"
            if base is kind and name in self._reducers:
                return self._reducers[name]
            behind = self._behind.get(name, {}) | behind
        return _leaving(behind) if behind else None

    def adopt(self, packed: tuple[bytes, str]) -> None:
        """Take over what :meth:`packed` gave elsewhere; a type's serialiser takes the place of one that is here."""
        data, digest = packed
        if digest in ("", self._adopted) or (self._packed is not None and digest == self._packed[1]):
            return
        serializers: list[Serializer] = pickle.loads(data)  # noqa: S301 - from the kernel, over TLS
        with self._lock:
            self.serializers |= {serializer.type: serializer for serializer in serializers}
            self._forget()
            self._adopted = digest

    def register(self, serializer: Serializer) -> None:
        """Add a serialiser for a type that has none.

        Raises:
            ConfigurationError: it has one, other than an earlier version of this (a cell that was run again).
        """
        with self._lock:
            present = self.serializers.get(serializer.type)
            if present is not None and _origin(present) != _origin(serializer):
                name = serializer.type.__qualname__
                raise ConfigurationError(
                    f"{name} has a serialiser: {_origin(present)[0]} and {_origin(present)[1]}.",
                    key=f"register_serializer({name})",
                    expected="a type without a serialiser of its own",
                    actual=_origin(serializer),
                    hint="Register a subclass, or call unregister_serializer first.",
                )
            self.serializers[serializer.type] = serializer
            self._forget()

    def unregister(self, kind: type) -> None:
        """Remove the serialiser of a type, if it has one."""
        with self._lock:
            self.serializers.pop(kind, None)
            self._forget()

    def leave_behind(self, name: str, attributes: dict[str, Callable[[], Any]]) -> None:
        """See :func:`leave_behind`."""
        with self._lock:
            self._behind[name] = {**self._behind.get(name, {}), **attributes}
            self._known.clear()

    def reduces(self, *names: str) -> Callable[[Reducer], Reducer]:
        """Decorate the reducer of exactly the types of these full names."""

        def added(reducer: Reducer) -> Reducer:
            with self._lock:
                self._reducers |= dict.fromkeys(names, reducer)
                self._known.clear()
            return reducer

        return added

    def packed(self, dumps: Callable[[Any], bytes]) -> tuple[bytes, str]:
        """Return the serialisers, pickled, and a digest of them; empty where there are none. Pickled once."""
        packed = self._packed
        if packed is None:
            with self._lock:
                serializers = list(self.serializers.values())
            data = dumps(serializers) if serializers else b""
            packed = data, hashlib.blake2b(data, digest_size=8).hexdigest() if data else ""
            with self._lock:
                if serializers == list(self.serializers.values()):  # else one was registered meanwhile
                    self._packed = packed
        return packed

    def _forget(self) -> None:
        self._known.clear()
        self._packed, self._adopted = None, ""


def _origin(serializer: Serializer) -> list[str]:
    functions = (serializer.to_worker, serializer.from_worker)
    return [f"{getattr(f, '__module__', '')}.{getattr(f, '__qualname__', type(f).__qualname__)}" for f in functions]


def _module(module: types.ModuleType) -> tuple[Any, ...]:
    """One that is imported when first used (as DSPy's and transformers' are) travels by name, as a plain module does."""
    return importlib.import_module, (module.__name__,)


def _leaving(behind: dict[str, Callable[[], Any]]) -> Reducer:
    """Return the reducer that travels with these attributes empty."""

    def reduce(value: Any) -> Any:
        made = value.__reduce_ex__(5)
        if not isinstance(made, tuple) or len(made) < 3 or not isinstance(made[2], dict):
            return NotImplemented
        state = {k: behind[k]() if k in behind else v for k, v in made[2].items()}
        return *made[:2], state, *made[3:]

    return reduce


#: What this process knows of types.
REGISTRY = Registry()


def register_serializer(type: type[T], *, to_worker: Callable[[T], Any], from_worker: Callable[[Any], T]) -> None:  # noqa: A002
    """Say how objects of a type travel between the kernel and its workers, as arguments, in closures and as results.

    It holds for subclasses too, unless one has a serialiser of its own: the nearest in the method resolution order is taken.
    Workers know it from the next call on; in a worker, the same two functions bring the object back.

    Args:
        type: a class; not one of Python's own simple ones, which travel as they are.
        to_worker: makes of an object something that can be pickled. It must not contain the object itself.
        from_worker: makes an object of that. It travels along, so it may be a function of a notebook.

    Raises:
        ConfigurationError: the type has a serialiser, or cannot have one. Running the same cell again is no error.
    """
    if not isinstance(type, _type) or type in _PLAIN:
        raise ConfigurationError(
            f"{type!r} cannot have a serialiser of its own.",
            key="register_serializer",
            expected="a class, other than Python's own simple ones",
            actual=type,
            hint="Register the class of the objects, or a subclass of what they are.",
        )
    for name, function in (("to_worker", to_worker), ("from_worker", from_worker)):
        if not callable(function):
            raise ConfigurationError(
                f"{name} of {type.__qualname__} is {function!r}.",
                key=name,
                expected="a function of one argument",
                actual=function,
            )
    REGISTRY.register(Serializer(type, to_worker, from_worker))


def unregister_serializer(type: type[Any]) -> None:  # noqa: A002
    """Forget how objects of a type travel; nothing happens where nothing was said."""
    REGISTRY.unregister(type)


def leave_behind(name: str, **attributes: Callable[[], Any]) -> None:
    """Say that objects of a type, and of its subclasses, travel without some of their attributes, in both directions.

    Unlike a serialiser it changes nothing else in how they are pickled. It does not travel to workers: call it in a module
    that they load too.

    Args:
        name: the type's full name (``package.module.Class``); the package need not be loaded.
        attributes: what each of these becomes: ``history=list`` is an empty list.
    """
    REGISTRY.leave_behind(name, attributes)


#: Decorates the reducer of exactly the types of these full names, in a module that workers load too.
reduces = REGISTRY.reduces

_type = type
