"""Watches named components, and helps those up again that can be helped.

The states are those of ASP.NET Core's health checks (HealthStatus: Healthy, Degraded, Unhealthy), and "unknown" before the
first check as in Spring Boot's Actuator. The draft on health check responses (draft-inadarei-api-health-check-06) says pass,
warn and fail; that a component "passes" says nothing to who uses it.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.resilience._change import Change, Observer, describe, log, tell
from dspex_lab.resilience._checks import number

HealthState = Literal["unknown", "healthy", "degraded", "unhealthy"]
_WORST = ("unhealthy", "unknown", "degraded", "healthy")

#: Seconds for which closing waits for a check that is running.
_FAREWELL = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: the state, and why, as a clause (nothing where it is healthy)."""

    state: HealthState
    reason: str = ""


#: A look at a component. True or None is healthy, False unhealthy; a `Finding` says more; what raises is unhealthy. It sets
#: a time limit of its own and may be called from any thread, by one at a time.
Check = Callable[[], "Finding | bool | None"]


@dataclass(frozen=True, slots=True)
class Component:
    """How a component is.

    Attributes:
        name: its name.
        state: ``"healthy"``, ``"degraded"`` (it works, but not as it should), ``"unhealthy"`` or ``"unknown"``.
        reason: why, a clause. Where it quotes a failure, redact it before it is stored or shown.
        since: of the state, in seconds since the epoch.
        checked: when it was looked at last, in seconds since the epoch; None before the first time.
        recoveries: how often it was tried to help it up since it was healthy last.
    """

    name: str
    state: HealthState
    reason: str
    since: float
    checked: float | None
    recoveries: int


@dataclass(frozen=True)
class HealthSettings:
    """How often to look.

    Attributes:
        every: seconds between two looks at what is not healthy.
        jitter: share of ``every`` by which it is longer or shorter by chance.
        wait: seconds before a recovery is tried again, doubled each time ...
        longest: ... up to so many.
    """

    every: float = 5.0
    jitter: float = 0.2
    wait: float = 5.0
    longest: float = 300.0

    def __post_init__(self) -> None:
        number("HealthSettings", "every", self.every, 0, above=True)
        number("HealthSettings", "jitter", self.jitter, 0, 1)
        number("HealthSettings", "wait", self.wait, 0)
        number("HealthSettings", "longest", self.longest, self.wait)


class _Watched:
    """A component with its check; the fields are written under the monitor's lock, ``turn`` is held while it is checked."""

    def __init__(self, name: str, check: Check, recover: Callable[[], object] | None) -> None:
        self.name, self.check, self.recover = name, check, recover
        self.turn = threading.Lock()
        self.finding = Finding("unknown", "not checked yet")
        self.since = time.time()
        self.checked: float | None = None
        self.recoveries = 0
        self.look_at = math.inf
        self.recover_at = -math.inf

    def component(self) -> Component:
        return Component(self.name, self.finding.state, self.finding.reason, self.since, self.checked, self.recoveries)


class Health:
    """Looks at components when asked, and goes on looking by itself at those that are not healthy until they are.

    One daemon thread does that; while all are healthy or unknown there is none. A context manager; threads may share it.

    Args:
        settings: how often.
        told: told of each change of a state, once, outside all locks.
        clock: seconds that only grow.
        draw: a number from 0 to 1.
    """

    def __init__(
        self,
        settings: HealthSettings | None = None,
        told: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings or HealthSettings()
        self._told, self._clock, self._draw = told, clock, draw
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._thread: threading.Thread | None = None
        self._begun: list[threading.Thread] = []
        self._wake = threading.Event()
        self._closed = False

    def __enter__(self) -> Health:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def add(self, name: str, check: Check, recover: Callable[[], object] | None = None) -> None:
        """Watch a component from now on, in place of one of the same name; it is unknown until it is checked.

        Args:
            name: its name.
            check: a look at it.
            recover: helps it up; called where a check finds it unhealthy, with growing pauses, and followed by another check.
        """
        with self._lock:
            self._watched[name] = _Watched(name, check, recover)

    def remove(self, name: str) -> None:
        """Watch it no longer; one that is not watched is no error."""
        with self._lock:
            self._watched.pop(name, None)

    def check(self, name: str | None = None) -> tuple[Component, ...]:
        """Look at all components, or at one, now and in this thread; return how all are.

        Raises:
            ConfigurationError: there is none of that name.
        """
        for each in self._chosen(name):
            self._look(each)
        return self.snapshot()

    def suspect(self, name: str) -> None:
        """Have a component checked soon, by the thread: something was seen that makes it doubtful. Waits for nothing.

        Raises:
            ConfigurationError: there is none of that name.
        """
        for each in self._chosen(name):
            with self._lock:
                each.look_at = self._clock()
                self._watch()

    def snapshot(self) -> tuple[Component, ...]:
        """Return how all components were when they were last checked, by name; no check is made."""
        with self._lock:
            return tuple(self._watched[name].component() for name in sorted(self._watched))

    @property
    def state(self) -> HealthState:
        """The worst state of all; "healthy" where nothing is watched."""
        states = {each.state for each in self.snapshot()}
        return next((state for state in _WORST if state in states), "healthy")

    def close(self) -> None:
        """Stop looking. The thread has ended when this returns, unless a check runs for more than a second still."""
        with self._lock:
            self._closed = True
            begun = [each for each in self._begun if each is not threading.current_thread()]
        self._wake.set()
        until = time.monotonic() + _FAREWELL
        for thread in begun:
            thread.join(max(until - time.monotonic(), 0.0))
            if thread.is_alive():
                log.warning("a health check is still running; its thread ends when it does")

    def _chosen(self, name: str | None) -> list[_Watched]:
        with self._lock:
            if name is None:
                return list(self._watched.values())
            if name in self._watched:
                return [self._watched[name]]
            known = list(self._watched)
        hint = f"There are {', '.join(known)}." if known else "None is watched."
        raise ConfigurationError(f"There is no component {name!r}.{did_you_mean(name, known)}", key=name, hint=hint)

    def _look(self, watched: _Watched) -> None:
        """Check it, help it up where that is needed and due, and tell what changed."""
        with watched.turn:
            finding = _found(watched.check)
            if finding.state == "unhealthy" and self._may_recover(watched):
                try:
                    watched.recover()  # type: ignore[misc]
                except Exception as error:
                    finding = Finding("unhealthy", f"{finding.reason}; recovery failed: {describe(error)}")
                else:
                    finding = _found(watched.check)
            change = self._take(watched, finding)
        if change is not None:
            tell(self._told, change)

    def _may_recover(self, watched: _Watched) -> bool:
        if watched.recover is None:
            return False
        with self._lock:
            now = self._clock()
            if self._closed or now < watched.recover_at:
                return False
            settings = self.settings
            watched.recover_at = now + min(settings.wait * 2.0 ** min(watched.recoveries, 64), settings.longest)
            watched.recoveries += 1
            return True

    def _take(self, watched: _Watched, finding: Finding) -> Change | None:
        with self._lock:
            before, watched.finding = watched.finding, finding
            watched.checked = time.time()
            recoveries = watched.recoveries
            if finding.state == "healthy":
                watched.look_at, watched.recover_at, watched.recoveries = math.inf, -math.inf, 0
            else:
                spread = 1.0 + self.settings.jitter * (2.0 * self._draw() - 1.0)
                watched.look_at = self._clock() + self.settings.every * spread
                self._watch()
            if before.state == finding.state or self._watched.get(watched.name) is not watched:
                return None
            watched.since = watched.checked
            details = {"recoveries": recoveries}
            return Change("health.change", watched.name, before.state, finding.state, finding.reason, watched.since, details)

    def _watch(self) -> None:
        """Have a thread that looks on; called with the lock held."""
        self._wake.set()
        if self._closed or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._look_on, name="dspex-health", daemon=True)
        # One that has nothing more to do may still be ending: who closes waits for that, too.
        self._begun = [*(each for each in self._begun if each.is_alive()), self._thread]
        self._thread.start()

    def _look_on(self) -> None:
        try:
            while (seconds := self._round()) is not None:
                self._wake.wait(seconds)
        finally:
            # Also where a check ended its thread: the next look makes another.
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _round(self) -> float | None:
        """Look at all that are due; return the seconds until the next is, or None where there is no more to do."""
        self._wake.clear()
        with self._lock:
            now = self._clock()
            due = [] if self._closed else [each for each in self._watched.values() if each.look_at <= now]
        for each in due:
            if not self._closed:
                self._look(each)
        with self._lock:
            next_at = min((each.look_at for each in self._watched.values()), default=math.inf)
            if self._closed or next_at == math.inf:
                # Under the same lock as _watch, so that who comes next finds a thread or makes one.
                self._thread = None
                return None
            return max(next_at - self._clock(), 0.0)


def _found(check: Check) -> Finding:
    try:
        answer = check()
    except Exception as error:
        return Finding("unhealthy", describe(error))
    if isinstance(answer, Finding):
        return answer
    return Finding("healthy") if answer is None or answer is True else Finding("unhealthy", "its check says no")
