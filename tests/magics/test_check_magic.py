"""``%dspex check``: the dry run in a cell."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.pipelines import CheckReport
from dspex_lab.testing import scripted_lm


def check(shell: Any, line: str) -> Any:
    done = shell.run_cell(f"%dspex check {line}")
    done.raise_error()
    return done.result


@pytest.fixture
def asked(shell: Any) -> Any:
    lm = dx.lab().use(scripted_lm({"b": "x"}))
    shell.user_ns["asked"] = dx.pipeline(
        "asked", n=dx.step(lambda n: n + 1, outputs=["n"], replaces=True), b=dspy.Predict("n -> b")
    )
    return lm


def test_it_shows_the_report_and_runs_nothing(shell: Any, asked: Any) -> None:
    report = check(shell, "asked --rows 50")
    assert isinstance(report, CheckReport)
    assert report.ok
    assert report.rows == 50
    assert check(shell, "asked n=3").calls == report.calls
    assert asked.engine.calls == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "What is to be checked?"),
        ("asked m=3", "input 'n' (any) is missing"),
        ("asked --rows no", "--rows takes a whole number"),
        ("asked --rows 0", "is no number of rows"),
        ("nothing", "There is no pipeline 'nothing'"),
        ("asked --row 3", "Did you mean '--rows'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(shell: Any, asked: Any, line: str, said: str) -> None:
    done = shell.run_cell(f"%dspex check {line}")
    told = "\n".join(done.error_in_exec._render_traceback_())
    assert said in told


def test_a_run_goes_on_from_a_checkpoint(shell: Any) -> None:
    ran: list[str] = []

    def a(x: int) -> int:
        ran.append("a")
        return x

    def b(a: int) -> float:
        ran.append("b")
        return 1 / (len(ran) - 2)

    shell.user_ns["long"] = dx.pipeline("long", a=a, b=b)
    first = shell.run_cell("%dspex run long x=1 --checkpoint mine").result
    assert first.status == "partial"
    second = shell.run_cell("%dspex run long x=1 --checkpoint mine")
    second.raise_error()
    assert second.result.status == "complete"
    assert ran == ["a", "b", "b"]
    assert dx.lab().checkpoints().empty
