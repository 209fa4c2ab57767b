"""What a program is made of: its modules and retrievers, each once, also those that DSPy's own walks leave out."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.variables.expose._places import Place, dspy_class, is_predict

#: The attribute by which a module that was put in the place of another says which option it is.
CHOSEN = "dspex_choice"

#: Attributes of modules, and further ones of predictors, that hold no part of the program.
_OF_MODULES = frozenset({"callbacks", "history"})
_OF_PREDICT = _OF_MODULES | {"traces", "train", "demos", "lm", "config", "fields", "signature"}
#: What is no part, and holds none.
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


@dataclass(slots=True)
class Part:
    """A part of a program.

    Args:
        value: a module, or a retriever that is none.
        places: where it is; names come from the first.
        owner: the part that it is an attribute of; None for the program itself.
        frozen: it, or what it is in, was compiled: DSPy's optimizers leave it as it is.
    """

    value: Any
    places: list[Place]
    owner: Part | None
    frozen: bool
    inner: list[Part] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """Where it is, or is first."""
        return self.places[0]


def parts(program: Any) -> list[Part]:
    """Return the program and all parts of it, each once, in the order in which DSPy names predictors.

    Compiled sub-modules are among them, which ``named_predictors`` leaves out.
    """
    known: dict[int, Part] = {}
    _visit(program, Place(), None, False, known)
    return list(known.values())


def _visit(value: Any, place: Place, owner: Part | None, frozen: bool, known: dict[int, Part]) -> None:
    if id(value) in known:
        known[id(value)].places.append(place)
        return
    frozen = frozen or (owner is not None and bool(getattr(value, "_compiled", False)))
    part = known[id(value)] = Part(value, [place], owner, frozen)
    if owner is not None:
        owner.inner.append(part)
    if not is_module(value):
        return
    own = _OF_PREDICT if is_predict(value) else _OF_MODULES
    for name, held in vars(value).items():
        if name in own or type(held) in _PLAIN:
            continue
        if is_module(held):
            _visit(held, place.to("attr", name), part, frozen, known)
        elif isinstance(held, list | tuple | dict) or is_retriever(held):
            for where, found in _held(held, place.to("attr", name)):
                _visit(found, where, part, frozen, known)


def _held(value: Any, place: Place, depth: int = 4) -> Iterator[tuple[Place, Any]]:
    """Return the parts in an attribute: it itself, or those in a list, tuple or dict."""
    if is_module(value) or is_retriever(value):
        yield place, value
    elif depth and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _held(item, place.to("item", index), depth - 1)
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _held(item, place.to("key", key), depth - 1)


def holds_parts(value: Any) -> bool:
    """Say whether an attribute is a part of a program, or a container with one in it."""
    return any(True for _ in _held(value, Place()))


def is_module(value: Any) -> bool:
    """Say whether ``value`` is a ``dspy.Module``."""
    return isinstance(value, dspy_class("Module"))


def is_retriever(value: Any) -> bool:
    """Say whether ``value`` is one of DSPy's retrievers, which are no modules."""
    return isinstance(value, _retrievers())


@functools.cache
def _retrievers() -> tuple[type, ...]:
    return tuple(dspy_class(name) for name in ("KNN", "Embeddings", "Retrieve"))


def is_builtin(value: Any) -> bool:
    """Say whether a part is of one of DSPy's own classes, whose code relies on what it is made of."""
    return type(value).__module__.startswith("dspy.")
