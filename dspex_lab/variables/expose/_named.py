"""The knobs of a program by the names of their variables, and whose names are whose."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from dspex_lab.errors import VariableError, did_you_mean
from dspex_lab.variables._protocols import Domain, Knob, Snapshot
from dspex_lab.variables._space import Space
from dspex_lab.variables.domains import AdapterChoice, LMChoice, ModuleChoice
from dspex_lab.variables.expose._predictors import with_model
from dspex_lab.variables.expose._tools import TOOLS

#: What the names in these stand for the knob alone knows.
_BY_NAME = (LMChoice, ModuleChoice, AdapterChoice)


def known(knob: Knob, value: Any) -> bool:
    """Say whether a value is one that the knob's domain has; a model that a person has just put in is none yet."""
    return not isinstance(knob.domain, LMChoice) or isinstance(value, str)


class Named:
    """Knobs, each under the name of its variable.

    Args:
        found: the knobs.
        prefix: what the names begin with, before a dot; "" for nothing.

    Attributes:
        knobs: them, in order; one that learns of another model or range is replaced in this list.
        by_name: them, by name; not changed, but replaced.
        after_others: the names of switches of tools, which are written again whenever others are.
    """

    def __init__(self, found: Sequence[Knob], prefix: str) -> None:
        self.knobs, self._prefix, self._lock = list(found), prefix, threading.Lock()
        self.by_name: Mapping[str, Knob] = {self._full(knob.path): knob for knob in self.knobs}
        self.after_others = tuple(name for name, knob in self.by_name.items() if knob.rank == TOOLS)

    def _full(self, path: str) -> str:
        return f"{self._prefix}.{path}" if self._prefix else path

    def name(self, path: str) -> str:
        """Return the name of the variable of a knob.

        Raises:
            VariableError: there is no such knob.
        """
        name = self._full(path)
        if name not in self.by_name:
            near = did_you_mean(path, [*self.by_name, *(knob.path for knob in self.knobs)])
            raise VariableError(f"The program has no knob {path!r}.{near}", name=path, hint="exposure.names lists them.")
        return name

    def among(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the values of a space that are the knobs'."""
        return {name: values[name] for name in self.by_name if name in values}

    def given(self, values: Mapping[str, Any] | Snapshot | None) -> dict[str, Any]:
        """Return what a person gave, by names or by paths, by name and as the domains have it.

        Raises:
            VariableError: a name is none, or a value is none that the variable can take.
        """
        if values is None:
            return {}
        if isinstance(values, Snapshot):
            return self.among(values.values)
        found = dict[str, Any]()
        for given, value in values.items():
            name = given if given in self.by_name else self.name(given)
            found[name] = self.by_name[name].domain.cast(value, name)
        return found

    def by_path(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by the knobs' paths."""
        return {self.by_name[n].path: v for n, v in values.items() if known(self.by_name[n], v)}

    def taught(self, name: str, program: Any) -> Knob | None:
        """Return the knob of a model, that knows the one which somebody put into the program; None where it does already."""
        return with_model(self.by_name[name], program)

    def learn(self, name: str, taught: Knob) -> None:
        """Put a knob in the place of the one of that name."""
        with self._lock:
            self.knobs[list(self.by_name).index(name)] = taught
            self.by_name = {**self.by_name, name: taught}

    def renew(self, space: Space) -> None:
        """Let knobs have the domains of their variables, which a person may have defined anew: with a wider range."""
        for name, knob in self.by_name.items():
            if name in space and not isinstance(knob.domain, _BY_NAME):
                domain = space.entry(name).domain
                if domain is not knob.domain:
                    self.learn(name, replace(knob, domain=domain))

    def keep(self, space: Space, first: Mapping[str, Any]) -> None:
        """Let knobs have the domains that a person gave to their variables before, as after a restart, where the values that
        the program has are in them. What a person defined has not the knob's note."""
        for name, knob in self.by_name.items():
            if name not in space or isinstance(knob.domain, _BY_NAME):
                continue
            entry = space.entry(name)
            if entry.note != knob.note and entry.domain.kind == knob.domain.kind and _has(entry.domain, first[name]):
                self.learn(name, replace(knob, domain=entry.domain, note=entry.note))


def _has(domain: Domain, value: Any) -> bool:
    try:
        domain.cast(value, domain.kind)
    except VariableError:
        return False
    return True


class Owner(Protocol):
    """What owns variables of a space."""

    space: Space

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        ...

    @property
    def bound(self) -> bool:
        """Whether it needs them still."""
        ...


#: Whose the names of each space's variables are.
_owners: weakref.WeakKeyDictionary[Space, dict[str, weakref.ref[Owner]]] = weakref.WeakKeyDictionary()
_owners_lock = threading.Lock()


def claim(exposure: Owner) -> None:
    """Let the names of an exposure be its own as long as it binds a program.

    Raises:
        VariableError: one is that of another exposure.
    """
    with _owners_lock:
        owners = _owners.setdefault(exposure.space, {})
        for name in exposure.names:
            other = owners[name]() if name in owners else None
            if other is not None and other.bound:
                raise VariableError(
                    f"The variable {name!r} belongs to a program that is exposed already.",
                    name=name,
                    hint="Give this one another prefix, or close the other exposure.",
                )
        owners.update(dict.fromkeys(exposure.names, weakref.ref(exposure)))
