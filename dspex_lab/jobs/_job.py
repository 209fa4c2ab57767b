"""One job, as a person holds it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import JobError
from dspex_lab.events import Event, TrialRecord
from dspex_lab.jobs._account import Account
from dspex_lab.jobs._book import State
from dspex_lab.jobs._card import card
from dspex_lab.jobs._programs import Lineage, lineage
from dspex_lab.jobs._progress import Progress
from dspex_lab.jobs._work import Work

if TYPE_CHECKING:
    from dspex_lab.jobs._jobs import Jobs


#: Seconds between two looks at a job that another Lab has under way.
_GLANCE = 0.25


class Job:
    """Background work: how it is, what it tells, its result; to be stopped, resumed, adopted. Thread-safe.

    It may be awaited: ``await job`` is its result. A cell shows it as a card.
    """

    def __init__(self, account: Account, jobs: Jobs) -> None:
        self._account, self._jobs = account, jobs

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its id."""
        return self._account.row.job_id

    @property
    def number(self) -> int:
        """Counts from 1 within the store."""
        return self._account.row.number

    @property
    def kind(self) -> str:
        """``"optimize"``, ``"tune"``, ``"evaluate"``, ``"train"`` or another kind of work."""
        return self._account.row.kind

    @property
    def name(self) -> str:
        """What it was called."""
        return self._account.row.name

    @property
    def state(self) -> State:
        """``"waiting"``, ``"running"`` or ``"stopping"``; at rest ``"complete"``, ``"stopped"``, ``"failed"`` or
        ``"interrupted"``."""
        return self._account.row.state  # type: ignore[return-value]

    @property
    def progress(self) -> Progress:
        """How far it is, its best score, what it has spent, what is left, and when it will be done."""
        return self._account.progress()

    @property
    def trials(self) -> list[TrialRecord]:
        """What it has tried, by number."""
        return self._account.trials

    @property
    def lineage(self) -> Lineage:
        """Which of its candidates was made from which."""
        return lineage(self.trials)

    @property
    def error(self) -> BaseException | str | None:
        """Why it failed: the exception, or after a restart what that said. None where it did not."""
        if self.state != "failed":
            return None
        return self._jobs.error_of(self) or self._account.row.error

    @property
    def settings(self) -> dict[str, Any]:
        """What it was started with, as plain data."""
        return dict(self._account.spec)

    # ---- what it tells -----------------------------------------------------------------------------------------------

    def events(self, since: int = 0) -> Iterator[Event]:
        """Yield the events of the job: first those that were, then those to come, until it rests. Of one that another Lab has
        under way, those that are known now.

        Args:
            since: only those whose ``data["seq"]`` is greater.
        """
        return self._account.log.follow(since)

    def aevents(self, since: int = 0) -> AsyncIterator[Event]:
        """As :meth:`events`, for ``async for``."""
        return self._account.log.afollow(since)

    def wait(self, timeout: float | None = None) -> Job:
        """Return the job when it rests.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it does not yet.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self._jobs.elsewhere(self) and (until is None or time.monotonic() < until):
            self._account.rests.wait(_GLANCE if until is None else min(_GLANCE, max(until - time.monotonic(), 0)))
        left = None if until is None else max(until - time.monotonic(), 0)
        if not self._account.rests.wait(left):
            raise TimeoutError(f"{self._account.title} is {self.state} after {timeout:g} s.")
        return self

    def result(self, timeout: float | None = None) -> Any:
        """Return what came of it, when it rests; of a stopped one the best until then.

        Args:
            timeout: seconds to wait.

        Raises:
            TimeoutError: it does not rest yet.
            JobError: it failed (the cause is what it failed by), was interrupted, or found nothing before it was stopped.
        """
        self.wait(timeout)
        if self.state == "failed":
            error = self.error
            why = error if isinstance(error, BaseException) else None
            said = f"{type(error).__name__}: {error}" if why else error
            hint = "job.trials has what was done; job.resume() tries again."
            raise self._refused(f"failed: {said}", hint) from why
        if self.state == "interrupted":
            raise self._refused("was interrupted", "job.resume() goes on.")
        found = self._jobs.result_of(self)
        if found is None and self.state == "stopped":
            raise self._refused("was stopped before it had found anything", "job.resume() goes on.")
        return found

    @property
    def partial(self) -> Any:
        """Return what of its result there is where it failed: of an evaluation in which every row failed, the rows. None where
        there is nothing."""
        return self._jobs.result_of(self) if self._account.rests.is_set() else None

    async def aresult(self) -> Any:
        """As :meth:`result`, without blocking the event loop."""
        async for _ in self.aevents():
            pass
        return await asyncio.to_thread(self.result)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.aresult().__await__()

    # ---- what is done with it ----------------------------------------------------------------------------------------

    def stop(self, wait: bool = False, patience: float | None = None) -> Job:
        """Have it end, with the best so far as its result.

        Args:
            wait: until it rests.
            patience: seconds that it has to end by itself; then its worker is ended, and the result is what it had told.

        Raises:
            JobError: it is at rest.
        """
        self._jobs.halt(self, patience)
        return self.wait() if wait else self

    def resume(self, *, work: Work | None = None, budget: Any = None) -> Job:
        """Go on with a job that was stopped or interrupted, or failed: from what it kept, or else from the beginning.

        Args:
            work: what it does, where that was not kept beyond its process.
            budget: what it may spend in all, in place of what it might before.

        Raises:
            JobError: it is complete or under way, or its work is not known here.
        """
        self._jobs.resume(self, work=work, budget=budget)
        return self

    def adopt(self, **how: Any) -> Job:
        """Put its result to use in the place of what is; :meth:`rollback` takes it back.

        Args:
            how: for who adopts; a Lab knows ``force=True`` (also where the held-out rows do not say that it is better),
                ``heldout=`` and ``metric=``, ``into=`` a module, ``guard="off" | "suggest" | "auto"`` and ``why=``.

        Raises:
            JobError: it has no result, nothing can take one, or it is not shown to be better.
        """
        self._jobs.adopt(self, **how)
        return self

    def rollback(self, **how: Any) -> Job:
        """Bring back what was in use before :meth:`adopt`.

        Args:
            how: for who adopted; a Lab knows ``into=`` a module, where this kernel does not know it.

        Raises:
            JobError: it was not adopted.
        """
        self._jobs.rollback(self, **how)
        return self

    def _refused(self, why: str, hint: str | None = None) -> JobError:
        return JobError(f"{self._account.heading} {why.rstrip('.')}.", job=self.id, state=self.state, hint=hint)

    def __repr__(self) -> str:
        return repr(card(self))

    def _repr_html_(self) -> str:
        return card(self)._repr_html_()
