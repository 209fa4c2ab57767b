"""What a caller can ask of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pools._job import Outcome
from dspex_lab.pools._placement import Placement


class CallOptions(TypedDict, total=False):
    """The options of :meth:`Pool.call`, which explains them."""

    timeout: float | None
    idempotent: bool
    label: str | None
    tags: Mapping[str, Any] | None
    long: bool
    patience: float | None
    place: Placement | None
    identity: str | Callable[[], str] | None
    cpu: float | None
    told: Callable[[Outcome], None] | None


def check(options: CallOptions) -> None:
    """Refuse options that there are not, and times that are none.

    Raises:
        TypeError: an unknown option.
        ConfigurationError: ``timeout``, ``patience`` or ``cpu`` is not above 0, or ``place`` is no Placement.
    """
    for key, value in options.items():
        if key not in CallOptions.__annotations__:
            near = did_you_mean(key, CallOptions.__annotations__)
            raise TypeError(f"A pool's call has no option {key!r}.{near}")
        if key in ("timeout", "patience", "cpu") and value is not None:
            positive(key, value)
    place = options.get("place")
    if place is not None and not isinstance(place, Placement):
        raise ConfigurationError(
            f"The place of a call is {place!r}.",
            key="place",
            expected="a Placement",
            actual=place,
            hint="Give Placement(worker=…), or reservation.place.",
        )


def positive(key: str, value: Any) -> float:
    """Return seconds that make sense.

    Raises:
        ConfigurationError: it is no number, or not above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigurationError(
            f"The {key} of a call is {value!r}.",
            key=key,
            expected="seconds above 0",
            actual=value,
            hint=f"Give seconds above 0, or leave {key} out.",
        )
    return value
