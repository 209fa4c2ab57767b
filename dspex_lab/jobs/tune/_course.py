"""One run of a tune job: what is tried next, on which rows, and what becomes of it."""

from __future__ import annotations

import math
import queue
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import OutOfMemory, PoisonTask, VariableError, WorkerKilled
from dspex_lab.jobs._pieces import Begun, Item, evaluate_rows
from dspex_lab.jobs._scoring import ScoredRow
from dspex_lab.jobs._work import Reporter
from dspex_lab.jobs.tune._going import Going, known_as, said_of, shown, tell_of
from dspex_lab.jobs.tune._objectives import best_of
from dspex_lab.jobs.tune._proposals import Proposal, Proposals
from dspex_lab.jobs.tune._sampling import rungs
from dspex_lab.jobs.tune._study import ORIGIN, Study
from dspex_lab.jobs.tune._tried import Tried, sums
from dspex_lab.variables import Lease, Space

if TYPE_CHECKING:
    from dspex_lab.jobs.tune._work import Tune

#: Deaths of workers that one trial may cost.
DEATHS = 4


class Course:
    """Asks, has evaluated, tells, until the trials are done or the job is to stop. In one thread.

    Args:
        lease: under which values are committed.
    """

    def __init__(self, work: Tune, space: Space, study: Study, reporter: Reporter, lease: Lease) -> None:
        self._work, self._study, self._reporter, self._lease = work, study, reporter, lease
        self._proposals = Proposals(work, space, study, reporter.seed or 0)
        self.tried = study.tried()
        self.committed: int | None = None
        self.notes: list[str] = []
        self.at_once = work.at_once(reporter.workers)
        self._threads = max(1, math.ceil(work.concurrency / self.at_once))
        self._order = list(range(len(work.rows)))
        Random(reporter.seed or 0).shuffle(self._order)  # noqa: S311 - no secret
        self._rungs = rungs(len(self._order), work.pruner)
        self._going: dict[Future[Any], Going] = {}
        self._alone: list[Going] = []
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._examples = work.examples()
        self._seen = {self._proposals.key(each.values, each.others): each for each in self.tried if each.status == "complete"}
        self._rescored: dict[str, int] | None = None
        self._finished = False
        self._told: int | None = None

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Go through all trials, until none is left or the job is to stop."""
        self._tell()
        while True:
            while self._room() and self._begin():
                pass
            if not self._going:
                break
            self._close(self._ended.get())
        for each in self._alone:
            self._unfinished(each)

    def _room(self) -> bool:
        if self._reporter.stopping or len(self._going) >= self.at_once:
            return False
        if self._alone:
            return not self._going  # all that is left of the budget goes to one at a time
        return True

    def _begin(self) -> bool:
        """Begin a trial, or go on with one; return whether there was one."""
        if self._alone:
            self._hand_out(self._alone.pop())
            return True
        stale = self._stale()
        if stale is not None:
            self._rescored = self._proposals.others()
            self._study.give(self._study.search.params(stale.values), "rescored")
        elif self._finished or self._counted() >= self._work.trials:
            return False
        going = self._proposal()
        if going is None:
            self._finished = True
            return False
        if going.program is not None:
            self._hand_out(going)
        return True

    def _counted(self) -> int:
        under_way = sum(each.origin != "rescored" for each in (*self._going.values(), *self._alone))
        return self.done + under_way

    def _stale(self) -> Tried | None:
        """Return the best so far if what it was measured with is not there any more, and nobody measures it anew."""
        best = self.best
        if best is None:
            return None
        now = self._proposals.others()
        return best if best.others != now and self._rescored != now else None

    @property
    def done(self) -> int:
        """How many of the trials that were asked for have ended."""
        return sum(each.counted for each in self.tried)

    @property
    def infeasible(self) -> int:
        """How many proposals broke a constraint."""
        return self._proposals.infeasible

    @property
    def stale(self) -> bool:
        """Whether the best was measured with values of others that are not there any more."""
        best = self.best
        return best is not None and best.others != self._proposals.others()

    @property
    def best(self) -> Tried | None:
        """The best of those that were measured with what there is now of other variables; else of those with what there was
        last."""
        done = [each for each in self.tried if each.status == "complete"]
        if not done:
            return None
        now = self._proposals.others()
        same = [each for each in done if each.others == now] or [each for each in done if each.others == done[-1].others]
        return best_of(same, self._work.objectives, self._work.prefer)

    def candidates(self) -> list[Tried]:
        """Return the complete trials that were measured with the same other variables as the best."""
        best = self.best
        return [each for each in self.tried if best and each.status == "complete" and each.others == best.others]

    # ---- what is tried next ------------------------------------------------------------------------------------------

    def _proposal(self) -> Going | None:
        """Return a trial whose values meet all constraints; None where every combination was tried."""
        found = self._proposals.next(self._known_now)
        return None if found is None else self._going_of(found)

    def _known_now(self) -> int:
        """Return how many combinations were measured with what there is now of other variables."""
        now = self._proposals.others()
        return 0 if self._work.again else sum(each.others == now for each in self._seen.values())

    def _going_of(self, found: Proposal) -> Going:
        """Return the trial; one without a program has ended already: its values are known, or no program has them."""
        origin = found.trial.user_attrs.get(ORIGIN, "sampler")
        going = Going(found.trial, found.values, found.snapshot, found.others, origin, None, time.perf_counter())
        known = self._seen.get(self._proposals.key(found.values, found.others))
        if known is not None and not self._work.again and origin != "rescored":
            note = f"The same values as in trial {known.number}: not evaluated again."
            copy = replace(known, number=found.trial.number, origin="known", rows=0, seconds=0.0, cost=0.0, calls=0, note=note)
            self._complete(going, copy)
            return going
        try:
            going.program = self._work.build(found.snapshot.values)
        except Exception as error:  # a function that makes programs is the user's, and may raise anything
            self._failed(going, f"{type(error).__name__}: {error}")
        return going

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _hand_out(self, going: Going) -> None:
        """Have the rows evaluated up to the next rung; one that may have killed a worker alone."""
        work, threads = self._work, self._threads
        if going.suspects:
            going.asked, threads = [going.suspects.pop()], 1
        else:
            going.asked = [at for at in self._order[: self._next_edge(going)] if at not in going.rows]
        going.begun.clear()

        def told(value: Any) -> None:
            if isinstance(value, Begun):
                going.begun.add(value.at)
            elif isinstance(value, ScoredRow):
                going.rows[value.index] = replace(value, prediction=None, traceback=None)

        items = [Item(at, self._examples[at], {n: work.rows[at][n] for n in work.inputs}) for at in going.asked]
        label = f"trial {going.trial.number}"
        piece = self._reporter.submit(evaluate_rows, going.program, work.metric, items, threads, told=told, label=label)
        self._going[piece] = going
        self._tell(f"{label}: {shown(going.values)}")
        piece.add_done_callback(self._ended.put)

    def _next_edge(self, going: Going) -> int:
        return next(edge for edge in self._rungs if edge > going.edge)

    def _close(self, piece: Future[Any]) -> None:
        going, error = self._going.pop(piece), piece.exception()
        if isinstance(error, WorkerKilled | OutOfMemory | PoisonTask):
            self._died(going, error)
        elif error is not None:
            self._unfinished(going)
            raise error
        elif any(at not in going.rows for at in going.asked):
            # It was asked to stop, or its share of the budget is spent: what is left of that goes to one trial at a time.
            if piece.result() is not None:
                self.at_once = 1
            self._alone.append(going)
        elif any(at not in going.rows for at in self._order[: self._next_edge(going)]):
            self._hand_out(going)
        else:
            going.edge = self._next_edge(going)
            self._rung(going)

    def _died(self, going: Going, error: BaseException) -> None:
        """Go on with a trial whose worker has died; what came home counts."""
        going.deaths += 1
        self._reporter.again(1)
        said = f"{type(error).__name__}: {error}"
        if len(going.asked) == 1 and going.deaths > 1:
            (at,) = going.asked
            going.rows[at] = ScoredRow(at, "failed", error=said, where="worker")
        else:
            going.suspects += [at for at in going.asked if at in going.begun and at not in going.rows]
        if going.deaths >= DEATHS:
            self._failed(going, said)
        elif self._reporter.stopping:
            self._unfinished(going)
        elif any(at not in going.rows for at in self._order[: self._next_edge(going)]):
            self._hand_out(going)
        else:
            going.edge = self._next_edge(going)
            self._rung(going)

    def _rung(self, going: Going) -> None:
        """Look at a trial that has come to a rung."""
        done = [going.rows[at] for at in self._order[: going.edge]]
        last = going.edge == len(self._order)
        try:
            self._report(going, done)
            behind = not last and going.origin == "sampler" and bool(going.trial.should_prune())
            scores = self._scores(done) if behind else {}
        except Exception as error:  # an objective of the user's may raise anything
            self._failed(going, said_of(error))
            return
        if last:
            self._measure(going, done)
        elif behind:
            tried = replace(self._tried(going, "pruned", done), scores=scores, note=f"Given up after {len(done)} rows.")
            self._study.prune(going.trial, tried)
            self._add(tried)
        elif self._reporter.stopping:
            self._unfinished(going)
        else:
            self._hand_out(going)

    def _report(self, going: Going, done: list[ScoredRow]) -> None:
        """Tell Optuna how far a trial is, where somebody prunes."""
        objective, failure = self._work.objectives[0], self._work.failure
        if self._work.pruner == "wilcoxon":  # which compares row by row
            for step, row in list(enumerate(done))[going.reported :]:
                if row.score is not None or failure is not None:
                    going.trial.report(objective.measure([row], failure), step)
            going.reported = len(done)
        elif self._work.pruner != "none" and any(row.score is not None or failure is not None for row in done):
            going.trial.report(objective.measure(done, failure), len(done))

    def _scores(self, rows: list[ScoredRow]) -> dict[str, float]:
        return {o.name: o.measure(rows, self._work.failure) for o in self._work.objectives}

    # ---- what became of it -------------------------------------------------------------------------------------------

    def _measure(self, going: Going, rows: list[ScoredRow]) -> None:
        if all(row.status == "failed" for row in rows):
            error, count = Counter(row.error or "" for row in rows).most_common(1)[0]
            most = "" if count == len(rows) else f" ({count} times)"
            self._failed(going, f"All {len(rows):,} rows failed: {error}{most}")
            return
        try:
            scores = self._scores(rows)
        except Exception as error:  # an objective of the user's may raise anything
            self._failed(going, said_of(error))
            return
        tried = replace(self._tried(going, "complete", rows), scores=scores)
        if tried.failed:
            errors = Counter(row.error or "" for row in rows if row.status == "failed").most_common(1)
            tried = replace(tried, note=f"{tried.failed} of {len(rows)} rows failed, for instance: {errors[0][0]}")
        self._complete(going, tried)

    def _complete(self, going: Going, tried: Tried) -> None:
        self._study.complete(going.trial, tried, [tried.scores[o.name] for o in self._work.objectives])
        self._seen.setdefault(self._proposals.key(tried.values, tried.others), tried)
        self._add(tried)

    def _failed(self, going: Going, error: str) -> None:
        tried = replace(self._tried(going, "failed", list(going.rows.values())), error=error)
        self._study.fail(going.trial, tried)
        self._add(tried)

    def _unfinished(self, going: Going) -> None:
        note = f"Not finished: it ended after {len(going.rows)} of {len(self._order)} rows."
        tried = replace(self._tried(going, "unfinished", list(going.rows.values())), note=note)
        self._study.fail(going.trial, tried)
        self._add(tried)

    def _tried(self, going: Going, status: str, rows: list[ScoredRow]) -> Tried:
        return Tried(
            going.trial.number,
            status,
            going.values,
            seconds=time.perf_counter() - going.began,
            version=going.snapshot.version,
            others=going.others,
            origin=going.origin,
            **sums(rows),
        )

    def _add(self, tried: Tried) -> None:
        """Tell of a trial that has ended, and of the best."""
        self.tried.append(tried)
        tell_of(self._reporter, tried, self._work)
        best = self.best
        if best is not None and best.number != self._told:
            self._told = best.number
            self._reporter.best(dict(best.values), self._work.objectives[0].told(next(iter(best.scores.values()))))
            if self._work.commit == "improvement":
                self.commit(best)
        self._tell()

    def _tell(self, note: str = "") -> None:
        best = self.best
        score = None if best is None else self._work.objectives[0].told(next(iter(best.scores.values())))
        self._reporter.progress(self.done, self._work.trials, note, score)

    # ---- committing --------------------------------------------------------------------------------------------------

    def commit(self, best: Tried) -> None:
        """Make values the present ones; where that cannot be, note why."""
        score = next(iter(best.scores.values()))
        rows = f"{best.rows or len(self._order)} rows"
        why = f"trial {best.number} of {len(self.tried)} of job {known_as(self._reporter)}: {score:.4g} on {rows}"
        try:
            made = self._lease.commit(dict(best.values), why=why, score=score, who="job")
        except VariableError as error:
            self.notes.append(f"Trial {best.number} was not committed: {error}")
            return
        self.committed = made.version
