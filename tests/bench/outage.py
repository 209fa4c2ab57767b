"""A provider goes down for 20 seconds under 20 requests a second: what users see, with and without a second provider.

    pip install litellm                # the peer; without it only ours is shown
    python tests/bench/outage.py [--seconds]

The same script for all: the server (``dspex_lab.testing.FaultyServer``, real sockets on 127.0.0.1) answers after 20 ms; from
second 4 to second 24 it says 503; then it is well again for 10 seconds. Requests come by the clock, whatever became of those
before. "Ours" is ``lab.use(model)``, or ``lab.use(model, fallbacks=[other])``, as it comes, and once with the patience to
wait up to 10 s for an open circuit (``dx.Policy(patience=10)``); LiteLLM's Router has one deployment, or two of one name, as it
comes. Below it, one provider that always fails is asked by one caller after the other.

With ``--seconds`` each second has its row. It takes under four minutes and ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"

import dspy

import dspex_lab as dx
from dspex_lab.events import Event
from dspex_lab.testing import Fault, FaultyServer

RATE, DOWN, UP, END = 20, 4.0, 24.0, 34.0
ANSWER = {"label": "billing"}
Ask = Callable[[int], Awaitable[object]]


@dataclass
class Seen:
    """What came of the requests: when each began, how long it took, and its error's name."""

    rows: list[tuple[float, float, str | None]] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    asked: int = 0
    asked_other: int = 0

    def between(self, start: float, end: float) -> list[tuple[float, float, str | None]]:
        return [row for row in self.rows if start <= row[0] < end]


def shares(rows: list[tuple[float, float, str | None]]) -> str:
    """Return a table's cells: answers, errors, and p50, p95 and the longest time in milliseconds."""
    if not rows:
        return "0 | 0 | - | - | -"
    took = sorted(1e3 * seconds for _, seconds, _ in rows)
    p95 = took[min(int(0.95 * len(took)), len(took) - 1)]
    errors = sum(error is not None for *_, error in rows)
    return f"{len(rows) - errors} | {errors} | {statistics.median(took):,.0f} | {p95:,.0f} | {took[-1]:,.0f}"


async def under_load(ask: Ask, server: FaultyServer, other: FaultyServer | None, seen: Seen) -> None:
    """Ask by the clock, and let the server go down and come back."""
    await ask(-1)  # connections and imports are made before the clock starts
    server.clear()
    if other is not None:
        other.clear()
    zero = time.perf_counter()

    async def one(number: int) -> None:
        started = time.perf_counter() - zero
        error = None
        try:
            await ask(number)
        except Exception as problem:
            error = type(problem).__name__
        seen.rows.append((started, time.perf_counter() - zero - started, error))

    async def at(second: float, do: Callable[[], object]) -> None:
        await asyncio.sleep(max(second - (time.perf_counter() - zero), 0.0))
        do()

    def begin() -> None:
        server.outage(Fault.unavailable())
        server.clear()

    def end() -> None:
        seen.asked = server.counts.arrived
        seen.asked_other = other.counts.arrived if other is not None else 0
        server.recover()

    seen.events = [(-zero, "zero")]
    tasks = [asyncio.ensure_future(at(DOWN, begin)), asyncio.ensure_future(at(UP, end))]
    for number in range(int(END * RATE)):
        await at(number / RATE, lambda number=number: tasks.append(asyncio.ensure_future(one(number))))  # type: ignore[misc]
    await asyncio.gather(*tasks)


@contextlib.contextmanager
def servers(two: bool) -> Iterator[tuple[FaultyServer, FaultyServer | None]]:
    with FaultyServer(ANSWER, delay=0.02) as server:
        if not two:
            yield server, None
            return
        with FaultyServer(ANSWER, delay=0.02) as other:
            yield server, other


def model(server: FaultyServer, name: str) -> dspy.LM:
    return dspy.LM(f"openai/{name}", api_base=server.url, api_key="sk-bench", cache=False)


def ours(two: bool, patience: float = 0.0) -> Seen:
    seen = Seen()
    with servers(two) as (server, other), dx.Lab(":memory:") as lab:
        lab.use(model(server, "first"), fallbacks=[] if other is None else [model(other, "second")])
        if patience:
            lab.policy(dx.Policy(patience=patience, breaker=dx.BreakerSettings(cool_down=2.0, longest=5.0)))
        pipeline = lab.pipeline_of("message -> label")
        told: list[tuple[float, str]] = []

        def observe(record: Any) -> None:
            if isinstance(record, Event) and record.name.startswith("breaker.") and record.data:
                told.append((time.perf_counter(), record.name.removeprefix("breaker.")))

        lab.bus.subscribe(observe, live=False)

        async def ask(number: int) -> object:
            result = await lab.arun(pipeline, message=f"message {number}")
            if result.error is not None:
                raise result.error
            return result

        asyncio.run(under_load(ask, server, other, seen))
        zero = -seen.events[0][0]
        seen.events = [(at - zero, name) for at, name in told]
    return seen


def litellms(two: bool) -> Seen:
    import litellm

    litellm.suppress_debug_info = True
    seen = Seen()
    with servers(two) as (server, other):
        deployments = [
            {"model_name": "m", "litellm_params": {"model": "openai/any", "api_base": each.url, "api_key": "sk-bench"}}
            for each in (server, other)
            if each is not None
        ]

        async def ask(number: int) -> object:
            messages = [{"role": "user", "content": f"message {number}"}]
            return await router.acompletion(model="m", messages=messages)

        router = litellm.Router(model_list=deployments)
        asyncio.run(under_load(ask, server, other, seen))
    seen.events = []
    return seen


PHASES = (("before", 0.0, DOWN), ("its first second down", DOWN, DOWN + 1), ("the other 19", DOWN + 1, UP),
          ("the first 5 s after", UP, UP + 5), ("then", UP + 5, END))  # fmt: skip


def show(name: str, seen: Seen, each_second: bool) -> None:
    for phase, start, end in PHASES:
        print(f"| {name} | {phase} | {shares(seen.between(start, end))} |")
    states = ", ".join(f"{at:.1f} s {state}" for at, state in seen.events)
    other = f"; the other provider got {seen.asked_other}" if seen.asked_other else ""
    print(f"| {name} | **in all** | {shares(seen.rows)} |")
    kinds: dict[str, int] = {}
    for *_, error in seen.rows:
        if error is not None:
            kinds[error] = kinds.get(error, 0) + 1
    print(f"<!-- {name}: the provider that was down got {seen.asked} requests meanwhile{other}. Circuit: {states or 'none'}. "
          f"Errors: {kinds}. -->", flush=True)  # fmt: skip
    if each_second:
        for second in range(int(END)):
            print(f"|  | second {second} | {shares(seen.between(second, second + 1))} |")


def failing(ask: Callable[[], object], calls: int) -> list[float]:
    """Return the milliseconds of each of so many calls, one after the other, that all fail."""
    found = []
    for _ in range(calls):
        clock = time.perf_counter()
        with contextlib.suppress(Exception):
            ask()
        found.append(1e3 * (time.perf_counter() - clock))
    return found


def one_that_always_fails(peer: bool) -> None:
    print("\n| one provider that always fails, one call after the other | calls | median ms | longest | requests |")
    print("|---|---:|---:|---:|---:|")
    with FaultyServer(ANSWER, faults=Fault.server_error()) as server, dx.Lab(":memory:") as lab:
        lab.use(model(server, "first"))
        pipeline = lab.pipeline_of("message -> label")
        opening: list[float] = []
        while not opening or lab.gateway.guards.snapshot()[0].state != "open":
            opening += failing(lambda: lab.run(pipeline, message="x"), 1)
        print(f"| ours until the circuit opens | {len(opening)} | {statistics.median(opening):,.1f} | {max(opening):,.1f} "
              f"| {server.counts.arrived} |")  # fmt: skip
        server.clear()
        open_ = failing(lambda: lab.run(pipeline, message="x"), 500)
        print(f"| **ours once it is open** | {len(open_)} | {statistics.median(open_):,.2f} | {max(open_):,.1f} "
              f"| {server.counts.arrived} |", flush=True)  # fmt: skip
    if not peer:
        return
    import litellm

    with FaultyServer(ANSWER, faults=Fault.server_error()) as server:
        given = {"model": "openai/any", "api_base": server.url, "api_key": "sk-bench"}
        router = litellm.Router(model_list=[{"model_name": "m", "litellm_params": given}])
        messages = [{"role": "user", "content": "x"}]
        for name, ask in (
            ("LiteLLM's completion, defaults", lambda: litellm.completion(messages=messages, **given)),
            ("LiteLLM's Router, defaults", lambda: router.completion(model="m", messages=messages)),
        ):
            server.clear()
            took = failing(ask, 4)
            print(f"| {name} | {len(took)} | {statistics.median(took):,.0f} | {max(took):,.0f} | {server.counts.arrived} |",
                  flush=True)  # fmt: skip


def main(each_second: bool) -> None:
    try:
        import litellm  # noqa: F401

        peer = True
    except ImportError:
        peer = False
    print("| who | when | answers | errors | p50 ms | p95 ms | longest |\n|---|---|---:|---:|---:|---:|---:|")
    show("ours, one provider", ours(two=False), each_second)
    show("ours, one provider and 10 s of patience", ours(two=False, patience=10.0), each_second)
    if peer:
        show("LiteLLM's Router, one deployment", litellms(two=False), each_second)
    show("ours, two providers", ours(two=True), each_second)
    if peer:
        show("LiteLLM's Router, two deployments", litellms(two=True), each_second)
    one_that_always_fails(peer)


if __name__ == "__main__":
    main("--seconds" in sys.argv[1:])
