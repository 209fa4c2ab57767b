"""A process that uses a session and is killed; and the next one, which goes on. Run as a script: STORE, then what to do."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import dspex_lab as dx


def count(state: dict[str, Any]) -> int:
    state["n"] = state.get("n", 0) + 1
    return state["n"]


def double(x: int) -> int:
    return 2 * x


def first(lab: Any) -> None:
    made = lab.sessions.open("support", ttl=3600, affinity="strict-queue", state={"n": 40})
    made.state["rows"] = [1, 2]
    made.optimization.record({"prompt": "p"}, 0.75)
    made.rename("help")
    for x in range(3):
        made.run(double, x=x)
    lab.store.flush()
    print(made.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def second(lab: Any) -> None:
    [listed] = lab.sessions.list()
    print(listed.id, listed.name, listed.status, listed.ttl, listed.affinity)
    print(dict(listed.state), listed.status, listed.version, listed.optimization.best)
    print(len(listed.history), listed.metrics().runs, listed.metrics().complete)
    listed.run(double, x=5)
    print(len(listed.history))


if __name__ == "__main__":
    with dx.Lab(sys.argv[1]) as opened:
        {"first": first, "second": second}[sys.argv[2]](opened)
