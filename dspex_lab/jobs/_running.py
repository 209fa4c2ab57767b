"""One job under way: a thread with an event loop that begins its work, begins it anew when its worker dies, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_lab.errors import JobError, PoisonTask, WorkerKilled
from dspex_lab.jobs._account import Account
from dspex_lab.jobs._around import Around, Pool
from dspex_lab.jobs._in_kernel import InKernel
from dspex_lab.jobs._in_worker import InWorker
from dspex_lab.jobs._state import Action
from dspex_lab.jobs._told import Reply
from dspex_lab.jobs._work import Surroundings, Work
from dspex_lab.lms import Ledger

log = logging.getLogger("dspex_lab")

#: Seconds between two writings of how far a job is; what the kernel's death takes is at most so much.
EVERY = 1.0


@dataclass(frozen=True)
class Rules:
    """How a job is carried out.

    Args:
        patience: seconds that it is given to end by itself when it is to stop.
        restarts: how often its work begins anew by itself because its worker died, where it goes on from what it kept.
        concurrency: pieces at once of a spread work that has no pool.
    """

    patience: float = 30.0
    restarts: int = 3
    concurrency: int = 4


class Halted(Exception):
    """A work was ended from outside and returned nothing."""


class Running:
    """Carries out one job. :meth:`stop` and :meth:`abandon` may be called from any thread.

    Args:
        account: what is known of the job.
        work: what it does.
        surroundings: what the work finds around it.
        ledger: what may be spent.
        pool: where it runs; None for the kernel.
        done: called when all is over, in the job's thread.
    """

    def __init__(
        self,
        account: Account,
        work: Work,
        surroundings: Surroundings,
        around: Around,
        *,
        ledger: Ledger,
        pool: Pool | None,
        rules: Rules,
        done: Callable[[Running], None],
    ) -> None:
        self.account, self.work, self.surroundings, self.around = account, work, surroundings, around
        self.ledger, self.pool, self.rules, self._done = ledger, pool, rules, done
        self.value: Any = None
        self.error: BaseException | None = None
        #: Both ask the work to stop: in this process, and in workers of this machine.
        self.stop_asked = threading.Event()
        self.stop_file = around.shelf.home(account.row.job_id) / "stop"
        self.stop_file.unlink(missing_ok=True)
        self._patience = rules.patience
        self._abandoned = self._begun = self._over = False
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._context = contextvars.copy_context()
        self.thread = threading.Thread(target=self._run, name=f"dspex-job-{account.row.number}", daemon=True)

    def start(self) -> None:
        """Begin, unless it was abandoned meanwhile."""
        with self._lock:
            if not self._abandoned:
                self.thread.start()
                self._begun = True

    def join(self) -> None:
        """Wait until all is over, if it has begun and this is not its own thread."""
        if self._begun and self.thread is not threading.current_thread():
            self.thread.join()

    def stop(self, patience: float | None = None) -> None:
        """Ask the work to end with its best so far; end it from outside after ``patience`` seconds."""
        with self._lock:
            if patience is not None:
                self._patience = patience
            self.stop_asked.set()
            if not self._over:
                self._ask_by_file()
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # it is closed: the job has ended meanwhile
                    self._loop.call_soon_threadsafe(self._stop.set)

    def _ask_by_file(self) -> None:
        try:
            self.around.shelf.home(self.account.row.job_id)  # somebody may have tidied up
            self.stop_file.touch()
        except (OSError, JobError) as error:
            log.warning("a worker that does %s will not hear that it is to stop, and is ended: %s", self.account.title, error)

    def fail(self, error: Exception) -> None:
        """It cannot even begin."""
        self._failed(error)

    def abandon(self) -> None:
        """End at once: the Lab is closed, and the job is interrupted."""
        with self._lock:
            self._abandoned = True
            begun = self._begun
        if begun:
            self.stop(0.0)
        else:
            self._interrupted()

    # ---- in the job's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # there is no event loop to be had
            if self._over:
                raise
            self._failed(error)
        finally:
            self._done(self)

    async def _main(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self.stop_asked.is_set():
                self._stop.set()
        sweeping = asyncio.ensure_future(self._sweep())
        try:
            self._ended(await self._carried_out_tidily())
        except Exception as error:
            self._failed(error)
        finally:
            sweeping.cancel()

    async def _carried_out_tidily(self) -> Reply:
        try:
            return await self._carried_out()
        finally:
            with self._lock:
                self._over = True
                _tidy(self.stop_file)

    async def _carried_out(self) -> Reply:
        deaths = 0
        while True:
            order = self.account.begin(self.work.continues)
            place = InKernel if self.pool is None or self.work.spread else InWorker
            try:
                return await self._until_stopped(place(self, order))
            except (WorkerKilled, PoisonTask) as error:
                deaths += 1
                if not self.work.continues or deaths > self.rules.restarts or self._stop.is_set():
                    raise
                log.warning("%s goes on after the death of its worker: %s", self.account.title, error)
                self.account.tell("job.error", state="running", error=str(error), restart=deaths)

    async def _until_stopped(self, attempt: InKernel | InWorker) -> Reply:
        """Return what an attempt gives; when the job is to stop and it does not in time, end it.

        Raises:
            Halted: it was ended.
        """
        going = asyncio.ensure_future(attempt.go())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({going, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not going.done() and attempt.hears():
                await asyncio.wait({going}, timeout=self._patience)
            if not going.done():
                attempt.end()
                going.cancel()
                await asyncio.wait({going})
            if going.cancelled():
                raise Halted
            return going.result()
        finally:
            stopping.cancel()

    async def _sweep(self) -> None:
        said = False
        while True:
            await asyncio.sleep(EVERY)
            try:
                self.account.write()
            except JobError as error:  # another Lab has resumed it: two must not do the same
                log.warning("%s", error)
                self.abandon()
                return
            except Exception:
                if not said:
                    log.exception("how far %s is cannot be written; it goes on, and this is said once", self.account.title)
                said = True

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _ended(self, reply: Reply) -> None:
        if self._abandoned and reply.cut:
            self._interrupted()
            return
        self.value = reply.value if reply.value is not None else self._partial() if reply.cut else None
        if reply.refused:
            # What a worker says of the job's own budget is of the share that it was lent.
            own = self.account.title in reply.refused
            whose = f"its budget ({self.account.budget})" if own else "a budget"
            self.account.say(f"Stopped by {whose}: the best until then is its result.{'' if own else ' ' + reply.refused}")
        self._finish("halt" if reply.cut else "complete")

    def _failed(self, error: Exception) -> None:
        if self._abandoned:
            self._interrupted()
            return
        if self.stop_asked.is_set():
            # Stopping is no failure, whatever broke by it.
            if not isinstance(error, Halted):
                self.account.say(f"It ended with {type(error).__name__} while it stopped: {error}")
            self.value = self._partial()
            self._finish("halt")
            return
        self.error = error
        self.value = self._partial()
        self._finish("fail", error=_said(error))

    def _interrupted(self) -> None:
        self._finish("interrupt", error="The Lab was closed before the job ended.")

    def _partial(self) -> Any:
        try:
            return self.work.partial(self.account.found())
        except Exception as error:  # a work may be anybody's, and the job has to end all the same
            log.exception("what %s had found cannot be had", self.account.title)
            self.account.say(f"What it had found cannot be had: {_said(error)}")
            return None

    def _finish(self, action: Action, **changes: Any) -> None:
        try:
            self.account.write()
            if self.value is not None:
                self.account.keep("result", self.value)
            summary = getattr(self.value, "summary", None)
            if callable(summary):
                self.account.spec["result"] = summary()
            self.account.act(action, **changes)
        except JobError as error:  # another Lab has it: what it is comes from there
            log.warning("%s has ended here: %s", self.account.title, error)
            self.account.act_unwritten("interrupt", f"Ended in this process: {error}", error=str(error))
        except Exception as error:  # what it found is there all the same, and whoever waits for it is not to wait for ever
            log.exception("%s has ended, and its end could not be written", self.account.title)
            why = f"Its end could not be written ({_said(error)}): after a restart it is listed as interrupted."
            self.account.act_unwritten(action, why, **changes)


def _tidy(stop_file: Path) -> None:
    """Remove what asked a work to stop, and the job's folder where nothing else is in it."""
    with contextlib.suppress(OSError):
        stop_file.unlink(missing_ok=True)
        stop_file.parent.rmdir()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
