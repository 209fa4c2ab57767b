"""What was tried so far: which candidates, on which rows, how they did, the best; and what is kept of it for a resume."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex_lab.events import TrialRecord
from dspex_lab.jobs._programs import fingerprint_program
from dspex_lab.jobs._work import Reporter
from dspex_lab.jobs.optimize._meter import Bill, Meter
from dspex_lab.jobs.optimize._optimized import candidate_of, light, slim

#: Rows up to which the scores of a candidate's rows are kept.
MOST_ROWS = 2000


class Tried:
    """Turns candidates into trials and keeps the best. Thread-safe.

    A candidate that was evaluated on the same rows before the last resume gets the number it had: the job marks it as repeated.

    Args:
        reporter: the job's.
        meter: what is spent.
        state: what :meth:`kept` gave in an earlier attempt.
    """

    def __init__(self, reporter: Reporter, meter: Meter, state: Mapping[str, Any] | None = None) -> None:
        kept = dict(state or {})
        self._meter, self._paid = meter, kept.get("bill", Bill())
        self._reporter, self._lock = reporter, threading.RLock()
        self._numbers: dict[tuple[str, int], int] = dict(kept.get("numbers", {}))
        self._seen: Counter[str] = Counter()
        #: Takes from a candidate what an optimizer has lent it.
        self.cleaned: Callable[[Any], Any] | None = None
        #: By number.
        self.records: dict[int, TrialRecord] = dict(kept.get("records", {}))
        self.rows: dict[int, tuple[float, ...]] = dict(kept.get("rows", {}))
        #: Mean scores on all validation rows, by the fingerprint of the program.
        self.measured: dict[str, float] = dict(kept.get("measured", {}))
        self.program, self.score, self.number = kept.get("best", (None, None, None))
        self.repeated: int = kept.get("repeated", 0)
        #: What the driver keeps.
        self.own: Any = kept.get("own")
        self.before: float | None = kept.get("before")
        #: Calls of the metric in earlier attempts.
        self.done: int = kept.get("done", 0)
        #: The first trial of each program in this attempt, by its fingerprint.
        self.known: dict[str, int] = {}
        #: The trial of each program on all validation rows, in this attempt.
        self.whole: dict[str, int] = {}
        self._earlier: float = kept.get("seconds", 0.0)
        self._began = time.monotonic()
        #: Those of an earlier attempt; done again, they are repeated.
        self._old = frozenset(self.records)

    @property
    def seconds(self) -> float:
        """Of all attempts."""
        return self._earlier + time.monotonic() - self._began

    @property
    def bill(self) -> Bill:
        """What was spent in all attempts."""
        return self._paid.plus(self._meter.now)

    @property
    def best(self) -> TrialRecord | None:
        """The best trial."""
        return None if self.number is None else self.records.get(self.number)

    def add(
        self,
        program: Any,
        scores: Sequence[float],
        *,
        rows: str,
        whole: bool,
        parent: int | None = None,
        measures: bool = False,
        **fields: Any,
    ) -> int:
        """Tell of a candidate that was evaluated, and return its number.

        Args:
            program: the candidate.
            scores: of the rows.
            rows: tells these rows from others.
            whole: it may be compared with the others that are whole: the best of them is kept.
            parent: what it was made from; by default the trial of the same candidate on other rows, or the first one.
            measures: these are all validation rows; the first that is measured is the program as it was given.
            fields: more of the trial's.
        """
        mean = sum(scores) / len(scores)
        program = slim(program) if self.cleaned is None else self.cleaned(slim(program).deepcopy())
        print_ = fingerprint_program(program)
        with self._lock:
            number = self._number(f"{print_}/{rows}", len(scores))
            if parent is None:
                parent = self._parent(print_, number)
            if measures:
                self.whole.setdefault(print_, number)
                self.measured.setdefault(print_, mean)
                self.before = mean if self.before is None else self.before
            fields = {"candidate": candidate_of(program), **fields, "rows": len(scores)}
            self._told(number, mean, parent=parent, **fields)
            self.known.setdefault(print_, number)
            if len(scores) <= MOST_ROWS:
                self.rows[number] = tuple(scores)
            if whole and (self.score is None or mean > self.score):
                self._better(program, mean, number)
            return number

    def told(self, key: str, score: float | None, **fields: Any) -> int:
        """Tell of a trial that somebody else has evaluated, and return its number; ``key`` tells it from others."""
        with self._lock:
            number = self._number(key)
            self._told(number, score, **fields)
            return number

    def keep(self) -> None:
        """Keep all of it for a resume."""
        self._reporter.keep(self.kept())

    def kept(self) -> dict[str, Any]:
        """Return what a resume goes on from."""
        with self._lock:
            return {
                "numbers": dict(self._numbers),
                "records": {n: (t if n == self.number else light(t)) for n, t in self.records.items()},
                "rows": dict(self.rows),
                "measured": dict(self.measured),
                "best": (self.program, self.score, self.number),
                "repeated": self.repeated,
                "seconds": self.seconds,
                "before": self.before,
                "done": self.done,
                "bill": self.bill,
                "own": self.own,
            }

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _number(self, key: str, rows: int = 0) -> int:
        self._seen[key] += 1
        at = (key, self._seen[key])
        if at in self._numbers:
            self.repeated += 1
            self._reporter.again(rows)
        else:
            self._numbers[at] = 1 + max(self.records, default=-1)
        return self._numbers[at]

    def _parent(self, print_: str, number: int) -> int | None:
        parent = self.known.get(print_, 0)
        return parent if parent < number else None

    def _told(self, number: int, score: float | None, **fields: Any) -> None:
        status = fields.get("status", "complete")
        made = {"parent": None, "seconds": 0.0, **fields, "status": status}
        seconds = made["seconds"]
        record = TrialRecord(self._reporter.job_id, number, started=time.time() - seconds, score=score, **made)
        if number in self._old:
            record = record._replace(status="repeated" if status == "complete" else status)
        self.records[number] = record
        self._reporter.trial(score, number=number, **made)

    def _better(self, program: Any, score: float, number: int) -> None:
        # Optimizers go on changing what they evaluated.
        self.program, self.score, self.number = program.deepcopy(), score, number
        self._reporter.best(self.program, score)
