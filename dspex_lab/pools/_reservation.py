"""A worker for oneself."""

from __future__ import annotations

from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._placement import Placement


class Reservation:
    """A worker that runs nothing but what is sent with ``place=reservation.place``; follows the worker's name, so if its
    process dies, the replacement is reserved.

    Attributes:
        id: what a :class:`Placement` names it by.
    """

    def __init__(self, key: str, dispatcher: Dispatcher) -> None:
        self.id = key
        self._dispatcher = dispatcher
        worker = dispatcher.reserved(key)
        self._name = worker.name if worker is not None else ""

    def __repr__(self) -> str:
        return f"<Reservation {self.id}: worker {self._name} of pool {self._dispatcher.pool!r}>"

    @property
    def worker(self) -> str:
        """The worker's name."""
        return self._name

    @property
    def pid(self) -> int | None:
        """The process that the worker is now, None while it is being replaced."""
        worker = self._dispatcher.workers.get(self._name)
        return worker.pid or None if worker is not None and worker.state != "dead" else None

    @property
    def place(self) -> Placement:
        """What sends a call to it."""
        return Placement(reservation=self.id)
