"""Where the names of types are looked up: never by importing what is not known to be harmless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Protocol

from ._types import BUILTINS, TYPING, known_module, why_no_type

#: What a lookup returns for a name that means nothing.
NOT_FOUND: Any = object()

#: How many frames above the caller are looked into for a type; DSPy looks into as many.
MAX_FRAMES = 100


class Namespace(Protocol):
    """Where names are looked up.

    ``get`` returns the object of that name or :data:`NOT_FOUND`; ``near`` only the nearest names, where those cannot be
    meant to be found far away; ``names`` lists the names there are, for suggestions.
    """

    def get(self, name: str) -> Any: ...

    def near(self, name: str) -> Any: ...

    def names(self) -> Iterator[str]: ...


class MappingNamespace:
    """The names of a mapping, such as the variables of a notebook."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self._mapping = mapping

    def get(self, name: str) -> Any:
        return self._mapping.get(name, NOT_FOUND)

    near = get

    def names(self) -> Iterator[str]:
        return (name for name, value in list(self._mapping.items()) if isinstance(value, type))


class FrameNamespace:
    """The names a caller sees: its locals and globals, then those of its callers up to the one at module level.

    DSPy looks the same way. Frames of this package are passed over, and what lies above the module that called (the
    notebook's own machinery) is not looked into.
    """

    def __init__(self, frame: FrameType | None) -> None:
        while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "dspex_lab":
            frame = frame.f_back
        self._frame = frame
        # Taken once: each look at a function's "f_locals" copies all its variables.
        self._near: tuple[Mapping[str, Any], ...] = () if frame is None else (frame.f_locals, frame.f_globals)

    def near(self, name: str) -> Any:
        for scope in self._near:
            if name in scope:
                return scope[name]
        return NOT_FOUND

    def get(self, name: str) -> Any:
        value = self.near(name)
        if value is not NOT_FOUND:
            return value
        for frame in self._frames():
            for scope in (frame.f_locals, frame.f_globals):
                if name in scope:
                    return scope[name]
        return NOT_FOUND

    def names(self) -> Iterator[str]:
        for frame in self._frames():
            for scope in (frame.f_locals, frame.f_globals):
                yield from [name for name, value in list(scope.items()) if isinstance(value, type)]

    def _frames(self) -> Iterator[FrameType]:
        frame = self._frame
        for _ in range(MAX_FRAMES):
            if frame is None:
                return
            yield frame
            if frame.f_locals is frame.f_globals:
                return
            frame = frame.f_back


def find(path: str, namespace: Namespace) -> Any:
    """Return what a dotted name means, or :data:`NOT_FOUND`.

    The namespace comes first, as names do in Python, as far as it holds a type (or a module or class that leads to one);
    then the built-in types and those of ``typing``; then, for a dotted name, ``dspy`` and a few standard modules.
    """
    root, _, rest = path.partition(".")
    always = BUILTINS.get(root, TYPING.get(root, NOT_FOUND))
    value = namespace.get(root) if always is NOT_FOUND else namespace.near(root)
    found = NOT_FOUND if value is NOT_FOUND else _follow(value, rest)
    if found is not NOT_FOUND and why_no_type(found) is None:
        return found
    if not rest:
        return value if always is NOT_FOUND else always
    module = known_module(root)
    # "datetime.date" leads to a method where the namespace has the class "datetime", and is meant as the type in the module.
    known = _follow(always if module is None else module, rest) if module is not None or always is not NOT_FOUND else NOT_FOUND
    return known if found is NOT_FOUND or (known is not NOT_FOUND and why_no_type(known) is None) else found


def still_means(path: str, meaning: Any, namespace: Namespace) -> bool:
    """Whether ``find(path, namespace)`` is ``meaning``, which it was before; quicker than asking that."""
    if "." not in path:
        always = BUILTINS.get(path) or TYPING.get(path)
        value = namespace.get(path) if always is None else namespace.near(path)
        if value is meaning:
            return True
        if value is NOT_FOUND:
            return always is meaning
    return find(path, namespace) is meaning


def _follow(value: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        if part.startswith("_"):
            return NOT_FOUND
        value = getattr(value, part, NOT_FOUND)
    return value
