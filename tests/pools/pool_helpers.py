"""What the tests of the real pool share: calls, workers and their restarts."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from dspex_lab.events import Event
from dspex_lab.pools import Pool


def run(pool: Pool, function: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(pool.call(function, *args, **options))


def pids(pool: Pool) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in pool.status()}


def restarts(told: list[Event]) -> list[str]:
    return [e.data["reason"] for e in told if e.name == "pool.restart" and e.data]


def stubborn(mark: str) -> None:
    """Goes on though it is asked to stop, from when the mark is there."""
    while True:
        try:
            Path(mark).touch()
            threading.Event().wait()
        except BaseException:  # noqa: S112 - that is what stubborn is
            continue


async def both_ready(pool: Pool) -> None:
    """Two calls that meet each other need both workers."""

    def meet(folder: str, me: str, other: str) -> None:
        Path(folder, me).touch()
        while not Path(folder, other).exists():
            os.sched_yield()

    with tempfile.TemporaryDirectory(dir=pool.spec.writable[0]) as folder:
        await asyncio.gather(pool.call(meet, folder, "a", "b"), pool.call(meet, folder, "b", "a"))
