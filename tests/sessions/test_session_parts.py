"""What a worker keeps of sessions, and whose turn it is."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest
from session_functions import count

from dspex_lab.sessions import Sessions
from dspex_lab.sessions._turn import Turn
from dspex_lab.sessions._worker import Kept, OnState, Shelf


def test_a_worker_keeps_so_many_states_and_no_more() -> None:
    small = Shelf(most=2, largest=100)
    for n in range(3):
        small.put(f"s{n}", Kept("a", {}, {"x": "1"}))
    assert (small.take("s0", "a"), len(small)) == (None, 2)
    small.put("large", Kept("a", {}, {"x": "1" * 200}))
    assert len(small) == 1, "one that is large is kept all the same: it is in use"
    assert small.take("large", "b") is None, "of another stamp"
    assert len(small) == 0, "it is of no use any more"


def test_a_worker_says_that_it_has_not_got_a_state() -> None:
    assert OnState(count)(("id", "s"), ("a", "b"), None, 1_000, ()).missing
    assert OnState(count).__name__ == "count"


def test_a_turn_that_is_given_up_goes_to_the_next(sessions: Sessions) -> None:
    turn = Turn()
    turn.take("s")

    async def impatient() -> None:
        one, two = (asyncio.ensure_future(turn.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        turn.leave()
        await two
        # Given in the same moment in which it is given up.
        three = asyncio.ensure_future(turn.acquire())
        await asyncio.sleep(0)
        turn.leave()
        three.cancel()
        with pytest.raises(asyncio.CancelledError):
            await three

    asyncio.run(impatient())
    assert not turn.taken
    assert turn.try_take()
    assert not turn.try_take()


@pytest.mark.parametrize("granted", [False, True])
def test_a_turn_that_an_interrupt_ends_is_not_lost(granted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn()
    assert turn.try_take()

    def interrupted(self: Future[None], timeout: float | None = None) -> None:
        if granted:
            turn.leave()
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turn.take("s")
    if not granted:
        turn.leave()
    assert not turn.taken
