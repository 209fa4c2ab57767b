"""Limits of a process that the kernel holds. Standard library only: see ``sandbox/_zygote.py``."""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping

UNLIMITED = resource.RLIM_INFINITY


def limit(soft: Mapping[str, int], hard: Mapping[str, int] | None = None) -> None:
    """Set limits of this process by name (``"DATA"``, ``"CORE"``); never above what it may have.

    Args:
        soft: the limits that hold; the hard ones stay.
        hard: limits that hold for good.
    """
    for name, wanted in soft.items():
        kind, most = _of(name)
        resource.setrlimit(kind, (_smaller(wanted, most), most))
    for name, wanted in (hard or {}).items():
        kind, most = _of(name)
        value = _smaller(wanted, most)
        resource.setrlimit(kind, (value, value))


def allow_cpu(seconds: float | None) -> None:
    """Let this process use ``seconds`` of processor time more (None: any); then ``SIGXCPU`` ends it.

    The kernel counts from the start of the process, in whole seconds: the limit is raised before each task, and rounded up.
    """
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limit({"CPU": UNLIMITED if seconds is None else math.ceil(used + seconds)})


def _of(name: str) -> tuple[int, int]:
    kind: int = getattr(resource, f"RLIMIT_{name}")
    return kind, resource.getrlimit(kind)[1]


def _smaller(wanted: int, most: int) -> int:
    if most == UNLIMITED:
        return wanted
    return most if wanted == UNLIMITED else min(wanted, most)
