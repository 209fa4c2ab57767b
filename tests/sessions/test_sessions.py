"""Opening, finding, renaming and showing sessions; what is there again in the next kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from session_store import rows

from dspex_lab.errors import ConfigurationError, SessionError
from dspex_lab.sessions import SessionLimits, Sessions

KEY = "sk-abcdefgh12345678901234"


def test_a_session_is_got_or_made_by_its_name(sessions: Sessions, place: Any) -> None:
    first = sessions.open("support", state={"n": 1})
    assert (first.name, first.pool, first.affinity, first.ttl, first.status) == ("support", "general", "hint", None, "open")
    again = sessions.open("support", state={"n": 2})
    assert again is first
    assert again.state["n"] == 1, "one that is open keeps its state"
    assert sessions.get("support") is first
    assert sessions["support"] is first
    assert "support" in sessions
    assert "other" not in sessions
    assert 3 not in sessions
    assert [e["session"] for e in place.told("session.open")] == ["support"]
    assert len(rows(place)) == 1


def test_a_session_without_a_name_is_named(sessions: Sessions) -> None:
    sessions.open("session-2")
    assert [sessions.open().name for _ in range(3)] == ["session-1", "session-3", "session-4"]


def test_a_fresh_one_closes_the_one_before(sessions: Sessions, place: Any) -> None:
    first = sessions.open("s", state={"n": 1})
    second = sessions.open("s", fresh=True)
    assert second.id != first.id
    assert dict(second.state) == {}
    assert first.status == "closed"
    assert place.told("session.close")[0]["reason"] == "replaced"
    assert sessions.open("t", fresh=True).status == "open"


def test_settings_of_an_open_session_can_be_changed(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", ttl=5)
    sessions.open("s", pool="neural", affinity="strict-queue")
    assert (made.pool, made.affinity, made.ttl) == ("neural", "strict-queue", 5)
    made.configure(ttl=None)
    assert made.ttl is None
    assert [(r["pool"], r["affinity"]) for r in rows(place)] == [("neural", "strict-queue")]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"name": ""}, SessionError, "no name for a session"),
        ({"name": " a"}, SessionError, "no name for a session"),
        ({"name": "a\nb"}, SessionError, "no name for a session"),
        ({"name": "x" * 201}, SessionError, "no name for a session"),
        ({"name": 3}, SessionError, "no name for a session"),
        ({"name": KEY}, SessionError, "holds a secret"),
        ({"affinity": "sticky"}, ConfigurationError, "affinity of a session is 'sticky'"),
        ({"ttl": 0}, ConfigurationError, "time to live of a session is 0"),
        ({"ttl": True}, ConfigurationError, "time to live"),
        ({"ttl": float("nan")}, ConfigurationError, "time to live"),
        ({"pool": "nowhere"}, KeyError, "nowhere"),
        ({"state": {3: 1}}, SessionError, r"state\[3\] cannot be kept: its key is a int"),
        ({"state": {"a": object()}}, SessionError, r"state\['a'\] cannot be kept: it is an object"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_opened(
    sessions: Sessions, place: Any, wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        sessions.open(**{"name": "s", **wrong})
    assert rows(place) == []
    assert KEY not in str(place.events)


def test_an_unknown_name_is_refused_with_the_nearest_one(sessions: Sessions, place: Any) -> None:
    sessions.open("support")
    with pytest.raises(SessionError, match=r"no session 'suport'\. Did you mean 'support'\?") as caught:
        sessions.get("suport")
    assert caught.value.session == "suport"
    sessions.close("support")
    with pytest.raises(SessionError, match="was closed"):
        sessions.get("support")
    with pytest.raises(SessionError, match="was closed"):
        sessions.close("support")


def test_what_was_open_is_there_again_in_the_next_kernel(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", state={"n": 1}, ttl=500, affinity="strict-queue")
    made.state["x"] = np.arange(3)
    made.optimization.record("c", 0.7)
    closed = sessions.open("gone")
    closed.close()
    after = place.sessions()
    assert after.names == ["s"]
    found = after.get("s")
    assert (found.id, found.status, found.ttl, found.affinity) == (made.id, "suspended", 500, "strict-queue")
    assert found.state["x"].tolist() == [0, 1, 2]
    assert (found.status, found.version, found.optimization.best_score) == ("open", made.version, 0.7)


def test_another_labs_session_of_the_same_file_is_found(sessions: Sessions, place: Any) -> None:
    assert sessions.names == []
    theirs = place.sessions().open("s")
    assert sessions.open("s").id == theirs.id


def test_renaming(sessions: Sessions, place: Any) -> None:
    made, other = sessions.open("a", state={"n": 1}), sessions.open("b")
    with pytest.raises(SessionError, match="There is a session 'b' already"):
        made.rename("b")
    with pytest.raises(SessionError, match="no name for a session"):
        made.rename(" ")
    with pytest.raises(SessionError, match="no session 'c'"):
        sessions.rename("c", "d")
    sessions.use("a")
    assert sessions.rename("a", "c") is made
    assert (made.name, sessions.default) == ("c", "c")
    made.rename("c")
    assert [e["before"] for e in place.told("session.rename")] == ["a"]
    assert sorted(sessions.names) == ["b", "c"]
    assert place.sessions().get("c").state["n"] == 1
    other.rename("a")
    other.close()
    with pytest.raises(SessionError, match="is closed"):
        other.rename("x")


def test_too_many_sessions_are_refused(place: Any) -> None:
    sessions = place.sessions(limits=SessionLimits(sessions=2))
    sessions.open("a", ttl=10)
    place.now += 1
    sessions.open("b")
    with pytest.raises(SessionError, match=r"2 open sessions, and no more.*such as 'a'") as caught:
        sessions.open("c")
    assert caught.value.session == "c"
    assert sessions.open("a").status == "open", "one that is open is no new one"
    assert sessions.open("b", fresh=True).status == "open", "one in the place of another is none more"
    place.now += 20
    assert sessions.open("c").name == "c", "what is over makes room"
    sessions.limits = SessionLimits(sessions=3)
    sessions.open("d")


@pytest.mark.parametrize("wrong", [{"sessions": 0}, {"state_bytes": 1.5}, {"loaded": True}], ids=str)
def test_limits_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="whole number above 0"):
        SessionLimits(**wrong)


def test_a_session_shows_itself_and_nothing_in_it_is_run(sessions: Sessions, place: Any) -> None:
    evil = "<img src=x onerror=alert(1)>"
    made = sessions.open(evil, state={evil: evil, "n": [1, 2]}, ttl=90)
    made.optimization.record(evil, 0.5)
    place.now += 30
    for shown in (made._repr_html_(), sessions._repr_html_(), sessions.list()._repr_html_(), made.insights()._repr_html_()):
        assert "<img" not in shown
        assert "mathjax_ignore" in shown
    assert "used 30 s ago; closes after 90 s without use" in repr(made.sheet())
    assert "in 60 s" in repr(sessions)
    assert "1 session" in repr(sessions)
    assert sessions.list()[0] is made


def test_no_session_says_how_to_open_one(sessions: Sessions) -> None:
    assert "0 sessions" in repr(sessions)
    assert "opens one" in sessions._repr_html_()


def test_a_run_needs_a_lab(sessions: Sessions) -> None:
    with pytest.raises(SessionError, match="belongs to no Lab"):
        sessions.open("s").run("x")
