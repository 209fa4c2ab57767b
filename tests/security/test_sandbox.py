"""What a sandbox does for code that means well: values, names, output, errors, and what it can read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from sandbox_helpers import MB, needs_sandbox

from dspex_lab.errors import (
    ConfigurationError,
    SandboxError,
    SandboxOutOfMemory,
    SandboxOutputLimit,
    SandboxTimeout,
    SandboxViolation,
)
from dspex_lab.security.sandbox import CodeError, Limits, Sandbox

pytestmark = needs_sandbox


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("1 + 1", 2),
        ("x = 1", None),
        ("", None),
        ("# only a remark", None),
        ("'ä' * 3", "äää"),
        ("[1, 2.5, True, None, {'a': ()}]", [1, 2.5, True, None, {"a": []}]),
        ("{1: 'a'}", {"1": "a"}),
        ("'\\ud800'", "\ufffd"),
        ("['\\ud800', {'\\ud83d': '\\U0001f600'}]", ["\ufffd", {"\ufffd": "\U0001f600"}]),
        ("2**64", 2**64),
        ("if True:\n    5", None),
        ("import asyncio\nawait asyncio.sleep(0, 'woke')", "woke"),
        ("import asyncio\nasync def f(): return 7\nasyncio.run(f())", 7),
        ("import dataclasses, pickle\n@dataclasses.dataclass\nclass A:\n    a: int\npickle.loads(pickle.dumps(A(1))).a", 1),
        ("import statistics, json, sqlite3, zoneinfo, email, csv\nstatistics.mean([1, 3])", 2),
        ("import random\nlen({random.random() for _ in range(9)})", 9),
        ("__name__", "__main__"),
    ],
)
def test_the_value_of_the_last_expression_comes_back(sandbox: Sandbox, code: str, result: Any) -> None:
    ran = sandbox.run(code)
    assert ran.result == result
    assert not ran.is_repr


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("{1}", "{1}"),
        ("float('nan')", "nan"),
        ("[float('inf')]", "[inf]"),
        ("b'x'", "b'x'"),
        ("1j", "1j"),
        ("{(1, 2): 3}", "{(1, 2): 3}"),
        ("range(3)", "range(0, 3)"),
    ],
)
def test_a_value_that_is_no_json_comes_back_as_its_repr_and_says_so(sandbox: Sandbox, code: str, shown: str) -> None:
    ran = sandbox.run(code)
    assert (ran.result, ran.is_repr) == (shown, True)


def test_a_long_repr_is_cut(sandbox: Sandbox) -> None:
    ran = sandbox.run("set(range(100000))")
    assert len(ran.result) == 100_001
    assert ran.result.endswith("…")


def test_two_children_have_no_random_numbers_in_common() -> None:
    with Sandbox() as one, Sandbox() as other:
        assert one.run("import random\nrandom.random()").result != other.run("import random\nrandom.random()").result


def test_names_persist_until_a_reset(sandbox: Sandbox) -> None:
    sandbox.reset()
    assert sandbox.run("def double(x): return 2 * x\nimport math\nkept = [1]").fresh
    ran = sandbox.run("kept.append(double(given)); math.floor(2.5), kept", {"given": 4})
    assert ran.result == [2, [1, 8]]
    assert not ran.fresh
    assert sandbox.run("given").result == 4
    sandbox.reset()
    with pytest.raises(CodeError, match="NameError: name 'kept' is not defined"):
        sandbox.run("kept")


def test_large_variables_travel(sandbox: Sandbox) -> None:
    text = "ä" * (5 * MB)
    assert sandbox.run("len(text)", {"text": text}).result == len(text)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"a": object()}, "variable 'a' has no JSON form"),
        ({"fine": 1, "a": float("nan")}, "variable 'a' has no JSON form"),
        ({"not a name": 1}, "cannot be a name"),
        ({"class": 1}, "cannot be a name"),
        ({"__builtins__": 1}, "a name that is taken"),
        ({"tool": 1}, "a name that is taken"),
        ({3: 1}, "cannot be a name"),
        ({"a": "x" * 2000}, "too large"),
    ],
)
def test_what_cannot_be_given_is_said_before_anything_runs(variables: dict[Any, Any], message: str) -> None:
    with Sandbox(Limits(sent=1500), tools={"tool": len}) as box:
        with pytest.raises(ConfigurationError, match=message):
            box.run("1", variables)
        assert not box.alive


def test_code_is_text_and_a_timeout_is_a_time(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match="code is bytes"):
        sandbox.run(b"1")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="timeout is -1"):
        sandbox.run("1", timeout=-1)


@pytest.mark.parametrize(
    ("name", "value"), [("seconds", 0), ("memory", 1), ("calls", -1), ("depth", 0), ("output", True), ("flood", "much")]
)
def test_a_limit_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"limit {name} is") as caught:
        Limits(**{name: value})
    assert caught.value.key == name


# --- output -----------------------------------------------------------------------------------------------------------


def test_output_is_captured_by_stream_and_by_run(sandbox: Sandbox) -> None:
    ran = sandbox.run("import sys\nprint('ä')\nprint('no', file=sys.stderr)\nsys.stdout.write('end')\nNone")
    assert (ran.stdout, ran.stderr, ran.truncated) == ("ä\nend", "no\n", False)
    assert sandbox.run("1").stdout == ""


def test_output_beyond_the_limit_is_dropped_and_the_run_goes_on() -> None:
    with Sandbox(Limits(output=1000)) as box:
        ran = box.run("for _ in range(100): print('x' * 99)\n'done'")
    assert ran.result == "done"
    assert len(ran.stdout) == 1000
    assert ran.truncated


def test_output_that_ends_in_half_a_character_is_text() -> None:
    with Sandbox(Limits(output=1)) as box:
        assert box.run("print('ä')").stdout == "\ufffd"


def test_a_stream_that_was_replaced_is_there_again_in_the_next_run(sandbox: Sandbox) -> None:
    sandbox.run("import sys, io\nsys.stdout = io.StringIO()\nprint('lost')")
    assert sandbox.run("print('seen')").stdout == "seen\n"
    sandbox.reset()


def test_code_that_closes_its_streams_still_has_a_result(sandbox: Sandbox) -> None:
    assert sandbox.run("import sys, os\nsys.stderr.close()\nos.close(1)\n3").result == 3
    sandbox.reset()


def test_there_is_no_input(sandbox: Sandbox) -> None:
    with pytest.raises(CodeError, match="EOFError"):
        sandbox.run("input()")


# --- errors of the code -----------------------------------------------------------------------------------------------


def test_an_exception_is_told_with_its_place_and_the_code_s_own_lines_only(sandbox: Sandbox) -> None:
    code = "import json\ndef f(text):\n    return json.loads(text)\nprint('before')\nf('{')"
    with pytest.raises(CodeError, match=r"JSONDecodeError: .* \(line 3\)") as caught:
        sandbox.run(code)
    error = caught.value
    assert (error.type, error.line, error.stdout) == ("JSONDecodeError", 3, "before\n")
    assert error.detail.startswith("Expecting property name")
    assert "return json.loads(text)" in error.traceback
    assert "_inside" not in error.traceback
    assert "decoder.py" not in error.traceback
    assert error.excerpt()[0] == "line 3 |     return json.loads(text)"
    assert not isinstance(error, SandboxError)
    assert sandbox.alive
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.type, again.line, str(again)) == (error.type, error.line, str(error))


def test_a_syntax_error_has_its_line_and_column(sandbox: Sandbox) -> None:
    with pytest.raises(CodeError) as caught:
        sandbox.run("x = 1\ny = = 2")
    assert (caught.value.type, caught.value.line, caught.value.column) == ("SyntaxError", 2, 5)


def test_a_syntax_error_in_code_that_the_code_runs_has_the_line_of_the_code(sandbox: Sandbox) -> None:
    with pytest.raises(CodeError) as caught:
        sandbox.run("x = 1\neval('1 +')")
    assert (caught.value.type, caught.value.line) == ("SyntaxError", 2)


def test_causes_and_groups_are_told(sandbox: Sandbox) -> None:
    code = "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ExceptionGroup('both', [ValueError('a')]) from e"
    with pytest.raises(CodeError) as caught:
        sandbox.run(code)
    assert "direct cause" in caught.value.traceback
    assert "ValueError: a" in caught.value.traceback


def test_an_exception_that_cannot_be_shown_is_still_named(sandbox: Sandbox) -> None:
    with pytest.raises(CodeError, match="Odd"):
        sandbox.run("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd")
    with pytest.raises(CodeError, match="text could not be had"):
        sandbox.run("class Odd(Exception):\n    __cause__ = property(lambda self: 1 / 0)\nraise Odd")


def test_a_permission_error_of_the_code_s_own_is_none_of_the_sandbox(sandbox: Sandbox) -> None:
    with pytest.raises(CodeError, match="PermissionError: only admins"):
        sandbox.run("raise PermissionError('only admins')")


def test_code_that_catches_a_refusal_goes_on(sandbox: Sandbox) -> None:
    code = "try: open('/etc/shadow')\nexcept PermissionError: found = 'nothing'\nfound"
    assert sandbox.run(code).result == "nothing"


def test_a_breach_says_where_and_the_sandbox_lives(sandbox: Sandbox) -> None:
    sandbox.run("kept = 1")
    with pytest.raises(SandboxViolation, match=r"may not \(line 2\): PermissionError.*cannot write files") as caught:
        sandbox.run("print('trying')\nopen('/tmp/x', 'w')")
    assert caught.value.level == "landlock 7 + seccomp + rlimits" or caught.value.level.startswith("landlock")
    assert caught.value.__dict__["stdout"] == "trying\n"
    assert sandbox.run("kept").result == 1


def test_memory_that_was_asked_for_and_not_held_costs_no_names(sandbox: Sandbox) -> None:
    sandbox.run("kept = 1")
    with pytest.raises(SandboxOutOfMemory, match=r"512 MB of memory it may have \(line 1\)"):
        sandbox.run("bytearray(10**10)")
    assert sandbox.run("kept").result == 1


def test_memory_that_names_hold_ends_the_process() -> None:
    with Sandbox(Limits(memory=40 * MB)) as box:
        with pytest.raises(SandboxOutOfMemory, match="40 MB"):
            box.run("held = []\nwhile True: held.append(bytearray(100_000))")
        assert box.run("1").fresh


def test_a_run_that_timed_out_told_what_it_had_printed() -> None:
    with Sandbox() as box:
        box.run("1")
        with pytest.raises(SandboxTimeout, match="next run begins anew") as caught:
            box.run("print('so far', flush=True)\nwhile True: pass", timeout=1)
        assert caught.value.__dict__["stdout"] == "so far\n"
        assert not box.alive
        assert box.run("2").fresh


# --- what can be read -------------------------------------------------------------------------------------------------


def test_named_folders_can_be_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("content")
    with Sandbox(readable=[tmp_path]) as box:
        assert box.run("open(path).read()", {"path": str(tmp_path / "data.txt")}).result == "content"
        with pytest.raises(SandboxViolation):
            box.run("open(path, 'a')", {"path": str(tmp_path / "data.txt")})
        with pytest.raises(SandboxViolation, match="Permission denied"):
            box.run("open(path).read()", {"path": str(tmp_path.parent)})


def test_packages_of_a_named_folder_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("value = 3")
    with Sandbox(importable=[tmp_path]) as box:
        assert box.run("import mine\nmine.value").result == 3


def test_numpy_works_from_its_own_folder() -> None:
    numpy = pytest.importorskip("numpy")
    folder = Path(numpy.__file__).parent.parent
    with Sandbox(importable=[folder]) as box:
        ran = box.run("import numpy as np\nfloat((np.ones((50, 50)) @ np.ones((50, 50))).sum())")
    assert ran.result == 125000.0


def test_packages_are_not_there_by_default(sandbox: Sandbox) -> None:
    with pytest.raises(CodeError, match="No module named 'numpy'"):
        sandbox.run("import numpy")


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        Sandbox(readable=[tmp_path / "none"])


def test_a_result_too_large_costs_no_names() -> None:
    with Sandbox(Limits(received=2000)) as box:
        with pytest.raises(SandboxOutputLimit, match="result is too large"):
            box.run("kept = 'x' * 3000\nkept")
        assert box.run("len(kept)").result == 3000
        with pytest.raises(CodeError, match="ValueError"):
            box.run("raise ValueError('ä' * 10**6)")


def test_the_repr_of_a_sandbox_says_how_it_is(sandbox: Sandbox) -> None:
    assert sandbox.level == "full"
    sandbox.run("1")
    assert f"pid {sandbox.pid}" in repr(sandbox)
    assert repr(Sandbox(tools={"look": print})) == "Sandbox(look; not started)"
