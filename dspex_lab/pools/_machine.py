"""What this process may use of the machine that it runs on."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use: ``cores`` (affinity and cgroup quota respected), ``memory`` in bytes (the cgroup's limit
    respected) and ``gpus``, their ids as ``CUDA_VISIBLE_DEVICES`` takes them."""

    cores: int
    memory: int
    gpus: tuple[str, ...] = ()


def machine() -> Machine:
    """Return what this process may use of the machine it runs on; no GPU library is loaded for it."""
    import psutil

    from dspex_lab.pools._devices import devices

    return Machine(
        cores=_cores(os.cpu_count() or 1, len(_affinity()), _CGROUP),
        memory=_memory(psutil.virtual_memory().total, _CGROUP),
        gpus=tuple(device.id for device in devices()),
    )


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
