"""What is adopted is watched: where its live score falls below what was measured at adoption, the version before comes back.

The live score is what people say of its runs (:meth:`Lab.feedback`: up is 1, down is 0), or a metric on each run where one is
given (:meth:`Lab.guard`). The test is sequential (:mod:`dspex_lab.workbench._watching`): it may look after each run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.events import Event, Record, RunRecord
from dspex_lab.jobs import score_of, wilson
from dspex_lab.store import FeedbackTable, ProgramRow, ProgramTable, recorded_runs
from dspex_lab.workbench._watching import Evidence, evidence

if TYPE_CHECKING:
    from dspex_lab.workbench._jobs import JobDoors

log = logging.getLogger("dspex_lab")

GUARDS = ("off", "suggest", "auto")
PEOPLE = "what people said of its runs"


def check_guard(guard: str) -> str:
    """Return what a guard does, if it is one of :data:`GUARDS`.

    Raises:
        ConfigurationError: it is none.
    """
    if guard not in GUARDS:
        raise ConfigurationError(
            f"A guard cannot be {guard!r}.{did_you_mean(str(guard), GUARDS)}", key="guard", expected=list(GUARDS), actual=guard
        )
    return guard


@dataclass
class Watch:
    """One adopted version that is watched. A cell shows what is known.

    Args:
        program: its name; ``version`` the one that is watched.
        mode: ``"off"``, ``"suggest"`` or ``"auto"``.
        baseline: the mean that is asked of its live scores.
        metric: ``metric(example, prediction)`` for each run; None: what people say.
        since: its adoption, seconds since the epoch.
        told: its fall was told.
    """

    program: str
    version: int
    mode: str
    baseline: float | None
    since: float
    metric: Callable[..., Any] | None = None
    scores: list[float] = field(default_factory=list, repr=False)
    told: bool = False

    @property
    def source(self) -> str:
        """Where its live scores are from."""
        if self.metric is None:
            return PEOPLE
        return f"the metric {getattr(self.metric, '__name__', None) or type(self.metric).__name__} on its runs"

    @property
    def evidence(self) -> Evidence | None:
        """What the live scores say; None where there is nothing to compare them with."""
        return None if self.baseline is None else evidence(self.scores, self.baseline)

    def __repr__(self) -> str:
        about = "no score in 0..1 was measured at adoption: give baseline=" if self.evidence is None else str(self.evidence)
        return f"{self.program} version {self.version} (guard {self.mode}; {self.source}): {about}"


class Guards:
    """The watches of a Lab, one for each program that was adopted. Thread-safe.

    Args:
        lab: whose runs are watched.
        table: the versions.
        back: puts a version to use: program, version, why.
    """

    def __init__(self, lab: JobDoors, table: ProgramTable, back: Callable[[str, int, str], Any]) -> None:
        self._lab, self._table, self._back = lab, table, back
        self._lock = threading.RLock()
        self._watches: dict[str, Watch] = {}
        self._listening = False

    def begin(self, name: str, row: ProgramRow, mode: str) -> Watch:
        """Watch a version that was just adopted."""
        low = self._low(row)
        baseline = low if low is not None and 0.0 <= low <= 1.0 else None
        before = self._watches.get(name)
        watch = Watch(name, row.version, mode, baseline, time.time(), None if before is None else before.metric)
        with self._lock:
            self._watches[name] = watch
        self._listen(watch)
        return watch

    def restore(self, jobs: Any) -> None:
        """Watch on what an earlier kernel adopted."""
        for name in self._table.names():
            row = self._table.in_use(name)
            if row is None or row.job_id is None or row.adopted is None:
                continue
            kept = jobs.get(row.job_id).settings.get("adopted") or {}
            if kept.get("version") == row.version:
                watch = self.begin(name, row, kept.get("guard", "off"))
                watch.since = row.adopted
                watch.scores.extend(self._said_before(watch))

    def end(self, name: str) -> None:
        """Watch a program no more: another version is in use."""
        with self._lock:
            self._watches.pop(name, None)

    def of(self, name: str) -> Watch:
        """Return the watch of a program.

        Raises:
            ConfigurationError: no job's result is in use under that name.
        """
        with self._lock:
            if name in self._watches:
                return self._watches[name]
            raise ConfigurationError(
                f"Nothing that a job found is in use as {name!r}.{did_you_mean(name, self._watches)}",
                key="guard",
                expected=sorted(self._watches),
                actual=name,
                hint="job.adopt(guard='auto') puts it to use and watches it.",
            )

    def set(self, name: str, mode: str | None, metric: Any, baseline: float | None) -> Watch:
        """Change a watch; with another metric it begins anew."""
        watch = self.of(name)
        with self._lock:
            watch.mode = watch.mode if mode is None else check_guard(mode)
            watch.baseline = watch.baseline if baseline is None else baseline
            if metric is not None:
                watch.metric, watch.scores, watch.told = metric, [], False
        self._listen(watch)
        self._look(watch)
        return watch

    # ---- what it is told ---------------------------------------------------------------------------------------------

    def said(self, name: str, started: float, good: bool) -> None:
        """Somebody said of a run of a program whether it was good."""
        with self._lock:
            watch = self._watches.get(name)
            if watch is None or watch.metric is not None or started < watch.since:
                return
            watch.scores.append(float(good))
        self._look(watch)

    def _listen(self, watch: Watch) -> None:
        with self._lock:
            if watch.metric is not None and not self._listening:
                self._listening = True
                self._lab.on_close(self._lab.bus.subscribe(self._observe, live=False))

    def _observe(self, record: Record) -> None:
        if not isinstance(record, RunRecord) or record.kind == "map":
            return
        with self._lock:
            watch = self._watches.get(record.name)
            metric = None if watch is None else watch.metric
        if watch is None or metric is None or record.started < watch.since or record.status == "cancelled":
            return
        score = _scored(metric, record)
        if score is not None:
            with self._lock:
                watch.scores.append(score)
            if watch.mode != "off" and (found := watch.evidence) is not None and found.fallen:
                # Not in the thread of the run, which has yet to tell others that it ended.
                self._lab._executor.submit(self._look, watch)

    def _look(self, watch: Watch) -> None:
        """Say so, or bring the version before back, where the score has fallen."""
        with self._lock:
            found = watch.evidence
            if watch.mode == "off" or watch.told or found is None or not found.fallen:
                return
            if self._watches.get(watch.program) is not watch:
                return
            watch.told = True
        good = self._table.last_good(watch.program)
        why = f"its live score has {found} ({watch.source})"
        about = {"program": watch.program, "version": watch.version, "evidence": why, "source": watch.source}
        about |= {"mean": found.mean, "baseline": found.baseline, "scores": found.scores, "guard": watch.mode}
        about["good"] = None if good is None else good.version
        self._lab.bus.emit(Event("job.adopt", time.time(), data=about))
        if good is None:
            log.warning("%s version %s: %s; there is no version before it", watch.program, watch.version, why)
        elif watch.mode == "auto":
            log.warning("%s version %s: %s; version %s is back", watch.program, watch.version, why, good.version)
            self._back(watch.program, good.version, f"version {watch.version} was taken back: {why}")
        else:
            hint = f"lab.programs.use({watch.program!r}, {good.version}) brings version {good.version} back"
            log.warning("%s version %s: %s; %s", watch.program, watch.version, why, hint)

    def _low(self, row: ProgramRow) -> float | None:
        """Return the lower end of what was measured; without held-out rows, on those by which it was found."""
        if row.interval is not None or row.score is None:
            return row.score if row.interval is None else row.interval[0]
        best = None if row.job_id is None else self._lab.jobs.get(row.job_id).lineage.best
        if best is None or not best.rows or best.score != row.score or not 0 <= row.score <= 1:
            return row.score
        return wilson(row.score * best.rows, best.rows)[0]

    def _said_before(self, watch: Watch) -> list[float]:
        runs = recorded_runs(self._lab.store, watch.program, since=watch.since)
        said = FeedbackTable(self._lab.store).of([run.run_id for run in runs])
        return [float(row.verdict == "good") for row in said if row.verdict is not None]


def _scored(metric: Callable[..., Any], record: RunRecord) -> float | None:
    """Return what a metric says of a run, 0 for one that failed; None where the metric fails, which is no fall."""
    import dspy

    if record.status == "failed":
        return 0.0
    example = dspy.Example(**(record.inputs or {})).with_inputs(*(record.inputs or {}))
    try:
        return score_of(metric(example, dspy.Prediction(**(record.outputs or {}))))[0]
    except Exception:
        log.warning("the metric of a guard failed on run %s", record.run_id, exc_info=True)
        return None
