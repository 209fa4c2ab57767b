"""Modules, models and adapters, chosen by name: what is kept is the name, and what it stands for is given in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.errors import VariableError
from dspex_lab.variables.domains._base import Base, kind, one_of, optuna_distributions, refused, shown


class Named(Base):
    """A choice by name; :meth:`given` says what a name stands for here."""

    names: tuple[str, ...]
    objects: Mapping[str, Any]

    def _take(self, options: Any) -> None:
        if isinstance(options, str) or not hasattr(options, "__iter__"):
            self._bad(f"its options are names, or a dict from names, found {shown(options)}.")
        objects: dict[str, Any] = {}
        names: list[str] = []
        for option in options:
            name = option if isinstance(option, str) else self._name_of(option)
            if not isinstance(name, str) or not name.strip():
                self._bad(f"an option has a name, found {shown(option)}.", "Give a dict: {name: what it stands for}.")
            if name in names:
                self._bad(f"it has the option {name!r} twice.")
            names.append(str(name))
            if isinstance(options, Mapping):
                objects[name] = options[option]
            elif not isinstance(option, str):
                objects[name] = option
        if not names:
            self._bad("it has no options.")
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "objects", objects)

    def describe(self) -> dict[str, Any]:
        """Return it as JSON: the names."""
        return {"kind": self.kind, "options": list(self.names)}

    def cast(self, value: Any, name: str) -> str:
        """Return the name for a name (however it is written: ``chain_of_thought``) or for what it stands for."""
        if isinstance(value, str):
            if value in self.names:
                return str(value)
            alike = [option for option in self.names if _bare(option) == _bare(value)]
            if len(alike) == 1:
                return alike[0]
            raise refused(name, value, one_of(value, self.names))
        for option, stands in self.objects.items():
            if stands is value:
                return option
        meant = self._name_of(value)
        if meant is not None and meant in self.names:
            return meant
        raise refused(name, value, one_of(meant or value, self.names))

    def given(self, value: str) -> Any:
        """Return what was given for a name; None where the name alone was."""
        return self.objects.get(value)

    def distribution(self) -> Any:
        """Return a ``CategoricalDistribution`` of the names."""
        return optuna_distributions().CategoricalDistribution(self.names)

    def first(self) -> str:
        """Return the first name."""
        return self.names[0]

    def size(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def every(self) -> Iterator[str]:
        """Return the names."""
        return iter(self.names)

    def draw(self, random: Random) -> str:
        """Return a name at random."""
        return random.choice(self.names)

    def _name_of(self, value: Any) -> str | None:
        raise NotImplementedError


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _class_name(value: Any) -> str:
    named = isinstance(value, type) or (callable(value) and hasattr(value, "__name__"))
    return str(value.__name__) if named else type(value).__name__


@kind("module")
@dataclass(frozen=True, eq=False, init=False)
class ModuleChoice(Named):
    """Which module does a piece of work: DSPy's by name, or your own.

    Args:
        options: names of DSPy's modules (``"Predict"``, ``"ChainOfThought"``, ``"ReAct"``), classes, or a dict from names to
            what makes one from a signature.
    """

    names: tuple[str, ...]
    objects: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __init__(self, options: Any = ("Predict", "ChainOfThought")) -> None:
        self._take(options)

    def factory(self, value: str) -> Any:
        """Return what makes the module from a signature: what was given for the name, or DSPy's class of that name.

        Raises:
            VariableError: neither is there.
        """
        found = self.given(value)
        if found is None:
            dspy = require("dspy", "for modules")
            wanted = _bare(value)
            found = next(
                (getattr(dspy, known) for known in dir(dspy) if _bare(known) == wanted and _is_module(dspy, known)), None
            )
        if found is None:
            raise VariableError(
                f"DSPy has no module {value!r}, and none was given for it.",
                hint="Define the variable with a dict: {name: what makes it from a signature}.",
            )
        return found

    def _name_of(self, value: Any) -> str | None:
        return _class_name(value)


def _is_module(dspy: Any, name: str) -> bool:
    found = getattr(dspy, name)
    return isinstance(found, type) and issubclass(found, dspy.Module)


@kind("lm")
@dataclass(frozen=True, eq=False, init=False)
class LMChoice(Named):
    """Which model answers.

    Args:
        options: model names (``"openai/gpt-4o-mini"``), ``dspy.LM``s, or a dict from names to LMs.
    """

    names: tuple[str, ...]
    objects: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __init__(self, options: Any) -> None:
        self._take(options)

    def _name_of(self, value: Any) -> str | None:
        model = getattr(value, "model", None)
        return model if isinstance(model, str) else None


@kind("adapter")
@dataclass(frozen=True, eq=False, init=False)
class AdapterChoice(Named):
    """How a signature becomes a prompt.

    Args:
        options: ``"chat"``, ``"json"``, ``"xml"``, ``"baml"``, adapters, or a dict from names to adapters.
    """

    names: tuple[str, ...]
    objects: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __init__(self, options: Any = ("chat", "json", "xml")) -> None:
        self._take(options)

    def adapter(self, value: str) -> Any:
        """Return the adapter: what was given for the name, or DSPy's.

        Raises:
            VariableError: neither is there.
        """
        found = self.given(value)
        if found is not None:
            return found() if isinstance(found, type) else found
        adapters = require("dspy.adapters", "for adapters")
        wanted = _bare(value).removesuffix("adapter") + "adapter"
        known = next((name for name in dir(adapters) if _bare(name) == wanted and name != "Adapter"), None)
        if known is None:
            raise VariableError(
                f"DSPy has no adapter {value!r}, and none was given for it.",
                hint="Define the variable with a dict: {name: adapter}.",
            )
        return getattr(adapters, known)()

    def _name_of(self, value: Any) -> str | None:
        name = _class_name(value).removesuffix("Adapter")
        return name.lower() if name.isupper() else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
