"""How a work tells: messages are gathered and sent a few at a time, so that a word on each row costs next to nothing."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.events import Record, TrialRecord
from dspex_lab.jobs._told import Abandoned, Again, Batch, Best, Called, Kept, Message, Order, Tried, Went
from dspex_lab.lms import Ledger
from dspex_lab.pools import TaskCancelled

log = logging.getLogger("dspex_lab")

#: Seconds after which messages that can wait (progress, calls of models) are sent.
EVERY = 0.1
#: Messages after which they are.
MOST = 200

_FIELDS = frozenset(TrialRecord._fields) - {"job_id", "score"}

#: Has a piece of a work done elsewhere: its label, the function, its arguments, and who is told.
Submit = Callable[[str | None, Callable[..., Any], tuple[Any, ...], Callable[[Any], None] | None], Future[Any]]


class Reporting:
    """The :class:`~dspex_lab.jobs.Reporter` that a work is given. Thread-safe.

    Args:
        order: what the work was sent with.
        send: takes a :class:`Batch`; called with a lock held, in the order of the messages.
        asked: says whether the job was asked to stop.
        ledger: its account, where it has one.
        submit: has a piece done.
        repeat: is told how much is done again.
        workers: pieces at once on different workers.
    """

    def __init__(
        self,
        order: Order,
        send: Callable[[Batch], None],
        asked: Callable[[], bool],
        *,
        ledger: Ledger | None = None,
        submit: Submit | None = None,
        repeat: Callable[[int], None] | None = None,
        workers: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.job_id, self.seed, self.attempt, self.state = order.job_id, order.seed, order.attempt, order.state
        self.known: frozenset[int] | None = order.known
        self.number = order.number
        self.folder = None if order.stop_file is None else os.path.dirname(order.stop_file)
        self.workers = workers
        #: It was told to stop, when it looked.
        self.cut = False
        #: What a budget said that refused a call of a piece.
        self.spent_out = ""
        self._repeat = repeat
        self._asked, self._ledger, self._submit, self._send, self._clock = asked, ledger, submit, send, clock
        self._next = order.trials
        self._lock = threading.RLock()
        self._waiting: list[Message] = []
        self._sent = time.monotonic()
        self._timer: threading.Timer | None = None

    @property
    def refused(self) -> bool:
        """Whether the budget has refused a call."""
        return bool(self.spent_out) or (self._ledger is not None and self._ledger.snapshot().refused > 0)

    @property
    def stopping(self) -> bool:
        """Whether it is to end soon."""
        if self._asked() or self.refused:
            self.cut = True
        return self.cut

    def progress(self, done: float, total: float | None = None, note: str = "", score: float | None = None) -> None:
        """Tell how far it is."""
        with self._lock:
            if self._waiting and isinstance(self._waiting[-1], Went):
                self._waiting.pop()
            self._tell(Went(done, total, note, score), total is not None and done >= total)

    def trial(self, score: float | None = None, **fields: Any) -> int:
        """Tell of a candidate that was tried and return its number.

        Raises:
            ConfigurationError: a trial has no such field.
        """
        for name in fields.keys() - _FIELDS:
            near = did_you_mean(name, _FIELDS)
            raise ConfigurationError(f"A trial has no field {name!r}.{near}", key=name, expected=sorted(_FIELDS), actual=name)
        with self._lock:
            number = int(fields.pop("number", self._next))
            self._next = max(self._next, number + 1)
            seconds = fields.pop("seconds", 0.0)
            usual = {
                "parent": None,
                "status": "complete",
                "started": self._clock() - seconds,
                "seconds": seconds,
                "score": score,
            }
            if fields.get("scores") and score is None:
                usual["score"] = next(iter(fields["scores"].values()))
            self._tell(Tried(TrialRecord(self.job_id, number, **{**usual, **fields})), True)
        return number

    def best(self, candidate: Any, score: float | None = None) -> None:
        """Tell of the best candidate so far."""
        with self._lock:
            self._tell(Best(candidate, score), True)

    def keep(self, state: Any) -> None:
        """Keep what it goes on from."""
        if self._submit is None and callable(state):  # in a worker: a function would have to travel
            state = state()
        with self._lock:
            self._tell(Kept(state), True)

    def record(self, record: Record) -> None:
        """Pass on the record of a model's call."""
        with self._lock:
            self._tell(Called(record), False)

    def submit(
        self, function: Callable[..., Any], *args: Any, told: Callable[[Any], None] | None = None, label: str | None = None
    ) -> Future[Any]:
        """Have a piece done elsewhere.

        Raises:
            ConfigurationError: the work is not a spread one.
        """
        if self._submit is None:
            raise ConfigurationError(
                "This work runs whole on one worker and has no pieces.", key="spread", expected=True, actual=False
            )
        return self._submit(label, function, args, told)

    def again(self, count: int) -> None:
        """Tell that so much is done a second time."""
        if self._repeat is not None:
            self._repeat(count)
            return
        with self._lock:
            self._tell(Again(count), False)

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            self._sent = time.monotonic()
            if self._waiting:
                batch, self._waiting = Batch(tuple(self._waiting)), []
                self._send(batch)

    def _tell(self, message: Message, now: bool) -> None:
        self._waiting.append(message)
        if now or len(self._waiting) >= MOST or time.monotonic() - self._sent >= EVERY:
            self.flush()
        elif self._timer is None:
            # The next message may be minutes away.
            self._timer = threading.Timer(EVERY, self._late)
            self._timer.daemon = True
            self._timer.start()

    def _late(self) -> None:
        with self._lock:
            self._timer = None
            try:
                self.flush()
            except (TaskCancelled, Abandoned):
                log.debug("job %s was given up", self.job_id)  # its work meets the same where it tells something next
