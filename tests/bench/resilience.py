"""What stands around a call costs: breaker, retry, deadline, bulkhead and hedge around an async function that does nothing.

    pip install hyx purgatory          # peers; one that is missing is left out
    python tests/bench/resilience.py [CALLS]

All ways take turns in the same run; a figure is the median of the rounds, and the ratio is the median of the ratios within a
round, so that a machine that is slower for a while does not move it. "Bare stamina" is its decorator built once around the
same function; "built for the call" is what a policy of one call needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import stamina

from dspex_lab.errors import CircuitOpen
from dspex_lab.resilience import Guard, Hedge, Policy, Retry, retry

ROUNDS = 15
Way = Callable[[], Awaitable[object]]
FAR = time.monotonic() + 3_600.0


async def nothing(attempt: object = None) -> None:
    """Stand for the work."""


def of_peers() -> dict[str, Way]:
    decorated = stamina.retry(on=OSError, attempts=3, timeout=60.0)(nothing)

    def built() -> Awaitable[object]:
        return stamina.retry(on=OSError, attempts=3, timeout=60.0)(nothing)()

    ways: dict[str, Way] = {"the function alone": nothing, "bare stamina": decorated, "stamina, built for the call": built}
    with contextlib.suppress(ImportError):
        from hyx.circuitbreaker import consecutive_breaker

        ways["hyx, its breaker alone"] = consecutive_breaker()(nothing)
    with contextlib.suppress(ImportError):
        from purgatory import AsyncCircuitBreakerFactory

        ways["purgatory, its breaker alone"] = AsyncCircuitBreakerFactory()("target")(nothing)
    return ways


def of_ours() -> dict[str, Way]:
    policy = Retry(attempts=3)
    alone = Guard(Policy(retry=None, bulkhead=None), "target")
    three = Guard(Policy(bulkhead=None), "target")
    four = Guard(Policy(timeout=60.0), "target")
    five = Guard(Policy(hedge=Hedge(after=60.0, share=1.0)), "target")
    shut = Guard(Policy(), "target")
    if shut.breaker is not None:
        shut.breaker.open("for this bench")

    async def refused() -> None:
        with contextlib.suppress(CircuitOpen):
            await shut.acall(nothing, idempotent=True)

    return {
        "retry": lambda: retry(nothing, policy),
        "breaker": lambda: alone.acall(nothing),
        "breaker + retry": lambda: three.acall(nothing, idempotent=True),
        "**breaker + retry + deadline**": lambda: three.acall(nothing, idempotent=True, deadline=FAR),
        "breaker + retry + deadline + bulkhead + timeout": lambda: four.acall(nothing, idempotent=True, deadline=FAR),
        "all of it and a hedge that is not needed": lambda: five.acall(nothing, idempotent=True, deadline=FAR),
        "a call that an open circuit refuses": refused,
    }


async def seconds_per_call(way: Way, calls: int) -> float:
    clock = time.perf_counter()
    for _ in range(calls):
        await way()
    return (time.perf_counter() - clock) / calls


async def main(calls: int) -> None:
    ways = {**of_peers(), **of_ours()}
    for way in ways.values():
        await seconds_per_call(way, calls // 10 + 1)
    rounds = [{name: await seconds_per_call(way, calls) for name, way in ways.items()} for _ in range(ROUNDS)]
    print(f"{calls:,} calls a round, median of {ROUNDS}; Python {sys.version.split()[0]}\n")
    print("| around an async function that does nothing | µs a call | calls/s | × bare stamina |\n|---|---|---|---|")
    for name in ways:
        value = statistics.median(each[name] for each in rounds)
        ratio = statistics.median(each[name] / each["bare stamina"] for each in rounds)
        print(f"| {name} | {value * 1e6:.2f} | {1 / value:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000))
