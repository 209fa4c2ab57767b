"""What goes first under load, and how it comes back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from clocks import Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex_lab.errors import ConfigurationError
from dspex_lab.resilience import (
    FEATURES,
    Change,
    Counts,
    Degradation,
    DegradationSettings,
    Level,
    Load,
    Standing,
    decide,
    load_of,
)

SETTINGS = DegradationSettings(calm=5.0, hold=1.0, back=0.5)
CALM, FULL = Load(), Load(use=1.0, queue=1.0, refused=1.0, open=1.0)


def test_the_levels_are_in_the_stated_order() -> None:
    assert [str(level) for level in Level] == [
        "normal",
        "no_hedging",
        "no_second_opinions",
        "fewer_retries",
        "cheapest_model_first",
        "cached_only",
    ]
    assert list(FEATURES.values()) == list(Level)[1:]


def test_it_steps_up_one_level_at_a_time_and_holds_each() -> None:
    standing, levels = Standing(), []
    for tenth in range(0, 60, 5):
        standing = decide(standing, FULL, SETTINGS, tenth / 10)
        levels.append(int(standing.level))
    assert levels == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5]


def test_it_comes_back_one_level_at_a_time_when_it_was_calm_for_long_enough() -> None:
    standing, levels = Standing(Level.FEWER_RETRIES, 0.0), []
    for now in range(10, 30):
        standing = decide(standing, CALM, SETTINGS, float(now))
        levels.append(int(standing.level))
    assert levels == [3] * 5 + [2] * 6 + [1] * 6 + [0] * 3
    assert standing.reason == "calm for 5 s"


def test_between_leaving_and_entering_it_stays() -> None:
    # No second opinions begins at a queue of 25 % and ends under half of that.
    standing = Standing(Level.NO_SECOND_OPINIONS, 0.0)
    for now in range(100):
        standing = decide(standing, Load(queue=0.2), SETTINGS, float(now))
    assert standing.level == Level.NO_SECOND_OPINIONS
    assert standing.calm_since is None


def test_one_busy_moment_begins_the_calm_anew() -> None:
    standing = decide(Standing(Level.NO_HEDGING, 0.0), CALM, SETTINGS, 10.0)
    standing = decide(standing, Load(use=0.5), SETTINGS, 14.0)
    standing = decide(standing, CALM, SETTINGS, 15.0)
    assert decide(standing, CALM, SETTINGS, 19.9).level == Level.NO_HEDGING
    assert decide(standing, CALM, SETTINGS, 20.0).level == Level.NORMAL


@pytest.mark.parametrize(
    ("load", "level"),
    [
        (Load(use=1.0), Level.NO_HEDGING),  # a map that uses all its places is no emergency
        (Load(queue=0.3), Level.NO_SECOND_OPINIONS),
        (Load(refused=0.1), Level.FEWER_RETRIES),
        (Load(open=0.5), Level.FEWER_RETRIES),
        (Load(open=1.0), Level.CHEAPEST_MODEL_FIRST),  # open circuits refuse by themselves
        (Load(queue=0.99), Level.CACHED_ONLY),
        (Load(refused=0.6), Level.CACHED_ONLY),
        (Load(), Level.NORMAL),
    ],
    ids=str,
)
def test_how_far_a_lasting_load_leads(load: Load, level: Level) -> None:
    standing = Standing()
    for now in range(100):
        standing = decide(standing, load, SETTINGS, float(now))
    assert standing.level == level


def test_the_reason_names_the_measure() -> None:
    assert decide(Standing(), Load(queue=0.62), SETTINGS, 0.0).reason == "queue is 62%, from 5% on it is too much"


@given(
    level=st.sampled_from(Level),
    since=st.floats(-100, 0),
    calm=st.none() | st.floats(-100, 0),
    load=st.builds(Load, *[st.floats(0, 1)] * 4),
    now=st.floats(0, 100),
)
def test_a_decision_is_at_most_one_step(level: Level, since: float, calm: float | None, load: Load, now: float) -> None:
    after = decide(Standing(level, since, calm), load, SETTINGS, now)
    assert abs(after.level - level) <= 1
    if after.level != level:
        assert (after.since, after.calm_since) == (now, None)
        assert after.reason


def test_the_load_is_measured_between_two_counts() -> None:
    before = Counts(entered=100, rejected=10)
    now = Counts(limit=10, in_use=5, waiting=20, queue=80, entered=190, rejected=20, targets=4, refusing=1)
    assert load_of(now, before) == Load(use=0.5, queue=0.25, refused=0.1, open=0.25)
    assert load_of(Counts()) == Load()
    # Parts that were made anew count from 0: nothing is negative.
    assert load_of(Counts(entered=1), before) == Load()
    assert load_of(Counts(limit=1, in_use=3)).use == 1.0


def test_the_holder_tells_of_each_change_once() -> None:
    clock, told = Clock(), []
    degradation = Degradation(SETTINGS, told.append, clock)
    for _ in range(3):
        degradation.observe(Load(queue=0.1))
    assert (degradation.level, degradation.reason) == (Level.NO_HEDGING, "queue is 10%, from 5% on it is too much")
    assert len(told) == 1
    assert told[0].as_data() == {
        "target": "degradation",
        "before": "normal",
        "after": "no_hedging",
        "reason": "queue is 10%, from 5% on it is too much",
        "pinned": False,
        "use": 0.0,
        "queue": 0.1,
        "refused": 0.0,
        "open": 0.0,
    }
    assert told[0].event == "degradation.change"


def test_each_level_leaves_out_what_it_says_and_what_those_before_do() -> None:
    degradation = Degradation()
    off = []
    for level in Level:
        degradation.pin(level)
        off.append([feature for feature in FEATURES if not degradation.allows(feature)])
    names = list(FEATURES)
    assert off == [names[:count] for count in range(6)]


def test_an_unknown_feature_or_level_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'hedging'"):
        Degradation().allows("hedgin")
    with pytest.raises(ConfigurationError, match="Did you mean 'cached_only'"):
        Degradation().pin("cache_only")


def test_a_pinned_level_stays_whatever_the_load_and_then_the_load_rules_again() -> None:
    clock, told = Clock(), []
    degradation = Degradation(SETTINGS, told.append, clock)
    degradation.pin("cached_only", "a demonstration")
    degradation.pin(Level.CACHED_ONLY, "a demonstration")
    assert degradation.pinned
    assert not degradation.allows("new_calls")
    assert degradation.observe(FULL) == Level.CACHED_ONLY
    degradation.unpin()
    assert (degradation.level, degradation.pinned) == (Level.NO_HEDGING, False)
    degradation.unpin()
    assert [(each.before, each.after) for each in told] == [("normal", "cached_only"), ("cached_only", "no_hedging")]
    assert [each.details["pinned"] for each in told] == [True, False]


def test_it_measures_from_one_time_to_the_next() -> None:
    degradation = Degradation(SETTINGS, clock=Clock())
    assert degradation.measure(Counts(entered=100, rejected=0)) == Level.NORMAL
    assert degradation.measure(Counts(entered=100, rejected=0)) == Level.NORMAL
    assert degradation.measure(Counts(entered=150, rejected=50)) == Level.NO_HEDGING


@pytest.mark.parametrize(
    "wrong", [{"back": 0}, {"back": 1.1}, {"calm": -1}, {"hold": math.nan}, {"enter": {}}, {"enter": dict.fromkeys(Level, 1)}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        DegradationSettings(**wrong)


class DegradationMachine(RuleBasedStateMachine):
    """The holder against a level, a time and a list of measurements."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.told: list[Change] = []
        self.real = Degradation(SETTINGS, self.told.append, self.clock)
        self.level, self.since, self.loads = 0, -math.inf, []  # type: ignore[var-annotated]
        self.pinned: int | None = None
        self.shown = [0]

    def show(self) -> None:
        level = self.level if self.pinned is None else self.pinned
        if level != self.shown[-1]:
            self.shown.append(level)

    @rule(queue=st.sampled_from([0.0, 0.04, 0.06, 0.2, 0.3, 0.6, 0.8, 1.0]), seconds=st.sampled_from([0.2, 1.0, 3.0, 6.0]))
    def measure(self, queue: float, seconds: float) -> None:
        self.clock.now += seconds
        now = self.clock.now
        enter = [math.inf, 0.05, 0.25, 0.5, 0.75, 0.95]
        self.loads.append((now, queue))
        up = self.level < 5 and queue >= enter[self.level + 1] and now - self.since >= 1.0
        # Calm: from some measurement of this level on, all were low, and that was long enough ago.
        low = []
        for at, value in reversed(self.loads):
            if at <= self.since or value >= 0.5 * enter[self.level]:
                break
            low.append(at)
        if up:
            self.level, self.since = self.level + 1, now
        elif self.level and low and now - low[-1] >= 5.0:
            self.level, self.since = self.level - 1, now
        self.show()
        self.real.observe(Load(queue=queue))

    @rule(level=st.sampled_from(Level))
    def pin(self, level: Level) -> None:
        self.pinned = int(level)
        self.show()
        self.real.pin(level)

    @rule()
    def unpin(self) -> None:
        self.pinned = None
        self.show()
        self.real.unpin()

    @invariant()
    def they_agree(self) -> None:
        level = self.level if self.pinned is None else self.pinned
        assert self.real.level == level
        assert [str(Level(each)) for each in self.shown[1:]] == [each.after for each in self.told]
        assert all(self.real.allows(feature) == (level < off_at) for feature, off_at in FEATURES.items())


DegradationMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDegradation = DegradationMachine.TestCase
