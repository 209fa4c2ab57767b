"""One call, as the kernel sees it: what was asked, how it stands, what came of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.errors import PoolError
from dspex_lab.events import Event
from dspex_lab.pools._carry import Parcel
from dspex_lab.pools._placement import ANYWHERE, Placement
from dspex_lab.pools._wire import Call, Packed, Reply, Usage

if TYPE_CHECKING:
    from dspex_lab.pools._queue import Seeker
    from dspex_lab.pools._worker import Attempt, Worker


class Carried(NamedTuple):
    """How something travelled (``inline``, ``buffers`` or ``shared``) and how large it was, in bytes."""

    protocol: str
    size: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call cost and where it ran.

    Attributes:
        worker: the name of the last worker that had it; empty where none had.
        pid: its process, None where there was none.
        usage: what it cost there; zeros where the worker died.
        sent: how its arguments travelled.
        received: how its answer travelled, None where there was none.
        waited: seconds that it waited for its worker.
        seconds: seconds that it was with its worker.
        status: ``complete`` (the callable returned or raised), ``timeout``, ``cancelled`` or ``failed``.
    """

    worker: str
    pid: int | None
    usage: Usage
    sent: Carried
    received: Carried | None
    waited: float
    seconds: float
    status: str


#: Calls are numbered in their kernel; a worker that several kernels share tells them apart by the prefix.
_numbers = itertools.count(int.from_bytes(os.urandom(6), "big") << 32)


def _nobody() -> None:
    return None


@dataclass(eq=False, slots=True)
class Job:
    """One call and its options (see :meth:`Pool.call`); the rest is its state, which belongs to the pools' loop.

    ``parcel`` is the callable with its arguments, packed; ``admitted`` is called once, when the call no longer waits in its
    pool's queue.
    """

    parcel: Parcel
    streams: bool = False
    cpu: float | None = None
    timeout: float | None = None
    idempotent: bool = False
    tags: Mapping[str, Any] = field(default_factory=dict)
    long: bool = False
    place: Placement = ANYWHERE
    identity: str | Callable[[], str] | None = None
    deadline: float | None = None
    told: Callable[[Outcome], None] | None = None
    admitted: Callable[[], None] = _nobody
    # ---- how it stands
    id: str = field(default_factory=lambda: f"{next(_numbers):x}")
    asked: float = field(default_factory=time.monotonic)
    done: Callable[[], object] = _nobody
    reply: Reply | None = None
    error: PoolError | None = None
    worker: Worker | None = None
    outcome: Outcome | None = None
    attempt: Attempt | None = None
    seeker: Seeker[Worker] | None = None
    backoff: asyncio.TimerHandle | None = None
    deaths: int = 0
    delivered: bool = False
    finished: bool = False
    moves: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """How events and errors call it."""
        return self.parcel.label

    @property
    def where(self) -> str:
        """The name of the worker that it is or was on; empty where it had none."""
        return self.worker.name if self.worker is not None else ""

    def call(self, *, send: bool) -> Call:
        """Return it as it is sent to a worker; ``send``: with the callable."""
        return self.parcel.call(self.id, send=send, streams=self.streams, cpu=self.cpu)

    def leave_queue(self) -> None:
        """It waits no more."""
        admitted, self.admitted = self.admitted, _nobody
        admitted()

    def moved(self) -> None:
        """Wake whoever looks on: it has a worker, or has lost it, or is finished."""
        moves, self.moves = self.moves, []
        for move in moves:
            if not move.done():
                move.set_result(None)

    def finish(self, *, reply: Reply | None = None, error: PoolError | None = None) -> None:
        """Say what came of it; only the first word counts."""
        if self.finished:
            return
        self.finished, self.reply, self.error = True, reply, error
        self.leave_queue()
        self.moved()
        self.done()

    def result(self) -> Reply:
        """Return what the worker answered, or raise what befell the call."""
        if self.reply is None:
            raise self.error or PoolError(f"{self.label} is not finished.", task=self.label)
        return self.reply

    def next_move(self) -> asyncio.Future[None]:
        """Return a future that is done at the next :meth:`moved`."""
        move: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.moves.append(move)
        return move


def carried(packed: Packed) -> Carried:
    """Return how a packed value travels."""
    return Carried(packed.protocol, packed.size)


def event_of(name: str, job: Job, **data: Any) -> Event:
    """Return the event of a call: the ids among its tags in the event's own fields, all else in its data."""
    tags = job.tags
    extra = {k: v for k, v in tags.items() if k not in ("run_id", "span_id", "step")}
    data = {**extra, "label": job.label, **data}
    return Event(name, time.time(), tags.get("run_id"), tags.get("span_id"), tags.get("step"), data)
