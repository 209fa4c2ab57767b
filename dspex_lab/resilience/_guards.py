"""The guards of a Lab: one per target, with one bulkhead per provider, and how they all stand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dspex_lab.resilience._breaker import Breaker, BreakerState
from dspex_lab.resilience._bulkhead import Bulkhead
from dspex_lab.resilience._change import Observer
from dspex_lab.resilience._guard import Guard, Policy
from dspex_lab.resilience._hedge import Hedger


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """How one target stands: a row of a table.

    Attributes:
        target: what the calls go to.
        provider: whose places they take.
        state: ``"closed"``, ``"open"``, ``"half_open"``, or None where there is no breaker.
        since: seconds since the epoch, or None.
        failures: failed calls in the breaker's window.
        calls: calls in the breaker's window.
        refused: calls that the breaker refused since it was made.
        last_error: what the last failure that counted said. It may hold what the other side wrote: redact it before it is
            stored or shown.
        retry_after: seconds until an open circuit lets a call pass; 0.0 where one passes now, None where it stays open
            until it is closed by hand.
        limit: calls that the provider gets at once, over all its targets; None where there is no bulkhead.
        in_use: calls that are under way there.
        waiting: calls that wait there.
        rejected: calls that found no place there since it was made.
        paused_for: seconds for which the provider asked to be left alone.
    """

    target: str
    provider: str
    state: BreakerState | None
    since: float | None
    failures: int
    calls: int
    refused: int
    last_error: str | None
    retry_after: float | None
    limit: int | None
    in_use: int
    waiting: int
    rejected: int
    paused_for: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over all guards, from which `load_of` measures the load.

    Attributes:
        limit: places of all providers.
        in_use: of them, taken ones.
        waiting: calls in queues.
        queue: calls that may be in queues.
        entered: calls that got a place so far.
        rejected: calls that got none so far.
        targets: circuits.
        refusing: of them, those that let no call pass now. An open one whose cool-down is over is none of them: it
            waits for a call, and a load that keeps calls away would keep it open for ever.
    """

    limit: int = 0
    in_use: int = 0
    waiting: int = 0
    queue: int = 0
    entered: int = 0
    rejected: int = 0
    targets: int = 0
    refusing: int = 0


class Guards:
    """Makes and keeps the guards. Threads and event loops may share it.

    Args:
        policy: of targets without one of their own.
        policies: by target.
        told: told of each change of each part.
        allows: handed to each guard (`Degradation.allows`).
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        policies: Mapping[str, Policy] | None = None,
        told: Observer | None = None,
        allows: Callable[[str], bool] | None = None,
    ) -> None:
        self._policy = policy or Policy()
        self._policies = dict(policies or {})
        self._told, self._allows = told, allows
        self._lock = threading.Lock()
        self._guards: dict[str, Guard] = {}
        # Parts outlive a change of policy that does not concern them.
        self._breakers: dict[str, Breaker] = {}
        self._hedgers: dict[str, Hedger] = {}
        self._bulkheads: dict[str, Bulkhead] = {}

    def of(self, target: str, provider: str | None = None) -> Guard:
        """Return the guard of ``target``, made on first use.

        Args:
            target: what the calls go to, such as ``provider/model``.
            provider: whose places they take; None is the part of ``target`` before the first ``/``.
        """
        guard = self._guards.get(target)
        provider = provider or target.partition("/")[0]
        if guard is not None and guard.provider == provider:
            return guard
        with self._lock:
            guard = self._guards.get(target)
            if guard is None or guard.provider != provider:
                guard = self._guards[target] = self._make(target, provider)
            return guard

    def use(self, policy: Policy, target: str | None = None) -> None:
        """Take ``policy`` from now on, for ``target`` or for all that have none of their own.

        Calls under way end under the old one. Parts whose settings stay keep their state; the places of a provider are
        those that the policy of the target asked for last says.
        """
        with self._lock:
            if target is None:
                self._policy = policy
            else:
                self._policies[target] = policy
            self._guards = {name: self._make(name, guard.provider) for name, guard in self._guards.items()}

    def policy_of(self, target: str) -> Policy:
        """Return the policy of ``target``."""
        return self._policies.get(target, self._policy)

    def snapshot(self) -> list[GuardStatus]:
        """Return how all targets stand, by name."""
        with self._lock:
            guards = sorted(self._guards.values(), key=lambda guard: guard.target)
        return [_status(guard) for guard in guards]

    def counts(self) -> Counts:
        """Return the sums over all of them."""
        with self._lock:
            guards = list(self._guards.values())
        breakers = [guard.breaker for guard in guards if guard.breaker is not None]
        places = [bulkhead.status() for bulkhead in {id(g.bulkhead): g.bulkhead for g in guards if g.bulkhead}.values()]
        return Counts(
            limit=sum(each.limit for each in places),
            in_use=sum(each.in_use for each in places),
            waiting=sum(each.waiting for each in places),
            queue=sum(each.queue for each in places),
            entered=sum(each.entered for each in places),
            rejected=sum(each.rejected for each in places),
            targets=len(breakers),
            refusing=sum(each.state == "open" and each.refuses_for() > 0 for each in breakers),
        )

    def _make(self, target: str, provider: str) -> Guard:
        policy = self.policy_of(target)
        breaker = self._breakers.get(target)
        if policy.breaker is not None and (breaker is None or breaker.settings != policy.breaker):
            breaker = self._breakers[target] = Breaker(target, policy.breaker, self._told)
        hedger = self._hedgers.get(target)
        if policy.hedge is not None and (hedger is None or hedger.hedge != policy.hedge):
            hedger = self._hedgers[target] = Hedger(target, policy.hedge, self._told)
        bulkhead = self._bulkheads.get(provider)
        if policy.bulkhead is not None and (bulkhead is None or bulkhead.settings != policy.bulkhead):
            bulkhead = self._bulkheads[provider] = Bulkhead(provider, policy.bulkhead, self._told)
        return Guard(
            policy,
            target,
            provider,
            breaker=breaker if policy.breaker else None,
            bulkhead=bulkhead if policy.bulkhead else None,
            hedger=hedger if policy.hedge else None,
            told=self._told,
            allows=self._allows,
        )


def _status(guard: Guard) -> GuardStatus:
    circuit = guard.breaker.status() if guard.breaker is not None else None
    places = guard.bulkhead.status() if guard.bulkhead is not None else None
    return GuardStatus(
        target=guard.target,
        provider=guard.provider,
        state=circuit.state if circuit else None,
        since=circuit.since if circuit else None,
        failures=circuit.failures if circuit else 0,
        calls=circuit.calls if circuit else 0,
        refused=circuit.refused if circuit else 0,
        last_error=circuit.last_error if circuit else None,
        retry_after=circuit.retry_after if circuit else 0.0,
        limit=places.limit if places else None,
        in_use=places.in_use if places else 0,
        waiting=places.waiting if places else 0,
        rejected=places.rejected if places else 0,
        paused_for=places.paused_for if places else 0.0,
    )
