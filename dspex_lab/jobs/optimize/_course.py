"""One run of an optimizer: what it is given, what is told of it, and how it ends."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from dspex_lab.errors import BudgetExceeded, JobError
from dspex_lab.jobs._programs import fingerprint_program
from dspex_lab.jobs._scoring import budget_in
from dspex_lab.jobs._work import Reporter
from dspex_lab.jobs.optimize._judge import Judge
from dspex_lab.jobs.optimize._meter import Meter
from dspex_lab.jobs.optimize._optimized import Optimized, rejected_in, slim
from dspex_lab.jobs.optimize._programs import bare, changed, unfrozen
from dspex_lab.jobs.optimize._quiet import JobLog, quiet
from dspex_lab.jobs.optimize._settings import parameters
from dspex_lab.jobs.optimize._tried import Tried
from dspex_lab.jobs.optimize._watch import KEY, Evaluated, Halt, Watch, install

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._optimize import Optimize

log = logging.getLogger("dspex_lab")

#: Seconds between two looks at whether it is to stop: that asks the disk.
_LOOK = 0.02


class Course:
    """One attempt at an optimization. Its driver uses what is public here; :meth:`go` does it all.

    Attributes:
        work: what was asked for.
        train, val: the rows as ``dspy.Examples``, as the optimizer gets them.
        student: the program that it starts from, a copy.
        judge: the metric.
        folder: for files; they are gone with the job.
        nested: it is a part of another optimizer.
    """

    def __init__(self, work: Optimize, reporter: Reporter) -> None:
        self.work, self.reporter = work, reporter
        self.driver, self.task = work.driven()
        self.seed = reporter.seed if reporter.seed is not None else work.seed
        self.nested = False
        self.notes: list[str] = []
        self.meter = Meter()
        self.tried = Tried(reporter, self.meter, reporter.state)
        self.judge = Judge(work.metric, self._scored)
        self.folder, self._vanishes = _folder(reporter)
        self.log = JobLog(self.folder / "optimizer.log")
        train, val = work.examples()
        self.train, self.val = self.driver.divided(train, val, self.seed)
        #: The rows of validation are those of training.
        self.same = {id(each) for each in self.train} == {id(each) for each in self.val}
        sizes = {len(self.train), len(self.val), int(self.task.get("bsize", 0) or 0)} - {0, 1}
        by_hand = frozenset(sizes) if self.driver.by_hand else frozenset[int]()
        self.watch = Watch(self._evaluated, self.look, self.meter, by_hand)
        self._fails = 0
        self.student = self._student()
        self._rows, self._floor = self._goes_on_from()
        self._total = work.estimate().rows + (self._rows if self.driver.resume == "best" else 0)
        #: The score of what was found, on the validation rows.
        self.after: float | None = None
        self._measuring = False
        self._looked, self._stop = 0.0, False
        self._lock = threading.Lock()
        self._where = {id(example): ("train", at) for at, example in enumerate(self.train)}
        self._where.update({id(example): ("val", at) for at, example in enumerate(self.val)})

    # ---- for drivers -------------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether it is to end soon."""
        return self.look()

    def look(self, now: bool = True) -> bool:
        """Say whether it is to end soon; where not ``now``, as of a moment ago."""
        at = time.monotonic()
        if not self._stop and (now or at - self._looked >= _LOOK):
            self._looked = at
            self._stop = self.reporter.stopping
        return self._stop

    def note(self, text: str) -> None:
        """Note what a person should know."""
        if text not in self.notes:
            self.notes.append(text)

    def within(self) -> Course:
        """Return the same for an optimizer that is a part of another: it has no state and no trials of its own."""
        import copy

        inner = copy.copy(self)
        inner.nested = True
        return inner

    def parameters(self, optimizer: Any, method: str = "compile") -> Mapping[str, Any]:
        """Return what a method of an optimizer takes."""
        return parameters(getattr(optimizer, method))

    def built(self, texts: Mapping[str, str]) -> Any:
        """Return the student with other instructions, by the paths of its predictors."""
        made = self.student.deepcopy()
        for path, predictor in made.named_predictors():
            if path in texts:
                predictor.signature = predictor.signature.with_instructions(texts[path])
        return made

    @contextlib.contextmanager
    def evaluating(self, program: Any, examples: Sequence[Any]) -> Iterator[Callable[[Sequence[float], int], None]]:
        """Yield what takes the scores of an evaluation without ``dspy.Evaluate``, and of how many rows there was none."""
        began, before = time.monotonic(), self.meter.now

        def evaluated(scores: Sequence[float], failed: int) -> None:
            stopping = self.stopping
            if not (stopping and failed):
                spent = self.meter.now.since(before)
                self._evaluated(Evaluated(program, examples, scores, failed, time.monotonic() - began, spent))
            if stopping:
                raise Halt

        yield evaluated

    def measured(self) -> None:
        """Tell of the best score so far."""
        self._told()

    # ---- the run -----------------------------------------------------------------------------------------------------

    def go(self) -> Optimized | None:
        """Run it; None where it was stopped before it had found anything.

        Raises:
            JobError: not one row had a score.
        """
        try:
            return self._went()
        finally:
            if self._vanishes:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _went(self) -> Optimized | None:
        program, ended = None, False
        with self._around():
            try:
                self._baseline()
                program = self._compiled()
                self._after(program)
            except Halt as halt:
                # Bars of progress that were broken off draw themselves once more when they are collected: now, into the log.
                traceback.clear_frames(halt.__traceback__)
                if halt.error is not None:
                    raise halt.error from None
                ended = True
            except Exception as error:
                if not (self.reporter.stopping and (budget_in(error) or program is None)):
                    raise
                ended = True
                self._told_of(error)
        found = self._found(program, ended)
        if not ended:
            self.reporter.progress(self.tried.done, self.tried.done, score=self.tried.score)  # the total was an estimate
        return found

    @contextlib.contextmanager
    def _around(self) -> Iterator[None]:
        """Stand around it: the callback, the meter, and where its prints go. Of errors of single rows DSPy bears as many as
        there are: they are counted here, and where all fail that is an error."""
        install()
        told = {"callbacks": [*dspy.settings.get("callbacks", []), self.watch]} if self.driver.by_hand else {KEY: self.watch}
        bears = max(int(dspy.settings.max_errors or 0), 10 * (len(self.train) + len(self.val)) + 10)
        with quiet(self.log), self.meter.open(), dspy.context(**told, max_errors=bears):
            yield

    def _student(self) -> Any:
        """Return a copy of the program that may be compiled; after a death, of the best candidate where that is the way."""
        best, driver = self.tried.program, self.driver
        goes_on = self.reporter.attempt > 1 and self.reporter.state is not None
        if goes_on and driver.resume == "best" and best is not None:
            self.note(f"Resumed with the best candidate so far (trial {self.tried.number}) as the student.")
            made = best.deepcopy()
        else:
            made = self.work.program.deepcopy()
            if goes_on and driver.resume == "replay" and self.tried.records:
                self.note("Resumed by running again from the beginning with the same seed.")
        # The whole may be improved again; its parts stay as they are marked.
        made._compiled = False
        return made

    def _goes_on_from(self) -> tuple[int, int]:
        """Return how many rows are counted as done, and how many are shown as done until it is past them."""
        done = self.tried.done
        return (0, done) if self.driver.resume in ("replay", "again") else (done, done)

    def _baseline(self) -> None:
        """Measure the program as it was given, where its optimizer does not."""
        if self.driver.measures or (self.tried.before is not None and self.driver.resume != "replay"):
            return
        self.tried.before = self._measure(self.work.program.deepcopy())
        self.tried.keep()

    def _compiled(self) -> Any:
        optimizer = self.driver.make(self, self.task)
        found = self.driver.compile(self, self.task, optimizer)
        if found is None:
            self.note("It returned no program: the one that it was given is taken, as it left it.")
            found = self.student
        if not hasattr(found, "named_sub_modules"):
            raise JobError(
                f"The optimizer returned a {type(found).__name__}, and no program.",
                hint="Its compile() must return a dspy.Module.",
            )
        return unfrozen(bare(found))

    def _after(self, program: Any) -> None:
        """Measure what was found, where that was not done on the way. One with a ``forward`` of its own may do something else
        than others of the same instructions."""
        if "forward" not in vars(program):
            self.after = self.tried.measured.get(fingerprint_program(program))
        if self.after is None:
            if self.stopping:
                raise Halt
            self.after = self._measure(program)

    def _measure(self, program: Any) -> float:
        evaluate = dspy.Evaluate(devset=self.val, metric=self.judge, display_progress=False)
        self._measuring = True
        try:
            found = evaluate(program)
        finally:
            self._measuring = False
        return sum(float(score) for *_, score in found.results) / len(found.results)

    # ---- what is told ------------------------------------------------------------------------------------------------

    def _evaluated(self, found: Evaluated) -> None:
        """Tell of an evaluation."""
        self._fails += found.failed
        if self.judge.scored == self.judge.failed:  # not one yet
            raise Halt(self._none_scored())
        if not (self.driver.evaluates or self._measuring) or self.nested:
            return
        name, whole, label = self._rows_of(found.examples)
        if found.tallied and not whole and fingerprint_program(slim(found.program)) in self.tried.known:
            return
        judged = "val" if self.same else self.driver.judged
        self.tried.add(
            found.program,
            found.scores,
            rows=label,
            whole=whole and judged in (name, "either"),
            measures=whole and name == "val",
            note=None if whole else f"on {len(found.scores)} rows of {len(self.train if name == 'train' else self.val)}",
            seconds=found.seconds,
            cost=found.bill.known,
            calls=found.bill.calls,
        )
        self.tried.keep()
        self._told()

    def _rows_of(self, examples: Sequence[Any]) -> tuple[str, bool, str]:
        """Return which rows they are, whether they are all of these, and what tells them from others."""
        places = [self._where.get(id(example), ("other", at)) for at, example in enumerate(examples)]
        names = {name for name, _ in places}
        name = names.pop() if len(names) == 1 else "other"
        size = {"val": len(self.val), "train": len(self.train)}.get(name, 0)
        whole = len(places) == size == len(set(places))
        return name, whole, name if whole else f"{name}:{','.join(str(at) for _, at in places)}"

    def _scored(self, score: float, example: Any, failed: bool) -> None:
        with self._lock:
            self._rows += 1
            self.tried.done = max(self._rows, self._floor)
        self.watch.scored(score, example)
        self._told()
        if not self.watch.evaluating and self.look(now=False):
            raise Halt  # it bootstraps

    def _told(self) -> None:
        done = self.tried.done
        self.reporter.progress(done, max(self._total, done), score=self.tried.score)

    def _told_of(self, error: Exception) -> None:
        if not isinstance(error, BudgetExceeded):
            self.log.line(f"It ended with {type(error).__name__}: {error}")

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _found(self, program: Any, ended: bool) -> Optimized | None:
        tried, original = self.tried, self.work.program
        if ended and program is None:
            if not tried.records:
                return None
            program = unfrozen(bare((tried.program or original).deepcopy()))
            self.note("Stopped: the best candidate until then is the result.")
        elif ended:
            program = self.watch.released(program)
            self.note("Stopped before the result was measured.")
        measured = tried.measured
        before = tried.before if tried.before is not None else measured.get(fingerprint_program(original))
        print_ = fingerprint_program(program)
        after = self.after if self.after is not None else measured.get(print_)
        number = tried.whole.get(print_, tried.known.get(print_))
        self._notes()
        tried.keep()  # the time and the calls since a candidate was last kept count at a resume too
        bill = tried.bill
        records = tuple(tried.records[n] for n in sorted(tried.records))
        own = tried.own if isinstance(tried.own, Mapping) else {}
        rejected = (*self.work.rejected, *own.get("rejected", ()), *rejected_in(records))
        return Optimized(
            program=program,
            optimizer=self.work.name,
            before=before,
            after=after,
            best=tried.records.get(number) if number is not None else tried.best,
            trials=records,
            row_scores=dict(tried.rows),
            diff=tuple(changed(original, program)),
            rejected=tuple(dict.fromkeys(rejected)),
            notes=tuple(self.notes),
            log=self.log.lines,
            seconds=tried.seconds,
            cost=bill.known,
            calls=bill.calls,
            cached=bill.cached,
            failed=self._fails + self.judge.failed,
            repeated=tried.repeated,
            stopped=ended,
        )

    def _notes(self) -> None:
        judge = self.judge
        if judge.failed:
            self.note(f"The metric failed on {judge.failed} of {judge.scored} rows, which count 0; first: {judge.first}.")
        if self._fails:
            self.note(f"The program failed on {self._fails} rows, which count 0; first: {self.watch.first}.")
        if self.same:
            self.note("No validation rows were given: scores are those of the rows of training.")
        if again := self.tried.repeated:
            cached = self.meter.now.cached
            said = (
                f"{cached} of their calls of models were answered by the cache" if cached else "no cache answered their calls"
            )
            self.note(f"{again} evaluation{'s were' if again > 1 else ' was'} done before and again: {said}.")
        if self.seed is not None and self.driver.differs:
            self.note(f"The same seed may give another result: {self.driver.differs}.")

    def _none_scored(self) -> JobError:
        why = self.judge.first if self.judge.failed else self.watch.first
        what = "The metric" if self.judge.failed else "The program"
        return JobError(
            f"{what} failed on every row: {why}.",
            hint="Try it on one row: metric(example, program(**example.inputs())).",
        )


def _folder(reporter: Reporter) -> tuple[Path, bool]:
    """Return a folder for the job's files, its own where this process may write there; and whether it is to vanish."""
    home = getattr(reporter, "folder", None)
    if home:
        try:
            # By doing it: a worker that is confined is refused what its user's rights would allow.
            with tempfile.TemporaryFile(dir=home):
                return Path(home), False
        except OSError as error:
            log.debug("a job's files are not in %s: %s", home, error)
    return Path(tempfile.mkdtemp(prefix="dspex-optimize-")), True
