"""What is asked of each contender in pipelines.py: steps, how often, and what must come out."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

WIDTH, ROWS = 32, 1_000
#: A step's name, what it reads, and the seconds it sleeps.
Spec = tuple[str, tuple[str, ...], float]
Call = Callable[[int], Any]

SPECS: dict[str, list[Spec]] = {
    "chain": [(f"y{i}", (f"y{i - 1}",) if i else ("x",), 0) for i in range(10)],
    "fanout": [*((f"b{i}", ("x",), 0) for i in range(20)), ("joined", tuple(f"b{i}" for i in range(20)), 0)],
    "rows": [("r0", ("x",), 0.001), ("r1", ("r0",), 0.001), ("r2", ("r1",), 0.001)],
    "diamond": [
        ("source", ("x",), 0),
        ("slow", ("source",), 0.05),
        ("quick", ("source",), 0.001),
        ("after", ("quick",), 0.015),
        ("joined", ("slow", "after"), 0),
    ],
}
#: What one call gives for x = 1.
EXPECTED = {"chain": 11, "fanout": 41, "rows": 4, "diamond": 8}
#: Calls in a round, and the unit of one figure: its name, and how many of it a second has.
TIMES = {"chain": 100, "fanout": 20, "rows": 1, "diamond": 1}
UNITS = {"chain": ("µs a step", 1e5), "fanout": ("ms", 1e3), "rows": ("ms", 1e3), "diamond": ("ms", 1e3)}
TITLES = {
    "chain": "Ten-step chain",
    "fanout": "Fan-out of 20, and join",
    "rows": f"{ROWS:,} rows × 3 steps of 1 ms, {WIDTH} at once",
    "diamond": "Diamond: end of the fast branch beside a sibling of 50 ms",
}

#: When the fast branch of the diamond ended, by the clock.
ended = [0.0]


def functions(task: str, *, sync: bool = False) -> dict[str, Callable[..., Any]]:
    """Return the steps of a task as plain functions: each adds one to the sum of what it reads."""
    scope: dict[str, Any] = {"asyncio": asyncio, "time": time, "ended": ended}
    for name, needs, seconds in SPECS[task]:
        sleep = f"    {'time' if sync else 'await asyncio'}.sleep({seconds})\n" if seconds else ""
        mark = "    ended[0] = time.perf_counter()\n" if name == "after" else ""
        takes = ", ".join(f"{n}: int" for n in needs)
        body = f"def {name}({takes}) -> int:\n{sleep}{mark}    return {' + '.join(needs)} + 1\n"
        exec(body if sync else f"async {body}", scope)  # noqa: S102 - written above
    return {name: scope[name] for name, _, _ in SPECS[task]}


@dataclass
class Contender:
    """One way to do a task.

    ``call`` runs the steps for one x and gives the last one's value; ``rows``, where there is a way for many, takes all x.
    ``settle`` waits for what was put off.
    """

    name: str
    call: Call | None = None
    rows: Callable[[list[int]], Any] | None = None
    settle: Callable[[], object] | None = None
    seconds: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)


async def done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def in_workers(call: Call, xs: Iterable[int]) -> list[Any]:
    """Call for every x, ``WIDTH`` at once, for engines that have no way of their own."""
    todo, out = iter(enumerate(xs)), dict[int, Any]()

    async def worker() -> None:
        for index, x in todo:
            out[index] = await call(x)

    await asyncio.gather(*(worker() for _ in range(WIDTH)))
    return [out[i] for i in sorted(out)]
