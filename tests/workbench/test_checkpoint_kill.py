"""A process that is killed in the middle of a long run loses nothing that was done; another one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = """
import dataclasses, datetime as dt, os, signal, sys
import dspy
import dspex_lab as dx
from dspex_lab.pipelines import each, when
from dspex_lab.testing import scripted_lm

# What a step reads from sys.argv is no part of what it does; a constant that it names is.
ITEMS, OFFSET, FACTOR = 30, int(sys.argv[2]), int(sys.argv[3])
EXTRA = "+" * FACTOR

@dataclasses.dataclass
class Read:
    words: list[str]
    day: dt.date

def note(name):
    with open("done.txt", "a", encoding="utf-8") as file:
        file.write(name + "\\n")

def read(text: str) -> Read:
    note("read")
    return Read(text.split(), dt.date(2020, 1, 2))

async def size(word: str, answer: str) -> int:
    note(f"size {word}")
    if word == f"w{sys.argv[1]}":
        os.kill(os.getpid(), signal.SIGKILL)
    return len(word)

def early(day: dt.date) -> str:
    note("early")
    return f"{day:%Y}"

def total(sizes: list[int], early: str) -> int:
    note("total")
    return sum(sizes) + OFFSET

def mark(total: int) -> str:
    note("mark")
    return f"{total}{EXTRA}"

lm = scripted_lm({"answer": "yes"}, model="scripted/kept")
inner = dx.pipeline("inner", early=early, answer=dspy.Predict("early -> answer"))
sizes = each("words", size, item="word", concurrency=1)
whole = dx.pipeline("whole", read=read, inner=inner, sizes=sizes, total=total, mark=mark)
with dx.Lab("lab.duckdb") as lab:
    lab.use(lm)
    text = " ".join(f"w{i}" for i in range(ITEMS))
    result = lab.run(whole, text=text, options=dx.RunOptions(checkpoint="long"))
    print(result.status, result["mark"], len(result["sizes"]), lm.engine.calls, lab.checkpoints().empty)
"""


class Killed:
    """Runs the script in a process of its own, and tells what ran in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "script.py").write_text(SCRIPT, encoding="utf-8")

    def __call__(self, stop: int, offset: int = 0, factor: int = 0, seed: str = "1") -> tuple[int, str, Counter[str]]:
        done = self.folder / "done.txt"
        done.write_text("", encoding="utf-8")
        child = subprocess.run(
            [sys.executable, "script.py", str(stop), str(offset), str(factor)],
            cwd=self.folder,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode in (0, -signal.SIGKILL), child.stderr[-2000:]
        return child.returncode, child.stdout.strip(), Counter(done.read_text(encoding="utf-8").splitlines())


@pytest.fixture
def run(tmp_path: Path) -> Killed:
    return Killed(tmp_path)


def test_after_each_kill_another_process_does_only_what_was_not_done(run: Killed) -> None:
    code, said, first = run(stop=5, seed="1")
    assert (code, said) == (-signal.SIGKILL, "")
    assert first == Counter(["read", "early", *(f"size w{i}" for i in range(6))])
    code, _, second = run(stop=20, seed="2")
    assert code == -signal.SIGKILL
    assert second == Counter(f"size w{i}" for i in range(5, 21)), "only the item that was under way runs twice"
    code, said, third = run(stop=-1, seed="3")
    assert said == "complete 80 30 0 True", "the model was not asked again, and the checkpoint is gone"
    assert third == Counter([*(f"size w{i}" for i in range(20, 30)), "total", "mark"])


def test_what_was_mended_between_the_processes_is_done_again_and_nothing_else(run: Killed) -> None:
    run(stop=29)
    _, said, second = run(stop=-1, offset=7, factor=2)
    assert said == "complete 87++ 30 0 True"
    assert second == Counter(["size w29", "total", "mark"])
