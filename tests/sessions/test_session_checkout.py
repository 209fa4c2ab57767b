"""A worker for oneself, for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from session_functions import count

from dspex_lab.errors import PoolBusy, SessionError
from dspex_lab.sessions import Sessions


def test_a_worker_is_checked_out(sessions: Sessions, place: Any) -> None:
    with sessions.checkout("general") as worker:
        assert (worker.name, worker.pool) == ("general-0", "general")
        assert worker.call(divmod, 17, 5) == (3, 2)
        assert [w["state"] for w in place.pools["general"].status()] == ["reserved", "idle"]
        assert "yours alone" in repr(worker)
    with sessions.checkout("general") as one, sessions.checkout("general") as two:
        assert {one.name, two.name} == {"general-0", "general-1"}, "it is there for others again"
    with pytest.raises(SessionError, match="was given back"):
        worker.call(abs, -1)
    assert "given back" in repr(worker)
    out, back = place.told("session.checkout")[0], place.told("session.checkin")[0]
    assert (out["worker"], back["worker"], back["calls"], out["session"]) == ("general-0", "general-0", 1, None)


def test_a_worker_is_checked_out_on_a_loop(sessions: Sessions, place: Any) -> None:
    async def use() -> None:
        async with sessions.checkout("general") as one, sessions.checkout("general") as two:
            assert {one.name, two.name} == {"general-0", "general-1"}
            assert await one.acall(abs, -1) == 1
            assert two.pid is None
            with pytest.raises(PoolBusy):
                async with sessions.checkout("general", patience=0.01):
                    pass

    asyncio.run(use())
    assert len(place.told("session.checkin")) == 2


def test_a_checkout_is_for_one_block(sessions: Sessions) -> None:
    one = sessions.checkout("general")
    with one, pytest.raises(SessionError, match="in use"):
        one.__enter__()
    with one as again:
        assert again.call(abs, -2) == 2
    with pytest.raises(KeyError):
        sessions.checkout("nowhere")


def test_a_session_has_its_own_worker_to_itself(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    made.call(count)
    made.seats.placed("general", "general-1", None)
    with sessions.checkout("general", "s") as worker:
        assert worker.name == "general-1"
        assert sessions.placement("s", "general").reservation
        assert made.call(count) == 2
        assert worker.call(abs, -1) == 1
    assert sessions.placement("s", "general").reservation is None
    assert [data["worker"] for data in place.told("pool.checkin")][1:] == ["general-1", "general-1"]
    with sessions.checkout("general", "new") as worker:
        assert sessions.get("new").worker == worker.name
