"""What each setting of a pool may be: one check a field, used for code, environment and files alike."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_lab.pools._sizes import MB

#: Bytes. An idle worker that has loaded DSPy has 110 MB resident (51 MB of them its own) and 175 MB of private writable
#: mappings, which is what RLIMIT_DATA counts; with this limit 155 MB are left for a task, with 512 MB 280.
MINIMUM_MEMORY = 384 * MB

#: Bytes of PSS; a worker that has just started has as many, so that a lower limit would replace it for ever.
MINIMUM_RECYCLE = 100 * MB

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/-]{0,95}", re.ASCII)

#: Names that mean something else beside the pools of a table.
RESERVED = ("address", "tls_ca", "tls_cert", "tls_key", "writable")


class Bad(ValueError):
    """A value that a setting cannot take; its text says what is expected."""


def pool_name(value: Any) -> str:
    """Return a pool's name."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value in RESERVED:
        raise Bad("a letter, then up to 63 letters, digits, - or _, and none of " + ", ".join(RESERVED))
    return value


def whole(least: int, most: int) -> Callable[[Any], int]:
    """Return a check for a whole number from ``least`` to ``most``."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Bad(f"a whole number, at least {least:,} and at most {most:,}")
        return value

    return check


def seconds(value: Any) -> float:
    """Return a number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
        raise Bad("seconds above 0")
    return float(value)


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a check that lets None pass."""
    return lambda value: None if value is None else check(value)


def flag(value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise Bad("true or false")
    return value


def _texts(value: Any, expected: str, fits: Callable[[str], Any]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple) or len(value) > 256:
        raise Bad(expected)
    for item in value:
        if not isinstance(item, str) or not fits(item):
            raise Bad(expected)
    return tuple(dict.fromkeys(value))


def modules(value: Any) -> tuple[str, ...]:
    """Return names of modules."""
    return _texts(value, "a list of names of modules", _MODULE.fullmatch)


def gpus(value: Any) -> tuple[str, ...]:
    """Return ids of GPUs as ``CUDA_VISIBLE_DEVICES`` takes them; whole numbers are taken too."""
    if isinstance(value, list | tuple):
        value = [str(item) if isinstance(item, int) and not isinstance(item, bool) and item >= 0 else item for item in value]
    return _texts(value, 'a list of ids of GPUs, such as ["0", "1"]', _DEVICE.fullmatch)


def folders(value: Any) -> tuple[str, ...]:
    """Return whole paths of folders; ``~`` is the home folder, and what is relative is so to the current folder."""
    expected = "a list of folders, none of them the root of the file system"
    found = _texts(value, expected, lambda item: item.strip() and "\0" not in item)
    made = tuple(os.path.abspath(os.path.expanduser(item)) for item in found)
    if any(Path(item) == Path(item).parent for item in made):
        raise Bad(expected)
    return made


def variables(value: Any) -> dict[str, str]:
    """Return variables of an environment."""
    if not isinstance(value, Mapping) or len(value) > 256:
        raise Bad("names of variables and their texts")
    for name, text in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name) or not isinstance(text, str) or "\0" in text:
            raise Bad("names of variables (letters, digits, _) and their texts")
    return dict(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a pool: how it is checked, and how it is written as text (``size``, ``seconds``, ``whole``, ``flag``,
    ``list`` by commas, ``folders`` by the path separator, ``table``)."""

    check: Callable[[Any], Any]
    form: str


#: What a person may set of a pool.
SETTINGS: dict[str, Setting] = {
    "workers": Setting(whole(1, 1024), "whole"),
    "memory": Setting(whole(MINIMUM_MEMORY, 2**50), "size"),
    "threads": Setting(whole(1, 256), "whole"),
    "preload": Setting(modules, "list"),
    "environment": Setting(variables, "table"),
    "gpus": Setting(gpus, "list"),
    "workers_per_gpu": Setting(whole(1, 64), "whole"),
    "queue": Setting(whole(1, 1_000_000), "whole"),
    "patience": Setting(seconds, "seconds"),
    "heartbeat": Setting(seconds, "seconds"),
    "stuck_after": Setting(seconds, "seconds"),
    "cpu_seconds": Setting(optional(seconds), "seconds"),
    "writable": Setting(folders, "folders"),
    "confine": Setting(flag, "flag"),
    "shared_above": Setting(whole(1, 2**50), "size"),
}

#: What a person may set of when workers are renewed.
RECYCLING: dict[str, Setting] = {
    "memory": Setting(optional(whole(MINIMUM_RECYCLE, 2**50)), "size"),
    "age": Setting(optional(seconds), "seconds"),
    "calls": Setting(optional(whole(1, 10**12)), "whole"),
}
