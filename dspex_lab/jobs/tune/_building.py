"""Programs with the values of a trial: each trial has one of its own, and the live one is left alone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex_lab.errors import ConfigurationError
from dspex_lab.variables import Exposure, Knob, Space, knobs
from dspex_lab.variables.expose import build, present


class Build(Protocol):
    """Makes a program with given values. Picklable; it changes nothing."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """The variables that it looks at; None for all of the space."""
        ...

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return a program of its own.

        Args:
            values: by variable, those that count, derived ones included.

        Raises:
            DspexError: there is none with these values.
        """
        ...


@dataclass(frozen=True)
class Knobs:
    """A DSPy program whose knobs are variables.

    Args:
        program: what copies are made of.
        paths: the knob's path by the variable's name.
        found: the knobs.
    """

    program: Any
    paths: Mapping[str, str]
    found: Sequence[Knob] = field(default=(), repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""
        return tuple(self.paths)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return a copy with these values."""
        return build(self.program, {self.paths[n]: v for n, v in values.items() if n in self.paths}, self.found or None)

    def read(self, program: Any) -> dict[str, Any]:
        """Return the values that a program of this shape has, by variable."""
        by_path = {knob.path: knob for knob in (self.found or knobs(self.program))}
        return {name: present(by_path[path], program) for name, path in self.paths.items()}


@dataclass(frozen=True)
class Calls:
    """A function that is given variables as arguments.

    Args:
        function: the program.
        arguments: the parameter by the variable's name.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""
        return tuple(self.arguments)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return the function with these values given; those that do not count are as the function has them."""
        return functools.partial(self.function, **{self.arguments[n]: v for n, v in values.items() if n in self.arguments})


@dataclass(frozen=True)
class Made:
    """A function of the values that makes the program."""

    function: Callable[[Mapping[str, Any]], Any]
    names: tuple[str, ...] | None = None

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return what it makes."""
        return self.function(values)


def build_of(program: Any, space: Space, make: Any = None) -> Build:
    """Return what makes the programs of trials.

    Args:
        program: an exposure of the space, a DSPy program whose knobs are variables of it (by their paths), or a function with
            variables among its parameters.
        make: a function of the values, or a :class:`Build`, in the place of what is found out of ``program``.

    Raises:
        ConfigurationError: no variable has to do with it.
    """
    if make is not None:
        given: Build = make if hasattr(make, "names") else Made(make)
        return given
    if isinstance(program, Exposure):
        return _exposed(program, space)
    if hasattr(program, "named_sub_modules"):
        found = knobs(program)
        paths = {knob.path: knob.path for knob in found if knob.path in space}
        if paths:
            return Knobs(build(program, {}, found), paths, tuple(found))
        raise _unrelated(program, "Expose it first: lab.expose(program); or give build=, a function of the values.")
    parameters = _parameters(program)
    ends = {name: name.rpartition(".")[2] for name in space}
    arguments = {name: end for name, end in ends.items() if end in parameters and (name == end or end not in space)}
    if not arguments:
        raise _unrelated(program, f"Its parameters are {', '.join(parameters) or 'none'}: call them like the variables.")
    return Calls(program, arguments)


def _exposed(exposure: Exposure, space: Space) -> Knobs:
    if exposure.space is not space:
        raise ConfigurationError("The program is exposed in another space.", key="program", expected=space.name)
    program = exposure.build()
    if not hasattr(program, "named_sub_modules"):
        raise _unrelated(program, "Give build=, a function of the values: pipelines have one.")
    return Knobs(program, {exposure.name(knob.path): knob.path for knob in exposure.knobs}, tuple(exposure.knobs))


def _parameters(program: Any) -> Iterable[str]:
    try:
        return list(inspect.signature(program).parameters)
    except (TypeError, ValueError):
        return ()


def _unrelated(program: Any, hint: str) -> ConfigurationError:
    return ConfigurationError(
        f"No variable of the space has to do with {getattr(program, '__name__', type(program).__name__)}.",
        key="program",
        expected="a program whose knobs are variables",
        hint=hint,
    )
