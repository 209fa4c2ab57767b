"""The settings of a session, checked."""

from __future__ import annotations

import math
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.sessions._around import Around
from dspex_lab.sessions._seats import checked_affinity


def checked_settings(around: Around, **settings: Any) -> dict[str, Any]:
    """Return ``pool``, ``affinity`` and ``ttl``, as far as they are given.

    Raises:
        ConfigurationError: a value makes no sense, or there is no such pool.
    """
    if "pool" in settings:
        around.pool(settings["pool"])
    if "affinity" in settings:
        checked_affinity(settings["affinity"])
    ttl = settings.get("ttl")
    if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl < math.inf):
        raise ConfigurationError(
            f"The time to live of a session is {ttl!r}.",
            key="ttl",
            expected="seconds above 0, or None",
            actual=ttl,
            hint="It is the time without use after which the session is closed.",
        )
    return settings
