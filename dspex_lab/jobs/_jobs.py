"""The jobs of a Lab."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from dspex_lab.errors import JobError, did_you_mean
from dspex_lab.events import new_id
from dspex_lab.jobs._account import Account
from dspex_lab.jobs._adopted import adopt, rollback
from dspex_lab.jobs._around import Around, Pool, both, nobody
from dspex_lab.jobs._book import JobBook, MemoryBook
from dspex_lab.jobs._card import Sheet, table
from dspex_lab.jobs._checks import check_budget, check_travels, limits_of, over_budget
from dspex_lab.jobs._job import Job
from dspex_lab.jobs._progress import remaining
from dspex_lab.jobs._running import Rules, Running
from dspex_lab.jobs._shelf import Shelf
from dspex_lab.jobs._state import ENDED, LIVE
from dspex_lab.jobs._surroundings import Bare
from dspex_lab.jobs._work import Adopter, Plan, Surroundings, Work
from dspex_lab.lms import Budget, Ledger
from dspex_lab.store import JobRow

log = logging.getLogger("dspex_lab")

#: Jobs that are under way at once; more wait.
LIMIT = 2
#: Jobs at rest whose work and result stay in memory.
RESTING = 8


class Jobs:
    """Starts, finds, stops and resumes jobs; ``lab.jobs``. Thread-safe.

    Jobs of a process that has ended are there again, ``interrupted``, and can be resumed.

    Args:
        book: where they are kept; None is a book in memory.
        shelf: where their works and results are kept; None is a folder that vanishes with the process.
        pool: gives the pool of a name, as ``Pools.get``; None where there are none.
        emit: takes events, trials and records of models' calls, as ``Bus.emit``.
        surroundings: gives what works find around them where a start does not say; called with what ``around`` of that says.
        ledger: the account of the Lab, in which all that jobs spend counts.
        adopter: puts results to use.
        limit: jobs under way at once.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        book: JobBook | None = None,
        *,
        shelf: Shelf | None = None,
        pool: Callable[[str], Pool] | None = None,
        emit: Callable[[Any], None] | None = None,
        surroundings: Callable[..., Surroundings] = Bare,
        ledger: Ledger | None = None,
        adopter: Adopter | None = None,
        limit: int = LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        memory = None if book is not None else MemoryBook()
        told = emit or nobody if memory is None else both(memory.write, emit)
        kept = book if book is not None else memory or MemoryBook()
        self.around = Around(kept, shelf or Shelf(kept), told, pool, adopter, clock)
        self.limit = limit
        self._surroundings, self._ledger = surroundings, ledger
        self._lock = threading.RLock()
        self._known: dict[str, Job] = {}
        self._running: dict[str, Running] = {}
        self._last: dict[str, Running] = {}
        self._had: dict[str, Surroundings] = {}
        self._queue: deque[str] = deque()
        self._closed = False
        self._recover()

    # ---- starting ----------------------------------------------------------------------------------------------------

    def start(
        self,
        work: Work,
        *,
        name: str | None = None,
        pool: str | None = None,
        surroundings: Surroundings | None = None,
        around: Mapping[str, Any] | None = None,
        budget: Any = None,
        seed: int | None = None,
        rules: Rules | None = None,
        settings: Mapping[str, Any] | None = None,
        parent: str | None = None,
        session: str | None = None,
    ) -> Job:
        """Start a work in the background and return its job; it waits where ``limit`` are under way, unless it has a parent.

        Args:
            name: for people; by default the work's kind.
            pool: whose workers it runs on; None is a thread of the kernel.
            surroundings: what it finds around it.
            around: what is to be said to those of the Lab that give it, JSON: kept, so that it finds the same when it goes on.
            budget: what it may spend: US dollars, ``"$2, 50k tokens, 100 calls"`` or a ``dx.Budget``.
            seed: what its random choices are made from.
            settings: what people should see of its arguments, JSON.
            parent: the id of the job that it is a part of; somebody waits for it.
            session: the session that it belongs to.

        Raises:
            DspexError: it cannot be done with what it was given, or its folder cannot be made; nothing was spent.
            ConfigurationError: a budget of 0.
            Unserialisable: a part of it cannot travel to a worker; ``.path`` says which.
        """
        self._check_open()
        limits = Budget.of(budget)
        check_budget(limits)
        rules = rules or Rules()
        found = surroundings or self._surroundings(**(around or {}))
        where = self._pool(pool)
        plan = work.check(limits)
        if plan.cost is None and plan.prompt_tokens is not None and plan.answer_tokens is not None:
            plan = replace(plan, cost=found.price(plan.prompt_tokens, plan.answer_tokens))
        if where is not None:
            check_travels(work, name or work.kind, where.name)
            found.away()
        spec = {"settings": dict(settings or {}), "seed": seed, "parent": parent, "session": session, "rules": vars(rules)}
        spec["around"] = dict(around or {})
        row = self._row(work, name, pool, plan, limits, spec)
        self.around.shelf.home(row.job_id)  # where there can be none, nothing begins
        with self._lock:
            row = self.around.book.add(row)
            job = self._known[row.job_id] = Job(Account(row, self.around), self)
        job._account.keep("work", work)
        return self._enter(job, work, found, limits, rules, where)

    def _row(self, work: Work, name: str | None, pool: str | None, plan: Plan, budget: Budget, spec: dict[str, Any]) -> JobRow:
        notes = [*plan.notes, *over_budget(plan, budget)]
        return JobRow(
            job_id=new_id(),
            kind=work.kind,
            name=name or work.kind,
            state="waiting",
            created=self.around.clock(),
            pool=pool,
            total=plan.total,
            note=" ".join(notes) or None,
            settings=spec | {"plan": asdict(plan), "budget": limits_of(budget), "notes": notes},
        )

    def _enter(self, job: Job, work: Work, around: Surroundings, budget: Budget, rules: Rules, pool: Pool | None) -> Job:
        account = job._account
        ledger = Ledger(budget, account.title, self._ledger)
        running = Running(account, work, around, self.around, ledger=ledger, pool=pool, rules=rules, done=self._done)
        with self._lock:
            self._last[job.id], self._had[job.id] = running, around
            self._queue.append(job.id)
        self._feed()
        return job

    def _feed(self) -> None:
        """Let jobs that wait begin, where there is room."""
        while True:
            with self._lock:
                job_id = None if self._closed else self._next()
                if job_id is None:
                    return
                running = self._running[job_id] = self._last[job_id]
            # Not under the lock: who is told of it may look at the jobs.
            try:
                running.account.act("start")
                running.start()
            except JobError as refused:  # it was stopped, or another Lab took it, just now
                log.debug("%s", refused)
                with self._lock:
                    del self._running[job_id]
            except Exception as error:  # the book cannot be written, or there is no thread to be had
                with self._lock:
                    del self._running[job_id]
                running.fail(error)

    def _next(self) -> str | None:
        """Take a job from the queue that may begin: the first where there is room, else one that somebody waits for."""
        room = len(self._running) < self.limit
        found = next((each for each in self._queue if room or self._last[each].account.spec.get("parent")), None)
        if found is not None:
            self._queue.remove(found)
        return found

    def _done(self, running: Running) -> None:
        with self._lock:
            if self._running.get(running.account.row.job_id) is running:  # it may have been resumed already
                del self._running[running.account.row.job_id]
        self._feed()
        self._let_go()

    def _let_go(self) -> None:
        """Let works and results that can be read back leave the memory, but for the last ones."""
        with self._lock:
            resting = [job_id for job_id in self._last if job_id not in self._running and job_id not in self._queue]
            for job_id in resting[:-RESTING]:
                try:
                    if self._known[job_id]._account.let_go():
                        del self._last[job_id]
                except Exception:  # the book cannot be read: they stay where they are
                    log.debug("whether job %s is kept cannot be known", job_id, exc_info=True)
                    return

    # ---- finding -----------------------------------------------------------------------------------------------------

    def list(self, *, limit: int | None = None) -> Sequence[Job]:
        """Return the jobs, the newest first."""
        return [self._job(row) for row in self.around.book.rows(limit=limit)]

    def get(self, which: str | int | Job) -> Job:
        """Return a job by its id, number or name (of several of a name the newest).

        Raises:
            JobError: there is none.
        """
        if isinstance(which, Job):
            self.elsewhere(which)
            return which
        rows = self.around.book.rows()
        asked = str(which).strip()
        for found in (
            [row for row in rows if row.job_id == asked],
            [row for row in rows if asked == str(row.number)],
            [row for row in rows if row.name == asked],
        ):
            if found:
                return self._job(found[0])
        known = [row.name for row in rows]
        shown = ", ".join(f"{row.number} ({row.name})" for row in rows[:5])
        hint = f"There are: {shown}." if rows else "None was started in this store."
        raise JobError(f"There is no job {asked!r}.{did_you_mean(asked, known)}", job=asked, hint=hint)

    def __getitem__(self, which: str | int) -> Job:
        return self.get(which)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self.around.book.rows())

    def _job(self, row: JobRow) -> Job:
        with self._lock:
            if row.job_id not in self._known:
                self._known[row.job_id] = Job(Account(row, self.around), self)
            job = self._known[row.job_id]
            if job._account.row.version < row.version and row.job_id not in self._running:  # another Lab has it, or had it
                job._account = Account(row, self.around)
            return job

    def elsewhere(self, job: Job) -> bool:
        """Say whether another Lab of this process has a job under way; what is known of it here is then as the book has it."""
        if not job._account.elsewhere:
            return False
        self.get(job.id)
        return job._account.elsewhere

    # ---- stopping and resuming ---------------------------------------------------------------------------------------

    def stop(self, which: str | int | Job, *, wait: bool = False, patience: float | None = None) -> Job:
        """Have a job end with its best so far; see :meth:`Job.stop`."""
        return self.get(which).stop(wait, patience)

    def halt(self, job: Job, patience: float | None = None) -> None:
        """Ask a job to end; see :meth:`Job.stop`."""
        if self.elsewhere(job):
            raise job._refused(f"is {job.state} in another Lab on this store", "Stop it there.")
        with self._lock:
            if job.id in self._queue:
                self._queue.remove(job.id)
        job._account.act("stop")
        with self._lock:
            running = self._running.get(job.id)
        if running is not None:
            running.stop(patience)

    def resume(self, which: str | int | Job, *, work: Work | None = None, budget: Any = None) -> Job:
        """Go on with a job that was stopped or interrupted, or failed; see :meth:`Job.resume`."""
        self._check_open()
        job = self.get(which)
        account = job._account
        if job.state not in ENDED or job.state == "complete":
            account.act("resume")  # says why not
        work = work or self.work_of(job)
        limits = account.budget if budget is None else Budget.of(budget)
        check_budget(limits)
        left = remaining(limits, account.spent)
        check_budget(left, spent=True)
        pool = self._pool(account.row.pool)
        around = self._had.get(job.id) or self._surroundings(**account.spec.get("around", {}))
        rules = Rules(**account.spec.get("rules", {}))
        self.around.shelf.home(job.id)
        account.resume(None if budget is None else limits_of(limits))
        return self._enter(job, work, around, left, rules, pool)

    def result_of(self, job: Job) -> Any:
        """Return the result of a job that rests, None where it has none.

        Raises:
            JobError: it is not kept beyond the process it came of.
        """
        running = self._last.get(job.id)
        if running is not None:
            return running.value
        if self.around.shelf.has(job.id, "result") or job.state == "complete":
            return self.around.shelf.get(job.id, "result")
        return None

    def error_of(self, job: Job) -> BaseException | None:
        """Return what a job failed by, None where it did not in this process."""
        running = self._last.get(job.id)
        return None if running is None else running.error

    def work_of(self, job: Job) -> Work:
        """Return what a job does.

        Raises:
            JobError: that is not known here.
        """
        if (running := self._last.get(job.id)) is not None:
            return running.work
        try:
            work: Work = self.around.shelf.get(job.id, "work")
        except JobError as error:
            why = job.settings.get("unkept", {}).get("work")
            raise JobError(
                f"What {job._account.title} does is not known here: {why or error}",
                job=job.id,
                state=job.state,
                hint="Give it again: job.resume(work=…), or start another job.",
            ) from error
        return work

    # ---- adopting ----------------------------------------------------------------------------------------------------

    def adopt(self, which: str | int | Job, **how: Any) -> Job:
        """Put the result of a job to use; see :meth:`Job.adopt`."""
        return adopt(self.get(which), self.around.adopter, how)

    def rollback(self, which: str | int | Job, **how: Any) -> Job:
        """Bring back what was in use before a job was adopted; see :meth:`Job.rollback`."""
        return rollback(self.get(which), self.around.adopter, how)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all: jobs under way are interrupted, and can be resumed by another Lab. Idempotent."""
        with self._lock:
            self._closed = True
            waiting, self._queue = list(self._queue), deque()
            running = list(self._running.values())
        for each in running:
            each.abandon()
        for job_id in waiting:
            try:
                self._known[job_id]._account.act("interrupt", error="The Lab was closed before the job began.")
            except Exception:  # the book cannot be written; the jobs that run are to end all the same
                log.exception("that %s did not begin could not be written", self._known[job_id]._account.title)
                self._known[job_id]._account.rest()
        for each in running:
            each.join()

    def _recover(self) -> None:
        """Those that were under way in a process that has ended are interrupted."""
        for row in self.around.book.abandoned():
            now = self.around.clock()
            said = "Its process ended before it did."
            self.around.book.save(replace(row, version=row.version + 1, state="interrupted", ended=now, error=said), LIVE)

    def _check_open(self) -> None:
        if self._closed:
            raise JobError("The Lab is closed.", hint="Make another one, or use 'with dx.Lab(...)'.")

    def _pool(self, name: str | None) -> Pool | None:
        if name is None:
            return None
        if self.around.pool is None:
            raise JobError(f"There is no pool {name!r}: there are none here.", hint="Leave pool= out, or give pool=None.")
        return self.around.pool(name)

    def table(self) -> Sheet:
        """Return the jobs as a table."""
        return table(self.list())

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()
