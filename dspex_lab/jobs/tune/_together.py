"""Two at once on one space: an optimizer rewrites instructions while Optuna moves numbers, each on the newest of the other's.

No update is lost: each side writes its own variables under its own lease, all of a commit or none, and what was measured with
values that are not there any more is measured again before it is written (compare and set).
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dspex_lab.errors import (
    BudgetExceeded,
    ConfigurationError,
    DspexError,
    PoisonTask,
    VariableError,
    VersionConflict,
    WorkerKilled,
)
from dspex_lab.jobs._fields import check_rows
from dspex_lab.jobs._pieces import Item
from dspex_lab.jobs._reading import rows_of
from dspex_lab.jobs._work import Found, Plan, Reporter, Work
from dspex_lab.jobs.tune._attribution import CELLS, Attribution, attributed, measure
from dspex_lab.jobs.tune._going import known_as
from dspex_lab.jobs.tune._joint import Joint, Round, Side, scored
from dspex_lab.jobs.tune._relay import Beside, Relay, Said, run_within
from dspex_lab.jobs.tune._waiting import leased
from dspex_lab.jobs.tune._work import Tune
from dspex_lab.lms import Budget
from dspex_lab.variables import Lease, Snapshot, Space

#: How often what was found is measured again because the other side has committed meanwhile.
AGAIN = 3
#: How often the work of a round may be begun.
DEATHS = 3


@dataclass(frozen=True)
class Together(Work):
    """A tune job and another side, at once, over one space.

    Args:
        tune: the tune job; it commits each improvement.
        side: the other one.
        rounds: of the other side.
        held: rows on which the gain is attributed; those of the tune job where None.
    """

    tune: Tune
    side: Side
    rounds: int = 1
    held: Sequence[Mapping[str, Any]] | None = None
    kind: str = "tune"
    spread: bool = True
    continues: bool = True

    def check(self, budget: Budget) -> Plan:
        """Return what it expects to take, without what the other side's works spend by themselves.

        Raises:
            ConfigurationError: both would write one variable, there are no rounds, or a held-out row lacks a field.
            VariableError: there is no such variable.
        """
        both = sorted(set(self.side.names) & set(self.tune.search.names))
        if both or not self.side.names:
            said = f"Both would write {', '.join(both)}." if both else "The other side has no variables."
            raise ConfigurationError(said, key="side.names", expected="variables that the tune job does not move", actual=both)
        if isinstance(self.rounds, bool) or not isinstance(self.rounds, int) or self.rounds < 1:
            said = f"rounds={self.rounds!r} is no whole number, 1 or more."
            raise ConfigurationError(said, key="rounds", expected="1 or more", actual=self.rounds)
        if self.held is not None:
            check_rows(rows_of(self.held), self.tune.inputs, self.tune.metric, "heldout", like=self.tune.rows)
        space = self.tune.home
        for name in self.side.names:
            space.entry(name)
        plan = self.tune.check(budget)
        program = self.tune.build(space.values())
        inner = self.side.work(program, 0).check(budget)
        more = None if inner.calls is None or plan.calls is None else plan.calls + inner.calls * self.rounds
        total = (plan.total or 0) + self.rounds
        return replace(plan, total=total, calls=more, prompt_tokens=None, answer_tokens=None)

    def run(self, reporter: Reporter) -> Joint:
        """Run both, and say what gained what."""
        course = _Both(self, self.tune.home, reporter)
        return course.go()

    def partial(self, found: Found) -> Joint | None:
        """Return what was told of."""
        state = found.state or {}
        tuned = self.tune.partial(replace(found, state=state.get("tune")))
        return None if tuned is None else Joint(tuned.values, tuned, state.get("rounds", ()), notes=tuned.notes)


class _Judged(NamedTuple):
    """The mean scores of what there was and of what was found on the rows that have both; ``against``: why it is not taken."""

    before: float | None
    after: float | None
    against: str | None = None

    @property
    def better(self) -> bool:
        """Whether what was found is better; where what there was has no score at all, any score is."""
        return self.before is None or (self.after is not None and self.after > self.before)


@dataclass
class _Part:
    """How far one side is."""

    done: float = 0.0
    total: float | None = None
    state: Any = None


@dataclass
class _Both:
    """One run of both."""

    work: Together
    space: Space
    reporter: Reporter
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        kept = self.reporter.state or {}
        names = (*self.work.tune.search.names, *self.work.side.names)
        self._start = kept.get("start") or {name: self.space.get(name) for name in names}
        self._rounds: list[Round] = list(kept.get("rounds", ()))
        self._parts = {"tune": _Part(state=kept.get("tune")), "side": _Part(len(self._rounds), self.work.rounds)}
        self._inner = kept.get("inner")
        self._score: float | None = None
        self._over = False
        self._items = self._rows(self.work.tune.rows)

    def go(self) -> Joint:
        """Run both sides to their ends."""
        tune = replace(self.work.tune, commit="improvement")
        self._keep()
        beside = Beside(self._other)
        try:
            tuned = tune.run(self._relay("tune", self._parts["tune"].state))
        except BaseException:
            self._over = True  # what broke is raised when the round that is under way has ended
            raise
        finally:
            beside.join()
        now = {name: self.space.get(name) for name in self._start}
        found = self._attribution(now)
        own = tuned.notes if tuned else ()
        return Joint(now, tuned, tuple(self._rounds), found, tuple(dict.fromkeys((*own, *self.notes))))

    # ---- the other side ----------------------------------------------------------------------------------------------

    def _other(self) -> None:
        side, owner = self.work.side, f"{self.work.side.called} {self.reporter.job_id}"
        lease = leased(self.space, side.names, owner, lambda: self.reporter.stopping)
        if lease is None:
            return
        with lease:
            while len(self._rounds) < self.work.rounds and not (self._over or self.reporter.stopping):
                number = len(self._rounds)
                made = self._round(number, lease)
                if made.status == "unfinished":
                    self.notes.append(f"Round {number + 1} of the {side.called} did not end.")
                    return
                with self._lock:
                    self._rounds.append(made)
                    self._inner = None
                self._tell("side", len(self._rounds), self.work.rounds)
                self._keep()

    def _round(self, number: int, lease: Lease) -> Round:
        side, program = self.work.side, self.work.tune.build(self.space.values())
        try:
            moved = self._moved(side.found(self._carried_out(side.work(program, number), number)))
        except BudgetExceeded:
            return Round(number, "unfinished")
        except Exception as error:  # an optimizer may be anybody's: what it breaks by does not end the tune job
            said = str(error) if isinstance(error, DspexError) else f"{type(error).__name__}: {error}"
            self.notes.append(f"Round {number + 1} of the {side.called} failed: {said}")
            return Round(number, "failed", note=said)
        return self._judged(number, moved, lease) if moved else Round(number, "nothing")

    def _carried_out(self, work: Work, number: int) -> Any:
        """Return the result of a round's work; one that goes on from what it kept begins again when its worker dies."""
        seed = None if self.reporter.seed is None else self.reporter.seed + number
        for left in reversed(range(DEATHS)):
            try:
                return run_within(work, self.reporter, self._side_said, seed=seed, state=self._inner)
            except (WorkerKilled, PoisonTask):
                if not work.continues or not left or self.reporter.stopping:
                    raise
                self.reporter.again(1)
        raise AssertionError("not reached")

    def _moved(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that are others than the present ones."""
        domains = {name: self.space[name].domain for name in values}
        cast = {name: domains[name].cast(value, name) for name, value in values.items()}
        return {name: value for name, value in cast.items() if not domains[name].equal(value, self.space.get(name))}

    def _judged(self, number: int, moved: Mapping[str, Any], lease: Lease) -> Round:
        """Commit what was found if it is better with the numbers as they are now, measured on the same rows."""
        found, job = Round(number, "rejected"), known_as(self.reporter)
        for times in range(1, AGAIN + 1):
            now = self.space.snapshot()
            try:
                then = self.space.check(moved)
                judged = self._compared(now.values, then.values)
                if judged is None:
                    return Round(number, "unfinished")
                found = replace(found, before=judged.before, after=judged.after, measured=times, note=judged.against)
                if judged.against is not None or not judged.better:
                    return self._rejected(found, moved)
                why = f"round {number + 1} of job {job}: {scored(judged.after)} in place of {scored(judged.before)}"
                expect = self._expected(now, last=times == AGAIN)
                made = lease.commit(dict(moved), expect=expect, why=why, score=judged.after, who="optimizer")
            except VersionConflict:
                continue  # the numbers have moved: measured again with those
            except VariableError as error:
                return self._rejected(replace(found, note=str(error)), moved)
            return replace(found, status="committed", version=made.version)
        return self._rejected(replace(found, note="Somebody else has written its variables."), moved)

    def _expected(self, now: Snapshot, last: bool) -> dict[str, int]:
        """Return the versions that must be there still.

        The last time, what was measured may be a commit behind: else a side that commits often could starve this one.
        """
        names = self.work.tune.build.names
        read = [name for name in now.versions if names is None or name in names]
        mine = self.work.side.names
        return {name: now.versions[name] for name in read if not last or name in mine}

    def _rejected(self, found: Round, moved: Mapping[str, Any]) -> Round:
        candidate = {name: self.space[name].domain.to_json(value) for name, value in moved.items()}
        self.reporter.trial(
            found.after, status="rejected", candidate=candidate, rows=len(self._items), note=found.note or self.work.side.called
        )
        return found

    def _compared(self, now: Mapping[str, Any], then: Mapping[str, Any]) -> _Judged | None:
        """Return what the rows say of what was found; None where not all of them were evaluated."""
        one, two = (self._measured(each, self._items, self.work.side.called) for each in (now, then))
        if len(one) < len(self._items) or len(two) < len(self._items):
            return None
        scored = [{at for at, row in each.items() if row.score is not None} for each in (one, two)]
        both = sorted(scored[0] & scored[1])
        lost = len(scored[0] - scored[1])
        if lost:
            return _Judged(None, None, f"It fails on {lost} of {len(self._items)} rows on which what there is does not.")
        before = statistics.fmean(one[at].score for at in both) if both else None
        after = statistics.fmean(two[at].score for at in both) if both else None
        return _Judged(before, after, None if scored[1] else "Every row fails with it.")

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Item]:
        tune = replace(self.work.tune, rows=rows)
        made = zip(tune.examples(), rows, strict=True)
        return [Item(at, example, {n: row[n] for n in tune.inputs}) for at, (example, row) in enumerate(made)]

    def _measured(self, values: Mapping[str, Any], items: Sequence[Item], label: str) -> Any:
        tune = self.work.tune
        program = tune.build(values)
        return measure(self.reporter, program, tune.metric, items, threads=tune.concurrency, label=label)

    def _attribution(self, now: Mapping[str, Any]) -> Attribution | None:
        """Return what gained what."""
        mine, theirs = self.work.tune.search.names, self.work.side.names
        if self.reporter.stopping:
            self.notes.append("It was stopped, or its budget is spent: what gained what was not measured.")
            return None
        items = self._items if self.work.held is None else self._rows(rows_of(self.work.held))
        values = {
            "neither": self._start,
            "first": {n: now[n] if n in mine else self._start[n] for n in now},
            "second": {n: now[n] if n in theirs else self._start[n] for n in now},
            "both": now,
        }
        try:
            cells = {cell: self._measured(self.space.check(values[cell]).values, items, cell) for cell in CELLS}
            if self.reporter.stopping:
                self.notes.append("What gained what was not measured to its end.")
                return None
            return attributed(cells, ("tune", self.work.side.called), len(items))
        except DspexError as error:
            self.notes.append(f"What gained what cannot be said: {error}")
            return None

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _relay(self, part: str, state: Any) -> Relay:
        r = self.reporter

        def told(said: Said) -> None:
            self._said(part, said)

        more = {"attempt": r.attempt, "state": state, "workers": max(1, r.workers - 1), "submit": r.submit}
        more |= {"folder": r.folder, "number": r.number}
        return Relay(told, lambda: r.stopping, job_id=r.job_id, seed=r.seed, **more)

    def _side_said(self, said: Said) -> None:
        self._said("side", said)

    def _said(self, part: str, said: Said) -> None:
        if said.method == "progress":
            done, total, note, score = said.arguments
            if part == "tune":
                self._tell(part, done, total, note, score)
        elif said.method == "keep":
            with self._lock:
                if part == "tune":
                    self._parts["tune"].state = said.arguments[0]
                else:
                    self._inner = said.arguments[0]
            self._keep()
        elif said.method == "trial":
            fields = {name: value for name, value in said.named.items() if name not in ("number", "parent")}
            own = f"{'Tune' if part == 'tune' else self.work.side.called}, trial {said.named['number']}."
            self.reporter.trial(*said.arguments, **{**fields, "note": f"{own} {fields.get('note') or ''}".strip()})
        elif said.method == "again":
            self.reporter.again(*said.arguments)
        elif part == "tune":
            self.reporter.best(*said.arguments)

    def _tell(self, part: str, done: float, total: float | None, note: str = "", score: float | None = None) -> None:
        with self._lock:
            self._parts[part].done, self._parts[part].total = done, total
            self._score = score if score is not None else self._score
            every = list(self._parts.values())
            whole = None if any(each.total is None for each in every) else sum(each.total or 0 for each in every)
            self.reporter.progress(sum(each.done for each in every), whole, note, self._score)

    def _keep(self) -> None:
        with self._lock:
            state = {
                "start": dict(self._start),
                "rounds": tuple(self._rounds),
                "tune": self._parts["tune"].state,
                "inner": self._inner,
            }
        self.reporter.keep(state)
