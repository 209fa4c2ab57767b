"""The settings of an optimizer, checked against what it takes before anything is spent."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.jobs.optimize._driver import Base, Task
from dspex_lab.jobs.optimize._table import driver_of

#: What is said otherwise than by a setting.
RESERVED = frozenset({"self", "student", "trainset", "valset", "metric", "metric_fn", "program", "args", "kwargs", "_kwargs"})


def parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function, none where it does not say."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def vars_of(cls: type) -> Any:
    """Return what a class is made by."""
    return cls.__init__  # type: ignore[misc]


def open_ended(found: Mapping[str, inspect.Parameter]) -> bool:
    """Say whether it takes keywords that it does not name."""
    return any(p.kind is p.VAR_KEYWORD for p in found.values())


def task_of(
    program: Any,
    optimizer: Any,
    settings: Mapping[str, Any],
    *,
    train: int,
    val: int,
    own_val: bool,
    seed: int | None,
) -> tuple[Base, Task]:
    """Return how an optimizer is driven and what it will be asked, with the defaults filled in.

    Raises:
        ConfigurationError: an optimizer or a setting that there is not.
    """
    driver, given = driver_of(optimizer)
    init, compiled = split(driver, given, settings)
    task = Task(program, train, val, own_val, init, compiled, given, seed)
    usual = {name: value for name, value in driver.defaults(task).items() if name not in settings}
    more_init, more_compile = split(driver, given, usual)
    return driver, replace(task, init={**more_init, **init}, compile={**more_compile, **compiled})


def split(driver: Base, given: Any, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what goes to the optimizer itself, and what to its ``compile``.

    Raises:
        ConfigurationError: it takes no such setting.
    """
    makes = parameters(vars_of(given)) if isinstance(given, type) else {}
    compiles = parameters(given.compile)
    accepts = tuple(driver.accepts())
    free = "*" in accepts and (open_ended(makes) or open_ended(compiles))
    init: dict[str, Any] = {}
    compiled: dict[str, Any] = {}
    for name, value in settings.items():
        if name in RESERVED and name not in accepts:
            raise _taken(name)
        if name in makes or (name in accepts and isinstance(given, type)):
            init[name] = value
        elif name in compiles:
            compiled[name] = value
        elif free:
            (init if isinstance(given, type) and open_ended(makes) else compiled)[name] = value
        else:
            raise _unknown(driver, given, name, [*makes, *compiles, *(a for a in accepts if a != "*")])
    return init, compiled


def _taken(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}= is no setting of the optimizer: it is given to optimize() itself.",
        key=name,
        expected="optimize(program, optimizer=…, metric=…, trainset=…, valset=…)",
        actual=name,
    )


def _unknown(driver: Base, given: Any, name: str, known: Sequence[str]) -> ConfigurationError:
    shown = sorted({n for n in known if n not in RESERVED})
    said = driver.name if driver.name != "other" else (given.__name__ if isinstance(given, type) else type(given).__name__)
    if not isinstance(given, type) and name in parameters(vars_of(type(given))):
        return ConfigurationError(
            f"{said} was given as an instance, which has its {name} already.",
            key=name,
            expected="a setting of compile(): " + ", ".join(shown),
            actual=name,
            hint=f"Set it where you make the instance, or give the name: optimizer={driver.name!r}.",
        )
    return ConfigurationError(
        f"{said} has no setting {name!r}.{did_you_mean(name, shown)}",
        key=name,
        expected=", ".join(shown),
        actual=name,
        hint="Nothing was run.",
    )
