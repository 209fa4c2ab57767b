"""Components that are watched, and helped up again."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from clocks import Clock

from dspex_lab.errors import ConfigurationError
from dspex_lab.resilience import Change, Finding, Health, HealthSettings, _health


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "dspex-health"]


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for thread in [each for each in threading.enumerate() if each.name == "dspex-health"]:
        thread.join(60)  # of a Lab of another file, whose check ran too long to be waited for
    assert threads() == []
    monkeypatch.setattr(_health, "_FAREWELL", 60.0)  # however slow the machine is
    yield
    assert threads() == []


SLOW = HealthSettings(every=3_600.0)
FAST = HealthSettings(every=0.001, wait=0.001)


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (None, "healthy", ""),
        (True, "healthy", ""),
        (False, "unhealthy", "its check says no"),
        (Finding("degraded", "half of the workers are gone"), "degraded", "half of the workers are gone"),
        (ConnectionError("refused"), "unhealthy", "ConnectionError: refused"),
    ],
)
def test_a_check_says_how_a_component_is(answer: Any, state: str, reason: str) -> None:
    def check() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Health(SLOW) as health:
        health.add("pool", check)
        assert [(each.state, each.reason, each.checked) for each in health.snapshot()] == [("unknown", "not checked yet", None)]
        (component,) = health.check()
        assert (component.name, component.state, component.reason) == ("pool", state, reason)
        assert component.checked is not None


def test_the_whole_is_as_bad_as_its_worst() -> None:
    answers: dict[str, Any] = {"a": None, "b": None}
    with Health(SLOW) as health:
        assert health.state == "healthy"
        for name in answers:
            health.add(name, lambda name=name: answers[name])  # type: ignore[misc]
        assert health.state == "unknown"
        health.check()
        assert health.state == "healthy"
        answers["a"] = Finding("degraded", "x")
        health.check("b")
        assert health.state == "healthy"
        health.check("a")
        assert health.state == "degraded"
        answers["b"] = False
        health.check()
        assert health.state == "unhealthy"
        health.remove("b")
        health.remove("b")
        assert [each.name for each in health.snapshot()] == ["a"]


def test_each_change_is_told_once() -> None:
    told: list[Change] = []
    answers = [False, False, None, None, False]
    with Health(SLOW, told.append) as health:
        health.add("store", lambda: answers.pop(0))
        for _ in range(5):
            health.check()
    assert [(each.event, each.target, each.before, each.after) for each in told] == [
        ("health.change", "store", "unknown", "unhealthy"),
        ("health.change", "store", "unhealthy", "healthy"),
        ("health.change", "store", "healthy", "unhealthy"),
    ]


def test_there_is_no_thread_while_all_is_well() -> None:
    with Health(FAST) as health:
        health.add("a", lambda: None)
        health.check()
        assert threads() == []


def test_a_thread_looks_on_until_it_is_well_and_then_ends() -> None:
    told: list[Change] = []
    well = threading.Event()
    looks: list[str] = []

    def tell(change: Change) -> None:
        told.append(change)
        if change.after == "healthy":
            well.set()

    def check() -> bool:
        looks.append(threading.current_thread().name)
        return len(looks) > 3

    with Health(FAST, tell) as health:
        health.add("a", check)
        health.check()
        well.wait()
        while threads():
            well.wait(0.0005)
        assert looks[0] == threading.current_thread().name
        assert looks[1:] == ["dspex-health"] * 3
        # It begins again where it is needed again.
        looks.clear()
        well.clear()
        health.check()
        well.wait()
    assert [each.after for each in told] == ["unhealthy", "healthy"] * 2


def test_it_recovers_by_itself() -> None:
    up = threading.Event()
    told: list[str] = []
    with Health(FAST, lambda change: told.append(change.after)) as health:
        health.add("server", up.is_set, up.set)
        (component,) = health.check()
        assert (component.state, up.is_set()) == ("healthy", True)
    assert told == ["healthy"]


def test_recovery_is_tried_with_growing_pauses_and_begins_anew_after_success() -> None:
    clock, tries = Clock(), []
    answers = [False]

    def recover() -> None:
        tries.append(clock.now)
        if len(tries) == 5:
            answers[0] = True

    with Health(HealthSettings(every=3_600.0, wait=5.0, longest=15.0), clock=clock) as health:
        health.add("a", lambda: answers[0], recover)
        for _ in range(60):
            (component,) = health.check()
            clock.now += 1.0
        assert [b - a for a, b in itertools.pairwise(tries)] == [5.0, 10.0, 15.0, 15.0]
        assert (component.state, component.recoveries) == ("healthy", 0)
        answers[0] = False
        health.check()
        assert len(tries) == 6


def test_a_recovery_that_fails_is_said() -> None:
    def recover() -> None:
        raise OSError("no disk")

    with Health(SLOW) as health:
        health.add("store", lambda: False, recover)
        (component,) = health.check()
        assert (component.state, component.recoveries) == ("unhealthy", 1)
        assert component.reason == "its check says no; recovery failed: OSError: no disk"


def test_what_is_degraded_is_not_restarted() -> None:
    with Health(SLOW) as health:
        health.add("a", lambda: Finding("degraded", "slow"), lambda: pytest.fail("it works"))
        health.check()


def test_looks_are_spread_by_chance() -> None:
    clock, draws = Clock(), iter([0.0, 0.5, 1.0])
    health = Health(HealthSettings(every=10.0, jitter=0.2), clock=clock, draw=lambda: next(draws))
    health.close()  # no thread: the rounds are made here
    health.add("a", lambda: False)
    waits = []
    for _ in range(3):
        health.check()
        waits.append(health._watched["a"].look_at - clock.now)
    assert waits == pytest.approx([8.0, 10.0, 12.0])


def test_who_is_suspected_is_checked_soon_and_without_waiting() -> None:
    checked = threading.Event()
    with Health(SLOW) as health:
        health.add("a", lambda: checked.set())
        health.suspect("a")
        checked.wait()
        with pytest.raises(ConfigurationError, match="There is no component 'b'"):
            health.suspect("b")


def test_a_component_that_is_not_there_is_named() -> None:
    with Health() as health:
        with pytest.raises(ConfigurationError, match="None is watched"):
            health.check("pool")
        health.add("pool", lambda: None)
        with pytest.raises(ConfigurationError, match="Did you mean 'pool'"):
            health.check("pools")


def test_closing_ends_a_waiting_thread_at_once_and_for_good() -> None:
    health = Health(SLOW)
    health.add("a", lambda: False)
    health.check()
    assert threads() == ["dspex-health"]
    health.close()
    assert threads() == []
    health.check()
    health.suspect("a")
    assert threads() == []
    health.close()


def test_an_observer_may_close_it_in_the_thread() -> None:
    closed = threading.Event()

    def told(change: Change) -> None:
        if threading.current_thread().name == "dspex-health":
            health.close()
            closed.set()

    answers = iter([False, Finding("degraded", "x")])
    health = Health(FAST, told)
    health.add("a", lambda: next(answers))
    health.check()
    closed.wait()
    while threads():
        closed.wait(0.0005)


def test_a_check_that_runs_too_long_does_not_keep_who_closes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_health, "_FAREWELL", 0.01)
    running, release = threading.Event(), threading.Event()

    def check() -> None:
        running.set()
        release.wait()

    health = Health(SLOW)
    health.add("a", check)
    health.suspect("a")
    running.wait()
    with caplog.at_level(logging.WARNING, logger="dspex_lab"):
        health.close()
    assert "still running" in caplog.text
    release.set()
    while threads():
        running.wait(0.0005)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_check_that_ends_its_thread_does_not_end_the_watching() -> None:
    looks = []
    ended, again = threading.Event(), threading.Event()

    def check() -> None:
        looks.append(1)
        if len(looks) == 1:
            ended.set()
            raise SystemExit
        again.set()

    with Health(SLOW) as health:
        health.add("a", check)
        health.suspect("a")
        ended.wait()
        while threads():
            ended.wait(0.0005)
        health.suspect("a")
        again.wait()


def test_what_is_replaced_while_it_is_checked_tells_nothing() -> None:
    told: list[Change] = []
    with Health(SLOW, told.append) as health:
        health.add("a", lambda: health.add("a", lambda: None))
        health.check()
        assert [each.state for each in health.snapshot()] == ["unknown"]
    assert told == []


def test_many_who_check_at_once_take_turns_and_tell_a_change_once() -> None:
    told: list[Change] = []
    inside, most, lock = [0], [0], threading.Lock()

    def check() -> bool:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.001)
        with lock:
            inside[0] -= 1
        return False

    with Health(SLOW, told.append) as health:
        health.add("a", check)
        start = threading.Barrier(8)

        def work() -> None:
            start.wait()
            health.check()

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert (len(told), most) == (1, [1])


@pytest.mark.parametrize("wrong", [{"every": 0}, {"jitter": 2}, {"wait": -1}, {"longest": 1.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        HealthSettings(**wrong)


def test_closing_waits_for_a_thread_that_has_nothing_more_to_do_and_is_still_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    ending, release = threading.Event(), threading.Event()
    look_on = Health._look_on

    def ends_late(health: Health) -> None:
        look_on(health)
        ending.set()
        release.wait(60)

    monkeypatch.setattr(Health, "_look_on", ends_late)
    health = Health(SLOW)
    health.add("a", lambda: None)
    health.suspect("a")
    assert ending.wait(60)
    closing = threading.Thread(target=health.close)
    closing.start()
    closing.join(0.3)
    assert closing.is_alive(), "it does not wait"
    release.set()
    closing.join(60)
    assert not closing.is_alive()
