"""What a space costs beside a plain dict with a lock: get, set, commit and notification, in the same run.

    python tests/bench/variables.py [ROUNDS]

10,000 variables (floats between 0 and 1), 100 observers, a journal in memory. The plain way is a dict and a ``threading.Lock``;
for notification it calls the same observers from a list after each set. It checks, versions and keeps nothing. The ways take
turns; a figure is the median of the rounds, and the ratio is the median of the ratios within a round, so that a machine that is
slower for a while does not move it.
"""

from __future__ import annotations

import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dspex_lab.variables import Commit, Space

VARIABLES, OBSERVERS = 10_000, 100
NAMES = [f"v{number}" for number in range(VARIABLES)]

Way = Callable[[float], object]


class Plain:
    """A dict with a lock, and a list of observers."""

    def __init__(self) -> None:
        self.lock, self.values = threading.Lock(), dict.fromkeys(NAMES, 0.5)
        self.observers: list[Callable[[Any], None]] = []

    def get(self, name: str) -> float:
        with self.lock:
            return self.values[name]

    def set(self, name: str, value: float) -> None:
        with self.lock:
            self.values[name] = value

    def commit(self, values: dict[str, float]) -> None:
        with self.lock:
            self.values.update(values)

    def tell(self, name: str, value: float) -> None:
        self.set(name, value)
        for observer in self.observers:
            observer(name)


def a_space(*, observed: str | None = None, told: list[Any] | None = None) -> Space:
    space = Space()
    for name in NAMES:
        space.float(name, 0, 1, default=0.5)
    for number in range(OBSERVERS):
        space.observe((told if told is not None else []).append, observed or f"v{number}")
    return space


def the_ways() -> dict[str, tuple[int, Way, Way]]:
    """Return what is measured: how often in a round, the plain way, and ours; each is given a value of its own."""
    plain, space = Plain(), a_space()
    derived = a_space()
    for number in range(1000):
        derived.derive(f"d{number}", f"v{number} * 2")
        derived.constrain(f"v{number} < 2")
    heard: list[Any] = []
    watched, listened = a_space(observed="v0", told=heard), Plain()
    listened.observers = [heard.append for _ in range(OBSERVERS)]
    lease = derived.lease("v5000", owner="bench", ttl=1e6)
    variable = space["v500"]

    def forget(way: Way) -> Way:
        def run(value: float) -> None:
            way(value)
            heard.clear()

        return run

    def cas(value: float) -> Commit:
        return space.commit({"v500": value}, expect={"v500": variable.version})

    return {
        "get": (5000, lambda value: plain.get("v500"), lambda value: space.get("v500")),
        "get, by its variable": (5000, lambda value: plain.get("v500"), lambda value: variable.value),
        "set one, nobody told": (300, lambda value: plain.set("v500", value), lambda value: variable.set(value)),
        "compare and set": (300, lambda value: plain.set("v500", value), lambda value: cas(value)),
        "set one of a lease": (
            *(300, lambda value: plain.set("v5000", value)),
            lambda value: lease.commit({"v5000": value}),
        ),
        "set one that a derived one and a constraint read": (
            *(300, lambda value: plain.set("v7", value)),
            lambda value: derived.commit({"v7": value}),
        ),
        "set one, 100 observers told": (
            300,
            forget(lambda value: listened.tell("v0", value)),
            forget(lambda value: watched.commit({"v0": value})),
        ),
        "commit of 100": (
            *(30, lambda value: plain.commit(dict.fromkeys(NAMES[:100], value))),
            lambda value: space.commit(dict.fromkeys(NAMES[:100], value)),
        ),
        "commit of 10,000": (
            *(1, lambda value: plain.commit(dict.fromkeys(NAMES, value))),
            lambda value: space.commit(dict.fromkeys(NAMES, value)),
        ),
        "snapshot of 10,000 after a change": (
            *(1, lambda value: dict(plain.values)),
            lambda value: (watched.commit({"v9": value}), watched.snapshot()),
        ),
    }


def seconds(way: Way, calls: int, start: float) -> float:
    values = [start + number * 1e-6 for number in range(calls)]
    clock = time.perf_counter()
    for value in values:
        way(value)
    return (time.perf_counter() - clock) / calls


def main(rounds: int) -> None:
    ways = the_ways()
    gc.collect()
    gc.freeze()
    print(f"| {VARIABLES:,} variables, {OBSERVERS} observers | dict and lock, µs | space, µs | × |\n|---|---|---|---|")
    for what, (calls, plain, ours) in ways.items():
        taken = []
        for number in range(rounds):
            start = 0.1 + 0.01 * (number % 80)
            taken.append((seconds(plain, calls, start), seconds(ours, calls, start)))
        one, two = (statistics.median(pair[at] for pair in taken) * 1e6 for at in (0, 1))
        ratio = statistics.median(pair[1] / pair[0] for pair in taken)
        digits = 1 if ratio < 10 else 0
        print(f"| {what} | {one:,.2f} | {two:,.2f} | {ratio:,.{digits}f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
