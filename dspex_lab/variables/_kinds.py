"""The ways to define a variable, one for each domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from dspex_lab.variables._entry import UNSET
from dspex_lab.variables._protocols import Domain
from dspex_lab.variables._variable import Variable
from dspex_lab.variables.domains import (
    AdapterChoice,
    Bool,
    Choice,
    Demos,
    Float,
    Int,
    LMChoice,
    ModuleChoice,
    Tensor,
    Text,
)
from dspex_lab.variables.domains._text import LONGEST

# The methods below have the names of these types.
Whole: TypeAlias = int
Number: TypeAlias = float
Truth: TypeAlias = bool


class Kinds:
    """Defines variables. Every method takes ``when``, a condition over other variables under which the variable counts,
    and ``note``, what it is for people; without a default the domain has one: the middle of a range, the first option.

    To define a variable again is allowed, as a cell may be run again: it keeps its value where it still may have it, and a
    default that nobody has touched follows the new definition.
    """

    def add(
        self, name: str, domain: Domain, *, default: Any = UNSET, note: str | None = None, when: Any = None, reads: Any = None
    ) -> Variable:
        """Define a variable of any domain."""
        raise NotImplementedError

    def float(
        self,
        name: str,
        low: Number | None = None,
        high: Number | None = None,
        *,
        default: Number | None = None,
        step: Number | None = None,
        log: Truth = False,
        note: str | None = None,
        when: Any = None,
    ) -> Variable:
        """Define a float between ``low`` and ``high``, both allowed; see :class:`Float`."""
        return self.add(name, Float(low, high, step, log), default=_given(default), note=note, when=when)

    def int(
        self,
        name: str,
        low: Whole | None = None,
        high: Whole | None = None,
        *,
        default: Whole | None = None,
        step: Whole = 1,
        log: Truth = False,
        note: str | None = None,
        when: Any = None,
    ) -> Variable:
        """Define a whole number between ``low`` and ``high``, both allowed; see :class:`Int`."""
        return self.add(name, Int(low, high, step, log), default=_given(default), note=note, when=when)

    def bool(self, name: str, *, default: Truth | None = None, note: str | None = None, when: Any = None) -> Variable:
        """Define a bool; False where no default is given."""
        return self.add(name, Bool(), default=_given(default), note=note, when=when)

    def choice(
        self, name: str, options: Iterable[Any], *, default: Any = UNSET, note: str | None = None, when: Any = None
    ) -> Variable:
        """Define one of some texts, numbers, bools or None; see :class:`Choice`."""
        domain = Choice(options)
        known = default is not None or any(option is None for option in domain.options)
        return self.add(name, domain, default=default if known else UNSET, note=note, when=when)

    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        candidates: Iterable[str] = (),
        longest: Whole = LONGEST,
        note: str | None = None,
        when: Any = None,
    ) -> Variable:
        """Define a text, such as instructions; it is searched among its candidates. See :class:`Text`."""
        return self.add(name, Text(candidates, longest), default=_given(default), note=note, when=when)  # type: ignore[arg-type]

    def demos(
        self, name: str, default: Any = None, *, candidates: Iterable[Any] = (), note: str | None = None, when: Any = None
    ) -> Variable:
        """Define demonstrations: dicts or ``dspy.Example``s; searched among candidates, each a list. See :class:`Demos`."""
        return self.add(name, Demos(candidates), default=_given(default), note=note, when=when)  # type: ignore[arg-type]

    def module(
        self,
        name: str,
        options: Mapping[str, Any] | Iterable[Any] = ("Predict", "ChainOfThought"),
        *,
        default: Any = None,
        note: str | None = None,
        when: Any = None,
    ) -> Variable:
        """Define which module does a piece of work; see :class:`ModuleChoice`."""
        return self.add(name, ModuleChoice(options), default=_given(default), note=note, when=when)

    def lm(
        self,
        name: str,
        options: Mapping[str, Any] | Iterable[Any],
        *,
        default: Any = None,
        note: str | None = None,
        when: Any = None,
    ) -> Variable:
        """Define which model answers: names, LMs, or a dict; see :class:`LMChoice`."""
        return self.add(name, LMChoice(options), default=_given(default), note=note, when=when)

    def adapter(
        self,
        name: str,
        options: Mapping[str, Any] | Iterable[Any] = ("chat", "json", "xml"),
        *,
        default: Any = None,
        note: str | None = None,
        when: Any = None,
    ) -> Variable:
        """Define how signatures become prompts; see :class:`AdapterChoice`."""
        return self.add(name, AdapterChoice(options), default=_given(default), note=note, when=when)

    def tensor(
        self,
        name: str,
        shape: tuple[Whole, ...] | Whole,
        *,
        dtype: str = "float32",
        low: Number | None = None,
        high: Number | None = None,
        nan: Truth = False,
        default: Any = None,
        note: str | None = None,
        when: Any = None,
    ) -> Variable:
        """Define an array of numbers; see :class:`Tensor`."""
        domain = Tensor(shape, dtype, low, high, nan)  # type: ignore[arg-type]
        return self.add(name, domain, default=_given(default), note=note, when=when)


def _given(default: Any) -> Any:
    return UNSET if default is None else default
