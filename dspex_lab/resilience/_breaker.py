"""A circuit breaker for one target: who keeps failing is left alone for a while, then asked by one call.

States and their names are Nygard's (Release It!, 2nd ed. 2018, ch. 5) and Fowler's (martinfowler.com, CircuitBreaker, 2014);
the sliding windows are resilience4j's. The room has its own because pybreaker never opens around ``async def`` and
purgatory and hyx let every concurrent caller through while half open.

    closed     all calls pass; when ``threshold`` of the window failed, it opens
    open       calls are refused at once, until ``cool_down`` is over
    half_open  one call, the probe, passes; the others are refused. It succeeds: closed. It fails: open, for longer
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from dspex_lab.errors import CircuitOpen, ConfigurationError
from dspex_lab.resilience._change import Change, Observer, describe, tell
from dspex_lab.resilience._checks import number, whole
from dspex_lab.resilience._retry import LONGEST_ASKED
from dspex_lab.resilience._retryable import chain, retry_after, retryable, status_of
from dspex_lab.resilience._windows import LastCalls, LastSeconds

BreakerState = Literal["closed", "open", "half_open"]

#: What a failure said, and the seconds that it asked to wait.
_Seen = tuple[str, float | None]

#: Statuses of a server that is well and wants something else of the caller.
_ANSWERED_LATER = frozenset({409, 425, 429})

#: Seconds after which who was refused because of a probe may ask again; how long the probe takes is not known.
_PROBE_ANSWERS = 1.0


def ailing(error: BaseException) -> bool:
    """Say whether ``error`` speaks of a target that does not work: a broken connection, a timeout, a 5xx.

    That is `retryable` without the answers of a server that is well (HTTP 409, 425 and 429: the rate limit is the
    bulkhead's matter).
    """
    return retryable(error) and first_status(error) not in _ANSWERED_LATER


def first_status(error: BaseException) -> int | None:
    """Return the first HTTP status in the chain of ``error`` and what caused it, or None."""
    return next((status for each in chain(error) if (status := status_of(each)) is not None), None)


@dataclass(frozen=True)
class BreakerSettings:
    """When a circuit opens and how long it stays open.

    Attributes:
        window: what the failure rate is measured over, in ``unit``.
        unit: ``"calls"`` (the last so many) or ``"seconds"`` (the last so long, in steps of a tenth of it).
        threshold: the share of failures in the window, above 0 to 1, at which it opens. Looked at after each failure.
        minimum: calls that must be in the window before it may open.
        cool_down: seconds that it stays open the first time; a failure's own ``retry_after`` (up to 300 s) may make it more.
        growth: by what the cool-down is multiplied after each probe that failed.
        longest: seconds that a grown cool-down does not exceed.
        probe_within: seconds after which a probe that told nothing is given up and another call may be the probe.
        on: which failures count against the target; None is `ailing`. Of the others, one with an HTTP status shows a
            target that answers, and counts as a success (but 429, which shows nothing); the rest count as nothing.
    """

    window: float = 20
    unit: Literal["calls", "seconds"] = "calls"
    threshold: float = 0.5
    minimum: int = 5
    cool_down: float = 3.0
    growth: float = 1.5
    longest: float = 30.0
    probe_within: float = 120.0
    on: Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        name = "BreakerSettings"
        if self.unit not in ("calls", "seconds"):
            raise ConfigurationError(
                f"{name}(unit={self.unit!r}): it is 'calls' or 'seconds'.",
                key="unit",
                expected=("calls", "seconds"),
                actual=self.unit,
            )
        if self.unit == "calls":
            whole(name, "window", self.window, 1)
            whole(name, "minimum", self.minimum, 1, self.window)
        else:
            number(name, "window", self.window, 0, above=True)
            whole(name, "minimum", self.minimum, 1)
        number(name, "threshold", self.threshold, 0, 1, above=True)
        number(name, "cool_down", self.cool_down, 0)
        number(name, "growth", self.growth, 1, 10)
        number(name, "longest", self.longest, self.cool_down)
        number(name, "probe_within", self.probe_within, 0, above=True)
        if self.on is not None and not callable(self.on):
            raise ConfigurationError(f"{name}(on={self.on!r}): it is a function of an exception.", key="on")


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """How a breaker stands.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"half_open"``.
        since: seconds since the epoch.
        calls: calls in the window.
        failures: how many of them failed.
        refused: calls refused since it was made.
        last_error: what the last failure that counted said, or None.
        retry_after: seconds until a call may pass; 0.0 where one may now; None where it stays open until it is closed
            by hand.
    """

    state: BreakerState
    since: float
    calls: int
    failures: int
    refused: int
    last_error: str | None
    retry_after: float | None


class Permit:
    """The right to make one call, and the duty to say how it ended: once; what is said later is not heard.

    As a context manager it judges by the exception that leaves the block; a cancellation gives the place back.
    """

    __slots__ = ("_breaker", "_generation", "_settled")

    def __init__(self, breaker: Breaker, generation: int) -> None:
        self._breaker = breaker
        self._generation = generation
        self._settled = False

    def succeeded(self) -> None:
        """Say that the target answered."""
        self._breaker._settle(self, False, None)

    def failed(self, error: BaseException) -> None:
        """Say that the call ended with ``error``, which the settings judge; no ``Exception`` is as `released`."""
        self._breaker._judge(self, error)

    def released(self) -> None:
        """Say that the call showed nothing: it was cancelled, or was not made."""
        self._breaker._settle(self, None, None)

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if error is None:
            self.succeeded()
        else:
            self.failed(error)


class Breaker:
    """The circuit of one target. Threads and event loops may share it; nothing in it waits.

    A pickled breaker comes back closed and knows nothing, without its observer: a state belongs to the process that saw
    it.

    Args:
        target: what the calls go to.
        settings: when it opens.
        told: told of each change, outside the lock.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        target: str,
        settings: BreakerSettings | None = None,
        told: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.settings = settings or BreakerSettings()
        self._told = told
        self._clock = clock
        self._lock = threading.Lock()
        self._state: BreakerState = "closed"
        self._since = time.time()
        # Each change of state begins a generation; what was admitted in an earlier one is not counted.
        self._generation = 0
        self._window = self._new_window()
        self._probe: Permit | None = None
        self._probe_until = math.inf
        self._open_until = math.inf
        self._openings = 0
        self._reason = ""
        self._last_error: str | None = None
        self._refused = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.target, self.settings))

    def __repr__(self) -> str:
        return f"Breaker({self.target!r}, {self._state})"

    @property
    def state(self) -> BreakerState:
        """The state. An open circuit stays so, also after its cool-down, until a call asks."""
        return self._state

    def admit(self) -> Permit:
        """Return the permit for one call.

        Raises:
            CircuitOpen: the target is left alone now; ``retry_after`` says for how many seconds (None: until it is closed
                by hand).
        """
        with self._lock:
            permit = Permit(self, self._generation)
            if self._state == "closed":
                return permit
            self._pass_or_refuse(self._clock())
            change = None
            if self._state == "open":
                change = self._turn("half_open", "the cool-down is over; one call asks")
            self._probe = permit
            self._probe_until = self._clock() + self.settings.probe_within
        if change is not None:
            tell(self._told, change)
        return permit

    def check(self) -> None:
        """Refuse what `admit` would refuse now, and take no place: for who must wait for something else first.

        Raises:
            CircuitOpen: as from `admit`.
        """
        if self._state != "closed":
            with self._lock:
                self._pass_or_refuse(self._clock())

    def refuses_for(self) -> float:
        """Return the seconds until a call may pass: 0.0 where one may now, ``math.inf`` where it was opened by hand."""
        if self._state == "closed":
            return 0.0
        with self._lock:
            return self._refuses_for(self._clock())

    def open(self, reason: str, seconds: float | None = None) -> None:
        """Open it by hand, for ``seconds``, or until `close` where that is None."""
        if seconds is not None:
            number("Breaker.open", "seconds", seconds, 0)
        with self._lock:
            self._open_until = math.inf if seconds is None else self._clock() + seconds
            change = self._turn("open", reason, retry_after=seconds)
        tell(self._told, change)

    def close(self, reason: str = "closed by hand") -> None:
        """Close it by hand and forget what it saw; a closed one begins a fresh window too."""
        with self._lock:
            change = self._close(reason)
        tell(self._told, change)

    def status(self) -> BreakerStatus:
        """Return how it stands."""
        with self._lock:
            now = self._clock()
            calls, failures = self._window.counts(now)
            left = self._refuses_for(now)
            return BreakerStatus(
                self._state, self._since, calls, failures, self._refused, self._last_error, None if left == math.inf else left
            )

    # What follows is called with the lock held, but for _judge and _settle, which take it.

    def _judge(self, permit: Permit, error: BaseException) -> None:
        failed: bool | None = None
        try:
            if isinstance(error, Exception):
                if (self.settings.on or ailing)(error):
                    failed = True
                elif first_status(error) not in (None, 429):
                    failed = False
        finally:
            # A judge that raises must not keep the probe's place.
            self._settle(permit, failed, (describe(error), retry_after(error)) if failed else None)

    def _settle(self, permit: Permit, failed: bool | None, seen: _Seen | None) -> None:
        """Hear how a permitted call ended; ``failed`` None says that it showed nothing."""
        change = None
        with self._lock:
            if permit._settled:
                return
            permit._settled = True
            if permit is self._probe:
                self._probe = None
                if seen:
                    change = self._open(seen, "the probe failed")
                elif failed is not None:
                    change = self._close("the probe succeeded")
            elif failed is not None and permit._generation == self._generation and self._state == "closed":
                now = self._clock()
                self._window.add(failed, now)
                if seen:
                    change = self._count(seen, now)
        if change is not None:
            tell(self._told, change)

    def _count(self, seen: _Seen, now: float) -> Change | None:
        calls, failures = self._window.counts(now)
        if calls >= self.settings.minimum and failures / calls >= self.settings.threshold:
            return self._open(seen, f"{failures} of the last {calls} calls failed")
        self._last_error = seen[0]
        return None

    def _open(self, seen: _Seen, reason: str) -> Change:
        settings = self.settings
        self._last_error, asked = seen
        # The exponent is bounded because a power of many openings is no float.
        seconds = min(settings.cool_down * settings.growth ** min(self._openings, 64), settings.longest)
        if asked is not None:
            seconds = max(seconds, min(asked, LONGEST_ASKED))
        self._openings += 1
        self._open_until = self._clock() + seconds
        return self._turn("open", reason, retry_after=seconds, last_error=self._last_error)

    def _close(self, reason: str) -> Change:
        self._openings = 0
        self._window = self._new_window()
        return self._turn("closed", reason)

    def _turn(self, state: BreakerState, reason: str, **details: Any) -> Change:
        before, self._state = self._state, state
        self._since = time.time()
        self._generation += 1
        self._probe = None
        if state == "open":
            self._reason = reason
        event = {"closed": "breaker.close", "open": "breaker.open", "half_open": "breaker.half_open"}[state]
        return Change(event, self.target, before, state, reason, self._since, details)

    def _refuses_for(self, now: float) -> float:
        if self._state == "open":
            return max(self._open_until - now, 0.0)
        if self._state == "half_open" and self._probe is not None:
            return min(max(self._probe_until - now, 0.0), _PROBE_ANSWERS)
        return 0.0

    def _pass_or_refuse(self, now: float) -> None:
        left = self._refuses_for(now)
        if left <= 0.0:
            return
        self._refused += 1
        if self._state == "half_open":
            why, hint = "one call is asking whether it works again", "Ask again when that call has ended."
        elif left == math.inf:
            why, hint = f"its circuit was opened: {self._reason}", "Close it when the target may be called again."
        else:
            why = f"its circuit is open for another {left:.1f} s because {self._reason}"
            hint = "Wait, or let a fallback answer."
        last = f"; the last failure was {self._last_error}" if self._last_error else ""
        raise CircuitOpen(
            f"{self.target!r} is not called now: {why}{last}.",
            target=self.target,
            retry_after=None if left == math.inf else left,
            hint=hint,
        )

    def _new_window(self) -> LastCalls | LastSeconds:
        window = self.settings.window
        return LastCalls(int(window)) if self.settings.unit == "calls" else LastSeconds(window)
