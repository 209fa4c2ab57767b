"""What a validator is, and the registry of what makes them."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable
from typing import Any

from dspex_lab.errors import ConfigurationError, PipelineError
from dspex_lab.native._registry import Registry

Check = Callable[[Any], str | None]

#: What makes a validator, by name.
validators: Registry[Callable[..., Any]] = Registry("validator")


class Validator:
    """A check of one value, with the name and arguments it was made with.

    Args:
        name: its name in the registry.
        arguments: what it was made with.
        check: takes a value, returns None where it is good, else what is wrong. May also return a bool.
    """

    __slots__ = ("arguments", "check", "name")

    def __init__(self, name: str, arguments: str, check: Callable[[Any], Any]) -> None:
        self.name, self.arguments, self.check = name, arguments, check

    def __call__(self, value: Any) -> str | None:
        """Return None where ``value`` is good, else a sentence saying what is wrong.

        Raises:
            PipelineError: the check itself failed or returned neither None, a bool nor a text.
        """
        try:
            said = self.check(value)
        except Exception as error:
            raise PipelineError(f"The validator {self!r} failed on {reprlib.repr(value)}: {error}") from error
        if said is None or said is True:
            return None
        if said is False:
            return f"{reprlib.repr(value)} does not pass {self!r}."
        if isinstance(said, str):
            return said
        raise PipelineError(
            f"The validator {self!r} returned {type(said).__name__}.", hint="Return None, a bool, or what is wrong as a text."
        )

    def __repr__(self) -> str:
        return f"{self.name}({self.arguments})"


def validate(value: Any, *checks: Check) -> list[str]:
    """Return what is wrong with ``value`` by each of ``checks``, in their order; an empty list where it is good."""
    found = (as_validator(check)(value) for check in checks)
    return [sentence for sentence in found if sentence is not None]


def validator(name: str, *args: Any, **kwargs: Any) -> Validator:
    """Make the validator registered as ``name``: ``validator("max_words", 50)``.

    Raises:
        ConfigurationError: there is none of that name, or the arguments do not fit.
    """
    maker = validators.get(name)
    try:
        made = maker(*args, **kwargs)
    except TypeError as error:
        raise ConfigurationError(f"The validator {name!r} cannot be made: {error}.", key=name) from error
    return as_validator(made)


def as_validator(check: Callable[[Any], Any]) -> Validator:
    if isinstance(check, Validator):
        return check
    if not callable(check):
        raise ConfigurationError(f"A validator is a function of one value, not {check!r}.", key="validator")
    return Validator(getattr(check, "__name__", type(check).__name__), "", check)


def maker(function: Callable[..., Check]) -> Callable[..., Validator]:
    """Register what makes a check, and have it make `Validator`s."""

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Validator:
        shown = [repr(a) for a in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
        return Validator(function.__name__, ", ".join(shown), function(*args, **kwargs))

    return validators.register(function.__name__, make)
