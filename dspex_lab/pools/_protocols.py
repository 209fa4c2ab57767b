"""Who does what in a pool: the dispatcher decides, a fleet holds the processes, a link reaches one of them.

All of these belong to one loop, that of the pools' thread, and are called there only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dspex_lab.pools._wire import Call, Pulled, Pulse, Reply

if TYPE_CHECKING:
    from dspex_lab.pools._dispatch import Dispatcher
    from dspex_lab.pools._spec import PoolSpec
    from dspex_lab.pools._worker import Worker


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a worker's process from its birth.

    ``protection`` is the level of confinement obtained (``dspex_lab.security``), ``device`` its GPU (None: the CPU), ``local``
    whether it runs on the kernel's machine.
    """

    address: str = ""
    host: str = "127.0.0.1"
    local: bool = True
    device: str | None = None
    protection: str = ""


class Link(Protocol):
    """The wire to one worker. Everything raises OSError when the connection is lost."""

    async def call(self, call: Call) -> Reply:
        """Run a short call on the worker's Actor."""

    async def task(self, call: Call) -> Reply:
        """Run long work as a Dask task pinned to the worker, counted against its resource tag."""

    async def pull(self, call_id: str, patience: float) -> Pulled:
        """Return what a streaming call has told, waiting ``patience`` seconds for the first of it; what was told once is not
        told again. The worker's task waits while too much is untold."""

    async def cancel(self, call_id: str) -> None:
        """Ask a call to stop: a coroutine is cancelled, a function gets ``TaskCancelled`` at its next line of Python."""

    async def ping(self) -> Pulse:
        """Return how the worker is."""


class Fleet(Protocol):
    """The worker processes of one pool on a cluster. It tells the pool's dispatcher: ``born(name, pid, threads, about)`` when a
    process is up, ``ready(worker, link)`` when it takes calls, ``died(name, code, memory=…)`` when it ended, ``given_up(name,
    error)`` when it cannot be replaced, ``retired(name)`` when it left because the pool was made smaller."""

    async def start(self) -> None:
        """Start the workers; return when all are ready."""

    async def resize(self, workers: int) -> None:
        """Bring the number of workers to ``workers``; the idle ones go first, busy ones when they are free."""

    def kill(self, worker: Worker) -> None:
        """End a worker's process at once; another one takes its place."""

    async def close(self) -> None:
        """End the workers and remove their files. Idempotent."""


class Cluster(Protocol):
    """Where workers live: a cluster of the kernel's own, or one that was joined by address. One for all pools of a Lab."""

    #: How other kernels reach it; empty before the start.
    address: str

    async def start(self) -> None: ...

    def fleet(self, spec: PoolSpec, dispatcher: Dispatcher) -> Fleet:
        """Return the workers of a pool, not yet started."""

    async def close(self) -> None: ...
