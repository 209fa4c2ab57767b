"""Tasks that killed their workers: after the second one they are not given a third."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from dspex_lab.pools._frames import pack
from dspex_lab.pools._job import Job
from dspex_lab.pools._wire import Packed

#: Workers that a task may kill before it is refused.
LIMIT = 2

#: Seconds after which a death is forgotten.
MEMORY = 3600.0

#: Bytes at both ends of a large buffer that say which one it is.
_SAMPLE = 512 * 1024


@dataclass(slots=True)
class _Record:
    label: str
    deaths: list[tuple[float, str, Fraction]] = field(default_factory=list)


class Poison:
    """Remembers which task was running when a worker died of itself.

    While nobody has died, asking costs nothing; else arguments are looked at only where the function is one that was there.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._functions: dict[str, int] = {}
        self._look_again = 0.0

    def __len__(self) -> int:
        return len(self._records)

    def count(self, job: Job, how: str, suspects: int = 1) -> None:
        """A worker died under this task; ``how`` says it in words. Of several that ran on it, ``suspects``, each has its share
        of the blame: nobody knows which one it was."""
        self._forget()
        record = self._records.setdefault(identity_of(job), _Record(job.label))
        record.deaths.append((self._clock(), how, Fraction(1, suspects)))
        self._functions[job.parcel.digest] = self._functions.get(job.parcel.digest, 0) + 1

    def against(self, job: Job) -> list[str] | None:
        """Return how it killed its workers where it must not run again, else None."""
        if not self._records:
            return None
        self._forget()
        if job.identity is None and job.parcel.digest not in self._functions:
            return None
        record = self._records.get(identity_of(job))
        if record is None or sum(share for *_, share in record.deaths) < LIMIT:
            return None
        return [how for _, how, _ in record.deaths]

    def pardon(self, identity: str | None = None) -> list[str]:
        """Forget one task, or all; return the labels of those that were forgotten."""
        if identity is None:
            gone = list(self._records.values())
            self._records.clear()
            self._functions.clear()
        else:
            gone = [self._records.pop(identity)] if identity in self._records else []
        return [record.label for record in gone]

    def _forget(self) -> None:
        """Drop deaths that are long ago."""
        now = self._clock()
        if now < self._look_again:
            return
        self._look_again, past = now + 1.0, now - MEMORY
        for identity, record in list(self._records.items()):
            record.deaths = [death for death in record.deaths if death[0] > past]
            if not record.deaths:
                del self._records[identity]
        if not self._records:
            self._functions.clear()


def identity_of(job: Job) -> str:
    """Return what names a call's work: what its caller said, else a digest of function and arguments.

    Of large buffers only both ends and the size are looked at.
    """
    if job.identity is not None:
        if not isinstance(job.identity, str):
            job.identity = job.identity()
        return job.identity
    return _digest(job.parcel.digest, job.parcel.arguments)


def fingerprint(*what: Any) -> str:
    """Return what names some work that is done on these values, for ``Pool.call(identity=)``; it does not show them.

    Raises:
        Exception: one of them cannot travel.
    """
    return _digest("", pack(what))


def _digest(function: str, arguments: Packed) -> str:
    digest = hashlib.blake2b(function.encode(), digest_size=16)
    for part in (arguments.head, *arguments.buffers):
        view = memoryview(part).cast("B")
        digest.update(str(view.nbytes).encode())
        if view.nbytes <= 2 * _SAMPLE:
            digest.update(view)
        else:
            digest.update(view[:_SAMPLE])
            digest.update(view[-_SAMPLE:])
    if arguments.shared is not None:
        digest.update(repr(arguments.shared[1]).encode())
    return digest.hexdigest()
