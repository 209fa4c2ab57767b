"""Which worker a call goes to: what was asked for, and the choice. Nothing here knows of queues or processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar, get_args

from dspex_lab.errors import ConfigurationError

#: How much a call wants its worker: rather that one (``hint``), only that one (``strict-queue``), only that one and only now.
Affinity: TypeAlias = Literal["hint", "strict-queue", "strict-fail"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a call is to run.

    Args:
        worker: the worker's name; a replacement has the name of the one that died, and counts as the same.
        affinity: ``hint``: that worker if it is free, else any; ``strict-queue``: waits for that worker; ``strict-fail``:
            ``PoolBusy`` at once when it is not free.
        reservation: the id of a :meth:`Pool.reserve`: the call runs on the worker that is reserved by it.

    Raises:
        ConfigurationError: an unknown affinity, or a strict one without a worker.
    """

    worker: str | None = None
    affinity: Affinity = "hint"
    reservation: str | None = None

    def __post_init__(self) -> None:
        known = get_args(Affinity)
        if self.affinity not in known:
            raise ConfigurationError(
                f"The affinity of a placement is {self.affinity!r}.",
                key="affinity",
                expected=list(known),
                actual=self.affinity,
                hint=f"One of {', '.join(known)}.",
            )
        if self.strict and self.worker is None and self.reservation is None:
            raise ConfigurationError(
                f"A placement with affinity {self.affinity!r} names no worker.",
                key="worker",
                expected="the name of a worker",
                actual=None,
                hint="Give worker=…; pool.status() has the names.",
            )

    @property
    def strict(self) -> bool:
        """Whether no other worker will do."""
        return self.affinity != "hint"


#: No wishes.
ANYWHERE = Placement()


class Candidate(Protocol):
    """What the choice looks at in a worker; ``free`` is whether it takes one more call now."""

    @property
    def name(self) -> str: ...
    @property
    def free(self) -> bool: ...
    @property
    def busy(self) -> int: ...
    @property
    def calls(self) -> int: ...
    @property
    def reserved(self) -> str | None: ...
    @property
    def leaving(self) -> bool: ...


W = TypeVar("W", bound=Candidate)


def candidates(place: Placement, workers: Iterable[W], *, alone: bool = False, held: Collection[W] = ()) -> list[W]:
    """Return the free workers that a call may go to.

    Args:
        alone: it wants a worker that runs nothing else.
        held: workers that are kept for somebody who has waited longer.
    """
    if place.reservation is not None:
        return [w for w in workers if w.reserved == place.reservation and w.free]
    return [
        w
        for w in workers
        if w.free
        and w.reserved is None
        and not w.leaving
        and not (alone and w.busy)
        and not (place.strict and w.name != place.worker)
        and w not in held
    ]


def choose(
    place: Placement,
    workers: Iterable[W],
    *,
    alone: bool = False,
    held: Collection[W] = (),
    shunned: str | None = None,
) -> W | None:
    """Return the worker a call goes to, None where it has to wait: the one it asks for if that is free, else the least
    loaded; the one named ``shunned`` only if no other is free."""
    return min(
        candidates(place, workers, alone=alone, held=held),
        key=lambda w: (w.name != place.worker, w.name == shunned, w.busy, w.calls),
        default=None,
    )


def keep(place: Placement, workers: Iterable[W], held: Collection[W]) -> W | None:
    """Return the worker to be kept for who waits for one that runs nothing else: the one that will soonest be alone. Without
    it, calls on workers of several threads would pass by for ever."""
    fit = [
        w
        for w in workers
        if w.reserved is None and not w.leaving and not (place.strict and w.name != place.worker) and w not in held
    ]
    return min(fit, key=lambda w: (w.name != place.worker, w.busy, w.calls), default=None)
