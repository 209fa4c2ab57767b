"""Any order of opening, setting, renaming, closing, expiring and going on in another kernel, against a plain model of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from dspex_lab.errors import SessionError
from dspex_lab.sessions import SessionLimits, Sessions
from dspex_lab.store import SessionTable, Store

NAMES = st.sampled_from(["a", "b", "c", "d"])
KEYS = st.sampled_from(["x", "y"])
MOST, ROOM = 3, 60


@dataclass
class Model:
    """What a session should be."""

    ttl: float | None
    touched: float
    state: dict[str, Any] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.model: dict[str, Model] = {}
        self.sessions = self.made()

    def made(self) -> Sessions:
        limits = SessionLimits(sessions=MOST, state_bytes=ROOM, loaded=2)
        return Sessions(self.store, {}.__getitem__, limits=limits, clock=lambda: self.now)

    def teardown(self) -> None:
        self.expire()
        self.sessions.sweep()
        current = self.store.query("SELECT name FROM session_names WHERE until IS NULL", flush=False)
        assert sorted(current["name"]) == sorted(self.model), "each has one name now"
        for name in [*self.sessions.names, "a", "b", "c", "d"]:
            with contextlib.suppress(SessionError):
                self.sessions.forget(name)
        self.sessions.close()

    def expire(self) -> None:
        for name, session in list(self.model.items()):
            if session.ttl is not None and self.now - session.touched >= session.ttl:
                del self.model[name]

    @rule(name=NAMES, ttl=st.sampled_from([None, 10.0, 100.0]), fresh=st.booleans())
    def open(self, name: str, ttl: float | None, fresh: bool) -> None:
        self.expire()
        if fresh:
            self.model.pop(name, None)
        if name not in self.model and len(self.model) >= MOST:
            with pytest.raises(SessionError, match="open sessions"):
                self.sessions.open(name, ttl=ttl, fresh=fresh)
            return
        found = self.sessions.open(name, ttl=ttl, fresh=fresh)
        model = self.model.setdefault(name, Model(ttl, self.now))
        model.ttl = ttl if ttl is not None else model.ttl
        assert (found.name, found.ttl) == (name, model.ttl)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), key=KEYS, value=st.text(max_size=30) | st.integers() | st.lists(st.integers(), max_size=5))
    def set(self, data: st.DataObject, key: str, value: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.expire()
        if name not in self.model:
            with pytest.raises(SessionError, match="expired"):
                self.sessions.get(name)
            return
        session, model = self.sessions.get(name), self.model[name]
        before = session.version
        try:
            session.state[key] = value
        except SessionError as error:
            assert "may be" in str(error)  # noqa: PT017 - whether it fits is for the real one to say
            assert session.version == before
        else:
            if model.state.get(key, object()) != value:
                model.touched = self.now
            model.state[key] = value

    @precondition(lambda self: self.model)
    @rule(data=st.data(), to=NAMES)
    def rename(self, data: st.DataObject, to: str) -> None:
        self.expire()
        if not self.model:
            return
        name = data.draw(st.sampled_from(sorted(self.model)))
        if to in self.model and to != name:
            with pytest.raises(SessionError, match="already"):
                self.sessions.rename(name, to)
            return
        self.sessions.rename(name, to)
        self.model[to] = self.model.pop(name)
        if to != name:
            self.model[to].touched = self.now

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self.expire()
        if self.model:
            name = data.draw(st.sampled_from(sorted(self.model)))
            self.sessions.close(name)
            del self.model[name]

    @rule(seconds=st.sampled_from([1.0, 9.0, 50.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(saved=st.booleans())
    def restart(self, saved: bool) -> None:
        """Go on in another kernel; ``saved``: the one before closed its Lab, else it was killed."""
        if saved:
            self.sessions.close()
        else:
            self.sessions._sweeper.stop()
        self.sessions = self.made()

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        self.expire()
        assert sorted(self.sessions.names) == sorted(self.model)
        for name, model in self.model.items():
            assert dict(self.sessions.get(name).state) == model.state
        assert sorted(row.name for row in SessionTable(self.store).rows()) == sorted(self.model)


def test_sessions_are_what_a_model_of_them_is() -> None:
    with Store(":memory:") as Machine.store:
        run_state_machine_as_test(Machine, settings=settings(max_examples=10, stateful_step_count=20, deadline=None))
