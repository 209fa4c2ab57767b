"""All that is known of one job in this kernel: its state, how far it is, what it tried and spent, and its events."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dspex_lab.errors import JobError
from dspex_lab.events import LMCall, TrialRecord
from dspex_lab.jobs._around import Around
from dspex_lab.jobs._log import PROGRESS, EventLog
from dspex_lab.jobs._progress import Pace, Progress, Spent, left
from dspex_lab.jobs._shelf import Unkept
from dspex_lab.jobs._state import ENDED, LIVE, MOVES, Action, move
from dspex_lab.jobs._told import Again, Batch, Began, Best, Called, Kept, Message, Order, Tried, Went
from dspex_lab.jobs._work import Found
from dspex_lab.lms import Budget
from dspex_lab.store import JobRow

log = logging.getLogger("dspex_lab")

#: The event that tells of an action.
_EVENTS: Mapping[Action, str] = {
    "stop": "job.stop",
    "complete": "job.stop",
    "halt": "job.stop",
    "fail": "job.error",
    "interrupt": "job.stop",
    "resume": "job.resume",
}


class Account:
    """What is known of one job. Thread-safe.

    Args:
        row: as it is kept.
        around: the Lab's parts.
    """

    def __init__(self, row: JobRow, around: Around) -> None:
        self._around = around
        self._lock = threading.RLock()
        self._depth = 0
        # Told when the lock is free again: whoever listens may look at this job, and at others that tell something themselves.
        self._outgoing: deque[Any] = deque()
        self._telling = threading.Lock()
        self.log = EventLog()
        #: Set while the job is at rest.
        self.rests = threading.Event()
        self.row = row
        #: What it was started with, and what else is kept of it as plain data.
        self.spec: dict[str, Any] = dict(row.settings)
        self.attempts, self.repeated = row.attempts, row.repeated
        self._done, self._total, self._note, self.score = row.done, row.total, row.note or "", row.best
        self.spent = Spent(row.cost or 0.0, row.calls, row.tokens, self.spec.get("cached", 0), self.spec.get("unpriced", 0))
        #: How much was done, and the number of the next trial, when it last kept something.
        self._kept_at, self._kept_trial = self._done, 0
        # Those of an earlier process are read when somebody asks.
        self._trials: dict[int, TrialRecord] | None = None if row.attempts else {}
        self._last_trial = -1
        self._pace = Pace()
        self.best: Any = None
        self.state_kept: Any = None
        self._dirty = self._unwritten = False
        self.began: Began | None = None
        if row.state in ENDED:
            self.rests.set()
        if row.state in ENDED or self.elsewhere:
            self._replay()

    # ---- reading -----------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"job {self.row.number} ({self.row.kind} {self.row.name!r})"

    @property
    def heading(self) -> str:
        """What errors that begin with it call it."""
        return f"J{self.title[1:]}"

    @property
    def elsewhere(self) -> bool:
        """Whether another Lab has it under way."""
        return self.row.state in LIVE and self.row.lab_id != self._around.book.lab_id

    @property
    def budget(self) -> Budget:
        """What it may spend in all."""
        return Budget.of(self.spec.get("budget"))

    @property
    def trials(self) -> list[TrialRecord]:
        """What it tried, by number; of one that was tried again, the last time."""
        with self._locked():
            found = self._read_trials() if self._trials is None else self._trials
            return [found[number] for number in sorted(found)]

    def progress(self) -> Progress:
        """Return how it is now."""
        with self._locked():
            eta = None
            if self.row.state in ("running", "stopping"):
                eta = self._pace.eta(self._around.clock(), self._done, self._total)
            elif self.row.state == "complete":
                eta = 0.0
            rest = left(self._done, self._total, self.spent, self.budget)
            return Progress(self._done, self._total, self._note, self.score, self.spent, rest, eta, self.repeated)

    def found(self) -> Found:
        """Return what the work told until now."""
        with self._locked():
            return Found(_value(self.state_kept), self.trials, self.best, self.score)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                outermost = self._depth == 0
        # One thread tells at a time, in order; what others add meanwhile, it tells too.
        while outermost and self._outgoing and self._telling.acquire(blocking=False):
            try:
                while self._outgoing:
                    self._around.emit(self._outgoing.popleft())
            finally:
                self._telling.release()

    # ---- changing ----------------------------------------------------------------------------------------------------

    def act(self, action: Action, **changes: Any) -> None:
        """Take the job to another state, in the book first.

        Args:
            changes: fields of its row.

        Raises:
            JobError: it cannot be taken there from its state, or another Lab has changed it meanwhile.
        """
        with self._locked():
            before = self.row.state
            after = move(before, action, self.title)  # type: ignore[arg-type]
            now = self._around.clock()
            if action == "start":
                changes["started"] = self.row.started or now
            if after in ENDED:
                changes["ended"] = now
            self._write(before=before, state=after, **changes)
            if name := _EVENTS.get(action):
                if action == "resume":
                    self.log.reopen()
                more = {"error": self.row.error} if self.row.error else {}
                self.tell(name, state=after, **more)
            if after in LIVE:
                self.rests.clear()
            else:
                self.rest()

    def rest(self) -> None:
        """Let go whoever waits for the job, or follows it."""
        self.log.end()
        self.rests.set()

    def begin(self, continues: bool) -> Order:
        """The work is about to begin, for the first time or anew; return what it is sent with.

        What was done since it last kept something, or all where it does not continue, is done again: that is counted.
        """
        with self._locked():
            if self.attempts:
                self.repeated += int(self._done - (self._kept() if continues else 0.0))
            if not continues:
                self.state_kept = None
            self._done = self._kept()
            self.attempts += 1
            self.began = None
            self._pace.start(self._around.clock(), self._done)
            self.tell("job.start", state=self.row.state, attempt=self.attempts, repeated=self.repeated)
            number = 0 if self.state_kept is None else self._next_trial() if callable(self.state_kept) else self._kept_trial
            order = Order(self.row.job_id, self.attempts, self.spec.get("seed"), _value(self.state_kept), number)
            known = frozenset(self._read_trials() if self._trials is None else self._trials)
            return replace(order, known=known, number=self.row.number)

    def tell(self, event: str, /, **data: Any) -> None:
        """Tell of an event of the job, here and on the bus."""
        with self._locked():
            row = self.row
            about = {"job_id": row.job_id, "number": row.number, "kind": row.kind, "name": row.name}
            self._outgoing.append(self.log.add(event, self._around.clock(), about | data))

    def act_unwritten(self, action: Action, why: str, **changes: Any) -> None:
        """Bring the job to rest in this process only: the book cannot be written, or is another Lab's by now.

        Args:
            why: what a person should know of it; becomes its note.
            changes: fields of its row, as this process sees it.
        """
        with self._locked():
            state = MOVES[action].get(self.row.state, "interrupted")  # type: ignore[call-overload]
            self._note = why
            self.row = replace(self.row, state=state, ended=self._around.clock(), note=why, **changes)
            self.tell("job.error", state=state, error=why)
            self.rest()

    def said(self, event: str, /, **data: Any) -> None:
        """Tell of an event that changed what is kept of the job."""
        with self._locked():
            self._write()
            self.tell(event, state=self.row.state, **data)

    def say(self, note: str) -> None:
        """Note something that a person should know of it."""
        with self._locked():
            self._note = note
            self._unwritten = True

    def repeat(self, count: int) -> None:
        """So much is done again."""
        with self._locked():
            self.repeated += count
            self._unwritten = True

    def take(self, batch: Batch, attempt: int) -> None:
        """Take what the work told; of an earlier attempt that was given up, nothing."""
        with self._locked():
            if attempt == self.attempts:
                for message in batch.messages:
                    self._took(message)

    def _took(self, message: Message) -> None:
        match message:
            case Called(record):
                if isinstance(record, LMCall):
                    self.spent = self.spent.plus(record)
                    self._unwritten = True
                self._outgoing.append(record)
            case Went(done, total, note, score):
                self.score = self.score if score is None else score
                self._done, self._total, self._note = done, self._total if total is None else total, note or self._note
                self._pace.mark(self._around.clock(), done)
                self._unwritten = True
                self.tell(PROGRESS, done=done, total=self._total, note=self._note, best=self.score)
            case Tried(trial):
                self._tried(trial)
            case Best(candidate, score):
                self.best = candidate if candidate is not None else self.best
                self.score = score if score is not None else self.score
            case Kept(state):
                self.state_kept, self._kept_at, self._kept_trial = state, self._done, self._next_trial()
                self._dirty = True
            case Again(count):
                self.repeat(count)
            case Began():
                self.began = message

    def _tried(self, trial: TrialRecord) -> None:
        tried = self._read_trials() if self._trials is None else self._trials
        if trial.number in tried and trial.status == "complete":
            trial = trial._replace(status="repeated")
        tried[trial.number] = trial
        self._last_trial = max(self._last_trial, trial.number)
        if trial.score is not None and trial.status in ("complete", "repeated"):
            self.score = trial.score if self.score is None else max(self.score, trial.score)
        self._unwritten = True
        self._outgoing.append(trial)
        told = {
            k: v for k, v in trial._asdict().items() if v is not None and k not in ("job_id", "number", "candidate", "started")
        }
        self.tell("job.trial", trial=trial.number, best=self.score, **told)

    # ---- keeping -----------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Have the book and the shelf know what is known here, if that has changed."""
        with self._locked():
            if self._dirty or (self._unwritten and callable(self.state_kept)):
                self._dirty = False
                number = self._next_trial() if callable(self.state_kept) else self._kept_trial
                self.keep("state", (_value(self.state_kept), self._kept(), number, self.best, self.score))
            if self._unwritten:
                self._write()

    def keep(self, what: str, value: Any) -> bool:
        """Keep something beyond this process; return whether it is. Why not is noted."""
        try:
            self._around.shelf.put(self.row.job_id, what, value)
        except Unkept as why:
            log.warning("the %s of %s is not kept beyond this process: %s", what, self.title, why)
            self.spec.setdefault("unkept", {})[what] = str(why)
            return False
        self.spec.get("unkept", {}).pop(what, None)  # as it was kept by an earlier attempt
        return True

    def resume(self, budget: Mapping[str, float | int] | None) -> None:
        """Take the job up again, with what was kept of its state where that is not here any more.

        Args:
            budget: the limits in place of those that it had; None leaves them.

        Raises:
            JobError: what was kept cannot be read, or as :meth:`act`.
        """
        with self._locked():  # :meth:`let_go` is not to come in between
            if self.state_kept is None and self._around.shelf.has(self.row.job_id, "state"):
                kept = self._around.shelf.get(self.row.job_id, "state")
                self.state_kept, self._kept_at, self._kept_trial, self.best, self.score = kept
            self.say(" ".join(self.spec.get("notes", ())))  # what was said of its end holds no more
            if budget is not None:
                self.spec["budget"] = dict(budget)
            self.act("resume", error=None, ended=None)

    def let_go(self) -> bool:
        """Drop what can be read back; return False where it could not all be, or the job is not at its end."""
        with self._locked():
            shelf, job_id = self._around.shelf, self.row.job_id
            if self.row.state not in ("complete", "stopped") or self.spec.get("unkept") or not shelf.has(job_id, "result"):
                return False
            self.state_kept = self.best = self._trials = None
            return True

    def _next_trial(self) -> int:
        if self._trials is None:
            self._read_trials()
        return self._last_trial + 1

    def _read_trials(self) -> dict[int, TrialRecord]:
        self._trials = {trial.number: trial for trial in self._around.book.trials(self.row.job_id)}
        self._last_trial = max(self._trials, default=-1)
        return self._trials

    def _kept(self) -> float:
        """Return how much was done when it last kept something; a function gives what is at the moment."""
        if self.state_kept is None:
            return 0.0
        return self._done if callable(self.state_kept) else self._kept_at

    def _write(self, before: str | None = None, **changes: Any) -> None:
        self.spec |= {"cached": self.spent.cached, "unpriced": self.spent.unpriced}
        self._unwritten = False
        row = replace(
            self.row,
            version=self.row.version + 1,
            attempts=self.attempts,
            repeated=self.repeated,
            done=self._done,
            total=self._total,
            best=self.score,
            cost=self.spent.cost,
            calls=self.spent.calls,
            tokens=self.spent.tokens,
            note=self._note or None,
            settings=dict(self.spec),
            lab_id=self._around.book.lab_id,
            **changes,
        )
        if not self._around.book.save(row, (before or row.state,)):
            now = self._around.book.row(row.job_id)
            raise JobError(
                f"{self.heading} was changed by another Lab.",
                job=row.job_id,
                state=None if now is None else now.state,
                hint="Whoever resumed it has it now.",
            )
        self.row = row

    def _replay(self) -> None:
        """Have those who follow see what happened in an earlier process."""
        for event in self._around.book.events(self.row.job_id):
            self.log.again(event)
        self.log.end()


def _value(state: Any) -> Any:
    return state() if callable(state) else state
