"""The account of what is spent and held; see ``_budget.py`` for what it promises."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from dspex_lab.errors import BudgetExceeded, ConfigurationError
from dspex_lab.lms.budget._estimate import Estimate, Lengths
from dspex_lab.lms.budget._holds import PICO, Amount, Held, Hold, Loan, pico
from dspex_lab.lms.budget._limits import Budget
from dspex_lab.lms.budget._snapshot import Notice, Snapshot, Spent
from dspex_lab.lms.budget._words import refused

log = logging.getLogger("dspex_lab")

LEVELS = (0.5, 0.8, 1.0)

Told = Callable[[Notice], None]
_H = TypeVar("_H", bound=Held)


_KINDS = ("money", "tokens", "calls")


class _Refusal(NamedTuple):
    ledger: Ledger
    limit: str
    by_held: bool  # it would fit if nothing were held


class _Shared:
    """What all ledgers of one chain share: the lock, who waits, and how long answers are."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.wake: list[Callable[[], object]] = []
        self.lengths = Lengths()

    def notify(self) -> None:
        """Have all who wait try again; the lock is held."""
        self.changed.notify_all()
        wake, self.wake = self.wake, []
        for each in wake:
            each()


class Ledger:
    """The account of one budget. Thread-safe.

    Args:
        budget: its limits; also what :meth:`Budget.of` takes.
        name: whose budget it is, as it stands in a sentence: ``"the run 'support'"``, ``"this Lab"``, ``"job 3"``.
        outer: the account of what this one happens in; what is held and spent here is so there too.
        told: is told when half, four fifths and all of a limit is spent, and of refusals by this ledger; called in the
            thread in which that happens, with no lock held.
    """

    def __init__(
        self, budget: Any = None, name: str = "this budget", outer: Ledger | None = None, told: Told | None = None
    ) -> None:
        self.name = name
        self.outer = outer
        self.told = told
        self._shared: _Shared = outer._shared if outer is not None else _Shared()
        self._spent, self._held, self._under_way = Amount(), Amount(), 0
        self._assumed = self._unpriced = self._refused = self._changes = 0
        self._budget = Budget.of(budget)
        self._limits = _limits(self._budget)
        self._levels = self._reached()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.snapshot()}>"

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def budget(self) -> Budget:
        """The limits; they may be set anew at any time, and hold from the next call on."""
        return self._budget

    @budget.setter
    def budget(self, value: Any) -> None:
        budget = Budget.of(value)
        with self._shared.changed:
            self._budget, self._limits = budget, _limits(budget)
            self._levels = self._reached()
            self._change()
            self._shared.notify()

    @property
    def limited(self) -> bool:
        """Say whether anything is limited, here or in an account around."""
        return any(ledger._budget.limited for ledger in self._chain())

    @property
    def changes(self) -> int:
        """A number that grows with each change: what a live view compares before it reads anew."""
        return self._changes

    @property
    def spent(self) -> Spent:
        """What is spent."""
        with self._shared.changed:
            return self._spent_now()

    def snapshot(self) -> Snapshot:
        """Return how this ledger stands now."""
        with self._shared.changed:
            return self._snapshot()

    def usual(self, model: str) -> int | None:
        """Return the tokens that an answer of ``model`` usually does not exceed, None before its first answer here."""
        return self._shared.lengths.usual(model)

    def allowance(self) -> dict[str, Any]:
        """Return what may still be spent here, by this ledger and those around it, as JSON-able data. Nothing is held."""
        with self._shared.changed:
            return self._data([None if left is None else left for left in self._free()])

    # --- spending -----------------------------------------------------------------------------------------------------

    def reserve(self, what: Estimate, *, wait: float = 0.0) -> Hold:
        """Hold what a call can cost, here and in every ledger around, or in none.

        Args:
            wait: seconds to wait for calls under way, where only what is held for them stands in the way.

        Raises:
            BudgetExceeded: the call could cross a limit, or its price is unknown and money is limited. It names whose
                budget, which limit, and what is spent, held and asked for.
        """
        until = time.monotonic() + wait
        with self._shared.changed:
            made = self._try(what)
            while isinstance(made, _Refusal) and made.by_held and (left := until - time.monotonic()) > 0:
                self._shared.changed.wait(min(left, threading.TIMEOUT_MAX))
                made = self._try(what)
        if isinstance(made, _Refusal):
            raise self._refused_for(made, what)
        return made

    async def areserve(self, what: Estimate, *, wait: float = 0.0) -> Hold:
        """Do as :meth:`reserve`; the wait can be cancelled and does not hold up the loop."""
        loop, freed = asyncio.get_running_loop(), asyncio.Event()
        until = loop.time() + wait

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(freed.set)

        while True:
            freed.clear()
            with self._shared.changed:
                made = self._try(what)
                if not isinstance(made, _Refusal):
                    return made
                left = until - loop.time()
                waits = made.by_held and left > 0
                if waits:
                    self._shared.wake.append(wake)
            if not waits:
                raise self._refused_for(made, what)
            try:
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await freed.wait()
            except TimeoutError:
                continue  # it is tried once more, and refused
            finally:
                with self._shared.changed:
                    if wake in self._shared.wake:
                        self._shared.wake.remove(wake)

    def lend(self, share: float = 1.0) -> Loan:
        """Hold a share of what is free, to be spent elsewhere: a worker process, which keeps a ledger of its own over it.

        What is lent is free for nobody here until the loan is settled, so that the limits hold over all processes. Where
        several errands go out at once, each should get its share (1/n for n at once); what is not limited is not held.

        Args:
            share: above 0 and at most 1.

        Raises:
            ConfigurationError: it is not.
        """
        if not 0 < share <= 1:
            raise ConfigurationError(f"share={share!r} is no share.", key="share", expected="above 0, at most 1", actual=share)
        with self._shared.changed:
            free = [None if left is None else int(max(left, 0) * share) for left in self._free()]
            return self._hold(Loan(self, Amount(*(left or 0 for left in free)), self._data(free)))

    @classmethod
    def from_allowance(cls, data: Mapping[str, Any], name: str = "", told: Told | None = None) -> Ledger:
        """Return a ledger over what :meth:`lend` or :meth:`allowance` gave, in whichever process.

        Raises:
            ConfigurationError: it is no such data.
        """
        if not isinstance(data, Mapping) or data.get("version") != 1:
            raise ConfigurationError("This is no allowance of a ledger.", key="allowance", actual=data)
        limits = {key: data.get(key) for key in ("cost", "tokens", "calls")}
        return cls(Budget(**limits), name or str(data.get("of") or "this budget"), told=told)

    # --- inside: the lock is held -------------------------------------------------------------------------------------

    def _chain(self) -> Iterator[Ledger]:
        ledger: Ledger | None = self
        while ledger is not None:
            yield ledger
            ledger = ledger.outer

    def _try(self, what: Estimate) -> Hold | _Refusal:
        free_of_charge = what.simulated
        need = Amount(0 if free_of_charge or what.cost is None else pico(what.cost, up=True), what.tokens, 1)
        for ledger in self._chain():
            if what.cost is None and not free_of_charge and ledger._budget.cost is not None:
                return _Refusal(ledger, "price", False)
            for kind, limit, spent, held, asked in zip(_KINDS, ledger._limits, ledger._spent, ledger._held, need, strict=True):
                if limit is not None and asked and spent + held + asked > limit:
                    return _Refusal(ledger, kind, spent + asked <= limit)
        return self._hold(Hold(self, need, what))

    def _hold(self, held: _H) -> _H:
        for ledger in self._chain():
            ledger._held = ledger._held.plus(held.need)
            ledger._under_way += 1
            ledger._change()
        return held

    def _free(self) -> list[int | None]:
        left: list[int | None] = [None, None, None]
        for ledger in self._chain():
            for at, limit in enumerate(ledger._limits):
                if limit is not None:
                    here = limit - ledger._spent[at] - ledger._held[at]
                    left[at] = here if left[at] is None else min(left[at], here)  # type: ignore[type-var]
        return left

    def _data(self, free: list[int | None]) -> dict[str, Any]:
        cost, tokens, calls = (None if left is None else max(left, 0) for left in free)
        return {"version": 1, "of": self.name, "cost": None if cost is None else cost / PICO, "tokens": tokens, "calls": calls}

    def _change(self) -> None:
        self._changes += 1

    def _spent_now(self) -> Spent:
        pico, tokens, calls = self._spent
        return Spent(pico / PICO, tokens, calls, self._assumed / PICO, self._unpriced)

    def _snapshot(self) -> Snapshot:
        held = Spent(self._held.pico / PICO, self._held.tokens, self._held.calls)
        return Snapshot(self.name, self._budget, self._spent_now(), held, self._under_way, self._refused)

    def _reached(self) -> dict[str, float]:
        """Return the highest level that each limit has reached."""
        reached = {}
        for kind, limit, spent in zip(_KINDS, self._limits, self._spent, strict=True):
            if limit is not None:
                reached[kind] = max((level for level in LEVELS if limit and spent >= level * limit), default=0.0)
        return reached

    def _book(self, held: Held, spent: Amount, assumed: int, unpriced: int, was_held: bool) -> list[tuple[Ledger, Notice]]:
        """Take what was held back, book what was spent, and return what is to be told of it."""
        notices = []
        for ledger in self._chain():
            if was_held:
                ledger._held = ledger._held.plus(held.need, -1)
                ledger._under_way -= 1
            ledger._spent = ledger._spent.plus(spent)
            ledger._assumed += assumed
            ledger._unpriced += unpriced
            ledger._change()
            before, ledger._levels = ledger._levels, ledger._reached()
            for kind, level in ledger._levels.items():
                if level > before[kind]:
                    message = f"{level:.0%} of the {kind} of {ledger.name} is spent: {ledger._snapshot()}."
                    notices.append((ledger, Notice("level", kind, level, message, held.model, ledger._snapshot())))
        self._shared.notify()
        return notices

    # --- telling: no lock is held -------------------------------------------------------------------------------------

    def _refused_for(self, refusal: _Refusal, what: Estimate) -> BudgetExceeded:
        """Count and tell a refusal, and return it as an error."""
        ledger = refusal.ledger
        with self._shared.changed:
            ledger._refused += 1
            ledger._change()
            snapshot = ledger._snapshot()
        message, hint = refused(refusal.limit, refusal.by_held, what, snapshot)
        ledger._tell(Notice("refused", refusal.limit, None, message, what.model, snapshot))
        return BudgetExceeded(message, engine=what.model, hint=hint)

    def _tell(self, notice: Notice) -> None:
        if self.told is None:
            return
        try:
            self.told(notice)
        except Exception:
            log.exception("who listens to the budget of %s raised; the call goes on", self.name)


def _limits(budget: Budget) -> tuple[int | None, int | None, int | None]:
    return None if budget.cost is None else pico(budget.cost), budget.tokens, budget.calls
