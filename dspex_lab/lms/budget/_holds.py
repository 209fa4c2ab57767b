"""What is held for calls under way, and how it is settled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.lms.budget._estimate import Estimate
from dspex_lab.lms.budget._snapshot import Spent
from dspex_lab.lms.budget._unpaid import unpaid

if TYPE_CHECKING:
    from dspex_lab.lms.budget._ledger import Ledger

#: Money is counted in whole picodollars, so that sums are exact: a token costs some 150,000 of them.
PICO = 10**12


class Amount(NamedTuple):
    """An amount in the three things that can be limited."""

    pico: int = 0
    tokens: int = 0
    calls: int = 0

    def plus(self, other: Amount, sign: int = 1) -> Amount:
        return Amount(self.pico + sign * other.pico, self.tokens + sign * other.tokens, self.calls + sign * other.calls)


class Held:
    """Something held in a chain of ledgers."""

    model = ""

    def __init__(self, ledger: Ledger, need: Amount) -> None:
        self.need = need
        self._ledger = ledger
        self._state = "held"

    @property
    def open(self) -> bool:
        """Say whether it is still held."""
        return self._state == "held"

    def release(self) -> None:
        """Give it back: nothing was paid. Does nothing where it is settled or released already."""
        self._end("released", Amount())

    def _end(self, state: str, spent: Amount, assumed: int = 0, unpriced: int = 0) -> bool:
        with self._ledger._shared.changed:
            # Money that was spent after all is booked, also where nothing is held any more.
            if self._state == "settled" or self._state == state == "released":
                return False
            was_held, self._state = self._state == "held", state
            notices = self._ledger._book(self, spent, assumed, unpriced, was_held)
        for ledger, notice in notices:
            ledger._tell(notice)
        return True


class Hold(Held):
    """What is held for one call that is under way; a context manager that does not leave it open.

    Left by an exception it is ended by :meth:`failed`; left in peace without having been settled, by ``settle()``.

    Args:
        what: the estimate.
    """

    def __init__(self, ledger: Ledger, need: Amount, what: Estimate) -> None:
        super().__init__(ledger, need)
        self.what = what
        self.model = what.model

    def settle(self, usage: Any = None, *, cost: float | None = None) -> None:
        """Book what the call used; a second time does nothing.

        Args:
            usage: a mapping with ``prompt_tokens`` and ``completion_tokens``, or an ``lm15.Usage``. What it does not say
                is booked as estimated; None says nothing at all.
            cost: US dollars; None is computed from the tokens by the estimate's price.
        """
        if usage is None and cost is None and self._state == "released":
            return  # nothing new is known
        what = self.what
        sent = tokens_of(usage, ("prompt_tokens", "input_tokens"))
        answered = tokens_of(usage, ("completion_tokens", "output_tokens"))
        prompt = what.prompt_tokens if sent is None else sent
        answer = what.completion_tokens if answered is None else answered
        paid, known = self._price(prompt, answer, cost, sent is not None and answered is not None)
        amount = Amount(pico(paid or 0.0), prompt + answer, 1)
        booked = self._end("settled", amount, 0 if known else amount.pico, int(paid is None))
        if booked and answered is not None:
            self._ledger._shared.lengths.add(what.model, answered)

    def _price(self, prompt: int, answer: int, cost: float | None, known: bool) -> tuple[float | None, bool]:
        """Return what the call cost, None where nobody knows, and whether that is more than an estimate."""
        what = self.what
        if what.simulated:
            return 0.0, True
        if cost is not None and math.isfinite(cost) and cost >= 0:
            return cost, True
        if what.price is not None:
            return what.price.of(prompt, answer), known
        return (None if known else what.cost), False

    def failed(self, error: BaseException) -> None:
        """End it for a call that failed: booked where it may have been paid for, else given back.

        Given back: the provider refused (an HTTP status, a wrong key or request, too many requests), no connection was made,
        or it was refused on this machine. Booked: an answer that broke off (by the usage it tells, else as estimated), a
        timeout or a broken connection after the request was sent, a call that was given up.
        """
        partial = getattr(error, "partial", None)
        usage = getattr(partial, "usage", None)
        if partial is None and unpaid(error):
            self.release()
        else:
            self.settle(usage)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not self.open:
            return
        if error is None:
            self.settle()
        else:
            self.failed(error)


class Loan(Held):
    """What a ledger has lent to work elsewhere (:meth:`Ledger.lend`).

    Attributes:
        data: the allowance as JSON-able data, for :meth:`Ledger.from_allowance`.
    """

    def __init__(self, ledger: Ledger, need: Amount, data: dict[str, Any]) -> None:
        super().__init__(ledger, need)
        self.data = data

    @property
    def limited(self) -> bool:
        """Say whether it bounds anything."""
        return any(self.data[kind] is not None for kind in ("cost", "tokens", "calls"))

    def settle(self, spent: Spent | None) -> None:
        """Book what was spent of it (``Ledger.spent`` over there), also where it is more; the rest is free again.

        Args:
            spent: None where nobody can say, because the worker died: then all that was lent counts as spent.
        """
        if spent is None:
            self._end("settled", self.need, self.need.pico)
            return
        amount = Amount(pico(spent.cost), spent.tokens, spent.calls)
        self._end("settled", amount, pico(spent.assumed), spent.unpriced)


def pico(dollars: float, up: bool = False) -> int:
    exact = dollars * PICO
    # A product of floats may lie a hair above the whole number it stands for.
    return math.ceil(exact - 0.01) if up else round(exact)


def tokens_of(usage: Any, names: tuple[str, ...]) -> int | None:
    """Return the first of ``names`` that ``usage`` has as a number of tokens."""
    for name in names:
        value = usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
