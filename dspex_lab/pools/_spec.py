"""What a pool is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools._checks import MINIMUM_MEMORY, RECYCLING, SETTINGS, Bad, pool_name
from dspex_lab.pools._machine import Machine, machine
from dspex_lab.pools._sizes import MB, written

__all__ = ["MB", "MINIMUM_MEMORY", "PRELOAD", "Machine", "PoolSpec", "Recycle", "machine", "refused"]

#: What every worker has imported before its first task.
PRELOAD = ("dspy", "dspex_lab.pipelines._remote")


@dataclass(frozen=True, slots=True)
class Recycle:
    """When a worker is renewed between two calls; None is never.

    Args:
        memory: bytes of its own (PSS) that an idle worker may keep.
        age: seconds since its process started.
        calls: calls that it has answered.

    Raises:
        ConfigurationError: a number that makes no sense.
    """

    memory: int | None = None
    age: float | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        for key, setting in RECYCLING.items():
            try:
                object.__setattr__(self, key, setting.check(getattr(self, key)))
            except Bad as bad:
                raise refused(f"recycle.{key}", getattr(self, key), str(bad), f"recycle.{key}") from None

    def __str__(self) -> str:
        parts = (
            None if self.memory is None else f"{written(self.memory)} kept",
            None if self.age is None else f"{self.age:g} s",
            None if self.calls is None else f"{self.calls:,} calls",
        )
        return " or ".join(part for part in parts if part) or "never"


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
        gpus: ids of the GPUs that its workers compute on, one worker on each; none is the CPU.
        workers_per_gpu: workers that share one GPU.
        queue: calls that are packed and wait for a worker; further callers wait before theirs are packed.
        patience: seconds that a call waits for a worker before it gets ``PoolBusy``.
        recycle: when workers are renewed.
        heartbeat: seconds between two looks at each worker; one whose process was stopped is replaced after as many.
        stuck_after: seconds after which a worker that answers nothing is replaced.
        cpu_seconds: processor seconds that one call may use; None is no limit.
        writable: folders in which workers may write, besides their workspace and DSPy's cache.
        confine: keep workers from writing anywhere else, where the kernel can.
        shared_above: bytes from which a value goes by shared memory where kernel and worker are on one machine.

    Raises:
        ConfigurationError: a value that makes no sense; it says which, what was expected and what was found.
    """

    name: str
    workers: int
    memory: int
    threads: int = 1
    preload: tuple[str, ...] = PRELOAD
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # who sets a key there does not want it printed
    scaling: str = ""
    gpus: tuple[str, ...] = ()
    workers_per_gpu: int = 1
    queue: int = 1024
    patience: float = 300.0
    recycle: Recycle = field(default_factory=Recycle)
    heartbeat: float = 5.0
    stuck_after: float = 30.0
    cpu_seconds: float | None = None
    writable: tuple[str, ...] = ()
    confine: bool = True
    shared_above: int = 8 * MB

    def __post_init__(self) -> None:
        self._take("name", pool_name)
        for key, setting in SETTINGS.items():
            self._take(key, setting.check)
        if not isinstance(self.recycle, Recycle):
            raise self._refused("recycle", "a Recycle(memory=…, age=…, calls=…)")
        if self.recycle.memory is not None and self.recycle.memory > self.memory:
            raise self._refused(
                "recycle.memory", f"at most the {written(self.memory)} that a worker may have", self.recycle.memory
            )
        if self.stuck_after < self.heartbeat:
            raise self._refused("stuck_after", f"at least the heartbeat, {self.heartbeat:g} s")
        if not isinstance(self.scaling, str):
            raise self._refused("scaling", "a sentence")
        if not self.scaling:
            object.__setattr__(self, "scaling", f"{count(self.workers)} of {written(self.memory)}, as asked.")

    def _take(self, key: str, check: Any) -> None:
        try:
            object.__setattr__(self, key, check(getattr(self, key)))
        except Bad as bad:
            raise self._refused(key, str(bad)) from None

    def _refused(self, key: str, expected: str, *actual: Any) -> ConfigurationError:
        found = actual[0] if actual else getattr(self, key)
        # What is in an environment may be a secret: only the names are told.
        if key == "environment" and isinstance(found, Mapping):
            found = sorted(str(name)[:64] for name in found)
        return refused(f"Pool {str(self.name)[:64]!r}: {key}", found, expected, f"pools.{str(self.name)[:64]}.{key}")


def refused(what: str, found: Any, expected: str, key: str) -> ConfigurationError:
    """Return the error of a setting that cannot have this value; a long value is told in part."""
    said = repr(found)
    said = said if len(said) <= 100 else said[:99] + "…"
    return ConfigurationError(
        f"{what} is {said}.",
        key=key,
        expected=expected,
        actual=found if len(said) < 100 else said,
        hint=f"Expected: {expected}.",
    )


def count(workers: int) -> str:
    """Return ``1 worker`` or ``8 workers``."""
    return f"{workers:,} worker{'s' if workers != 1 else ''}"
