"""What may be spent on language models: limits in money, tokens and calls, kept before each call is made.

A :class:`Budget` says the limits, a :class:`Ledger` keeps the account. Before a call is made its greatest price is *held*
(:meth:`Ledger.reserve`), in the ledger of the run and in all those around it (the job, the Lab) or in none; afterwards the
true price is *settled*. Calls under way at once can so not cross a limit together.

What is promised, for prompts whose tokens are counted as ``_budget_estimate.py`` says:

- Every call has ``max_tokens``: no limit is ever crossed.
- Calls without ``max_tokens``: what a model usually answers is held (the mean of its answers so far plus two standard
  deviations). A limit can be crossed by as much as the calls under way cost more than was held for them, with one call at a
  time by the difference of one call; the next is refused. To hold all that a model *could* write (often 128,000 tokens)
  would refuse nearly everything.
- Whatever a call cost in the end is booked in full, also where it was more than was held.
- Where nobody says what was used (no usage in the answer, a timeout, a call that was given up), the estimate is booked, and
  the snapshot says how much of the sum is such.

Answers from the cache never come here: they cost nothing and are no calls. Engines that only imitate a provider cost no
money; their tokens and calls count, so that limits can be tried offline.
"""

from __future__ import annotations

from dspex_lab.lms.budget._estimate import Estimate, Lengths, estimate, prompt_tokens
from dspex_lab.lms.budget._holds import Hold, Loan
from dspex_lab.lms.budget._ledger import Ledger
from dspex_lab.lms.budget._limits import Budget
from dspex_lab.lms.budget._snapshot import Notice, Snapshot, Spent

__all__ = [
    "Budget",
    "Estimate",
    "Hold",
    "Ledger",
    "Lengths",
    "Loan",
    "Notice",
    "Snapshot",
    "Spent",
    "estimate",
    "prompt_tokens",
]
