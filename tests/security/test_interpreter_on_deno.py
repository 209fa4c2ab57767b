"""Where the kernel gives too little: DSPy's interpreter on Deno with a limit of time around it, or a refusal; never nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput
from dspy.primitives.python_interpreter import PythonInterpreter

from dspex_lab import errors
from dspex_lab.security import CodeError, Protection
from dspex_lab.security.interpreter import OneRun, SandboxInterpreter, _opening, level_here, limits_of, watch_sandbox
from dspex_lab.security.interpreter._telling import tell

NOTHING = Protection(landlock=0, seccomp=False, rlimits=True, missing=("Landlock (no files): Linux 5.13 is needed",))
FAKE = Path(__file__).parent / "fake_deno.py"


@pytest.fixture(autouse=True)
def _too_little(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kernel without Landlock and seccomp; whether there is a Deno is asked anew."""
    monkeypatch.setattr(_opening, "protection", lambda: NOTHING)
    _opening._deno.cache_clear()
    _opening._said.clear()
    yield
    _opening._deno.cache_clear()
    PythonInterpreter._query_deno_dir.cache_clear()


@pytest.fixture
def deno(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called ``deno`` that speaks as Deno does with DSPy's runner."""
    program = tmp_path / "bin" / "deno"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setitem(sys.modules, "deno", None)
    return program


@pytest.fixture
def no_deno(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "deno", None)


@pytest.mark.usefixtures("no_deno")
def test_without_either_nothing_runs_and_it_says_why() -> None:
    told: list[tuple[str, dict[str, object]]] = []
    before = watch_sandbox(lambda what, data: told.append((what, data)))
    try:
        assert level_here() == "none"
        interpreter = SandboxInterpreter()
        assert interpreter.level == "none"
        for use in (interpreter.start, lambda: interpreter.execute("open('ran', 'w')")):
            with pytest.raises(errors.SandboxUnavailable, match=r"Landlock \(no files\).*Deno.*not installed") as caught:
                use()
            assert isinstance(caught.value, CodeInterpreterError)
            assert not isinstance(caught.value, CodeExecutionError), "it is not the model's to mend"
            assert "pip install" in str(caught.value)
    finally:
        watch_sandbox(before)
    assert not Path("ran").exists()
    assert [what for what, _ in told] == ["sandbox.refuse"] * 2
    with pytest.raises(errors.SandboxUnavailable):
        OneRun("1", {}, (), limits_of(None))()
    tell("sandbox.run", {})  # nobody hears it, and nothing happens


@pytest.mark.usefixtures("deno")
def test_denos_sandbox_is_taken_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dspex_lab"):
        for _ in range(2):
            with SandboxInterpreter() as interpreter:
                assert interpreter.execute("1 + 1") == 2
                assert interpreter.level == "deno"
    (said,) = [r.getMessage() for r in caplog.records if "Deno" in r.getMessage()]
    assert "2.5.0" in said
    assert "Landlock" in said
    assert level_here() == "deno 2.5.0"


@pytest.mark.usefixtures("deno")
def test_it_gives_what_ours_gives() -> None:
    with SandboxInterpreter({"double": lambda n: 2 * n}, timeout=60) as interpreter:
        assert interpreter.execute("x = double(n=4)\nprint(x)") == "8\n"
        assert interpreter.execute("[x, y]", {"y": "ü"}) == [8, "ü"]
        assert interpreter.execute("SUBMIT(x)") == FinalOutput({"output": 8})
        interpreter.output_fields = [{"name": "answer"}]
        assert interpreter.execute("SUBMIT(answer=x)") == FinalOutput({"answer": 8})
        with pytest.raises(SyntaxError):
            interpreter.execute("x = (")
        with pytest.raises(CodeExecutionError, match="ZeroDivisionError"):
            interpreter.execute("1 / 0")
        with pytest.raises(CodeInterpreterError, match="Unsupported"):
            interpreter.execute("1", {"x": object()})
        assert interpreter.execute("x") == 8


@pytest.mark.usefixtures("deno")
def test_code_that_never_ends_is_ended_and_the_state_made_again() -> None:
    with SandboxInterpreter(timeout=1.5) as interpreter:
        interpreter.execute("x = 5")
        with pytest.raises(errors.SandboxTimeout, match=r"1\.5 s") as caught:
            interpreter.execute("x = 6\nwhile True: pass")
        assert isinstance(caught.value, CodeExecutionError)
        assert interpreter.execute("x") == 5


@pytest.mark.usefixtures("deno")
def test_code_that_ends_its_process_is_named() -> None:
    with SandboxInterpreter(timeout=60) as interpreter:
        with pytest.raises(errors.SandboxDied):
            interpreter.execute("import os; os._exit(3)")
        assert interpreter.execute("1") == 1


@pytest.mark.usefixtures("deno")
def test_a_flood_is_named() -> None:
    with SandboxInterpreter(timeout=60, output=1000) as interpreter, pytest.raises(errors.SandboxOutputLimit, match="5,001"):
        interpreter.execute("print('x' * 5000)")


@pytest.mark.usefixtures("deno")
def test_a_program_is_run_once_there_too() -> None:
    ran = OneRun("print('so')\nvalue = x + 1", {"x": 1}, ("value",), limits_of(None))()
    assert (dict(ran.outputs), ran.printed, ran.level) == ({"value": 2}, "so\n", "deno")
    with pytest.raises(CodeError, match="ZeroDivisionError"):
        OneRun("1 / 0", {}, ("value",), limits_of(None))()


def test_a_deno_that_cannot_load_dspys_runner_is_no_sandbox(deno: Path) -> None:
    deno.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*|*info*) exec "{sys.executable}" "{FAKE}" "$@";; esac\n'
        "echo 'error: Import failed: no network' >&2\nexit 1\n"
    )
    with pytest.raises(errors.SandboxUnavailable, match=r"could not be started on it.*no network") as caught:
        SandboxInterpreter().execute("1")
    assert "network" in (caught.value.hint or "")
