"""One of some values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from dspex_lab.variables.domains._base import Base, kind, one_of, optuna_distributions, refused, shown
from dspex_lab.variables.domains._numbers import is_bool


def label(index: int, value: str) -> str:
    """Return what stands in Optuna for a candidate that is no plain value there: its number and how it begins."""
    words = " ".join(value[:200].split())
    return f"{index}: {words if len(words) <= 60 else words[:59] + '…'}"


class Labelled(Base):
    """A domain that is searched among candidates, each of which a label stands for in Optuna."""

    def labels(self) -> tuple[str, ...]:
        """Return the labels, in the order of the candidates."""
        raise NotImplementedError

    def _candidates(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def distribution(self) -> Any:
        """Return a ``CategoricalDistribution`` of labels."""
        if not self._candidates():
            self._unsearchable("it has no candidates to choose among", "Give it some: candidates=[…].")
        return optuna_distributions().CategoricalDistribution(self.labels())

    def from_distribution(self, value: Any) -> Any:
        """Return the candidate that a label stands for."""
        labels = self.labels()
        if value not in labels:
            raise refused(self.kind, value, one_of(value, labels))
        return self._candidates()[labels.index(value)]

    def to_distribution(self, value: Any) -> Any:
        """Return the label of a candidate."""
        for found, candidate in zip(self.labels(), self._candidates(), strict=True):
            if self.equal(value, candidate):
                return found
        raise refused(self.kind, value, "it is none of the candidates, which alone are searched.")

    def draw(self, random: Random) -> Any:
        """Return a candidate at random."""
        if not self._candidates():
            self._unsearchable("it has no candidates to choose among", "Give it some: candidates=[…].")
        return random.choice(self._candidates())

    def corners(self) -> tuple[Any, ...]:
        """Return all candidates."""
        return self._candidates()


@kind("bool")
@dataclass(frozen=True, eq=False)
class Bool(Base):
    """True or False; the texts ``"true"`` and ``"false"`` are cast, numbers are refused."""

    def cast(self, value: Any, name: str) -> bool:
        """Return it as a bool."""
        if is_bool(value):
            return bool(value)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise refused(name, value, "it is True or False.")

    def distribution(self) -> Any:
        """Return a ``CategoricalDistribution`` of False and True."""
        return optuna_distributions().CategoricalDistribution((False, True))

    def first(self) -> bool:
        """Return False."""
        return False

    def size(self) -> int:
        """Return 2."""
        return 2

    def every(self) -> Iterator[bool]:
        """Return False, then True."""
        return iter((False, True))

    def draw(self, random: Random) -> bool:
        """Toss a coin."""
        return random.random() < 0.5


@kind("choice")
@dataclass(frozen=True, eq=False)
class Choice(Labelled):
    """One of some texts, numbers, bools or None.

    Args:
        options: at least one; ``1`` and ``True`` are two.
    """

    options: tuple[Any, ...]

    def __init__(self, options: Any) -> None:
        if isinstance(options, str) or not hasattr(options, "__iter__"):
            self._bad(f"its options are a list of values, found {shown(options)}.")
        found = tuple(_scalar(self, option) for option in options)
        object.__setattr__(self, "options", found)
        if not found:
            self._bad("it has no options.")
        seen: set[tuple[type, Any]] = set()
        for option in found:
            if (type(option), option) in seen:
                self._bad(f"it has the option {shown(option)} twice.")
            seen.add((type(option), option))

    def describe(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"kind": self.kind, "options": list(self.options)}

    def cast(self, value: Any, name: str) -> Any:
        """Return the option that it is: the very one, else the number it equals, else the only one that is written like it."""
        found = value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
        for option in self.options:
            if self.equal(option, found):
                return option
        alike = [option for option in self.options if _alike(option, found)]
        if len(alike) == 1:
            return alike[0]
        raise refused(name, value, one_of(value, self.options))

    def labels(self) -> tuple[str, ...]:
        """Return labels for options that Optuna could not tell apart."""
        return tuple(label(index, str(option)) for index, option in enumerate(self.options))

    def _candidates(self) -> tuple[Any, ...]:
        return self.options

    def _plain(self) -> bool:
        return len(set(self.options)) == len(self.options)

    def distribution(self) -> Any:
        """Return a ``CategoricalDistribution`` of the options, or of labels where two of them are equal to Python."""
        return optuna_distributions().CategoricalDistribution(self.options if self._plain() else self.labels())

    def from_distribution(self, value: Any) -> Any:
        """Return the option that it stands for."""
        return self.cast(value, self.kind) if self._plain() else Labelled.from_distribution(self, value)

    def to_distribution(self, value: Any) -> Any:
        """Return what stands for an option."""
        return value if self._plain() else Labelled.to_distribution(self, value)

    def first(self) -> Any:
        """Return the first option."""
        return self.options[0]

    def size(self) -> int:
        """Return how many there are."""
        return len(self.options)

    def every(self) -> Iterator[Any]:
        """Return them."""
        return iter(self.options)


def _scalar(domain: Choice, option: Any) -> Any:
    found = option.item() if hasattr(option, "item") and getattr(option, "shape", None) == () else option
    if isinstance(found, float) and not math.isfinite(found):
        domain._bad(f"{found} is no option; JSON has no such number.")
    for plain in (bool, int, float, str):
        if isinstance(found, plain):
            return plain(found)
    if found is None:
        return None
    return domain._bad(
        f"an option is a text, a number, a bool or None, found {shown(found)}.",
        "Give it a name, and look the object up by that; for modules, models and adapters there are domains.",
    )


def _alike(option: Any, value: Any) -> bool:
    if isinstance(value, str):
        return not isinstance(option, str) and str(option) == value.strip()
    return (
        isinstance(option, int | float)
        and isinstance(value, int | float)
        and not isinstance(option, bool)
        and not isinstance(value, bool)
        and option == value
    )
