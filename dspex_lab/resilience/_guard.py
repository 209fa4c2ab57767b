"""All that stands around one piece of work, in one order.

    deadline → retry → hedge → breaker → bulkhead → breaker again → timeout → the work

- The **deadline** is the whole call's: no attempt, wait or place in a queue outlasts it.
- **Retry** is outside everything else, so that each attempt asks the breaker anew, waits hold no place of the provider, and a
  breaker that opened ends the retries.
- **Hedge** is inside retry: both requests are one attempt. Each request has its own permit and its own place, because each
  is a call to the provider.
- The **breaker** is asked before the queue of the **bulkhead**, so that who would be refused waits for nothing, and once more
  with the place in hand, because the circuit may have opened meanwhile; only there a call becomes the probe.
- The **timeout** is an attempt's, from when it has its place: time in a queue of our own is no failure of the target.

Only work that is idempotent is tried again or hedged. Where somebody further out retries already (`is_retrying`), a guard
makes one attempt: there is one retry loop in the whole path.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from dspex_lab.errors import BulkheadFull, CircuitOpen, ConfigurationError, PipelineError
from dspex_lab.resilience._breaker import Breaker, BreakerSettings, Permit
from dspex_lab.resilience._bulkhead import Bulkhead, Slot
from dspex_lab.resilience._change import Change, Observer, describe, tell
from dspex_lab.resilience._checks import number
from dspex_lab.resilience._hedge import Hedge, Hedger, hedged, hedged_sync
from dspex_lab.resilience._limit import BulkheadSettings
from dspex_lab.resilience._retry import Retry, retry, retry_sync
from dspex_lab.resilience._scope import is_retrying

T = TypeVar("T")

#: Seconds that who waits for a circuit sleeps at least before it asks again.
_SHORTEST_NAP = 0.01


@dataclass(frozen=True)
class Policy:
    """What stands around a piece of work; None leaves that part out.

    Attributes:
        retry: when to try again.
        breaker: when to leave the target alone.
        bulkhead: how many calls its provider gets at once.
        hedge: when to ask once more; only for who wants that.
        timeout: seconds of one attempt from when it has its place.
        patience: seconds that a call may wait in all for an open circuit before it is refused; 0.0 refuses at once.
    """

    retry: Retry | None = field(default_factory=Retry)
    breaker: BreakerSettings | None = field(default_factory=BreakerSettings)
    bulkhead: BulkheadSettings | None = field(default_factory=BulkheadSettings)
    hedge: Hedge | None = None
    timeout: float | None = None
    patience: float = 0.0

    def __post_init__(self) -> None:
        kinds = {"retry": Retry, "breaker": BreakerSettings, "bulkhead": BulkheadSettings, "hedge": Hedge}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ConfigurationError(f"Policy({name}={value!r}): it is {kind.__name__}(…) or None.", key=name, actual=value)
        if self.timeout is not None:
            number("Policy", "timeout", self.timeout, 0, above=True)
        number("Policy", "patience", self.patience, 0)


class Attempt(NamedTuple):
    """What the work is told about the attempt that it is.

    ``number`` counts from 1. ``deadline`` is in seconds of ``time.monotonic()``: the sooner of the call's deadline and the
    attempt's timeout, or None. ``request`` is 0, and for a hedge its number from 1.
    """

    number: int
    deadline: float | None
    request: int


class Guard:
    """The parts that stand around calls of one target. Threads and event loops may share it.

    A pickled guard comes back with fresh parts, without its observer.

    Args:
        policy: which parts there are, where they are not given.
        target: what the calls go to.
        provider: whose places they take; None is the target itself.
        breaker: the target's breaker, instead of one of its own.
        bulkhead: the provider's bulkhead, which other targets share.
        hedger: the target's latencies and hedges.
        told: told of the parts' changes and of each retry.
        allows: asked for ``"hedging"`` and ``"retries"``; where it refuses the second, there is one retry at most
            (`Degradation.allows`).
    """

    def __init__(
        self,
        policy: Policy,
        target: str,
        provider: str | None = None,
        *,
        breaker: Breaker | None = None,
        bulkhead: Bulkhead | None = None,
        hedger: Hedger | None = None,
        told: Observer | None = None,
        allows: Callable[[str], bool] | None = None,
    ) -> None:
        self.policy, self.target, self.provider = policy, target, provider or target
        self.breaker = breaker or (Breaker(target, policy.breaker, told) if policy.breaker else None)
        self.bulkhead = bulkhead or (Bulkhead(self.provider, policy.bulkhead, told) if policy.bulkhead else None)
        self.hedger = hedger or (Hedger(target, policy.hedge, told) if policy.hedge else None)
        self._told, self._allows = told, allows
        self._fewer = replace(policy.retry, attempts=min(policy.retry.attempts, 2)) if policy.retry else None

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.policy, self.target, self.provider))

    async def acall(
        self,
        work: Callable[[Attempt], Awaitable[T]],
        *,
        deadline: float | None = None,
        idempotent: bool = False,
        hedge: bool = True,
    ) -> T:
        """Await ``work(attempt)`` with all that stands around it. An attempt is cancelled at its deadline.

        Args:
            work: one attempt.
            deadline: seconds of ``time.monotonic()``.
            idempotent: it may be done more than once: only then it is retried and hedged.
            hedge: it may also be done twice at once.

        Raises:
            CircuitOpen: the target is left alone now.
            BulkheadFull: the provider has no place before the deadline.
            TimeoutError: an attempt, the last one, had no answer in time.
            PipelineError: the deadline had passed before an attempt could begin.
            Exception: what the last attempt raised, as it is.
        """
        policy, twice = self._retries(idempotent), idempotent and hedge
        if policy is None:
            return await self._attempt(work, deadline, twice, 1)
        return await retry(
            partial(self._attempt, work, deadline, twice),
            policy,
            deadline=deadline,
            told=self._retried,
            futile=partial(self._futile, deadline),
        )

    def call(
        self, work: Callable[[Attempt], T], *, deadline: float | None = None, idempotent: bool = False, hedge: bool = True
    ) -> T:
        """Call ``work(attempt)`` as `acall` does, in this thread.

        A thread cannot be cancelled: ``work`` keeps to ``attempt.deadline`` by itself. An answer that comes later is taken.
        """
        policy, twice = self._retries(idempotent), idempotent and hedge
        if policy is None:
            return self._attempt_sync(work, deadline, twice, 1)
        return retry_sync(
            partial(self._attempt_sync, work, deadline, twice),
            policy,
            deadline=deadline,
            told=self._retried,
            futile=partial(self._futile, deadline),
        )

    # One attempt, which is one request or several, and one request: the async ways and their sync twins.

    async def _attempt(
        self, work: Callable[[Attempt], Awaitable[T]], deadline: float | None, idempotent: bool, number: int
    ) -> T:
        hedger = self._hedges(idempotent)
        if hedger is None:
            return await self._request(work, deadline, number, 0)
        return await hedged(partial(self._request, work, deadline, number), hedger, when=self._has_room)

    def _attempt_sync(self, work: Callable[[Attempt], T], deadline: float | None, idempotent: bool, number: int) -> T:
        hedger = self._hedges(idempotent)
        if hedger is None:
            return self._request_sync(work, deadline, number, 0)
        return hedged_sync(partial(self._request_sync, work, deadline, number), hedger, when=self._has_room)

    async def _request(self, work: Callable[[Attempt], Awaitable[T]], deadline: float | None, number: int, request: int) -> T:
        bulkhead, slot = self.bulkhead, None
        patience = _Patience(self.policy.patience, deadline)
        while True:
            try:
                if bulkhead is not None:
                    slot = self._place_now(request) or await bulkhead.aacquire(deadline=deadline)
                permit = self._admit(slot)
                break
            except CircuitOpen as refusal:
                nap = patience.nap(refusal)
            import asyncio

            await asyncio.sleep(nap)
        try:
            seconds, attempt = self._begin(number, request, deadline)
            answer = await (work(attempt) if seconds is None else self._timed(work, attempt, seconds))
        except BaseException as error:
            _failed(permit, slot, error)
            raise
        _succeeded(permit, slot)
        return answer

    def _request_sync(self, work: Callable[[Attempt], T], deadline: float | None, number: int, request: int) -> T:
        bulkhead, slot = self.bulkhead, None
        patience = _Patience(self.policy.patience, deadline)
        while True:
            try:
                if bulkhead is not None:
                    slot = self._place_now(request) or bulkhead.acquire(deadline=deadline)
                permit = self._admit(slot)
                break
            except CircuitOpen as refusal:
                nap = patience.nap(refusal)
            time.sleep(nap)
        try:
            answer = work(self._begin(number, request, deadline)[1])
        except BaseException as error:
            _failed(permit, slot, error)
            raise
        _succeeded(permit, slot)
        return answer

    async def _timed(self, work: Callable[[Attempt], Awaitable[T]], attempt: Attempt, seconds: float) -> T:
        import asyncio

        try:
            async with asyncio.timeout(seconds) as limit:
                return await work(attempt)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(f"{self.target!r} did not answer within {seconds:.3g} s.") from error.__cause__

    # The decisions that both have in common.

    def _retries(self, idempotent: bool) -> Retry | None:
        policy = self.policy.retry
        if policy is None or not idempotent or is_retrying():
            return None
        return policy if self._allows is None or self._allows("retries") else self._fewer

    def _hedges(self, idempotent: bool) -> Hedger | None:
        hedger = self.hedger
        if hedger is None or not idempotent:
            return None
        return hedger if self._allows is None or self._allows("hedging") else None

    def _has_room(self) -> bool:
        """Say whether a hedge would be let in: a further request waits in no queue and asks no ailing target."""
        if self.breaker is not None and self.breaker.state != "closed":
            return False
        return self.bulkhead is None or self.bulkhead.has_room()

    def _place_now(self, request: int) -> Slot | None:
        """Ask the breaker before the queue; return a place that is free now, or None where to wait for one."""
        if self.breaker is not None:
            self.breaker.check()
        if request == 0 or self.bulkhead is None:
            return None
        slot = self.bulkhead.try_slot()
        if slot is None:
            raise BulkheadFull(f"{self.provider!r} has no place for a hedge.", target=self.provider)
        return slot

    def _admit(self, slot: Slot | None) -> Permit | None:
        if self.breaker is None:
            return None
        try:
            return self.breaker.admit()
        except BaseException:
            if slot is not None:
                slot.released()
            raise

    def _begin(self, number: int, request: int, deadline: float | None) -> tuple[float | None, Attempt]:
        """Return how many seconds the attempt has, and what it is told."""
        timeout = self.policy.timeout
        if timeout is None and deadline is None:
            return None, Attempt(number, None, request)
        now = time.monotonic()
        until = deadline if timeout is None else now + timeout if deadline is None else min(deadline, now + timeout)
        assert until is not None  # noqa: S101 - for the type checker: one of the two is there
        if until <= now:
            raise PipelineError(f"The deadline passed before {self.target!r} was asked.", hint="Give it more time.")
        return until - now, Attempt(number, until, request)

    def _futile(self, deadline: float | None, seconds: float) -> bool:
        """Say whether an attempt after ``seconds`` would meet an open circuit for which nobody waits."""
        if self.breaker is None:
            return False
        patience = self.policy.patience
        if deadline is not None:
            patience = min(patience, deadline - time.monotonic() - seconds)
        return self.breaker.refuses_for() > seconds + max(patience, 0.0)

    def _retried(self, attempt: int, seconds: float, error: BaseException) -> None:
        before, after = f"attempt {attempt}", f"attempt {attempt + 1}"
        details = {"attempt": attempt, "wait": seconds}
        tell(self._told, Change("retry", self.target, before, after, describe(error), details=details))


class _Patience:
    """For how long one request still waits for an open circuit."""

    __slots__ = ("_until",)

    def __init__(self, seconds: float, deadline: float | None) -> None:
        if seconds <= 0.0:
            self._until = 0.0
            return
        until = time.monotonic() + seconds
        self._until = until if deadline is None else min(until, deadline)

    def nap(self, refusal: CircuitOpen) -> float:
        """Return for how long to sleep before asking again; raise the refusal where there is no time for that."""
        left = refusal.retry_after
        if left is None or time.monotonic() + left >= self._until:
            raise refusal
        return max(left, _SHORTEST_NAP)


def _failed(permit: Permit | None, slot: Slot | None, error: BaseException) -> None:
    try:
        if permit is not None:
            permit.failed(error)
    finally:
        if slot is not None:
            slot.failed(error)


def _succeeded(permit: Permit | None, slot: Slot | None) -> None:
    if permit is not None:
        permit.succeeded()
    if slot is not None:
        slot.succeeded()
