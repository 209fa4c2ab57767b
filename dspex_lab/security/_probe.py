"""Tries in a process of its own what this kernel refuses when asked to. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable


def main() -> None:
    """Print, as JSON, the version of Landlock (0: none) and what is missing, by layer."""
    filter_, found = b"", 0
    missing: dict[str, str] = {}

    def write_filter() -> str:
        nonlocal filter_
        from dspex_lab.security import _seccomp

        filter_ = _seccomp.program()  # while libraries can still be read
        return ""

    def landlock() -> str:
        nonlocal found
        from dspex_lab.security._landlock import abi

        found = abi()
        return landlock_holds() if found else "Linux 5.13 or later with Landlock switched on is needed"

    # Each layer holds this very process from then on, so the order matters: the filter refuses Landlock's own calls.
    for layer, attempt in (
        ("rlimits", limits_hold),
        ("seccomp", write_filter),
        ("landlock", landlock),
        ("seccomp", lambda: filter_holds(filter_)),
    ):
        problem = tried(attempt) if layer not in missing else ""
        if problem:
            missing[layer] = problem
    print(json.dumps({"landlock": found, "missing": missing}))


def tried(attempt: Callable[[], str]) -> str:
    """Return what is wrong with a layer, empty: nothing."""
    try:
        return attempt()
    except (OSError, ImportError, AttributeError, TypeError, ValueError) as error:
        return str(error) or type(error).__name__


def limits_hold() -> str:
    """Limit memory, and try to have more."""
    from dspex_lab.security._rlimits import limit

    limit({"DATA": 1 << 30}, hard={"CORE": 0})
    try:
        bytearray(1 << 31)
    except MemoryError:
        return ""
    return "a limit of memory (RLIMIT_DATA) is taken and not held"


def landlock_holds() -> str:
    """Give up all files, and try to list a folder."""
    from dspex_lab.security import _landlock

    with _landlock.Ruleset(_landlock.EVERYTHING, network=True, scoped=True) as rules:
        rules.restrict()
    try:
        os.listdir("/")
    except PermissionError:
        return ""
    return "its rules are taken and not held"


def filter_holds(filter_: bytes) -> str:
    """Give up system calls, and try one."""
    from dspex_lab.security import _seccomp

    _seccomp.install(filter_)
    try:
        os.kill(os.getpid(), 0)
    except PermissionError:
        return ""
    return "its filter is taken and not held"
