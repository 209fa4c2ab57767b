"""A work that runs whole on a worker of a pool, as the kernel sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex_lab.jobs._lending import lent
from dspex_lab.jobs._remote import carry_out
from dspex_lab.jobs._told import Batch, Order, Reply

if TYPE_CHECKING:
    from dspex_lab.jobs._running import Running

#: Seconds that a job may wait for a worker: it stands in a queue of its own already.
PATIENCE = 7 * 24 * 3600.0


class InWorker:
    """One attempt on a worker.

    Args:
        running: the job.
        order: what the work is sent with.
    """

    def __init__(self, running: Running, order: Order) -> None:
        self._running = running
        self.order = replace(order, stop_file=str(running.stop_file))

    async def go(self) -> Reply:
        """Run it, and return what came of it."""
        running, order = self._running, self.order
        assert running.pool is not None  # noqa: S101 - it runs on one
        # Other jobs and runs of the Lab go on meanwhile: only a job with a budget of its own takes all of it along.
        async with lent(running.ledger, 1.0 if running.account.budget.limited else 0.5, running.account) as loan:
            reply: Reply = await running.pool.call(
                carry_out,
                running.work,
                replace(order, allowance=loan.data),
                running.surroundings.away(),
                on_chunk=self._take,
                long=True,
                label=f"{running.work.kind} {running.account.row.name}",
                tags={"run_id": order.job_id, "job": order.job_id},
                # It is told apart from its other attempts: what its deaths mean is decided here.
                identity=f"{order.job_id}/{order.attempt}",
                patience=PATIENCE,
            )
            loan.spent = reply.spent
        return reply

    def hears(self) -> bool:
        """Say whether it knows that it should stop."""
        began = self._running.account.began
        return began is not None and began.sees

    def end(self) -> None:
        """It is about to be cancelled, and its worker ended with it if it goes on."""

    def _take(self, batch: Any) -> None:
        assert isinstance(batch, Batch)  # noqa: S101 - a work tells through its reporter
        self._running.account.take(batch, self.order.attempt)
