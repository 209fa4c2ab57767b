"""What a pool is made of, and how the default is scaled to the machine."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dspex_lab.errors import ConfigurationError, did_you_mean

MB = 1_000_000

#: Bytes. An idle worker that has loaded DSPy has 110 MB resident (51 MB of them its own) and 175 MB of private writable
#: mappings, which is what RLIMIT_DATA counts; with this limit 155 MB are left for a task, with 512 MB 280.
MINIMUM_MEMORY = 384 * MB

#: Wanted when the machine is large enough: number of workers and bytes for each.
WANTED = {"general": (8, 512 * MB)}

#: The part of the machine's memory that a pool takes at most; the rest is the kernel's and the browser's.
SHARE = 0.5

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use: ``cores`` (affinity and cgroup quota respected) and ``memory`` in bytes."""

    cores: int
    memory: int


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool to be started.

    Args:
        name: how the pool is called in ``dx.step(..., pool=name)``.
        workers: number of worker processes.
        memory: bytes each worker may have; a task that needs more gets ``OutOfMemory``.
        threads: calls that one worker runs at once.
        preload: modules that every worker has imported before its first task; they must be importable by a fresh
            Python (installed, or in a folder of ``PYTHONPATH``).
        environment: variables set in the workers. BLAS and OpenMP read theirs when they are loaded, so what is
            preloaded keeps one thread.
        scaling: one sentence that says how the numbers came about.

    Raises:
        ConfigurationError: a number that makes no sense.
    """

    name: str
    workers: int
    memory: int
    threads: int = 1
    preload: tuple[str, ...] = ("dspy", "dspex_lab.pipelines._remote")
    environment: Mapping[str, str] = field(default_factory=dict)
    scaling: str = ""

    def __post_init__(self) -> None:
        for key, least in (("workers", 1), ("threads", 1), ("memory", MINIMUM_MEMORY)):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(
                    f"Pool {self.name!r}: {key} is {value!r}.",
                    key=f"pools.{self.name}.{key}",
                    expected=f"a whole number, at least {least}",
                    actual=value,
                    hint=f"Give a whole number, at least {least}.",
                )
        if not self.scaling:
            object.__setattr__(self, "scaling", f"{_count(self.workers)} of {_megabytes(self.memory)}, as asked.")


def machine() -> Machine:
    """Return what this process may use of the machine it runs on."""
    import psutil

    return Machine(
        cores=_cores(os.cpu_count() or 1, len(_affinity()), Path("/sys/fs/cgroup")),
        memory=_memory(psutil.virtual_memory().total, Path("/sys/fs/cgroup")),
    )


def default_spec(name: str = "general", *, machine: Machine | None = None) -> PoolSpec:
    """Return the pool as it is wanted, scaled to the machine.

    ``DSPEX_POOL_GENERAL_WORKERS`` and ``DSPEX_POOL_GENERAL_MEMORY`` (bytes, or with a unit: ``512MB``, ``1GiB``) in the
    environment override the scaling.

    Args:
        name: which pool; ``"general"`` is the one there is.
        machine: what to scale to; None asks this machine.

    Raises:
        ConfigurationError: an unknown name, or a variable that cannot be read.
    """
    if name not in WANTED:
        raise ConfigurationError(
            f"There is no default for a pool {name!r}.{did_you_mean(name, WANTED)}",
            key="pool",
            expected=sorted(WANTED),
            actual=name,
            hint=f"Defaults exist for: {', '.join(sorted(WANTED))}.",
        )
    workers, memory, scaling = _scale(*WANTED[name], machine or _this_machine())
    prefix = f"DSPEX_POOL_{name.upper()}"
    said = [key for key in (f"{prefix}_WORKERS", f"{prefix}_MEMORY") if os.environ.get(key)]
    if f"{prefix}_WORKERS" in said:
        workers = _whole(f"{prefix}_WORKERS")
    if f"{prefix}_MEMORY" in said:
        memory = _bytes(f"{prefix}_MEMORY")
    if said:
        scaling = f"{_count(workers)} of {_megabytes(memory)}: set by {' and '.join(said)}."
    return PoolSpec(name=name, workers=workers, memory=memory, scaling=scaling)


_this_machine = machine


def _scale(workers: int, memory: int, machine: Machine) -> tuple[int, int, str]:
    """Return workers, bytes for each, and the sentence. Never less than one worker of ``MINIMUM_MEMORY``."""
    room = int(machine.memory * SHARE)
    by_memory = max(1, room // memory)
    chosen = max(1, min(workers, machine.cores, by_memory))
    each = memory if room >= memory else max(MINIMUM_MEMORY, room)
    reasons = []
    if chosen < workers and chosen == machine.cores:
        reasons.append(f"this machine has {machine.cores} core{'s' if machine.cores > 1 else ''}")
    if chosen < workers and chosen == by_memory:
        reasons.append(f"half of this machine's {_megabytes(machine.memory)} of memory holds no more")
    if each < memory:
        reasons.append(f"each has {_megabytes(each)} and not {_megabytes(memory)}")
    what = f"{chosen} of {_count(workers)}" if chosen < workers else _count(workers)
    return chosen, each, f"{what}: {' and '.join(reasons)}." if reasons else f"{what} of {_megabytes(each)}, as wanted."


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cores(total: int, allowed: int, cgroup: Path) -> int:
    """Return the least of the cores there are, those of the affinity mask, and the cgroup's quota (v2, else v1)."""
    quota = math.inf
    words = _read(cgroup / "cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        quota = int(words[0]) / int(words[1])
    else:
        limit, period = _read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us")
        if limit and period and int(limit) > 0:
            quota = int(limit) / int(period)
    return max(1, int(min(total, allowed, math.ceil(quota) if quota != math.inf else total)))


def _memory(total: int, cgroup: Path) -> int:
    """Return the least of the memory there is and the cgroup's limit (v2, else v1), in bytes."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(cgroup / file)
        if text.isdigit():
            return min(total, int(text))
    return total


def _read(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""


def _whole(key: str) -> int:
    text = os.environ[key].strip()
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(
            f"{key} is {text!r}.",
            key=key,
            expected="a whole number, at least 1",
            actual=text,
            hint="Set a whole number, such as 4.",
        )
    return int(text)


def _bytes(key: str) -> int:
    text = os.environ[key].strip()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.lower())
    if not found or found[2] not in _UNITS or float(found[1]) * _UNITS[found[2]] < MINIMUM_MEMORY:
        raise ConfigurationError(
            f"{key} is {text!r}.",
            key=key,
            expected=f"a size, at least {_megabytes(MINIMUM_MEMORY)}",
            actual=text,
            hint=f"Set a size such as 512MB or 1GiB, at least {_megabytes(MINIMUM_MEMORY)}.",
        )
    return int(float(found[1]) * _UNITS[found[2]])


def _count(workers: int) -> str:
    return f"{workers} worker{'s' if workers != 1 else ''}"


def _megabytes(size: int) -> str:
    return f"{size // MB:,} MB"
