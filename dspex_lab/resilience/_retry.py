"""Trying again, by stamina: it counts, waits and is switched off where a user's tests say ``stamina.set_active(False)``.

Whether and after how long is decided here and given to stamina as its backoff hook, because of stamina 26.1 alone a wait
may pass the deadline, and an error's ``retry_after`` is not seen.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from dspex_lab.errors import ConfigurationError, PipelineError
from dspex_lab.resilience._retryable import NEVER, retry_after, retryable
from dspex_lab.resilience._scope import enter, leave

T = TypeVar("T")
#: Told before each wait: the attempt that failed (from 1), the wait in seconds, and the failure.
Told = Callable[[int, float, BaseException], None]

#: Asked before a wait of so many seconds: True where the next attempt would come to nothing.
Futile = Callable[[float], bool]

#: Seconds that an error's ``retry_after`` may ask for; who asks for more is not waited for.
LONGEST_ASKED = 300.0

log = logging.getLogger("dspex_lab")


@dataclass(frozen=True)
class Retry:
    """When to try again, and after how long.

    The wait after attempt n is ``min(longest, wait · 2ⁿ⁻¹ + random(0, jitter))`` seconds, or what the failure asks for by
    its ``retry_after`` (up to 300 s).

    Attributes:
        attempts: how often to try in all; 1 is no retry.
        wait: seconds before the second attempt, doubled for each after it.
        longest: seconds that no wait of ours exceeds.
        jitter: seconds; up to so much is added by chance, so that many who failed at once do not return at once.
        heed: wait as long as a failure asks.
        on: which failures: exception classes, or a function of the exception; None is `retryable`. A cancellation, a
            spent budget and a program that is wrong as written are never tried again.
    """

    attempts: int = 3
    wait: float = 0.1
    longest: float = 5.0
    jitter: float = 1.0
    heed: bool = True
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigurationError(f"Retry(attempts={self.attempts!r}): it is a whole number of 1 or more.", key="attempts")
        for name in ("wait", "longest", "jitter"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
                raise ConfigurationError(f"Retry({name}={seconds!r}): it is a number of seconds, 0 or more.", key=name)
        if not (self.on is None or _are_errors(self.on) or (callable(self.on) and not isinstance(self.on, type))):
            raise ConfigurationError(
                f"Retry(on={self.on!r}): it is an exception class, several in a tuple, or a function.", key="on"
            )

    def covers(self, error: BaseException) -> bool:
        """Say whether ``error`` is tried again, attempts and time permitting."""
        if not isinstance(error, Exception) or isinstance(error, NEVER):
            return False
        if self.on is None:
            return retryable(error)
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        return bool(self.on(error))

    def wait_after(
        self,
        attempt: int,
        error: BaseException,
        *,
        deadline: float | None = None,
        now: float = 0.0,
        draw: Callable[[], float] = random.random,
    ) -> float | None:
        """Decide what follows the failure of ``attempt`` (from 1): the seconds to wait, or None to give up.

        Args:
            deadline: on the clock of ``now``; a wait that would end at it or later is not begun.
            draw: a number from 0 to 1.
        """
        if attempt >= self.attempts or not self.covers(error):
            return None
        asked = retry_after(error) if self.heed else None
        if asked is not None and asked > LONGEST_ASKED:
            return None
        doubled = self.wait * 2.0 ** min(attempt - 1, 64)
        seconds = min(self.longest, doubled + draw() * self.jitter) if asked is None else asked
        return None if deadline is not None and now + seconds >= deadline else seconds


async def retry(
    work: Callable[[int], Awaitable[T]],
    policy: Retry,
    *,
    deadline: float | None = None,
    told: Told | None = None,
    futile: Futile | None = None,
) -> T:
    """Await ``work(attempt)`` until it succeeds or ``policy`` or the deadline ends it; the last failure is raised as it is.

    While an attempt of several runs, `is_retrying` is true in it.

    Args:
        work: called with the number of the attempt, from 1. It must be safe to do again: only idempotent work is retried.
        deadline: seconds of ``time.monotonic()``: no attempt begins at it or later, and no wait that would reach it.
            An attempt that runs is not cut off; that is for who set the deadline.
        told: told of each wait before it begins; if it raises, that is logged.
        futile: asked before each wait, with its seconds: True where the next attempt would come to nothing, so that the
            failure is raised now.

    Raises:
        PipelineError: the deadline had passed before the first attempt.
    """
    tries = _Tries(policy, deadline, told, futile)
    outer = enter(policy.attempts > 1 or None)
    try:
        return await work(tries.begin())
    except Exception as error:
        if policy.attempts == 1 or not policy.covers(error):
            raise
        tries.first = error
    finally:
        leave(outer)

    # stamina comes in where a second attempt is wanted: what succeeds at once (nearly all), or is refused, does not pay for it.
    import stamina

    @stamina.retry(on=tries.decide, attempts=policy.attempts, timeout=None)
    async def one() -> T:
        tries.raise_first()
        outer = enter(True)
        try:
            return await work(tries.begin())
        finally:
            leave(outer)

    _quiet()
    return await one()


def retry_sync(
    work: Callable[[int], T],
    policy: Retry,
    *,
    deadline: float | None = None,
    told: Told | None = None,
    futile: Futile | None = None,
) -> T:
    """Call ``work(attempt)`` as `retry` does, in this thread."""
    tries = _Tries(policy, deadline, told, futile)
    outer = enter(policy.attempts > 1 or None)
    try:
        return work(tries.begin())
    except Exception as error:
        if policy.attempts == 1 or not policy.covers(error):
            raise
        tries.first = error
    finally:
        leave(outer)

    import stamina

    @stamina.retry(on=tries.decide, attempts=policy.attempts, timeout=None)
    def one() -> T:
        tries.raise_first()
        outer = enter(True)
        try:
            return work(tries.begin())
        finally:
            leave(outer)

    _quiet()
    return one()


class _Tries:
    """The tries of one piece of work, as stamina asks about them."""

    __slots__ = ("deadline", "first", "futile", "last", "number", "policy", "told")

    def __init__(self, policy: Retry, deadline: float | None, told: Told | None, futile: Futile | None) -> None:
        if deadline is not None:
            _begin(deadline)
        self.policy, self.deadline, self.told, self.futile = policy, deadline, told, futile
        self.number = 0
        self.first: Exception | None = None
        self.last: Exception | None = None

    def raise_first(self) -> None:
        """Raise the failure of the first try, once: it was made before stamina came in."""
        error, self.first = self.first, None
        if error is not None:
            raise error

    def begin(self) -> int:
        """Return the number of the try that begins, from 1; raise the last failure where the wait outlasted the deadline."""
        if self.last is not None and _passed(self.deadline):
            self.number = self.policy.attempts
            raise self.last
        self.number += 1
        return self.number

    def decide(self, error: Exception) -> float | bool:
        """Return the seconds to wait after a failure, or False to give up."""
        seconds = self.policy.wait_after(self.number, error, deadline=self.deadline, now=time.monotonic())
        if seconds is None or (self.futile is not None and self.futile(seconds)):
            return False
        self.last = error
        _tell(self.told, self.number, seconds, error)
        return float(seconds)


def _of_others(record: logging.LogRecord) -> bool:
    return not str(record.__dict__.get("stamina.callable", "")).startswith("dspex_lab.")


def _quiet() -> None:
    """Keep stamina's log lines of our retries back: each one is an event already. Those of the user's own are let through."""
    logger = logging.getLogger("stamina")
    if _of_others not in logger.filters:
        logger.addFilter(_of_others)


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _begin(deadline: float) -> None:
    if _passed(deadline):
        raise PipelineError("The deadline passed before the first attempt.", hint="Give it more time.")


def _tell(told: Told | None, attempt: int, seconds: float, error: BaseException) -> None:
    if told is None:
        return
    try:
        told(attempt, seconds, error)
    except Exception:
        log.exception("an observer of retries raised; the work goes on")


def _are_errors(on: object) -> bool:
    kinds = on if isinstance(on, tuple) else (on,)
    return bool(kinds) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)
