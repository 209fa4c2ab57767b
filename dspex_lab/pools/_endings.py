"""What is said of a call that came to nothing: the error for each way a worker can end."""

from __future__ import annotations

import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dspex_lab.errors import (
    CpuTimeExceeded,
    DspexError,
    OutOfMemory,
    PoisonTask,
    PoolBusy,
    PoolError,
    TaskTimeout,
    WorkerCrashed,
    WorkerKilled,
    WorkerStuck,
    did_you_mean,
)

if TYPE_CHECKING:
    from dspex_lab.pools._job import Job
    from dspex_lab.pools._worker import Worker

#: Why a worker's process ended: ``exit`` is its own doing or a stranger's, ``memory`` its nanny's, the others ours.
Reason: TypeAlias = Literal[
    "exit", "memory", "timeout", "cancelled", "lost", "closed", "stopped", "silent", "recycle", "restart", "resize"
]

#: What Dask reports where the exit status could not be read.
UNSEEN = 255

CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS})

_WHY = {
    "timeout": "because another call on it was out of time",
    "cancelled": "because another call on it was cancelled",
    "restart": "because somebody restarted it (Pool.restart)",
    "recycle": "because it was due to be recycled",
    "resize": "because the pool was made smaller",
}


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker's process ended; ``code`` is its exit status, negative for a signal."""

    reason: Reason
    code: int

    @property
    def by_its_task(self) -> bool:
        """Whether what it ran may have been the cause; not so where the pool or a person stopped it."""
        return self.reason in ("exit", "memory", "silent")


def epitaph(pool: str, worker: Worker, death: Death, job: Job) -> PoolError:
    """Return the error for a call whose worker died under it."""
    place, label = f"worker {worker.name} of pool {pool!r}", job.label
    where: dict[str, Any] = {"pool": pool, "worker": worker.name, "task": label}
    match death.reason:
        case "closed":
            return PoolError(f"Pool {pool!r} was closed while {label} ran.", **where)
        case "memory":
            return OutOfMemory(
                f"{label} made {place} use more memory than it may have, and the worker was ended.",
                hint=f"Work on smaller pieces, or set DSPEX_POOL_{pool.upper()}_MEMORY to more.",
                **where,
            )
        case "lost":
            hint = "Run it again, or call with idempotent=True."
            return WorkerKilled(f"The connection to {place} was lost under {label}; the worker was ended.", hint=hint, **where)
        case "stopped":
            return WorkerStuck(
                f"{place} was stopped (SIGSTOP) under {label}, did not go on, and was replaced.",
                hint="Somebody or something stopped its process. Run it again, or call with idempotent=True.",
                **where,
            )
        case "silent":
            return WorkerStuck(
                f"{place} answered nothing any more under {label}, and was replaced.",
                hint="Native code that holds Python's lock for long does this: give it pauses, or a longer stuck_after.",
                **where,
            )
        case "exit":
            return _exit(place, death.code, label, where)
        case reason:
            hint = "Run it again, or call with idempotent=True."
            return WorkerKilled(f"{place} was stopped under {label}, {_WHY[reason]}.", hint=hint, **where)


def _exit(place: str, code: int, label: str, where: dict[str, Any]) -> PoolError:
    sentence = f"{place} {ending(code)} under {label}."
    if code == -signal.SIGXCPU:
        return CpuTimeExceeded(
            f"{label} used more processor time than it was given, and {place} was ended.",
            hint="Allow more (cpu=…, or the pool's cpu_seconds), or make the work smaller.",
            **where,
        )
    if -code in CRASHES:
        return WorkerCrashed(sentence, hint=advice(code), **where)
    return WorkerKilled(sentence, hint=advice(code), **where)


def ending(code: int) -> str:
    """Return how a process ended, in words."""
    if code == UNSEEN:
        return "ended, unseen by its forkserver (which may have ended too),"
    if code >= 0:
        return f"ended with status {code}"
    names = {int(s): s.name for s in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def advice(code: int) -> str:
    """Return what to make of it."""
    if code in (-signal.SIGKILL, UNSEEN):
        return "The function itself, the system's out-of-memory killer or a person killed it."
    if -code in CRASHES:
        return "Native code crashed: look at the compiled packages that the function uses."
    if code < 0:
        return "The function itself or a person sent it this signal."
    return "The function ended its process (os._exit); it must return or raise."


def how(death: Death) -> str:
    """Return a death in a few words, for the record of a poison task."""
    match death.reason:
        case "memory":
            return "it needed too much memory"
        case "silent":
            return "its worker answered nothing any more"
        case _:
            return f"its worker {ending(death.code).rstrip(',')}"


def out_of_time(pool: str, worker: Worker, job: Job) -> TaskTimeout:
    """Return the error for a call whose time is up."""
    return TaskTimeout(
        f"{job.label} did not finish within {job.timeout:g} s on worker {worker.name} of pool {pool!r}; "
        "it is asked to stop, and the worker is replaced if it does not.",
        pool=pool,
        worker=worker.name,
        task=job.label,
        hint="Allow more time, or make the work smaller.",
    )


def busy(pool: str, label: str, waited: float, workers: list[Worker], *, ahead: int = 0) -> PoolBusy:
    """Return the error for somebody who got no worker in the time it would wait."""
    return PoolBusy(
        f"{label} waited {waited:.3g} s for a worker of pool {pool!r} and was not begun. {_running(workers)}"
        + (f" {ahead} more wait." if ahead else ""),
        pool=pool,
        task=label,
        hint=f"Wait longer (patience=…), give the pool more workers (lab.pools.resize({pool!r}, n)), or send less at once.",
    )


def not_free(pool: str, label: str, name: str, workers: list[Worker]) -> PoolBusy:
    """Return the error for a call that wanted this worker now or not at all."""
    return PoolBusy(
        f"{label} wants worker {name} of pool {pool!r}, which is not free, and does not wait. {_running(workers)}",
        pool=pool,
        worker=name,
        task=label,
        hint='Let it wait (affinity="strict-queue"), or let it run elsewhere (affinity="hint").',
    )


def _running(workers: list[Worker]) -> str:
    now = time.monotonic()
    words = []
    for worker in workers:
        running = [f"{a.job.label} for {now - a.began:.3g} s" for a in worker.attempts]
        kept = [f"reserved ({worker.reserved})"] if worker.reserved else []
        words.append(f"{worker.name}: {', '.join(running + kept) or worker.word}")
    shown = "; ".join(words[:8]) + (f"; and {len(words) - 8} more" if len(words) > 8 else "")
    return f"Its workers: {shown}." if words else "It has no worker yet."


def closed(pool: str) -> PoolError:
    """Return the error for who comes to a pool that is closed."""
    return PoolError(f"Pool {pool!r} is closed.", pool=pool, hint="Make another Lab, or get the pool anew.")


def no_such(pool: str, name: str, names: Collection[str]) -> PoolError:
    """Return the error for a worker that there is not."""
    return PoolError(
        f"Pool {pool!r} has no worker {name!r}.{did_you_mean(name, names)}",
        pool=pool,
        worker=name,
        hint=f"Its workers: {', '.join(names)}.",
    )


def unable(pool: str, what: str, error: BaseException) -> DspexError:
    """Return the error for a pool that could not be ``started`` or ``resized``."""
    if isinstance(error, DspexError):
        return error
    long = "AF_UNIX path too long" in str(error)
    named = PoolError(
        f"Pool {pool!r} could not be {what}: {type(error).__name__}: {error}.",
        pool=pool,
        hint="Set TMPDIR to a folder with a shorter path." if long else "`dspex-lab doctor` says what is missing.",
    )
    named.__cause__ = error
    return named


def poisoned(pool: str, label: str, deaths: list[str], identity: str) -> PoisonTask:
    """Return the error for a task that has killed its workers."""
    return PoisonTask(
        f"{label} is not run on pool {pool!r} again: it has killed its worker {len(deaths)} times ({'; '.join(deaths)}).",
        pool=pool,
        task=label,
        hint=f"Mend it, or allow it again with pool.pardon({identity!r}); it is forgotten after an hour.",
    )
