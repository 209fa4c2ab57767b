"""A work within a work: what it tells goes to the one around it, from a worker too."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from dspex_lab.jobs._remote import Piece, seed_all
from dspex_lab.jobs._work import Reporter, Work


class Said(NamedTuple):
    """One call of a reporter: its method and the arguments."""

    method: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]


class Relay:
    """The :class:`~dspex_lab.jobs.Reporter` of the inner work.

    Args:
        tell: takes what is said.
        stopping: says whether it is to end.
        folder: for files.
        submit: has pieces done; None where it can have none.
        number: of the job.
    """

    def __init__(
        self,
        tell: Callable[[Said], None],
        stopping: Callable[[], bool],
        *,
        job_id: str,
        seed: int | None = None,
        attempt: int = 1,
        state: Any = None,
        workers: int = 1,
        folder: str | None = None,
        submit: Callable[..., Future[Any]] | None = None,
        number: int | None = None,
    ) -> None:
        self.job_id, self.seed, self.attempt, self.state, self.workers = job_id, seed, attempt, state, workers
        self.known: frozenset[int] | None = None
        self.folder, self.number = folder, number
        self._tell, self._stopping, self._submit = tell, stopping, submit
        self._next, self._lock = 0, threading.Lock()

    @property
    def stopping(self) -> bool:
        """Whether it is to end soon."""
        return self._stopping()

    def progress(self, done: float, total: float | None = None, note: str = "", score: float | None = None) -> None:
        """Tell how far it is."""
        self._tell(Said("progress", (done, total, note, score), {}))

    def trial(self, score: float | None = None, **fields: Any) -> int:
        """Tell of a candidate, and return its number within the inner work."""
        with self._lock:
            number = int(fields.get("number", self._next))
            self._next = max(self._next, number + 1)
        self._tell(Said("trial", (score,), {**fields, "number": number}))
        return number

    def best(self, candidate: Any, score: float | None = None) -> None:
        """Tell of the best candidate so far."""
        self._tell(Said("best", (candidate, score), {}))

    def keep(self, state: Any) -> None:
        """Keep what it goes on from."""
        self._tell(Said("keep", (state() if callable(state) else state,), {}))

    def submit(
        self, function: Callable[..., Any], *args: Any, told: Callable[[Any], None] | None = None, label: str | None = None
    ) -> Future[Any]:
        """Have a piece done."""
        if self._submit is None:
            raise RuntimeError("A work that runs whole on a worker has no pieces.")
        return self._submit(function, *args, told=told, label=label)

    def again(self, count: int) -> None:
        """Tell that so much is done a second time."""
        self._tell(Said("again", (count,), {}))


def carry(piece: Piece, work: Work, order: Mapping[str, Any]) -> Any:
    """Run a work whole, as a piece of another.

    Args:
        order: what its :class:`Relay` is made with.
    """
    if order["seed"] is not None:
        seed_all(order["seed"])
    return work.run(Relay(piece.tell, lambda: piece.stopping, **order))


def run_within(work: Work, reporter: Reporter, told: Callable[[Said], None], *, seed: int | None, state: Any) -> Any:
    """Run a work within another: whole on a worker, or, where it is spread, in this thread with pieces on workers."""
    folder = reporter.folder
    order = {"job_id": reporter.job_id, "seed": seed, "attempt": reporter.attempt, "state": state, "folder": folder}
    if not work.spread:
        return reporter.submit(carry, work, order, told=told, label=work.kind).result()
    return work.run(Relay(told, lambda: reporter.stopping, **order, workers=reporter.workers, submit=reporter.submit))


class Beside:
    """A function in a thread of its own, in the context of whoever began it."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        context = contextvars.copy_context()

        def run() -> None:
            try:
                context.run(function)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="dspex-beside", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end; what it raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
