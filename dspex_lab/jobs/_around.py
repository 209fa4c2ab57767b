"""What is around the jobs of a Lab."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dspex_lab.jobs._book import JobBook
from dspex_lab.jobs._shelf import Shelf
from dspex_lab.jobs._work import Adopter


class Pool(Protocol):
    """A worker pool, as jobs see it; :class:`dspex_lab.pools.Pool` is one."""

    name: str
    spec: Any

    async def call(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Run ``fn`` on a worker."""
        ...


@dataclass
class Around:
    """What the jobs of a Lab are given.

    Args:
        book: where their rows are.
        shelf: where their works, states and results are.
        emit: takes events, trials and the records of models' calls, as ``Bus.emit``; thread-safe.
        pool: gives the pool of a name.
        adopter: puts results to use; None where nobody does.
        clock: seconds since the epoch.
    """

    book: JobBook
    shelf: Shelf
    emit: Callable[[Any], None]
    pool: Callable[[str], Pool] | None = None
    adopter: Adopter | None = None
    clock: Callable[[], float] = time.time


def nobody(record: Any) -> None:
    """Nobody listens."""


def both(one: Callable[[Any], None], other: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """Return what tells both, the one first."""

    def told(record: Any) -> None:
        one(record)
        if other is not None:
            other(record)

    return told
