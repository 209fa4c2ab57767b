"""A work that runs in a thread of the kernel; its pieces, if it has any, on workers or in further threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex_lab.jobs._in_worker import PATIENCE
from dspex_lab.jobs._lending import lent
from dspex_lab.jobs._remote import Piece, carry_out_piece, do_piece, run
from dspex_lab.jobs._reporter import Reporting
from dspex_lab.jobs._told import Abandoned, Batch, Called, Order, Reply

if TYPE_CHECKING:
    from dspex_lab.jobs._running import Running


class InKernel:
    """One attempt in a thread of the kernel.

    Python cannot end a thread: one that does not stop in time is left behind. It is no longer heard, and ends where it next
    tells something.

    Args:
        running: the job.
        order: what the work is given.
    """

    def __init__(self, running: Running, order: Order) -> None:
        self._running, self._given_up = running, False
        self._loop = asyncio.get_running_loop()
        self._pieces: set[asyncio.Task[Any]] = set()
        self.order = replace(order, stop_file=str(running.stop_file))
        pool = running.pool
        self._workers = running.rules.concurrency if pool is None else int(pool.spec.workers) * int(pool.spec.threads)
        self._reporter = Reporting(
            self.order,
            self._take,
            running.stop_asked.is_set,
            ledger=running.ledger,
            submit=self._submit,
            repeat=running.account.repeat,
            workers=self._workers,
        )

    async def go(self) -> Reply:
        """Run it, and return what came of it."""
        running = self._running
        future: asyncio.Future[Reply] = self._loop.create_future()

        def work() -> None:
            _settle(self._loop, future, lambda: run(running.work, self._reporter, running.surroundings, running.ledger))

        context = running._context.copy()
        threading.Thread(target=context.run, args=(work,), name="dspex-work", daemon=True).start()
        return await future

    def hears(self) -> bool:
        """Say whether it knows that it should stop."""
        return True

    def end(self) -> None:
        """Hear it no more."""
        self._given_up = True
        for piece in list(self._pieces):
            piece.cancel()

    # ---- called in the work's thread ---------------------------------------------------------------------------------

    def _take(self, batch: Batch) -> None:
        if self._given_up:
            raise Abandoned
        self._running.account.take(batch, self.order.attempt)

    def _submit(
        self, label: str | None, function: Callable[..., Any], args: tuple[Any, ...], told: Callable[[Any], None] | None
    ) -> Future[Any]:
        if self._given_up:
            raise Abandoned
        if self._running.pool is None:
            return self._in_thread(function, args, told)
        return asyncio.run_coroutine_threadsafe(self._on_worker(label, function, args, told), self._loop)

    def _in_thread(
        self, function: Callable[..., Any], args: tuple[Any, ...], told: Callable[[Any], None] | None
    ) -> Future[Any]:
        running, future = self._running, Future[Any]()
        piece = Piece(told or _nobody, lambda: self._given_up or running.stop_asked.is_set())

        def tell(value: Any) -> None:
            self._told(value, told)

        def work() -> None:
            try:
                reply = do_piece(function, args, piece, self.order.job_id, tell, running.surroundings, running.ledger)
                self._reporter.spent_out = self._reporter.spent_out or reply.refused
                future.set_result(reply.value)
            except BaseException as error:
                future.set_exception(error)

        context = running._context.copy()
        threading.Thread(target=context.run, args=(work,), name="dspex-piece", daemon=True).start()
        return future

    async def _on_worker(
        self, label: str | None, function: Callable[..., Any], args: tuple[Any, ...], told: Callable[[Any], None] | None
    ) -> Any:
        running, task = self._running, asyncio.current_task()
        assert running.pool is not None  # noqa: S101 - it runs on one
        assert task is not None  # noqa: S101 - this is one
        alone = not self._pieces
        self._pieces.add(task)
        try:
            # Each of several gets its share of what is left; one alone gets all of it.
            async with lent(running.ledger, 1 if alone else 1 / self._workers, running.account) as loan:
                reply: Reply = await running.pool.call(
                    carry_out_piece,
                    function,
                    args,
                    replace(self.order, allowance=loan.data, state=None),
                    running.surroundings.away(),
                    on_chunk=lambda value: self._told(value, told),
                    long=True,
                    label=label or running.account.row.name,
                    tags={"run_id": self.order.job_id, "job": self.order.job_id},
                    patience=PATIENCE,
                )
                loan.spent = reply.spent
            if alone:
                self._reporter.spent_out = self._reporter.spent_out or reply.refused
            return reply.value
        finally:
            self._pieces.discard(task)

    def _told(self, value: Any, told: Callable[[Any], None] | None) -> None:
        if self._given_up:
            return
        if isinstance(value, Called):
            self._running.account.take(Batch((value,)), self.order.attempt)
        elif told is not None:
            told(value)


def _nobody(value: Any) -> None:
    """Nobody listens to the piece."""


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], work: Callable[[], Any]) -> None:
    """Give a future what a function gives, from another thread; if its loop is closed, nobody waits any more."""
    value: Any = None
    error: BaseException | None = None
    try:
        value = work()
    except BaseException as raised:
        error = raised

    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}"))

    with contextlib.suppress(RuntimeError):  # it is closed, or is at this moment
        loop.call_soon_threadsafe(settle)
