"""What the environment says of the pools: ``DSPEX_POOL_GENERAL_WORKERS``, ``DSPEX_POOLS_ADDRESS`` and their like."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pools._checks import RECYCLING, RESERVED, SETTINGS, Bad, Setting
from dspex_lab.pools._sizes import bytes_of, seconds_of

ONE, ALL = "DSPEX_POOL_", "DSPEX_POOLS_"

_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_EXPECTED = {
    "whole": "a whole number",
    "size": "a size such as 512MB, 4GB or 1GiB",
    "seconds": "seconds, or a time such as 5min",
    "flag": "true or false",
}

#: What may stand behind the name of a pool, as it is written in the environment, the longest first.
_FIELDS: dict[str, tuple[str, ...]] = {
    **{key.upper(): (key,) for key, setting in SETTINGS.items() if setting.form != "table"},
    **{f"RECYCLE_{key.upper()}": ("recycle", key) for key in RECYCLING},
}


def read_text(setting: Setting, text: str) -> Any:
    """Return what a text says of a setting; it is not checked yet.

    Raises:
        Bad: it cannot be read.
    """
    said = text.strip()
    try:
        if setting.form == "size":
            return bytes_of(said)
        if setting.form == "seconds":
            return seconds_of(said)
    except ValueError:
        raise Bad(_EXPECTED[setting.form]) from None
    if setting.form == "flag":
        return _FLAGS.get(said.lower(), said)
    if setting.form == "whole":
        return int(said) if said.isascii() and said.isdecimal() and len(said) <= 18 else said
    separator = os.pathsep if setting.form == "folders" else ","
    return [] if said.lower() == "none" else [part.strip() for part in said.split(separator) if part.strip()]


def as_variable(pool: str) -> str:
    """Return a pool's name as the environment has it: ``my-pool`` is ``MY_POOL``."""
    return re.sub(r"[^A-Z0-9]", "_", pool.upper())


def of_all(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return what is said of all pools: the text and the variable, by key.

    Raises:
        ConfigurationError: a variable that begins like these and is none.
    """
    known = {f"{ALL}{key.upper()}": key for key in RESERVED}
    said = {name: text for name, text in environment.items() if name.startswith(ALL) and text}
    for name in said:
        if name not in known:
            raise _unknown(name, known)
    return {known[name]: (text, name) for name, text in said.items()}


def of_each(environment: Mapping[str, str], pools: Iterable[str]) -> dict[str, dict[tuple[str, ...], tuple[str, str]]]:
    """Return what is said of single pools: the text and the variable, by pool and by the way to the setting.

    Args:
        pools: the names that are known from elsewhere; another one is taken in small letters.

    Raises:
        ConfigurationError: a variable that begins like these and names no setting.
    """
    known = {as_variable(pool): pool for pool in pools}
    found: dict[str, dict[tuple[str, ...], tuple[str, str]]] = {}
    for name, text in sorted(environment.items()):
        if not name.startswith(ONE) or not text:
            continue
        rest = name[len(ONE) :]
        field = max((f for f in _FIELDS if rest.endswith(f"_{f}")), key=len, default=None)
        if field is None:
            raise _unknown(name, [f"{ONE}{pool}_{f}" for pool in known for f in _FIELDS])
        pool = rest[: -len(field) - 1]
        found.setdefault(known.get(pool, pool.lower()), {})[_FIELDS[field]] = (text, name)
    return found


def _unknown(name: str, known: Iterable[str]) -> ConfigurationError:
    names = list(known)
    return ConfigurationError(
        f"The variable {name} is no setting of the pools.{did_you_mean(name, names)}",
        key=name,
        expected=names,
        actual=name,
        hint="Unset it, or mend its name: DSPEX_POOL_GENERAL_WORKERS, DSPEX_POOL_GENERAL_MEMORY, DSPEX_POOLS_ADDRESS, …",
    )
