"""What running ``1 + 1`` in a sandbox costs: ours, DSPy's on Deno, and Python without one, in the same run.

    pip install deno
    python tests/bench/sandbox.py [rounds]

Cold is the first in a process that has nothing warm; warm is a new sandbox beside a living one; live is one more execution in a
sandbox that is there. DSPy's runner is fetched from the network when it is first used; where it cannot be, the row says so and
``deno eval`` stands for the least that any sandbox on Deno costs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import dspy

from dspex_lab.security import Sandbox, protection, warm
from dspex_lab.security.interpreter import SandboxInterpreter

EXPRESSION = "1 + 1"


def median(work: Callable[[], Any], rounds: int) -> float:
    """Return the median of ``rounds`` in ms."""
    found = []
    for _ in range(rounds):
        clock = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - clock))
    return statistics.median(found)


def child(code: str, rounds: int) -> float:
    """Return the median of what ``code``, in a Python of its own, prints as milliseconds."""
    found = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append(float(done.stdout.split()[-1]))
    return statistics.median(found)


def once(make: Callable[[], Any]) -> None:
    with make() as sandbox:
        value = sandbox.execute(EXPRESSION)
        assert value == 2, value


COLD = """
import time
from dspex_lab.security import Sandbox, protection
{before}
clock = time.perf_counter()
with Sandbox() as sandbox:
    assert sandbox.run("1 + 1").result == 2
print(1e3 * (time.perf_counter() - clock))
"""


def ours(rounds: int) -> dict[str, float]:
    found = {
        "ours, cold, what the kernel gives tried first": child(COLD.format(before=""), max(rounds // 10, 3)),
        "ours, cold": child(COLD.format(before="protection()"), max(rounds // 10, 3)),
    }

    def bare() -> None:
        with Sandbox() as sandbox:
            assert sandbox.run(EXPRESSION).result == 2

    with warm(), SandboxInterpreter() as living:
        living.start()
        found["ours, warm: `Sandbox`"] = median(bare, rounds)
        found["ours, warm: `SandboxInterpreter`"] = median(lambda: once(SandboxInterpreter), rounds)
        found["ours, live"] = median(lambda: living.execute(EXPRESSION), rounds)
    return found


def denos(rounds: int) -> dict[str, float | str]:
    from dspex_lab.security.interpreter._deno import deno_version

    if deno_version() is None:
        return {"DSPy's on Deno": "Deno is not installed"}
    from dspy.primitives.python_interpreter import _find_deno_executable

    evaluated = [_find_deno_executable(), "eval", "console.log(1 + 1)"]
    few = max(rounds // 20, 3)
    found: dict[str, float | str] = {
        "`deno eval`": median(lambda: subprocess.run(evaluated, capture_output=True, check=True), few)
    }
    try:
        once(dspy.PythonInterpreter)
    except dspy.primitives.code_interpreter.CodeInterpreterError:
        found["DSPy's on Deno"] = "its runner cannot be fetched here"
        return found
    found["DSPy's on Deno, a new one"] = median(lambda: once(dspy.PythonInterpreter), few)
    with dspy.PythonInterpreter() as living:
        living.start()
        found["DSPy's on Deno, live"] = median(lambda: living.execute(EXPRESSION), rounds)
    return found


def python(rounds: int) -> dict[str, float]:
    def run(*options: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, *options, "-c", f"print({EXPRESSION})"], capture_output=True, check=True)

    with dspy.LocalInterpreter() as living:
        return {
            "python, no sandbox": median(run(), max(rounds // 5, 3)),
            "python -I -S, no sandbox": median(run("-I", "-S"), max(rounds // 5, 3)),
            "DSPy's LocalInterpreter, no sandbox, a new one": median(lambda: once(dspy.LocalInterpreter), max(rounds // 5, 3)),
            "DSPy's LocalInterpreter, live": median(lambda: living.execute(EXPRESSION), rounds),
        }


def main(rounds: int = 100) -> None:
    os.environ.setdefault("DENO_NO_UPDATE_CHECK", "1")
    if protection().level != "full":
        raise SystemExit(f"There is no sandbox here: {protection()}")
    found: dict[str, float | str] = {**ours(rounds), **denos(rounds), **python(rounds)}
    fresh, live = found["ours, warm: `SandboxInterpreter`"], found["ours, live"]
    print(f"{protection()}\n\n| | ms | × ours |\n|---|--:|--:|")
    for name, cost in found.items():
        if isinstance(cost, str):
            print(f"| {name} | {cost} | |")
            continue
        base = live if name.endswith("live") else fresh
        print(f"| {name} | {cost:.3g} | {cost / float(base):.2g} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
