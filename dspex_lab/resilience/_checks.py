"""Checks of the numbers in a settings record."""

from __future__ import annotations

import math

from dspex_lab.errors import ConfigurationError


def number(owner: str, name: str, value: object, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse ``value`` unless it is a finite number from ``low`` (or above it, where ``above``) to ``high``.

    Raises:
        ConfigurationError: it is not.
    """
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (low < value if above else low <= value)
        and value <= high
    )
    if not fits:
        least = f"above {low:g}" if above else f"{low:g} or more"
        most = "" if high == math.inf else f", at most {high:g}"
        raise ConfigurationError(f"{owner}({name}={value!r}): it is a number, {least}{most}.", key=name, actual=value)


def whole(owner: str, name: str, value: object, low: int, high: float = math.inf) -> None:
    """Refuse ``value`` unless it is a whole number from ``low`` to ``high``.

    Raises:
        ConfigurationError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        most = "" if high == math.inf else f", at most {high:g}"
        raise ConfigurationError(
            f"{owner}({name}={value!r}): it is a whole number, {low} or more{most}.", key=name, actual=value
        )
