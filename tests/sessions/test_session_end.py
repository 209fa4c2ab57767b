"""How sessions end: closed, forgotten, expired, or with their Lab."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from session_store import rows, stored

from dspex_lab.errors import SessionError
from dspex_lab.sessions import Sessions
from dspex_lab.sessions._sweeper import Sweeper


def test_closing_forgets_the_state_and_keeps_what_is_known(sessions: Sessions, place: Any) -> None:
    with sessions.open("s", state={"n": 1}) as made:
        sessions.use("s")
    assert made.status == "closed"
    assert sessions.default is None
    made.close()
    assert len(place.told("session.close")) == 1
    for use in (
        lambda: made.state["n"],
        lambda: made.state.__setitem__("n", 2),
        lambda: made.call(len),
        lambda: made.run("x"),
        lambda: made.configure(ttl=1),
        made.save,
        lambda: made.inside().__enter__(),
    ):
        with pytest.raises(SessionError, match="Session 's' is closed"):
            use()
    assert made.history.empty
    assert made.metrics().runs == 0
    assert len(made.insights()) == 0
    assert "closed" in repr(made)
    assert "closed" in made._repr_html_()
    [row] = rows(place)
    assert (row["name"], row["state"], row["reason"]) == ("s", None, "closed")
    assert sessions.open("s").id != made.id
    assert [s.status for s in sessions.list(closed=True)] == ["open", "closed"]


def test_forgetting_removes_all_that_is_known(sessions: Sessions, place: Any) -> None:
    sessions.open("s").close()
    sessions.open("s", state={"a": 1})
    sessions.open("t")
    assert sessions.forget("s") == 2
    assert [row["name"] for row in rows(place)] == ["t"]
    assert list(place.store.query("SELECT name FROM session_names")["name"]) == ["t"]
    with pytest.raises(SessionError, match="no session 's'"):
        sessions.forget("s")


def test_a_session_expires_when_it_was_not_used(sessions: Sessions, place: Any) -> None:
    short, long, ever = sessions.open("short", ttl=10), sessions.open("long", ttl=100), sessions.open("ever")
    place.now += 9
    short.state["n"] = 1
    place.now += 9
    assert sorted(sessions.names) == ["ever", "long", "short"], "it was used"
    place.now += 2
    assert sessions.sweep() == ["short"]
    assert (short.status, long.status, ever.status) == ("expired", "open", "open")
    assert [e["session"] for e in place.told("session.expire")] == ["short"]
    with pytest.raises(SessionError, match="Session 'short' expired"):
        sessions.get("short")
    with pytest.raises(SessionError, match="Session 'short' expired"):
        short.state["n"] = 2
    place.now += 100
    assert sessions.open("long").id != long.id, "opening it again makes a new one"
    assert len(sessions) == 2


def test_a_session_in_use_does_not_expire(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", ttl=10)
    with sessions.inside("s") as same, sessions.inside(None) as nothing:
        assert same is made
        assert nothing is None
        place.now += 50
        assert made.status == "busy"
        assert sessions.sweep() == []
        assert not made.keeping.suspend()
    place.now += 9
    assert sessions.sweep() == []
    place.now += 2
    assert sessions.sweep() == ["s"]


def test_sessions_expire_by_themselves(place: Any) -> None:
    import time

    gone = threading.Event()
    emit = place.emit
    place.emit = lambda event: (emit(event), gone.set() if event.name == "session.expire" else None)
    sessions = place.sessions(clock=time.time)
    sessions.open("long", ttl=1000)
    sessions.open("first", ttl=0.05)
    assert gone.wait(60)
    gone.clear()
    made = sessions.open("s")
    sessions.close("long")
    made.configure(ttl=0.05)
    assert gone.wait(60)
    assert made.status == "expired"
    sessions.open("long", ttl=1000)
    assert sessions._sweeper.alive
    sessions.close()
    assert not sessions._sweeper.alive


def test_a_sweep_that_fails_is_said_and_tried_again_later(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        failed, swept = False, threading.Event()

        def sweep(self) -> list[str]:
            if self.failed:
                self.swept.set()
                return []
            self.failed = True
            raise OSError("no room")

        def due(self) -> float | None:
            return None if self.swept.is_set() else 0.0

    broken = Broken()
    sweeper = Sweeper(broken)
    sweeper.wake()
    thread = sweeper._thread
    if thread is not None:
        thread.join(60)
    assert "could not be closed" in caplog.text
    sweeper.wake()
    assert broken.swept.wait(60)
    sweeper.stop()
    sweeper.wake()
    assert not sweeper.alive


def test_those_of_an_earlier_kernel_expire_too(sessions: Sessions, place: Any) -> None:
    sessions.open("s", ttl=10)
    sessions.close()
    place.now += 11
    after = place.sessions()
    assert after.names == []
    assert [row["reason"] for row in rows(place)] == ["expired"]


def test_what_is_closed_with_its_lab_says_so(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", state={"seen": []})
    made.state["seen"].append(1)
    sessions.use("s")
    sessions.close()
    sessions.close()
    assert stored(place, made) == {"seen": [1]}, "what was not saved yet is"
    assert repr(sessions) == "Sessions, closed"
    with pytest.raises(SessionError, match="closed with their Lab"):
        sessions.open("t")
    assert sessions.sweep() == []


def test_one_that_cannot_be_saved_at_the_end_is_said(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = sessions.open("bad", state={"x": []}), sessions.open("good", state={"x": []})
    bad.state["x"].append(object())
    good.state["x"].append(1)
    sessions.close()
    assert "session 'bad' could not be saved" in caplog.text
    assert good.version == 2
