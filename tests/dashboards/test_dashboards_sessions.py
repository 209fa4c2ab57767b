"""The page on sessions: which there are, how long their runs take, and that nothing in it is run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from guarded import EVIL
from page_helpers import opened_at, there_and_back

from dspex_lab.dashboards._base import SESSIONS
from dspex_lab.dashboards._pages import PAGES
from dspex_lab.dashboards._sessions import drawn
from dspex_lab.sessions import Sessions


class Clock:
    """Seconds since the epoch, set by hand."""

    def __init__(self) -> None:
        self.now = time.time() - 1_000

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(lab: Any, clock: Clock) -> Iterator[Sessions]:
    made = Sessions(lab.store, {}.__getitem__, clock=clock)
    yield made
    made.close()


opened = partial(opened_at, SESSIONS)


def test_without_sessions_the_page_says_so(lab: Any) -> None:
    page = opened(lab)
    assert "No session was used in this window" in page.sessions.view.object
    assert page.sessions_time.chart.chart is None
    assert "Sessions" in PAGES


def test_a_person_goes_to_the_page_and_back(lab: Any) -> None:
    there_and_back(SESSIONS, lab, "sessions")


def test_sessions_have_a_row_each_and_their_runs_are_drawn(lab: Any, sessions: Sessions) -> None:
    now = time.time()
    made = sessions.open("support", state={"a": 1}, affinity="strict-queue")
    sessions.open(EVIL)
    sessions.open("over").close()
    for n in range(12):
        lab.run(session="support", seconds=1 + n / 4, started=now + 1 + n / 1000)
    lab.run(session="support", status="failed", error="ValueError: no", started=now + 2)
    lab.run(session=EVIL, started=now + 3, simulated=True, cost=0.0)
    made.seats.placed("general", "general-1", 5)
    made.save()
    made.book.note(worker=made.worker)
    page = opened(lab)
    html = page.sessions.view.object
    assert EVIL not in html
    row = html[html.index("support") :]
    for part in ("open", "general, general-1", "strict-queue", "13", "slower, p = ", "$3.25"):
        assert part in row, part
    assert "closed" in html
    assert "simulated" in html
    chart = json.dumps(page.sessions_time.chart.chart)
    assert chart.count('"median"') > 12
    assert '"support"' in chart


def test_a_new_session_of_an_old_name_has_a_line_of_its_own(lab: Any, sessions: Sessions, clock: Clock) -> None:
    for number in range(2):
        sessions.open("s", fresh=True)
        lab.run(session="s", started=clock(), seconds=float(number))
    page = opened(lab)
    frame = drawn(page._take().sessions.over_time)
    assert list(frame["session"]) == ["s", "s (2)"]
    assert list(frame["median"]) == [0.0, 1.0]
    assert list(frame["label"]) == ["0.0 ms", "1.00 s"]
