"""From the records of a run, or of a map over many rows, to what the widget shows. Pure: no widget, no I/O."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from dspex_lab.events import Event, LMCall, Record, RunRecord, Span
from dspex_lab.widgets._counts import KNOWN, Step, Tokens
from dspex_lab.widgets._nodes import walk
from dspex_lab.widgets._notes import NOTED, Notes, shares_of

__all__ = ["FINAL", "RUN_STATUSES", "STEP_STATUSES", "RunState"]

STEP_STATUSES = ("waiting", "running", "complete", "fallback", "partial", "failed", "cancelled", "skipped")
RUN_STATUSES = ("waiting", "running", "complete", "partial", "failed", "cancelled", "interrupted")
FINAL = frozenset(RUN_STATUSES) - {"waiting", "running"}

_WINDOW = 10  # seconds over which the rate of a map is taken
_ITEM = re.compile(r"\[\d+\]|\.\d+(?=\.|$)")  # which item or round an inner step was done for


class RunState:
    """What is known of one run or map while its records come in.

    It follows the first run of ``name`` that starts after it was made (or ``run_id``, where given) and ignores
    every other. The rows of a map have runs of their own, which are not announced: a step's record counts for
    the map unless its run is known to be another. Not thread-safe; :class:`RunWidget` guards it.

    Args:
        graph: the pipeline, as ``Pipeline.graph()`` gives it.
        name: the pipeline's name, as its records have it; by default the graph's.
        total_rows: how many rows the map has; None for a run, or for a map of unknown length.
        lm: the language model in use, as shown; by default that of the first call.
        simulated: that model only imitates a provider.
        run_id: the run to follow; by default the next of that name.
        kind: ``"run"`` or ``"map"``; by default a map where ``total_rows`` is given.
        limits: what the run may spend, by ``cost`` (US dollars), ``tokens`` and ``calls``.
        account: gives what the Lab may spend (``limits``, by the same) and the share of it that is spent (``fraction``).
        level: of degradation when it starts.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        graph: Mapping[str, Any],
        name: str | None = None,
        total_rows: int | None = None,
        *,
        lm: str | None = None,
        simulated: bool = False,
        run_id: str | None = None,
        kind: Literal["run", "map"] | None = None,
        limits: Mapping[str, Any] | None = None,
        account: Callable[[], Mapping[str, Any]] | None = None,
        level: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name if name is not None else str(graph.get("name", ""))
        self.kind = kind or ("map" if total_rows is not None else "run")
        self.total_rows = total_rows
        self.run_id = run_id
        self.status = "waiting"
        self._lm, self._simulated, self._clock = lm, simulated, clock
        outermost = {str(n["name"]) for n in graph.get("nodes", ())}
        nodes = list(walk(graph))
        self._steps = {name: Step(name not in outermost) for name, _ in nodes}
        self._checks = [name for name, node in nodes if node.get("kind") in ("assert", "suggest")]
        self._owners: dict[str, tuple[Step, ...]] = {}
        self._foreign: set[str | None] = set()
        self._tokens = Tokens()
        self._notes = Notes(level)
        self._limits, self._account = limits, account
        self._budgets: list[dict[str, Any]] | None = None  # as they stood when the run ended
        self._started: float | None = None
        self._record: RunRecord | None = None
        self._error: str | None = None
        self._error_step: str | None = None
        self._rows: Counter[str] = Counter()
        self._row_seconds: deque[list[int]] = deque(maxlen=_WINDOW + 1)
        self._handlers: dict[type, Callable[[Any], bool]] = {
            Event: self._event,
            Span: self._span,
            LMCall: self._call,
            RunRecord: self._run_record,
        }

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return self.status in FINAL

    def apply(self, record: Record) -> bool:
        """Take in one record and return whether what is shown has changed; a few microseconds."""
        handler = self._handlers.get(type(record))
        return handler(record) if handler is not None else False

    def interrupt(self) -> bool:
        """Say that nothing more is awaited; a run that has not ended counts as interrupted. Returns whether it changed."""
        if self.final:
            return False
        self.status = "interrupted"
        return True

    def _mine(self, run_id: str | None) -> bool:
        if run_id == self.run_id:
            return run_id is not None
        return self.kind == "map" and self.run_id is not None and run_id is not None and run_id not in self._foreign

    def _event(self, event: Event) -> bool:
        name = event.name
        if name == "run.start":
            return self._start(event)
        if name in NOTED:
            return not self.final and self._notes.take(event, self._mine(event.run_id))
        step = self._found(event.step)
        if step is None or not self._mine(event.run_id):
            return False
        if name == "step.start":
            step.running += 1
            step.started = event.time
            step.status = "running"
            return True
        if self.kind == "map" or step.nested:
            return False  # counted by spans: exactly one for each step of each row, item or round
        if name == "step.stop" and step.status == "running":
            step.status, step.running = "complete", 0
            step.seconds = self._seconds_of(event, step)
            return True
        if name == "step.error":
            return self._error_event(event, step)
        return False

    def _error_event(self, event: Event, step: Step) -> bool:
        data = event.data or {}
        # A step that ends less than whole tells why by the same event.
        status = data.get("status")
        step.status, step.running = status if status in KNOWN else "failed", 0
        step.seconds = self._seconds_of(event, step)
        step.errors.clear()
        step.add_error(str(data.get("error") or "failed"))
        return True

    @staticmethod
    def _seconds_of(event: Event, step: Step) -> float:
        seconds = (event.data or {}).get("seconds")
        return float(seconds) if seconds is not None else max(event.time - (step.started or event.time), 0.0)

    def _start(self, event: Event) -> bool:
        data = event.data or {}
        fits = data.get("kind", self.kind) == self.kind and data.get("name", self.name) == self.name
        if self.run_id is None and fits:
            self.run_id = event.run_id
        if event.run_id != self.run_id:
            self._foreign.add(event.run_id)
            return False
        self._started = event.time
        if self.total_rows is None and self.kind == "map":
            self.total_rows = data.get("rows")
        if self.status == "waiting":
            self.status = "running"
        return True

    def _span(self, span: Span) -> bool:
        if span.kind != "step" or not self._mine(span.run_id):
            return False
        step = self._found(span.name)
        if step is None:
            return False
        if self.kind == "run" and not step.nested:
            step.again()
        step.add(span)
        return True

    def _found(self, name: str | None) -> Step | None:
        """Return the step of that name, also where the name says which item or round it was."""
        if not name:
            return None
        step = self._steps.get(name)
        return step if step is not None or "." not in name else self._steps.get(_ITEM.sub("", name))

    def _call(self, call: LMCall) -> bool:
        if not self._mine(call.run_id):
            return False
        self._tokens.add(call)
        self._notes.again += call.again and not call.cache_hit
        self._lm = self._lm or call.model
        self._simulated = self._simulated or call.simulated
        name = call.step or ""
        owners = self._owners.get(name)
        if owners is None:
            owners = self._owners[name] = tuple(self._around(name))
        for step in owners:
            step.tokens.add(call)
        return True

    def _around(self, name: str) -> Iterator[Step]:
        """Yield the step of that name and all around it (of ``outer.inner`` also ``outer``), as far as they are known."""
        name = name if name in self._steps else _ITEM.sub("", name)
        while name:
            if name in self._steps:
                yield self._steps[name]
            name = name.rpartition(".")[0]

    def _run_record(self, record: RunRecord) -> bool:
        if record.kind == "row":
            return self._row(record)
        if self.run_id is None and record.kind == self.kind and record.name == self.name:
            self.run_id = record.run_id
        if record.run_id != self.run_id:
            self._foreign.discard(record.run_id)
            return False
        self._record = record
        self._started = record.started
        self.status = record.status
        self._error, self._error_step = record.error or self._error, record.error_step or self._error_step
        self._lm = record.lm or self._lm
        self._simulated = self._simulated or record.simulated
        step = self._found(record.error_step)
        if step is not None and record.error and not step.errors:
            step.add_error(record.error)
        return True

    def _row(self, row: RunRecord) -> bool:
        if self.kind != "map" or self.run_id is None or row.parent_id != self.run_id:
            return False
        self._rows[row.status] += 1
        second = int(row.started + row.seconds)
        if self._row_seconds and self._row_seconds[-1][0] >= second:
            self._row_seconds[-1][1] += 1
        else:
            self._row_seconds.append([second, 1])
        return True

    def snapshot(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Return what is to be shown now: ``(steps, summary)``, both new and JSON-able.

        A step has ``status`` (see ``STEP_STATUSES``), ``seconds`` (so far, in all, or in a map the mean of a row; None
        before it started), ``running complete partial failed skipped`` (counts), ``times`` (how often an inner
        step has ended; its seconds are then the mean), ``calls cached prompt_tokens completion_tokens
        cost unpriced`` (of its language model calls), ``implementation worker``, and ``errors``: the most frequent
        first, ``{"text", "count"}``. The summary has ``name kind status run_id lm simulated``, ``at`` (the time of this
        snapshot, epoch seconds), ``seconds`` (None before the start), the counts of language model calls, ``error
        error_step`` (of a run that ended without one: what its first step lacks that gave less
        than wanted), and ``rows`` (None for a run): ``total done complete partial failed cancelled rate eta``, where
        ``done`` is all that have ended, ``rate`` rows per second and ``eta`` seconds. ``notes`` counts what was ``retried``,
        asked ``again`` in JSON and ``hedged`` with success, and names who answered ``instead`` (``{"name", "count"}``), which
        circuits are ``open`` and the ``level`` of degradation (None where nothing is left out). ``budgets`` has
        ``{"of", "share", "limit"}`` for each budget, as it stood when the run ended.
        """
        now = self._clock()
        steps = {n: s.shown(self._status(s), self._seconds(s, now)) for n, s in self._steps.items()}
        if self.kind == "run":
            self._refuse(steps)
        return steps, self._summary(now)

    def _refuse(self, steps: dict[str, dict[str, Any]]) -> None:
        """Say of answers that a check refused what was wrong: the step itself was complete, its answers were not used."""
        for name in self._checks:
            check = steps[name]
            for inner in steps:
                tried = inner.rpartition(".")[0] == name and steps[inner]["status"] == "complete"
                if tried and check["status"] in ("partial", "failed", "fallback"):
                    steps[inner] |= {"status": "partial", "errors": check["errors"]}

    def _short(self) -> tuple[str | None, str | None]:
        """Return what went wrong in the run, or else in its first step that ended less than whole, and that step."""
        if self._error is not None or self.kind == "map" or not self.final:
            return self._error, self._error_step
        short = ((n, s) for n, s in self._steps.items() if not s.nested and s.errors)
        return next(((s.errors.most_common(1)[0][0], n) for n, s in short), (None, None))

    def _status(self, step: Step) -> str:
        many = self.kind == "map" or step.nested
        if many and step.ended and (self.final or self._all_ended(step)):
            return step.status if step.ended == 1 and self.kind == "run" else step.joint
        if self.final and step.status in ("waiting", "running"):
            return "skipped" if step.status == "waiting" else "cancelled"  # the run ended without it, or under it
        if many:
            return "running" if step.ended or step.running else "waiting"
        return step.status

    def _all_ended(self, step: Step) -> bool:
        return not step.running if self.kind == "run" else step.ended == self.total_rows and not step.nested

    def _seconds(self, step: Step, now: float) -> float | None:
        if self.kind == "map" or step.worked > 1:
            return step.seconds / step.worked if step.worked else None
        if step.status == "running":
            return max(now - step.started, 0.0) if step.started is not None and not self.final else None
        return None if step.status in ("waiting", "skipped") else step.seconds

    def _summary(self, now: float) -> dict[str, Any]:
        record, (error, step) = self._record, self._short()
        seconds = record.seconds if record else max(now - self._started, 0.0) if self._started is not None else None
        tokens = self._tokens.shown()
        if record:
            final = {"prompt_tokens": record.prompt_tokens, "completion_tokens": record.completion_tokens, "cost": record.cost}
            tokens.update({k: v for k, v in final.items() if v is not None})
        return {
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "run_id": self.run_id,
            "at": now,
            "seconds": seconds,
            "lm": self._lm,
            "simulated": self._simulated,
            **tokens,
            "error": error,
            "error_step": step,
            "rows": self._rows_shown(now, seconds) if self.kind == "map" else None,
            "notes": self._notes.shown(),
            "budgets": self._shares(tokens),
        }

    def _shares(self, tokens: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self._budgets is not None:
            return self._budgets
        spent = self._tokens.spent()
        spent |= {"cost": tokens["cost"] or 0.0, "tokens": tokens["prompt_tokens"] + tokens["completion_tokens"]}
        found = shares_of(self._limits, spent, self._account)
        if self.final:
            self._budgets = found
        return found

    def _rows_shown(self, now: float, seconds: float | None) -> dict[str, Any]:
        done = self._rows.total()
        rate = self._rate(now, seconds, done)
        left = max(self.total_rows - done, 0) if self.total_rows is not None else None
        return {
            "total": self.total_rows,
            "done": done,
            **{status: self._rows[status] for status in ("complete", "partial", "failed", "cancelled")},
            "rate": rate,
            "eta": left / rate if left and rate and not self.final else None,
        }

    def _rate(self, now: float, seconds: float | None, done: int) -> float | None:
        """Rows per second: while it runs over the last seconds, at the end over the whole."""
        if not done or not seconds:
            return None
        if self.final or seconds <= _WINDOW:
            return done / seconds
        recent = sum(n for second, n in self._row_seconds if second > now - _WINDOW)
        return recent / _WINDOW
