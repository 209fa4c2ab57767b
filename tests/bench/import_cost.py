"""What ``import dspex_lab`` and ``%load_ext dspex_lab`` cost, as a share of ``import dspy``; each in a fresh process.

python tests/bench/import_cost.py [rounds]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

SHELL = "from IPython.core.interactiveshell import InteractiveShell; s = InteractiveShell.instance()"
KINDS = {
    "import dspy": ("", "import dspy"),
    "import dspex_lab": ("", "import dspex_lab"),
    "%load_ext dspex_lab, in a shell": (SHELL, "s.run_line_magic('load_ext', 'dspex_lab')"),
}


def seconds(before: str, code: str) -> float:
    probe = f"import time\n{before}\nclock = time.perf_counter()\n{code}\nprint(time.perf_counter() - clock)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main(rounds: int = 5) -> None:
    medians = {name: statistics.median(seconds(*code) for _ in range(rounds)) for name, code in KINDS.items()}
    base = medians["import dspy"]
    for name, value in medians.items():
        print(f"{name:34}{value:8.3f} s   {value / base:6.3f} × import dspy")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
