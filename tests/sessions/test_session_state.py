"""What is in the state of a session: saved when it is set, found when it is changed, refused where it cannot be kept."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from session_store import stored

from dspex_lab.errors import SessionError
from dspex_lab.sessions import SessionLimits, Sessions
from dspex_lab.store._transaction import whole

KEY = "sk-abcdefgh12345678901234"


def test_the_state_is_a_mapping_that_is_saved_when_the_assignment_returns(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    state = made.state
    state["a"] = [1, {"b": 2}]
    assert stored(place, made) == {"a": [1, {"b": 2}]}
    state.update({"c": 1}, d=2)
    assert made.version == 2, "several keys are one write"
    del state["c"]
    assert state.pop("d") == 2
    assert state.setdefault("e", 5) == 5
    assert stored(place, made) == {"a": [1, {"b": 2}], "e": 5}
    assert (len(state), list(state), "a" in state, "z" in state) == (2, ["a", "e"], True, False)
    with pytest.raises(KeyError):
        del state["z"]
    with pytest.raises(KeyError):
        state["z"]
    assert "'a': " in repr(state)
    state.clear()
    assert stored(place, made) == {}
    before = made.version
    state.update({})
    assert made.version == before, "what changes nothing writes nothing"


def test_what_is_changed_inside_a_value_is_found(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", state={"seen": [1], "grid": np.zeros(2)})
    made.state["seen"].append(2)
    made.save()
    assert stored(place, made)["seen"] == [1, 2]
    mine = {"deep": []}
    made.state["mine"] = mine
    mine["deep"].append(1)
    made.state["grid"][0] = 5
    made.state["other"] = 1
    assert stored(place, made)["mine"] == {"deep": [1]}, "also that of what was assigned, at the next assignment"
    made.refresh()
    assert made.state["grid"].tolist() == [5.0, 0.0]
    made.state["seen"].append(threading.Lock())
    with pytest.raises(SessionError, match=r"state\['seen'\]\[2\] cannot be kept"):
        made.save()
    made.refresh()
    assert made.state["seen"] == [1, 2], "nothing was lost"


def test_the_state_of_an_optimizer(sessions: Sessions, place: Any) -> None:
    tuning = sessions.open("s").optimization
    assert (tuning.best_score, tuning.iteration, tuning.candidates, tuning.best) == (None, 0, [], None)
    assert tuning.record({"prompt": "a"}, 0.5)
    assert not tuning.record({"prompt": "b"}, 0.25)
    assert tuning.record({"prompt": "c"}, 1)
    assert (tuning.best_score, tuning.iteration, tuning.best) == (1.0, 3, {"prompt": "c"})
    assert [c["score"] for c in tuning.candidates] == [0.5, 0.25, 1.0]
    tuning.record("d", 0.1, keep=2)
    assert [c["iteration"] for c in tuning.candidates] == [3, 4]
    tuning["mine"] = 1
    tuning.best_score, tuning.iteration = 2.0, 9
    again = place.sessions().get("s").optimization
    assert (again.best_score, again.iteration, again["mine"], again["first_score"]) == (2.0, 9, 1, 0.5)
    for wrong in ("high", None, True, float("nan")):
        with pytest.raises(SessionError, match="is no score"):
            tuning.record("e", wrong)  # type: ignore[arg-type]


def test_two_labs_do_not_overwrite_each_other_silently(sessions: Sessions, place: Any) -> None:
    mine = sessions.open("s", state={"n": 1})
    other = place.sessions().get("s")
    assert other.state["n"] == 1
    other.state["n"] = 2
    with pytest.raises(SessionError, match="changed by another Lab: its version is 2, and not 1") as caught:
        mine.state["n"] = 3
    assert "refresh" in str(caught.value)
    with pytest.raises(SessionError, match="changed by another Lab"):
        mine.configure(ttl=5)
    mine.refresh()
    mine.state["n"] += 1
    assert stored(place, mine) == {"n": 3}
    mine.close()
    with pytest.raises(SessionError, match="was closed by another Lab"):
        other.state["n"] = 4
    with pytest.raises(SessionError, match="was closed by another Lab"):
        other.refresh()


def test_threads_that_set_different_keys_all_win(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: made.state.__setitem__(f"k{n}", n), range(40)))
    assert stored(place, made) == {f"k{n}": n for n in range(40)}
    assert made.version == 40


def test_a_secret_is_not_kept_and_that_is_said(sessions: Sessions, place: Any, caplog: pytest.LogCaptureFixture) -> None:
    made = sessions.open("s")
    hidden = {"a": KEY, "b": np.array([f"x {KEY}"]), "c": {"password": "hunter2222"}, f"key {KEY}": 1}
    with caplog.at_level(logging.WARNING):
        made.state.update(plain=1, **hidden)
    assert stored(place, made) == {"plain": 1}
    assert made.state["a"] == KEY, "it is there as long as the kernel"
    assert made.unkept == ("state['a']", "state['b']", "state['c']", "state['key [redacted]']")
    assert KEY not in caplog.text
    assert "state['a'] holds a secret and is not kept" in caplog.text
    shown = f"{made!r} {made.sheet()!r} {made._repr_html_()} {made.sheet().inner_html()}"
    assert KEY not in shown
    assert "not kept, because it holds a secret" in shown
    assert not made.keeping.suspend(), "it would be lost"
    assert KEY not in place.store.query("SELECT * FROM sessions").to_string()
    found = place.sessions().get("s")
    assert dict(found.state) == {"plain": 1}
    assert "state['a']" in found.unkept, "the next kernel knows what it has not got"
    found.state["a"] = "harmless"
    assert "state['a']" not in found.unkept


def test_a_secret_of_the_environment_is_one(sessions: Sessions, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "open-sesame-now")
    made = sessions.open("s", state={"t": "it is open-sesame-now", "u": b"..open-sesame-now.."})
    assert stored(place, made) == {}
    del made.state["t"], made.state["u"]
    assert made.unkept == ()


def test_a_write_that_fails_is_undone(sessions: Sessions, place: Any) -> None:
    import duckdb

    made = sessions.open("s", state={"n": 1})

    def half(cursor: Any) -> None:
        cursor.execute("DELETE FROM sessions")
        cursor.execute("SELECT * FROM nowhere")

    with pytest.raises(duckdb.Error):
        whole(sessions.around.table.store, half)
    assert stored(place, made) == {"n": 1}
    assert made.created == place.now
    assert next(iter(sessions.list())) is made


def test_a_state_that_is_too_large_is_refused_before_anything_is_lost(place: Any) -> None:
    sessions = place.sessions(limits=SessionLimits(state_bytes=1_000))
    made = sessions.open("s", state={"a": "x" * 500})
    with pytest.raises(SessionError, match=r"would be 1,\d\d\d bytes, and may be 1,000; the largest is state\['b'\] \(602"):
        made.state["b"] = "y" * 600
    assert dict(made.state) == {"a": "x" * 500}
    with pytest.raises(SessionError, match=r"the largest is optimization\['c'\]"):
        made.optimization["c"] = "y" * 600
    made.state["a"] = "z" * 900
    assert made.size == 907
    with pytest.raises(SessionError, match="may be 1,000"):
        sessions.open("t", state={"a": "x" * 2_000})
    assert sessions.names == ["s"]


def test_of_many_sessions_only_some_states_are_in_memory(place: Any) -> None:
    sessions = place.sessions(limits=SessionLimits(loaded=2))
    for n in range(4):
        place.now += 1
        sessions.open(f"s{n}", state={"n": n})
    status = {s.name: s.status for s in sessions.list()}
    assert status == {"s0": "suspended", "s1": "suspended", "s2": "open", "s3": "open"}
    assert sessions.get("s0").size == 6
    assert [sessions.get(f"s{n}").state["n"] for n in range(4)] == [0, 1, 2, 3]


def test_a_state_of_which_something_was_handed_out_that_can_change_stays_in_memory(place: Any) -> None:
    sessions = place.sessions(limits=SessionLimits(loaded=1))
    got, given, plain = (sessions.open(name, state={"seen": [], "n": 1}) for name in "abc")
    seen, mine = got.state["seen"], {"deep": []}
    given.state["mine"] = mine
    assert plain.state["n"] == 1
    sessions.open("last")
    assert {s.name: s.status for s in sessions.list()} == {"a": "open", "b": "open", "c": "suspended", "last": "open"}
    seen.append(1)
    mine["deep"].append(2)
    got.save()
    given.save()
    assert (stored(place, got)["seen"], stored(place, given)["mine"]) == ([1], {"deep": [2]})
    got.refresh()
    sessions.open("last")
    assert got.status == "suspended", "nothing of it was handed out any more"
