"""Where something is in a program: the attributes, list items and dict keys on the way to it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import VariableError

#: One part of a way: ``("attr", name)``, ``("item", index)`` or ``("key", key)``.
Leg = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A way from a program to a part of it; it holds in every program of the same shape, also in another process."""

    legs: tuple[Leg, ...] = ()

    def to(self, kind: str, what: Any) -> Place:
        """Return the place one leg further on."""
        return Place((*self.legs, (kind, what)))

    @property
    def name(self) -> str:
        """The way as DSPy names predictors and expressions have it: ``stages[0].answer``; of the program itself ``""``."""
        text = ""
        for kind, what in self.legs:
            text += f".{what}" if kind == "attr" else f"[{what}]" if kind == "item" else f"[{str(what)!r}]"
        return text.lstrip(".")

    def find(self, program: Any, knob: str) -> Any:
        """Return what is there; ``knob`` is whose place it is, for the message.

        Raises:
            VariableError: the way leads nowhere any more.
        """
        found = program
        for kind, what in self.legs:
            try:
                found = vars(found)[what] if kind == "attr" else found[what]
            except (KeyError, IndexError, TypeError):
                if what == "predict" and is_predict(found):
                    continue  # a ChainOfThought, whose predictor this is, was exchanged for a bare Predict
                raise self.vanished(knob, found, kind, what) from None
        return found

    def vanished(self, knob: str, found: Any, kind: str = "attr", what: Any = None) -> VariableError:
        """Return the error for a part that is not there any more; ``found`` is what is there instead, or ends the way."""
        part = "" if what is None else f" no {what!r}" if kind == "attr" else f" no [{what!r}]"
        here = type(found).__name__
        return VariableError(
            f"The knob {knob!r} is not in the program any more: on the way to {self.name or 'it'} there is a {here} that has"
            f"{part or ' no such setting'}.",
            name=knob,
            hint="Put the part back as it was, or close this exposure and expose the program again.",
        )

    def put(self, program: Any, value: Any) -> None:
        """Put ``value`` there; a list, tuple or dict on the way is replaced by one with it, never changed itself.

        Of the program itself the class and the attributes are replaced: who holds it goes on holding it.
        """
        if not self.legs:
            become(program, value)
            return
        last = max(i for i, (kind, _) in enumerate(self.legs) if kind == "attr")
        owner = Place(self.legs[:last]).find(program, self.name)
        name = self.legs[last][1]
        vars(owner)[name] = _with(vars(owner)[name], self.legs[last + 1 :], value)


def _with(held: Any, legs: tuple[Leg, ...], value: Any) -> Any:
    if not legs:
        return value
    (_, what), rest = legs[0], legs[1:]
    if isinstance(held, Mapping):
        return {**held, what: _with(held[what], rest, value)}
    changed = [_with(v, rest, value) if i == what else v for i, v in enumerate(held)]
    return tuple(changed) if isinstance(held, tuple) else changed


#: What stays with an object that becomes another: who watches it, and what it was asked.
_OWN = ("callbacks", "history")


def become(program: Any, other: Any) -> None:
    """Let ``program`` be of the class of ``other`` and hold what that holds."""
    kept = {n: vars(program)[n] for n in _OWN if n in vars(program)}
    program.__class__ = type(other)
    held = {**vars(other), **kept}
    vars(program).clear()
    vars(program).update(held)


@functools.cache
def dspy_class(name: str) -> Any:
    """Return a class of DSPy; asked often enough that importing each time would be seen."""
    import dspy

    return getattr(dspy, name)


def is_predict(value: Any) -> bool:
    """Say whether ``value`` is a ``dspy.Predict``."""
    return isinstance(value, dspy_class("Predict"))
