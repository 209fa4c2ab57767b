"""What an optimizer may give, what it has to find in a program, and where it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex_lab.errors import ConfigurationError, JobError
from dspex_lab.security import protection

Start = Callable[..., Any]


class InPlace:
    """Changes the program that it is given and returns nothing."""

    def compile(self, student: Any, *, trainset: Any) -> None:
        student.signature = student.signature.with_instructions("In place.")


class Listing:
    def compile(self, student: Any, *, trainset: Any) -> Any:
        return [student]


def test_an_optimizer_that_changes_the_program_in_place_is_understood(start: Start) -> None:
    job = start(InPlace())
    assert job.result(60).program.signature.instructions == "In place."
    assert "It returned no program" in job.result().note
    assert job.progress.done == job.progress.total, "the total was an estimate"


def test_one_that_returns_something_else_is_named(start: Start) -> None:
    with pytest.raises(JobError, match=r"returned a list, and no program"):
        start(Listing()).result(60)


class Nothing(dspy.Module):
    def forward(self, text: str) -> Any:
        return dspy.Prediction(label=text)


def test_a_program_without_predictors_is_refused_before_anything_is_spent(start: Start) -> None:
    with pytest.raises(ConfigurationError, match=r"Nothing has no predictors: there is nothing in it that gepa could change"):
        start("gepa", program=Nothing())


CONFINED = """
import os, sys
from types import SimpleNamespace
from dspex_lab.security import Confinement, confine_thread
import dspy
from dspex_lab.jobs.optimize import _course

said = confine_thread(Confinement(data=0, writable=(sys.argv[1],)))
folder, vanishes = _course._folder(SimpleNamespace(folder=sys.argv[2]))
mine, kept = _course._folder(SimpleNamespace(folder=sys.argv[1]))
print(said, os.access(sys.argv[2], os.W_OK), str(folder) != sys.argv[2], vanishes, str(mine) == sys.argv[1], kept)
"""


def test_a_worker_that_may_not_write_in_the_jobs_folder_writes_elsewhere(tmp_path: Path) -> None:
    if not protection().landlock:
        pytest.skip("the kernel of this machine has no Landlock")
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    asked = [sys.executable, "-c", CONFINED, str(mine), str(other)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(mine)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-5:] == ["True", "True", "True", "True", "False"]
