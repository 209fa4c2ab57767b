"""Calls on a session's worker: the state lives there, comes home, and is never that of another call.

The pool is one of threads in this process, with the real queue; what a killed process does is in test_session_workers.py.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import numpy as np
import pytest
from session_functions import GATE, STARTED, count, hold

from dspex_lab.errors import SessionError
from dspex_lab.sessions import SessionLimits, Sessions


def read(state: dict[str, Any]) -> dict[str, Any]:
    return dict(state)


def change_and_fail(state: dict[str, Any]) -> None:
    state["n"] = 99
    raise ValueError("no such order")


def append(state: dict[str, Any]) -> None:
    STARTED.set()
    assert GATE.wait(60)
    state["seen"].append("worker")


def sizes(place: Any) -> list[bool]:
    """Say of each call whether the state was sent with it."""
    return [args[2] is not None for _, args in place.pools["general"].calls]


def test_the_state_lives_on_the_worker_and_comes_home(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", state={"n": 1, "keep": "x" * 100})
    assert [made.call(count, by) for by in (1, 2, 3)] == [2, 4, 7]
    assert dict(made.state) == {"n": 7, "keep": "x" * 100}
    assert place.sessions().get("s").state["n"] == 7, "it is in the store"
    assert sizes(place) == [True, False, False], "it is sent once"
    assert (made.calls, made.version, made.worker) == (3, 4, "general-0")
    labels = [data["label"] for data in place.told("pool.checkin")]
    assert labels == ["count"] * 3
    assert {data["session"] for data in place.told("pool.checkin")} == {"s"}


def test_what_was_set_here_is_seen_there(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", state={"seen": []})
    made.call(count)
    made.state["extra"] = np.arange(3)
    made.state["seen"].append("kernel")
    found = made.call(read)
    assert (found["seen"], found["extra"].tolist(), found["n"]) == (["kernel"], [0, 1, 2], 1)
    assert sizes(place) == [True, True]
    made.call(lambda state: state.pop("extra") is None or state["seen"].append("worker"))
    assert dict(made.state) == {"seen": ["kernel", "worker"], "n": 1}


def test_a_coroutine_function_is_awaited(sessions: Sessions) -> None:
    async def later(state: dict[str, Any]) -> int:
        await asyncio.sleep(0)
        return count(state, 5)

    made = sessions.open("s")
    assert made.call(later) == 5
    assert asyncio.run(made.acall(later)) == 10
    assert made.state["n"] == 10


def test_a_call_that_fails_leaves_the_state_of_the_one_before(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    made.call(count)
    before = made.version
    with pytest.raises(ValueError, match="no such order"):
        made.call(change_and_fail)
    assert (made.state["n"], made.version) == (1, before)
    assert made.call(count) == 2, "nor does the worker go on with what the failed call had changed"
    assert sizes(place) == [True, False, False, True], "which it has not got any more"


def test_a_value_that_cannot_be_kept_is_named_and_nothing_is_lost(sessions: Sessions, place: Any) -> None:
    def spoil(state: dict[str, Any]) -> None:
        state["n"], state["deep"] = 99, {"locks": [threading.Lock()]}

    made = sessions.open("s", state={"n": 1})
    with pytest.raises(SessionError, match=r"state\['deep'\]\['locks'\]\[0\] cannot be kept") as caught:
        made.call(spoil)
    assert caught.value.session == "s"
    assert (dict(made.state), made.call(count)) == ({"n": 1}, 2)
    with pytest.raises(SessionError, match=r"state\[5\] cannot be kept: its key is a int"):
        made.call(lambda state: state.update({5: 1}))


def test_a_state_that_became_too_large_is_refused_and_nothing_is_lost(place: Any) -> None:
    sessions = place.sessions(limits=SessionLimits(state_bytes=1_000))
    made = sessions.open("s", state={"n": 1})
    with pytest.raises(SessionError, match=r"may be 1,000; the largest is state\['big'\]"):
        made.call(lambda state: state.update(big="x" * 2_000))
    assert (dict(made.state), made.call(count)) == ({"n": 1}, 2)


def test_a_secret_stays_out_of_the_store(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    made.call(lambda state: state.update(n=1, key="sk-abcdefgh12345678901234"))
    assert made.state["key"].startswith("sk-")
    assert made.unkept == ("state['key']",)
    assert dict(place.sessions().get("s").state) == {"n": 1}


def test_calls_of_a_session_are_one_after_the_other_in_their_order(sessions: Sessions) -> None:
    made = sessions.open("s", state={"order": []})

    def note(state: dict[str, Any], n: int) -> None:
        state["order"].append(n)

    async def many() -> None:
        await asyncio.gather(*(made.acall(note, n) for n in range(20)))

    asyncio.run(many())
    assert made.state["order"] == list(range(20))


def test_threads_and_loops_share_one_order(sessions: Sessions) -> None:
    made = sessions.open("s")
    threads = [threading.Thread(target=lambda: [made.call(count) for _ in range(5)]) for _ in range(4)]
    for each in threads:
        each.start()

    async def also() -> None:
        await asyncio.gather(*(made.acall(count) for _ in range(5)))

    asyncio.run(also())
    for each in threads:
        each.join()
    assert (made.state["n"], made.calls) == (25, 25)


def test_a_call_that_is_cancelled_changes_nothing_and_the_next_one_goes_on(sessions: Sessions) -> None:
    made = sessions.open("s", state={"n": 5})

    async def cancelled() -> None:
        going = asyncio.ensure_future(made.acall(hold))
        waiting = asyncio.ensure_future(made.acall(count))
        await asyncio.to_thread(STARTED.wait, 60)
        waiting.cancel()
        going.cancel()
        GATE.set()
        for each in (going, waiting):
            with pytest.raises(asyncio.CancelledError):
                await each
        assert await made.acall(count) == 6

    asyncio.run(cancelled())
    assert (dict(made.state), made.calls) == ({"n": 6}, 1)


def test_a_loop_does_not_wait_for_itself(sessions: Sessions) -> None:
    made = sessions.open("s")

    async def both() -> None:
        going = asyncio.ensure_future(made.acall(hold))
        await asyncio.to_thread(STARTED.wait, 60)
        assert made.status == "busy"
        assert dict(made.state) == {}, "what was there before the call can be read"
        for use in (lambda: made.state.__setitem__("n", 1), made.save, made.close):
            with pytest.raises(SessionError, match="is in a call"):
                use()
        assert not made.keeping.suspend()
        threading.Timer(0, GATE.set).start()
        await asyncio.to_thread(made.state.__setitem__, "m", 2)  # a thread without a loop waits
        assert await going == 1

    asyncio.run(both())
    assert dict(made.state) == {"n": 1, "m": 2}


def test_what_both_changed_is_said(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    made = sessions.open("s", state={"seen": [], "mine": []})
    seen, mine = made.state["seen"], made.state["mine"]

    async def both() -> None:
        going = asyncio.ensure_future(made.acall(append))
        await asyncio.to_thread(STARTED.wait, 60)
        seen.append("kernel")
        mine.append("kernel")
        GATE.set()
        await going

    with caplog.at_level(logging.WARNING):
        asyncio.run(both())
    made.save()
    assert dict(made.state) == {"seen": ["worker"], "mine": ["kernel"]}
    assert "session s: state['seen'] was changed here while a call changed it too" in caplog.text


def test_what_home_cannot_save_is_an_error_and_the_state_is_the_one_before(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s", state={"n": 1})
    other = place.sessions().get("s")
    other.state["n"] = 50
    with pytest.raises(SessionError, match="changed by another Lab"):
        made.call(count)
    assert made.state["n"] == 1
    made.refresh()
    assert made.call(count) == 51
