"""What all domains have, and how one is read back from its description."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping
from random import Random
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from dspex_lab._lazy import require
from dspex_lab.errors import VariableError, did_you_mean

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = 4

#: Options that a message lists.
_LISTED = 12


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, and on one line."""
    return " ".join(_short.repr(value).split())  # which says what it is where a value's own repr fails


def refused(name: str, value: Any, why: str, hint: str | None = None) -> VariableError:
    """Return the error for a value that a variable cannot take; ``why`` completes "it cannot be 3: …"."""
    return VariableError(f"Variable {name!r} cannot be {shown(value)}: {why}", name=name, hint=hint)


def one_of(value: Any, options: tuple[Any, ...]) -> str:
    """Return what is allowed, and which of it may have been meant."""
    listed = ", ".join(shown(option) for option in options[:_LISTED])
    more = f" and {len(options) - _LISTED} more" if len(options) > _LISTED else ""
    near = did_you_mean(value[:200], [o for o in options if isinstance(o, str)]) if isinstance(value, str) else ""
    return f"it is one of {listed}{more}.{near}"


def optuna_distributions() -> ModuleType:
    """Import Optuna's distributions, or say what to install."""
    return require("optuna.distributions", "to search variables")


class Base:
    """What domains share; each is a frozen dataclass whose fields are its description.

    Two domains are equal that describe themselves alike.
    """

    kind: str

    def cast(self, value: Any, name: str) -> Any:
        """Return ``value`` as the domain has it; raises a `VariableError` for what is not in it."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return the domain as JSON."""
        found: dict[str, Any] = {"kind": self.kind}
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            if not item.metadata.get("described", True):
                continue
            value = getattr(self, item.name)
            found[item.name] = list(value) if isinstance(value, tuple) else value
        return found

    @classmethod
    def from_description(cls, fields: Mapping[str, Any]) -> Base:
        """Return the domain that :meth:`describe` described; ``fields`` is without the kind."""
        return cls(**fields)

    def to_json(self, value: Any) -> Any:
        """Return a value of the domain as JSON."""
        return value

    def from_json(self, value: Any) -> Any:
        """Return the value that :meth:`to_json` wrote."""
        return value

    def equal(self, one: Any, other: Any) -> bool:
        """Say whether two values are the same one: ``1`` and ``True`` are not."""
        return type(one) is type(other) and bool(one == other)

    def distribution(self) -> Any:
        """Return it as an Optuna distribution; raises a `VariableError` where it cannot be searched as it stands."""
        self._unsearchable("it has no end of values")

    def from_distribution(self, value: Any) -> Any:
        """Return the value that one of the distribution stands for."""
        return self.cast(value, self.kind)

    def to_distribution(self, value: Any) -> Any:
        """Return what stands for a value in the distribution: what a search is started with."""
        return value

    def first(self) -> Any:
        """Return the value of a variable for which no default is given."""
        raise NotImplementedError

    def every(self) -> Iterator[Any] | None:
        """Return all values, one after another; None where they cannot be counted."""
        return None

    def size(self) -> int | None:
        """Return how many values there are; None where they cannot be counted."""
        return None

    def draw(self, random: Random) -> Any:
        """Return a value at random; raises a `VariableError` where nothing bounds them."""
        self._unsearchable("nothing bounds its values")

    def corners(self) -> tuple[Any, ...]:
        """Return the values at its ends, where constraints are often met."""
        return ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key() if isinstance(other, Base) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def _key(self) -> str:
        return json.dumps(self.describe(), sort_keys=True)

    def _unsearchable(self, why: str, hint: str | None = None) -> NoReturn:
        raise VariableError(f"A {self.kind} variable cannot be searched as it stands: {why}.", hint=hint)

    def _bad(self, why: str, hint: str | None = None) -> NoReturn:
        """Refuse what the domain itself was given."""
        raise VariableError(f"This is no {self.kind} domain: {why}", hint=hint)


_KINDS: dict[str, type[Base]] = {}
D = TypeVar("D", bound=type[Base])


def kind(name: str) -> Callable[[D], D]:
    """Register a domain under the name that its description has."""

    def register(cls: D) -> D:
        cls.kind = name
        _KINDS[name] = cls
        return cls

    return register


def domain_from(description: Mapping[str, Any]) -> Base:
    """Return the domain that a description says (``Domain.describe``).

    Raises:
        VariableError: it describes none; the message says what was found.
    """
    if not isinstance(description, Mapping):
        raise VariableError(f"A domain is described by a dict, found {shown(description)}.")
    named = description.get("kind")
    found = _KINDS.get(named) if isinstance(named, str) else None
    if found is None:
        near = did_you_mean(str(named)[:200], _KINDS)
        raise VariableError(f"There is no domain of the kind {shown(named)}.{near}", hint=f"There are {', '.join(_KINDS)}.")
    try:
        return found.from_description({key: value for key, value in description.items() if key != "kind"})
    except VariableError:
        raise
    except Exception as error:  # a description may come from a file that anybody wrote
        raise VariableError(f"The description of a {named} domain cannot be read: {type(error).__name__}: {error}.") from error
