"""What stands between DSPy's cache and an engine, for the calls of a Lab: its resilience, its budgets, its tape.

DSPy chooses the engine of each call in ``dspy.clients.execution._engine``. :func:`install_gateway` wraps that function, so what
is said here holds for every engine, DSPy's own and LiteLLM among them. A call that a cache answers never comes here.

One call passes, in this order: the retries, hedges, circuit breaker and bulkhead of its target
(:class:`~dspex_lab.resilience.Guard`); then, for each request that is really made, the budgets; then the tape, or the engine.
DSPy's own loop of retries is switched off for it, and the guard's is where a step's ``retries=`` is around: one loop in all.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dspex_lab.errors import BulkheadFull, ConfigurationError
from dspex_lab.events import Event, Record
from dspex_lab.lms._make import describe, is_simulated
from dspex_lab.lms.calls._asking import Asking, asking
from dspex_lab.lms.calls._chain import CACHE
from dspex_lab.lms.calls._failures import ailing, transient
from dspex_lab.lms.calls._guarded import AsyncGuardedEngine, GuardedEngine
from dspex_lab.lms.calls._streaming import streamed
from dspex_lab.lms.choice._capabilities import address_of, at
from dspex_lab.lms.choice._prices import price_of
from dspex_lab.lms.tape._engine import taped_for
from dspex_lab.lms.tape._tape import Tape
from dspex_lab.resilience import (
    BreakerSettings,
    Change,
    Degradation,
    DegradationSettings,
    Guard,
    Guards,
    Level,
    Policy,
    Retry,
    is_retrying,
)

#: How often an LM is asked where neither it nor a policy says: DSPy's own default.
_DSPY_RETRIES = 3

#: Stands around an engine that cannot ail.
_UNGUARDED = Guard(Policy(None, None, None), "this process")

#: Seconds between two measurements of the load.
_MEASURED_EVERY = 0.25


def default_policy() -> Policy:
    """Return what stands around the calls of a model that nothing else was said of.

    A circuit is open for 5 seconds at most (Hystrix's sleep window): the probe is one call, and who waits for a provider that
    is well again loses more by a longer one than the provider does by a shorter one.
    """
    again = Retry(attempts=_DSPY_RETRIES + 1, wait=0.5, longest=20.0, on=transient)
    return Policy(again, BreakerSettings(on=ailing, cool_down=2.0, longest=5.0))


def _degradation() -> DegradationSettings:
    """Return when what is left out: as usual, but a long queue alone refuses nobody, for a map of 1,000 rows at once is one."""
    usual = DegradationSettings()
    last = replace(usual.enter[Level.CACHED_ONLY], queue=1.0)
    return replace(usual, enter={**usual.enter, Level.CACHED_ONLY: last})


def _judged(policy: Policy) -> Policy:
    retry, breaker = policy.retry, policy.breaker
    if retry is not None and retry.on is None:
        retry = replace(retry, on=transient)
    if breaker is not None and breaker.on is None:
        breaker = replace(breaker, on=ailing)
    return replace(policy, retry=retry, breaker=breaker)


def provider_of(lm: Any) -> str:
    """Return whose places a call of ``lm`` takes: ``"provider"`` or, at an address of its own, ``"provider@address"``."""
    return at(describe(lm).partition("/")[0], address_of(lm))


def target_of(lm: Any) -> str:
    """Return what a call of ``lm`` goes to: ``"provider/model"`` or, at an address of its own, ``"provider/model@address"``."""
    return at(describe(lm), address_of(lm))


class Gateway:
    """What the calls of one Lab pass on their way to an engine. Threads and event loops may share it.

    Args:
        emit: takes the events of what happens outside a call.
        policy: what stands around calls; None is :func:`default_policy`, with an LM's own ``num_retries``.

    Attributes:
        guards: what stands around each target.
        degradation: what is left out under load.
    """

    def __init__(self, emit: Callable[[Record], None], policy: Policy | None = None) -> None:
        self._emit = emit
        self._own_policy = policy is not None
        self._policed: set[str] = set()
        self._patient: dict[tuple[str, int], tuple[Guard, Guard]] = {}
        self.degradation = Degradation(_degradation(), told=self._told)
        self.guards = Guards(_judged(policy) if policy else default_policy(), told=self._told, allows=self.degradation.allows)
        self._tape: Tape | None = None
        self._fallbacks: dict[str, tuple[Any, ...]] = {}
        self._measured = 0.0
        self._lock = threading.Lock()

    # --- settings -----------------------------------------------------------------------------------------------------

    def use_policy(self, policy: Policy, lm: Any = None) -> None:
        """Let ``policy`` stand around the calls of ``lm``, or of all models that have none of their own.

        Where its retries and its breaker do not say which failures they are for, they are for those of :func:`transient` and
        :func:`ailing`: a spent quota is not asked again, and a rate limit opens no circuit.
        """
        policy = _judged(policy)
        if lm is None:
            self._own_policy = True
            self.guards.use(policy)
        else:
            self._policed.add(target_of(lm))
            self.guards.use(policy, target_of(lm))

    def use_fallbacks(self, lm: Any, others: Sequence[Any]) -> None:
        """Ask ``others`` in turn where ``lm`` fails: models, and ``"cache"`` for an earlier answer to the same prompt."""
        with self._lock:
            rest = {target: chain for target, chain in self._fallbacks.items() if target != target_of(lm)}
            self._fallbacks = {**rest, target_of(lm): tuple(others)} if others else rest

    def fallbacks(self, lm: Any) -> tuple[Any, ...]:
        """Return what is asked where ``lm`` fails."""
        return self._fallbacks.get(target_of(lm), ())

    @property
    def tape(self) -> Tape | None:
        """What is recorded on or played from, None where nothing is."""
        tape = self._tape
        return None if tape is None or tape.closed else tape

    @tape.setter
    def tape(self, tape: Tape | None) -> None:
        self._tape = tape

    def terms_of(self, lm: Any, lent: Callable[[Any], Any]) -> dict[str, Any]:
        """Return what :meth:`take` needs to let the calls of ``lm`` pass in another process as they do here.

        Args:
            lent: makes a model travel; :func:`~dspex_lab.lms.portable`.

        Raises:
            ConfigurationError: a tape answers what is on it and asks for the rest, which only this process can do.
        """
        terms: dict[str, Any] = {"fallbacks": [other if other == CACHE else lent(other) for other in self.fallbacks(lm)]}
        if self._own_policy or target_of(lm) in self._policed:
            terms["policy"] = self.guards.policy_of(target_of(lm))
        tape = self.tape
        if tape is not None and tape.mode not in ("record", "replay"):
            raise ConfigurationError(
                f"A tape in the mode {tape.mode!r} does not reach the workers of a pool.",
                key="mode",
                expected="'record' or 'replay'",
                actual=tape.mode,
                hint="Run the step without pool=, or record anew.",
            )
        if tape is not None:
            terms["tape"] = {"path": tape.path if tape.mode == "replay" else None, "mode": tape.mode}
            terms["tape"] |= {"exact": tape.exact, "speed": tape.speed}
        return terms

    def take(self, lm: Any, terms: dict[str, Any], made: Callable[[Any], Any]) -> Tape | None:
        """Let the calls of ``lm`` pass as in the process that :meth:`terms_of` was asked in; return the tape, if any.

        Args:
            made: makes a model that has travelled.
        """
        self.use_fallbacks(lm, [other if other == CACHE else made(other) for other in terms["fallbacks"]])
        policy = terms.get("policy")
        if policy is not None and self.guards.policy_of(target_of(lm)) != policy:
            self.use_policy(policy, lm)
        asked = terms.get("tape")
        kept = self.tape
        if asked is None:
            self.tape = None
        elif asked["mode"] == "record" or kept is None or (kept.path, kept.exact, kept.speed) != _like(asked):
            self.tape = Tape(asked["path"], asked["mode"], exact=asked["exact"], speed=asked["speed"])
        return self.tape

    def replays(self) -> bool:
        """Say whether no provider is called, because a tape answers every call."""
        tape = self.tape
        return tape is not None and tape.mode == "replay"

    # --- a call -------------------------------------------------------------------------------------------------------

    def order(self, lm: Any) -> tuple[Any, ...]:
        """Return the models to ask for a call of ``lm``, in that order; under load the cheapest is the first."""
        if not self._fallbacks:
            return (lm,)
        others = self.fallbacks(lm)
        if not others or self.degradation.allows("preferred_model"):
            return (lm, *others)
        models = sorted((lm, *(o for o in others if o != CACHE)), key=_list_price)
        return (*models, *(o for o in others if o == CACHE))

    def guard(self, lm: Any) -> Guard:
        """Return what stands around the calls of ``lm``; without a policy of the user's it is asked as often as it says."""
        target = target_of(lm)
        guard = self.guards.of(target, provider_of(lm))
        retries, policy = getattr(lm, "num_retries", _DSPY_RETRIES), guard.policy
        if self._own_policy or target in self._policed or policy.retry is None or not isinstance(retries, int) or retries < 1:
            return guard
        if policy.retry.attempts == retries + 1:
            return guard
        kept = self._patient.get((target, retries))
        if kept is None or kept[0] is not guard:
            # Models of one target may differ in this; all else they share.
            own = replace(policy, retry=replace(policy.retry, attempts=retries + 1))
            kept = self._patient[target, retries] = (guard, self._sharing(guard, own))
        return kept[1]

    def _sharing(self, guard: Guard, policy: Policy) -> Guard:
        return Guard(
            policy,
            guard.target,
            guard.provider,
            breaker=guard.breaker,
            bulkhead=guard.bulkhead,
            hedger=guard.hedger,
            told=self._told,
            allows=self.degradation.allows,
        )

    def around(self, call: Asking, engine: Any, asynchronous: bool, played: bool) -> Any:
        """Return ``engine`` with what stands around a call of it.

        An engine that says ``in_process = True`` answers in this process and cannot ail: only budgets stand around it.

        Args:
            played: a tape answers: nothing is spent, and nobody is spared or waited for.

        Raises:
            BulkheadFull: so much is going on that only caches answer.
        """
        lm, ledger = call.lm, call.recorder.terms.ledger
        guarded = AsyncGuardedEngine if asynchronous else GuardedEngine
        # An LM without retries is asked once, and not hedged: its user said so.
        again = getattr(lm, "num_retries", _DSPY_RETRIES) != 0 and not call.recorder.once
        if played:
            retry = self.guard(lm).policy.retry
            at_once = None if retry is None else replace(retry, wait=0.0, jitter=0.0, heed=False)
            return guarded(engine, Guard(Policy(at_once, None, None), target_of(lm)), call, None, again)
        if getattr(engine, "in_process", False) is True:
            if ledger is None or not ledger.limited:
                call.attempts = 1
                return engine
            return guarded(engine, _UNGUARDED, call, ledger, False)
        self.measure()
        if not self.degradation.allows("new_calls"):
            raise BulkheadFull(
                f"{describe(lm)!r} is not called now: {self.degradation.reason}, and only caches answer.",
                target=provider_of(lm),
                hint="Ask again when the load is lower, or set the level: lab.gateway.degradation.pin('normal').",
            )
        return guarded(engine, self.guard(lm), call, ledger, again)

    def measure(self) -> Level:
        """Measure the load, where that was not done just now, and return the level that follows."""
        now = time.monotonic()
        if now - self._measured >= _MEASURED_EVERY:
            self._measured = now
            self.degradation.measure(self.guards.counts())
        return self.degradation.level

    def _told(self, change: Change) -> None:
        name = "lm.retry" if change.event == "retry" else change.event
        call = asking.get()
        if call is None:
            self._emit(Event(name, change.time, data=change.as_data()))
            return
        recorder = call.recorder
        recorder.emit(Event(name, change.time, recorder.run_id, recorder.span_id, recorder.step, change.as_data()))


def _like(tape: dict[str, Any]) -> tuple[Any, ...]:
    return tape["path"], tape["exact"], tape["speed"]


def _list_price(lm: Any) -> float:
    """Return what a call of ``lm`` costs about, in dollars a million tokens; what nobody knows is the dearest."""
    price = price_of(describe(lm))
    return 0.0 if is_simulated(lm) else float("inf") if price is None else price.input + price.output


def install_gateway() -> None:
    """Wrap DSPy's choice of an engine, and its own retries; later calls do nothing."""
    from dspy.clients import execution

    choose, try_again = execution._engine, execution._retryable
    if getattr(choose, "_dspex_gateway", False):
        return

    @functools.wraps(choose)
    def chosen_engine(lm: Any, call: Any, asynchronous: bool) -> Any:
        asked = asking.get()
        if asked is None:
            return choose(lm, call, asynchronous)
        gateway = asked.recorder.terms.gateway
        engine, request, provider = choose(lm, call, asynchronous)
        played = False
        if gateway is not None and (tape := gateway.tape) is not None:
            engine = taped_for(engine, tape, lm, call, asynchronous)
            played = engine.plays(request)
        engine = streamed(engine, request, provider, call, asked.live, asynchronous)
        if gateway is None:
            asked.attempts = 1
        else:
            engine = gateway.around(asked, engine, asynchronous, played)
        return engine, request, provider

    @functools.wraps(try_again)
    def retryable(state: Any, error: Any, attempt: int, retries: int) -> bool:
        asked = asking.get()
        if asked is None or asked.recorder.terms.gateway is None:
            return bool(try_again(state, error, attempt, retries))
        # Whether a stream may be asked for again, only DSPy knows, which passes its pieces on; all else is the guard's.
        once = not asked.streams or asked.recorder.once or is_retrying() or not transient(error)
        return not once and bool(try_again(state, error, attempt, retries))

    chosen_engine._dspex_gateway = True  # type: ignore[attr-defined]
    execution._engine, execution._retryable = chosen_engine, retryable
