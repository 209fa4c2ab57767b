"""What a nanny of a joined cluster is given, so that it says how its worker ended.

It is sent with its code: the nannies of others' workers need not have this package. It stays when the kernel leaves, for other
kernels; it does no more than log an event for each death.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import cloudpickle
from distributed.diagnostics.plugin import NannyPlugin

#: The topic of Dask's events under which deaths are told.
TOPIC = "dspex-deaths"


class Undertaker(NannyPlugin):
    """Tells ``address`` (the worker's), ``code`` (its exit status) and ``terminated`` (the process that the nanny last ended
    for its use of memory, -1 for none)."""

    name = "dspex-undertaker"
    idempotent = True

    def setup(self, nanny: Any) -> None:
        """Have the nanny tell of every end from now on."""
        from distributed._async_taskgroup import AsyncTaskGroupClosedError

        original = nanny._on_worker_exit_sync

        def exited(code: int) -> None:
            death = {
                "address": nanny.worker_address,
                "code": code,
                "terminated": nanny.memory_manager._last_terminated_pid,
            }
            with contextlib.suppress(AsyncTaskGroupClosedError):  # the nanny itself leaves: the scheduler tells of that
                nanny.log_event(TOPIC, death)
            original(code)

        nanny._on_worker_exit_sync = exited
        if nanny.process is not None:
            nanny.process.on_exit = exited


def packed() -> bytes:
    """Return an undertaker, pickled with its code."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(Undertaker())
    finally:
        cloudpickle.unregister_pickle_by_value(module)
