"""Calls of the real pool that are cancelled: stopped when asked, ended with their worker, or not begun."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pool_helpers import both_ready, restarts, stubborn

from dspex_lab.events import Event
from dspex_lab.pools import Pool, _running


async def cancelled(pool: Pool, begun: Callable[[], bool], function: Callable[..., Any], *args: Any) -> None:
    """Call a function, cancel the call when it has begun, and wait until both workers can be had."""
    going = asyncio.ensure_future(pool.call(function, *args))
    while not begun():  # noqa: ASYNC110
        await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await both_ready(pool)


def test_a_cancelled_call_that_stops_when_asked_leaves_its_worker_alive(
    general: Pool, told: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_running, "GRACE", 60)  # on a busy machine it is late in hearing that it should stop

    def until(folder: str) -> None:
        Path(folder, "began").touch()
        try:
            while True:
                os.sched_yield()
        finally:
            Path(folder, "cleaned up").touch()

    told.clear()
    asyncio.run(cancelled(general, (tmp_path / "began").exists, until, str(tmp_path)))
    assert restarts(told) == []
    assert (tmp_path / "cleaned up").exists()
    assert next(e.data["status"] for e in told if e.name == "pool.checkin" and e.data) == "cancelled"


def test_a_cancelled_call_that_does_not_end_is_ended_with_its_worker(general: Pool, told: list[Event], tmp_path: Path) -> None:
    told.clear()
    asyncio.run(cancelled(general, (tmp_path / "began").exists, stubborn, str(tmp_path / "began")))
    assert restarts(told) == ["cancelled"]


def test_cancelling_a_call_that_waits_costs_nothing(general: Pool, told: list[Event], tmp_path: Path) -> None:
    def until(path: str) -> None:
        while not Path(path).exists():
            os.sched_yield()

    async def crowd() -> list[Any]:
        await both_ready(general)
        going = [asyncio.ensure_future(general.call(until, str(tmp_path / "go"))) for _ in range(6)]
        while sum(e.name == "pool.checkout" for e in told) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for waiting in going[2:4]:
            waiting.cancel()
        (tmp_path / "go").touch()
        return await asyncio.gather(*going, return_exceptions=True)

    told.clear()
    answers = asyncio.run(crowd())
    assert [type(a).__name__ for a in answers] == [
        "NoneType",
        "NoneType",
        "CancelledError",
        "CancelledError",
        "NoneType",
        "NoneType",
    ]
    assert restarts(told) == []
