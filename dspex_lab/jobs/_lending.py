"""What a job's account lends to a worker, and takes back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from dspex_lab.jobs._account import Account
from dspex_lab.lms import Ledger, Spent


class Lent:
    """What was lent: ``data`` is the allowance as it travels, None where nothing is limited; ``spent`` is set when known."""

    def __init__(self, data: dict[str, Any] | None) -> None:
        self.data = data
        self.spent: Spent | None = None


@contextlib.asynccontextmanager
async def lent(ledger: Ledger, share: float, account: Account) -> AsyncIterator[Lent]:
    """Lend a share of what is free for the time of the block.

    If nobody says what was spent, because the worker is gone, it is what the records of its calls say that had come by then.
    """
    loan = ledger.lend(share)
    before = account.spent
    made = Lent(loan.data if ledger.limited else None)
    try:
        yield made
    finally:
        now = account.spent
        known = Spent(now.cost - before.cost, now.tokens - before.tokens, now.calls - before.calls)
        loan.settle(made.spent if made.spent is not None else known)
