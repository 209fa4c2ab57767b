"""The ``fixed`` strategy: the order of registration, the next one when one fails."""

from __future__ import annotations

from collections.abc import Sequence


def order(names: Sequence[str], pin: str | None) -> tuple[list[str], str]:
    """Return the names in the order in which they are to be tried, and why. Pure.

    Args:
        names: implementations that can run the request, preferred first; at least one.
        pin: the only one to be tried.
    """
    if pin is not None:
        return [pin], f"pinned to {pin}"
    if len(names) == 1:
        return list(names), f"{names[0]} is the only implementation that can run it"
    return list(names), f"{names[0]} is registered first"
