"""The variables that are moved, and what stands for their values in Optuna. Knows no study."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, VariableError
from dspex_lab.variables import Domain, Space, Variable

Wanted = str | Variable | Iterable[str | Variable] | None


class Looking(Mapping[str, Any]):
    """The values of a space as they would be with some of them chosen; what is derived is computed."""

    def __init__(self, space: Space, chosen: Mapping[str, Any]) -> None:
        self._space, self._chosen, self._made = space, chosen, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name in self._chosen:
            return self._chosen[name]
        if name not in self._made:
            derive = self._space.entry(name).derive
            self._made[name] = self._space.get(name) if derive is None else derive(self)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._space)

    def __len__(self) -> int:
        return len(self._space)

    def counts(self, name: str) -> bool:
        """Say whether a variable would count.

        Raises:
            VariableError: a condition or what it reads cannot be computed.
        """
        entry = self._space.entry(name)
        try:
            return all(self.counts(read) for read in entry.reads) and (entry.when is None or bool(entry.when(self)))
        except VariableError:
            raise
        except Exception as error:  # a function is the user's, and may raise anything
            said = f"Nobody can tell whether variable {name!r} counts: {type(error).__name__}: {error}"
            raise VariableError(said, name=name) from error


@dataclass(frozen=True)
class Search:
    """Which variables are moved.

    Args:
        names: in the order in which they are asked for: what a condition reads comes before what it is the condition of.
        domains: by name.
        present: the values at the start.
        extra: what stands in Optuna for a present value that is none of the candidates, by name.
        notes: what a person should know.
    """

    names: tuple[str, ...]
    domains: Mapping[str, Domain]
    present: Mapping[str, Any]
    extra: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def now(self, space: Space) -> Search:
        """Return it with the values that are present now, without what was pinned since.

        Raises:
            ConfigurationError: nothing is left to move.
        """
        names = tuple(name for name in self.names if not space.entry(name).pinned)
        if not names:
            raise _nothing(self.names)
        return self.at({name: space.get(name) for name in names})

    def at(self, present: Mapping[str, Any]) -> Search:
        """Return it as it is with other values present; only their variables are moved."""
        names = tuple(name for name in self.names if name in present)
        domains = {name: self.domains[name] for name in names}
        gone = [f"{name} is pinned and keeps its value." for name in self.names if name not in present]
        return Search(names, domains, dict(present), _extras(domains, present), (*self.notes, *gone))

    def distribution(self, name: str) -> Any:
        """Return what Optuna chooses a variable's values from."""
        found = self.domains[name].distribution()
        if name not in self.extra:
            return found
        return type(found)((*found.choices, self.extra[name]))

    def value(self, name: str, chosen: Any) -> Any:
        """Return the value that something chosen stands for."""
        if name in self.extra and chosen == self.extra[name]:
            return self.present[name]
        return self.domains[name].from_distribution(chosen)

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what stands for values; those of other variables, and those that nothing stands for, are left out."""
        found: dict[str, Any] = {}
        for name in self.names:
            if name not in values:
                continue
            if name in self.extra and self.domains[name].equal(values[name], self.present[name]):
                found[name] = self.extra[name]
                continue
            try:
                found[name] = self.domains[name].to_distribution(self.domains[name].cast(values[name], name))
            except VariableError:
                continue  # of an earlier range, or of other candidates: the search is free there
        return found

    def suggest(self, trial: Any, space: Space) -> dict[str, Any]:
        """Return the values that a trial of Optuna's is to have: only those of variables that count with the ones before."""
        chosen: dict[str, Any] = {}
        for name in self.names:
            if Looking(space, chosen).counts(name):
                chosen[name] = self.value(name, _suggested(trial, name, self.distribution(name)))
        return chosen

    def size(self) -> int | None:
        """Return how many combinations there are; None where they cannot be counted."""
        sizes = [self._count(self.distribution(name)) for name in self.names]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def as_json(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values as JSON."""
        return {name: self.domains[name].to_json(value) for name, value in values.items()}

    def from_json(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what :meth:`as_json` was given."""
        return {name: self.domains[name].from_json(value) for name, value in values.items() if name in self.domains}

    @staticmethod
    def _count(distribution: Any) -> int | None:
        if hasattr(distribution, "choices"):
            return len(distribution.choices)
        if distribution.single():
            return 1
        if distribution.step is None:
            return None
        return round((distribution.high - distribution.low) / distribution.step) + 1


def _suggested(trial: Any, name: str, distribution: Any) -> Any:
    if hasattr(distribution, "choices"):
        return trial.suggest_categorical(name, distribution.choices)
    d = require("optuna.distributions", "to tune variables")
    ask = trial.suggest_int if isinstance(distribution, d.IntDistribution) else trial.suggest_float
    return ask(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def search_of(space: Space, wanted: Wanted = None, among: Iterable[str] | None = None) -> Search:
    """Return the search of some variables of a space.

    Args:
        wanted: names, patterns (``"triage.*"``) or variables; None for all that can be searched.
        among: where None and patterns look; the whole space where None.

    Raises:
        VariableError: there is no such variable, it is derived, or it cannot be searched as it stands.
        ConfigurationError: nothing is left to move.
    """
    known = list(space if among is None else among)
    named = _named(wanted, known)
    names, notes = [], []
    for name in dict.fromkeys(known if named is None else named):
        entry, sure = space.entry(name), named is not None and _literal(wanted, name)
        if entry.pinned:
            notes += [f"{name} is pinned and keeps its value."] if named is not None else []
        elif entry.derive is not None:
            if sure:
                reads = ", ".join(entry.derive.reads)
                raise VariableError(f"Variable {name!r} is derived and cannot be tuned.", name=name, hint=f"Tune {reads}.")
        elif _searchable(name, entry.domain, sure):
            names.append(name)
    if not names:
        raise _nothing(wanted)
    ordered = _ordered(space, names)
    domains = {name: space.entry(name).domain for name in ordered}
    present = {name: space.get(name) for name in ordered}
    return Search(ordered, domains, present, _extras(domains, present), tuple(notes))


def _named(wanted: Wanted, known: list[str]) -> list[str] | None:
    if wanted is None:
        return None
    found: list[str] = []
    for each in [wanted] if isinstance(wanted, str | Variable) else wanted:
        name = each.name if isinstance(each, Variable) else each
        if not isinstance(name, str):
            raise ConfigurationError(f"{name!r:.60} is no variable.", key="variables", expected="names", actual=name)
        matching = [name] if name in known or "*" not in name else fnmatch.filter(known, name)
        found += matching or [name]
    return found


def _literal(wanted: Wanted, name: str) -> bool:
    listed = [wanted] if isinstance(wanted, str | Variable) else list(wanted or ())
    return name in [each.name if isinstance(each, Variable) else each for each in listed]


def _searchable(name: str, domain: Domain, sure: bool) -> bool:
    try:
        domain.distribution()
    except VariableError as error:
        if sure:
            raise VariableError(f"Variable {name!r}: {error.message}", name=name, hint=error.hint) from error
        return False
    return True


def _ordered(space: Space, names: list[str]) -> tuple[str, ...]:
    """Return names such that what a condition reads, directly or through what is derived, comes first."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done:
            for read in space.entry(name).reads:
                visit(read)
            done[name] = None

    for name in names:
        visit(name)
    return tuple(name for name in done if name in set(names))


def _extras(domains: Mapping[str, Domain], present: Mapping[str, Any]) -> dict[str, str]:
    """Return a choice for each present value that is none of the candidates: what there is takes part in the search."""
    found = {}
    for name, domain in domains.items():
        try:
            domain.to_distribution(present[name])
        except VariableError:
            words = " ".join(str(domain.to_json(present[name]))[:200].split())
            found[name] = f"now: {words if len(words) <= 60 else words[:59] + '…'}"
    return found


def _nothing(wanted: Any) -> ConfigurationError:
    said = "All of them are pinned, derived, or without a range or candidates."
    return ConfigurationError(
        f"There is no variable to tune. {said}", key="variables", expected="one variable or more", actual=wanted
    )
