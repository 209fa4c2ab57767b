"""Sessions of a Lab: runs that belong to one, by name, by default, in its steps and on its worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import dspex_lab as dx
from dspex_lab.errors import SessionError, StoreError
from dspex_lab.sessions import current_session
from dspex_lab.testing import FakePool


@pytest.fixture
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as made:
        pools = {name: FakePool(name, emit=made.bus.emit) for name in ("general", "neural")}
        made.pools.get = pools.__getitem__  # type: ignore[method-assign]
        made._runner.pool = made.sessions.around.pool = pools.__getitem__
        yield made


def double(x: int) -> int:
    return 2 * x


def remember(x: int) -> int:
    found = current_session()
    assert found is not None
    found.state["seen"] = [*found.state.get("seen", []), x]
    return x


def tag(state: dict[str, Any], x: int) -> int:
    state["tagged"] = x
    return x


def names(lab: dx.Lab) -> list[str | None]:
    found = lab.sql("SELECT session FROM runs WHERE kind IN ('run', 'map') ORDER BY started")["session"]
    return [name if isinstance(name, str) else None for name in found]


def test_a_run_with_a_session_opens_it_and_belongs_to_it(lab: dx.Lab) -> None:
    lab.run(double, x=1, options=dx.RunOptions(session="s"))
    made = lab.sessions.get("s")
    made.run(double, {"x": 2})
    made.run(double, x=3, options=dx.RunOptions(tags=("a",)))
    asyncio.run(made.arun(double, x=4))
    list(lab.stream(double, x=5, options=dx.RunOptions(session="s")))
    lab.map(double, [{"x": 1}, {"x": 2}], options=dx.RunOptions(session="s"))
    lab.run(double, x=6)
    assert len(made.history) == 6
    assert names(lab) == ["s"] * 6 + [None]
    assert (made.metrics().runs, made.metrics().complete) == (6, 6)


def test_options_for_another_session_are_refused(lab: dx.Lab) -> None:
    with pytest.raises(SessionError, match="options are for session 'other'"):
        lab.sessions.open("s").run(double, x=1, options=dx.RunOptions(session="other"))
    with pytest.raises(SessionError, match="no name for a session"):
        lab.run(double, x=1, options=dx.RunOptions(session=" "))
    assert names(lab) == []


def test_following_runs_belong_to_the_session_in_use(lab: dx.Lab) -> None:
    assert lab.session is None
    lab.session = "s"
    lab.run(double, x=1)
    lab.run(double, x=1, options=dx.RunOptions(session="other"))
    assert lab.session is lab.sessions.get("s")
    lab.session = lab.sessions.open("t")
    asyncio.run(lab.arun(double, x=1))
    lab.session = None
    lab.run(double, x=1)
    assert names(lab) == ["s", "other", "t", None]


def test_a_step_finds_the_session_of_its_run(lab: dx.Lab) -> None:
    made = lab.sessions.open("s")
    for x in (1, 2):
        made.run(remember, x=x)
    asyncio.run(made.arun(remember, x=3))
    lab.run(remember, x=4, options=dx.RunOptions(session="s", deadline=60))
    assert made.state["seen"] == [1, 2, 3, 4]
    assert current_session() is None

    def asks(x: int) -> bool:
        return lab.session is made

    assert made.run(asks, x=1)["asks"]
    assert not lab.run(asks, x=1)["asks"]
    with dx.Lab(":memory:") as other:
        assert made.run(lambda x: other.session is None, x=1).status == "complete"


def test_a_session_does_not_expire_under_its_run(lab: dx.Lab) -> None:
    now = [1_800_000_000.0]
    lab.sessions.around.clock = lambda: now[0]
    made = lab.sessions.open("s", ttl=10)

    def long(x: int) -> list[str]:
        now[0] += 100
        return list(lab.sessions.sweep())

    assert made.run(long, x=1)["long"] == []
    now[0] += 11
    assert lab.sessions.sweep() == ["s"]


def test_pool_steps_of_a_session_go_to_its_worker(lab: dx.Lab) -> None:
    step = dx.pipeline("p", out=dx.step(double, pool="general"))
    made = lab.sessions.open("s", affinity="strict-queue")
    made.run(step, x=1)
    assert made.worker == "general-0"
    made.seats.placed("general", "general-1", None)
    for x in range(3):
        made.run(step, x=x)
    assert made.call(tag, 5) == 5
    lab.store.flush()
    workers = lab.sql("SELECT data->>'worker' AS w FROM events WHERE name = 'pool.checkin' ORDER BY time")["w"]
    assert list(workers) == ["general-0", "general-1", "general-1", "general-1", "general-1"]


def test_a_checked_out_worker_takes_the_steps_of_its_session(lab: dx.Lab) -> None:
    step = dx.pipeline("p", out=dx.step(double, pool="general"))
    with lab.sessions.checkout("general", "s") as worker:
        lab.run(step, x=1, options=dx.RunOptions(session="s"))
        lab.run(step, x=1)
    workers = lab.sql("SELECT data->>'worker' AS w FROM events WHERE name = 'pool.checkin' ORDER BY time")["w"]
    assert workers[0] == worker.name
    assert workers[1] != worker.name


def test_a_strict_session_whose_worker_is_gone_fails_the_step_by_name(lab: dx.Lab) -> None:
    step = dx.pipeline("p", out=dx.step(double, pool="general"))
    made = lab.sessions.open("s", affinity="strict-fail")
    made.run(step, x=1)
    lab.pools.get("general").die(made.worker)
    result = made.run(step, x=2)
    assert result.status == "failed"
    assert isinstance(result.steps["out"].error, SessionError)


def test_nested_runs_are_within_the_session(lab: dx.Lab) -> None:
    def outer(x: int) -> int:
        return lab.run(remember, x=x)["remember"]

    made = lab.sessions.open("s")
    lab.session = "other"
    made.run(outer, x=7)
    assert made.state["seen"] == [7], "and not within the one that is in use"
    assert len(made.history) == 1


def test_a_closed_lab_has_saved_its_sessions(tmp_path: Any) -> None:
    path = tmp_path / "lab.duckdb"
    with dx.Lab(path) as lab:
        made = lab.sessions.open("s", state={"seen": []})
        made.state["seen"].append(1)
    with pytest.raises(StoreError, match="is closed"):
        made.run(double, x=1)
    with dx.Lab(path) as lab:
        assert lab.sessions.get("s").state["seen"] == [1]
