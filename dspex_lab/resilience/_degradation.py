"""Under load the costly goes first, in a stated order, and comes back when it is calm.

Graceful degradation and load shedding as in Google's Site Reliability Engineering (2016, ch. 21 and 22): decide in advance what
is left out, in which order, and test it. It comes back with hysteresis (at a lower load than it went, held for a while), for
what switches at one value flaps.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from types import MappingProxyType

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.resilience._change import Change, Observer, tell
from dspex_lab.resilience._checks import number
from dspex_lab.resilience._guards import Counts


class Level(IntEnum):
    """How much is left out; each level leaves out what those before it do, too."""

    NORMAL = 0
    NO_HEDGING = 1
    NO_SECOND_OPINIONS = 2
    FEWER_RETRIES = 3
    CHEAPEST_MODEL_FIRST = 4
    CACHED_ONLY = 5

    def __str__(self) -> str:
        return self.name.lower()


#: What may be left out, and the level that leaves it out.
FEATURES: Mapping[str, Level] = MappingProxyType(
    {
        "hedging": Level.NO_HEDGING,
        "second_opinions": Level.NO_SECOND_OPINIONS,  # re-asking after a suggestion, judges
        "retries": Level.FEWER_RETRIES,  # one at most is left
        "preferred_model": Level.CHEAPEST_MODEL_FIRST,  # instead of the cheapest that can do it
        "new_calls": Level.CACHED_ONLY,  # what is not in a cache is not answered
    }
)


@dataclass(frozen=True, slots=True)
class Load:
    """How much there is to do; each from 0 to 1.

    Attributes:
        use: places taken, of all there are.
        queue: calls that wait, of all that may.
        refused: calls that got no place, of those that asked for one since the last measurement.
        open: circuits that let nothing pass, of all there are; 0.0 where there are fewer than three: what ails then is a
            provider, which its circuit spares already, and not the Lab.
    """

    use: float = 0.0
    queue: float = 0.0
    refused: float = 0.0
    open: float = 0.0


#: Circuits from which on a share of them says something.
_MANY = 3


def load_of(counts: Counts, before: Counts | None = None) -> Load:
    """Return the load that ``counts`` shows; calls are counted since ``before``."""
    since = before or Counts()
    # Parts that were made anew count from 0 again.
    rejected = max(counts.rejected - since.rejected, 0)
    asked = max(counts.entered - since.entered, 0) + rejected
    return Load(
        use=_share(counts.in_use, counts.limit),
        queue=_share(counts.waiting, counts.queue),
        refused=_share(rejected, asked),
        open=_share(counts.refusing, counts.targets) if counts.targets >= _MANY else 0.0,
    )


#: The load at which each level begins: one measure that reaches its value is enough; infinity is never. An open circuit
#: refuses by itself, so it is no reason for the last level.
_ENTER: Mapping[Level, Load] = MappingProxyType(
    {
        Level.NO_HEDGING: Load(use=0.9, queue=0.05, refused=0.01, open=0.25),
        Level.NO_SECOND_OPINIONS: Load(use=math.inf, queue=0.25, refused=0.05, open=0.5),
        Level.FEWER_RETRIES: Load(use=math.inf, queue=0.5, refused=0.1, open=0.5),
        Level.CHEAPEST_MODEL_FIRST: Load(use=math.inf, queue=0.75, refused=0.25, open=0.75),
        Level.CACHED_ONLY: Load(use=math.inf, queue=0.95, refused=0.5, open=math.inf),
    }
)


@dataclass(frozen=True)
class DegradationSettings:
    """When a level begins and ends.

    Attributes:
        enter: the load at which each level begins.
        back: a level ends where all measures are under this share of the values at which it began ...
        calm: ... for so many seconds. Then the next lower one has as long to end.
        hold: seconds that a level lasts before the next higher one may begin.
    """

    enter: Mapping[Level, Load] = field(default_factory=lambda: _ENTER)
    back: float = 0.6
    calm: float = 5.0
    hold: float = 1.0

    def __post_init__(self) -> None:
        number("DegradationSettings", "back", self.back, 0, 1, above=True)
        number("DegradationSettings", "calm", self.calm, 0)
        number("DegradationSettings", "hold", self.hold, 0)
        if set(self.enter) != set(Level) - {Level.NORMAL} or not all(isinstance(each, Load) for each in self.enter.values()):
            raise ConfigurationError("DegradationSettings(enter=…): it has a Load for each level but normal.", key="enter")


@dataclass(frozen=True, slots=True)
class Standing:
    """A level, since when and why.

    Attributes:
        level: what is left out.
        since: seconds of the clock.
        calm_since: since when the load has been low enough for the level to end; None where it is not.
        reason: why the level is what it is, a clause.
    """

    level: Level = Level.NORMAL
    since: float = -math.inf
    calm_since: float | None = None
    reason: str = "nothing to do"


def decide(standing: Standing, load: Load, settings: DegradationSettings, now: float) -> Standing:
    """Return what follows from ``load`` at ``now``: the same level, or one step up or down. Pure."""
    level = standing.level
    if level < Level.CACHED_ONLY:
        higher = Level(level + 1)
        reached = _reached(load, settings.enter[higher])
        # A step down begins anew, so hold keeps the way up from following it at once, too.
        if reached and now - standing.since >= settings.hold:
            return Standing(higher, now, None, reached)
    if level == Level.NORMAL:
        return standing
    if not _is_calm(load, settings.enter[level], settings.back):
        return standing if standing.calm_since is None else Standing(level, standing.since, None, standing.reason)
    calm_since = now if standing.calm_since is None else standing.calm_since
    if now - calm_since < settings.calm:
        return Standing(level, standing.since, calm_since, standing.reason)
    return Standing(Level(level - 1), now, None, f"calm for {settings.calm:g} s")


class Degradation:
    """Holds the level and tells of its changes. Threads may share it; what it allows is read without a lock.

    Args:
        settings: when a level begins and ends.
        told: told of each change of the level.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        settings: DegradationSettings | None = None,
        told: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or DegradationSettings()
        self._told, self._clock = told, clock
        self._lock = threading.Lock()
        self._standing = Standing()
        self._pinned: tuple[Level, str] | None = None
        self._counts: Counts | None = None

    @property
    def level(self) -> Level:
        """The level in force: the pinned one, or what the load says."""
        return self._in_force()[0]

    @property
    def reason(self) -> str:
        """Why the level is what it is, a clause."""
        return self._in_force()[1]

    @property
    def pinned(self) -> bool:
        """Somebody set the level."""
        return self._pinned is not None

    def allows(self, feature: str) -> bool:
        """Say whether ``feature``, one of `FEATURES`, is on at this level.

        Raises:
            ConfigurationError: there is no such feature.
        """
        off_at = FEATURES.get(feature)
        if off_at is None:
            known = ", ".join(FEATURES)
            raise ConfigurationError(
                f"There is no feature {feature!r} to leave out.{did_you_mean(feature, FEATURES)}",
                key=feature,
                expected=tuple(FEATURES),
                hint=f"There are {known}.",
            )
        return self.level < off_at

    def observe(self, load: Load) -> Level:
        """Take a measurement in and return the level in force. While one is pinned the load is followed, to no effect yet."""
        with self._lock:
            before = self._in_force()
            self._standing = decide(self._standing, load, self.settings, self._clock())
            after = self._in_force()
        self._tell(before[0], after, load)
        return after[0]

    def measure(self, counts: Counts) -> Level:
        """`observe` the load that ``counts`` shows since the last time (`Guards.counts`)."""
        with self._lock:
            load, self._counts = load_of(counts, self._counts), counts
        return self.observe(load)

    def pin(self, level: Level | str, reason: str = "set by hand") -> None:
        """Keep ``level`` until `unpin`, whatever the load.

        Raises:
            ConfigurationError: there is no such level.
        """
        chosen = _level(level)
        with self._lock:
            before = self._in_force()
            self._pinned = (chosen, reason)
        self._tell(before[0], (chosen, reason), None)

    def unpin(self) -> None:
        """Let the load say the level again: at once the one that it has come to meanwhile."""
        with self._lock:
            before = self._in_force()
            self._pinned = None
            after = self._in_force()
        self._tell(before[0], after, None)

    def _in_force(self) -> tuple[Level, str]:
        pinned = self._pinned
        if pinned is not None:
            return pinned
        standing = self._standing
        return standing.level, standing.reason

    def _tell(self, before: Level, after: tuple[Level, str], load: Load | None) -> None:
        level, reason = after
        if before == level:
            return
        details = {"pinned": self._pinned is not None}
        if load is not None:
            details |= {each.name: getattr(load, each.name) for each in fields(load)}
        tell(self._told, Change("degradation.change", "degradation", str(before), str(level), reason, details=details))


def _level(level: Level | str) -> Level:
    if isinstance(level, Level):
        return level
    names = {str(each): each for each in Level}
    if level not in names:
        raise ConfigurationError(
            f"There is no level {level!r}.{did_you_mean(str(level), names)}",
            key="level",
            expected=tuple(names),
            actual=level,
            hint=f"There are {', '.join(names)}.",
        )
    return names[level]


def _reached(load: Load, limits: Load) -> str:
    """Return which measure reached its limit, as a clause, or nothing."""
    for each in fields(Load):
        value, limit = getattr(load, each.name), getattr(limits, each.name)
        if value >= limit:
            return f"{each.name} is {value:.0%}, from {limit:.0%} on it is too much"
    return ""


def _is_calm(load: Load, limits: Load, back: float) -> bool:
    return all(getattr(load, each.name) < back * getattr(limits, each.name) for each in fields(Load))


def _share(part: int, whole: int) -> float:
    return min(part / whole, 1.0) if whole > 0 else 0.0
