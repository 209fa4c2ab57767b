"""Waiting for a lease in a thread that must be able to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dspex_lab.variables import Lease, Space

#: Seconds between two looks whether to stop.
_LOOK = 0.1


def leased(space: Space, names: Sequence[str], owner: str, stopping: Callable[[], bool], *, ttl: float = 30.0) -> Lease | None:
    """Return the lease when it is granted, first in, first out; None where the job is to stop before.

    Raises:
        LeaseError: it would wait for itself.
    """
    found: list[Lease] = []
    failed: list[BaseException] = []
    done, lock, gone = threading.Event(), threading.Lock(), threading.Event()

    def take() -> None:
        try:
            lease = space.lease(*names, owner=owner, ttl=ttl)
            with lock:
                if gone.is_set():
                    lease.release()
                else:
                    found.append(lease)
        except BaseException as error:
            failed.append(error)
        done.set()

    threading.Thread(target=take, name="dspex-lease-wait", daemon=True).start()
    while not done.wait(_LOOK):
        if stopping():
            break
    with lock:
        gone.set()
    if failed:
        raise failed[0]
    return found[0] if found else None
