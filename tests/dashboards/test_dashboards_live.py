"""The thread that updates a page: when it acts, and when it does not."""

from __future__ import annotations

import queue
import threading

from dspex_lab.dashboards._live import Ticker


def test_it_sleeps_until_woken_and_gathers_what_comes_in_between() -> None:
    acts: queue.Queue[bool] = queue.Queue()
    going, go_on = threading.Event(), threading.Event()

    def act(changed: bool) -> None:
        acts.put(changed)
        going.set()
        go_on.wait()

    ticker = Ticker(act, 0.01)
    ticker.start()
    ticker.start()
    assert ticker.alive
    ticker.wake()
    going.wait()
    for _ in range(100):
        ticker.wake(["records"])
    go_on.set()
    assert [acts.get(timeout=60), acts.get(timeout=60)] == [True, True]
    ticker.stop()
    assert acts.empty()
    assert not ticker.alive


def test_an_interval_holds_changes_back_but_not_a_person() -> None:
    acts: queue.Queue[bool] = queue.Queue()
    ticker = Ticker(acts.put, 10_000)
    ticker.start()
    ticker.wake()
    assert acts.get(timeout=60)
    ticker.wake()
    ticker.hurry()
    assert acts.get(timeout=60)
    ticker.wake()
    ticker.stop()
    assert acts.empty()


def test_it_beats_without_a_change_only_when_told_to() -> None:
    acts: queue.Queue[bool] = queue.Queue()
    ticker = Ticker(acts.put, 0.001)
    ticker.beating = True
    ticker.start()
    assert [acts.get(timeout=60) for _ in range(3)] == [False] * 3
    ticker.stop()


def test_an_act_that_raises_is_logged_once_and_called_again(caplog) -> None:
    acts: queue.Queue[bool] = queue.Queue()

    def act(changed: bool) -> None:
        acts.put(changed)
        raise ValueError("no page")

    ticker = Ticker(act, 0.001)
    ticker.start()
    for _ in range(2):
        ticker.wake()
        acts.get(timeout=60)
    ticker.stop()
    assert caplog.text.count("could not be updated") == 1


def test_it_may_be_stopped_by_its_own_act_and_started_again() -> None:
    acts: queue.Queue[bool] = queue.Queue()
    ticker = Ticker(lambda changed: (ticker.stop(), acts.put(changed)), 0.001)
    for _ in range(2):
        ticker.start()
        ticker.wake()
        assert acts.get(timeout=60)
        ticker.stop()
        assert not ticker.alive


def test_a_beat_that_is_asked_for_while_it_sleeps_begins(eventually) -> None:
    calls: list[bool] = []
    ticker = Ticker(calls.append, 0.01)
    ticker.start()
    try:
        ticker.wake()
        eventually(lambda: calls == [True])
        eventually(lambda: len(ticker._signal._waiters) == 1)  # type: ignore[attr-defined]  # it sleeps until something changes
        ticker.beating = True
        eventually(lambda: calls[1:3] == [False, False])
    finally:
        ticker.stop()
