"""The tools of code in a sandbox: how they are called, what they answer, and how they end a run."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from sandbox_helpers import needs_sandbox

from dspex_lab.errors import (
    ConfigurationError,
)
from dspex_lab.security.sandbox import CodeError, Limits, Sandbox, Submit, _conversation

pytestmark = needs_sandbox


def test_tools_are_called_in_the_caller_s_thread_with_json() -> None:
    seen: list[Any] = []

    def tool(*args: Any, **kwargs: Any) -> Any:
        seen.append((threading.get_ident(), args, kwargs))
        return {"n": len(args)}

    with Sandbox(tools={"tool": tool}) as box:
        ran = box.run("tool(1, (2, 3), key=None)['n'] + tool()['n']")
    assert ran.result == 2
    assert ran.calls == 2
    assert seen == [(threading.get_ident(), (1, [2, 3]), {"key": None}), (threading.get_ident(), (), {})]


def test_a_tool_s_error_reaches_the_code_and_the_code_s_reaches_the_caller() -> None:
    def tool(what: str) -> str:
        raise LookupError(f"no {what}")

    with Sandbox(tools={"tool": tool}) as box:
        assert box.run("try: tool('x')\nexcept RuntimeError as e: told = str(e)\ntold").result == "tool: LookupError: no x"
        with pytest.raises(CodeError, match=r"ToolError: tool: LookupError: no y \(line 1\)") as caught:
            box.run("tool('y')")
        assert isinstance(caught.value.__cause__, LookupError)
        assert caught.value.calls == 1
        with pytest.raises(CodeError, match=r"TypeError.*missing 1 required"):
            box.run("tool()")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("tool(object())", "TypeError: The arguments of tool must be JSON values"),
        ("tool(float('nan'))", "TypeError: The arguments of tool must be JSON values"),
        ("odd()", "odd gave set, which has no JSON form"),
        ("much()", "much gave too much"),
    ],
)
def test_what_is_no_json_is_told_to_the_code(code: str, text: str) -> None:
    tools = {"tool": print, "odd": lambda: {1}, "much": lambda: "x" * 20000}
    with Sandbox(Limits(sent=10_000), tools=tools) as box, pytest.raises(CodeError, match=text):
        box.run(code)


def test_a_tool_can_end_the_run_with_any_value() -> None:
    value = object()

    def submit(found: str) -> None:
        raise Submit(value)

    with Sandbox(tools={"submit": submit}) as box:
        box.run("after = 'untouched'")
        ran = box.run("print('a')\ntry: submit('x')\nexcept Exception: pass\nafter = 'changed'")
        assert ran.result is value
        assert ran.submitted
        assert ran.stdout == "a\n"
        assert box.run("after").result == "untouched"


def test_code_that_will_not_end_after_it_has_submitted_has_submitted_all_the_same() -> None:
    def submit() -> None:
        raise Submit("answer")

    code = "while True:\n    try: submit()\n    except BaseException: pass"
    with Sandbox(Limits(calls=10), tools={"submit": submit}) as box:
        ran = box.run(code)
        assert (ran.result, ran.submitted) == ("answer", True)
        assert box.run("1").fresh


def test_tools_of_one_run_are_gone_in_the_next(sandbox: Sandbox) -> None:
    assert sandbox.run("once()", tools={"once": lambda: 1}).result == 1
    with pytest.raises(CodeError, match="NameError"):
        sandbox.run("once()")
    sandbox.run("once = 5", tools={"once": lambda: 1})
    assert sandbox.run("once").result == 5


def test_the_time_of_a_tool_is_not_the_code_s(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = 0.0

    def slow() -> None:
        nonlocal ahead
        ahead += 3_600.0

    monkeypatch.setattr(_conversation, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead))
    with Sandbox(Limits(seconds=60), tools={"slow": slow}) as box:
        ran = box.run("slow()\n'in time'")
    assert ran.result == "in time"
    assert ran.seconds < 60


def test_a_tool_cannot_run_code_in_the_sandbox_that_waits_for_it_but_in_another() -> None:
    with Sandbox() as other:
        box = Sandbox(tools={"same": lambda: box.run("1").result, "other": lambda: other.run("2").result})
        with box:
            assert box.run("other()").result == 2
            with pytest.raises(CodeError, match="cannot run code in the sandbox that waits"):
                box.run("same()")


def test_an_interrupt_in_a_tool_ends_the_process_and_goes_on() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with Sandbox(tools={"interrupt": interrupt}) as box:
        with pytest.raises(KeyboardInterrupt):
            box.run("interrupt()")
        assert not box.alive
        assert box.run("1").result == 1


def test_a_tool_called_by_a_tool_s_own_waiting_is_refused() -> None:
    code = (
        "import signal\ntold = []\ndef tick(*_):\n    try: tool()\n    except RuntimeError as e: told.append(str(e))\n"
        "signal.signal(signal.SIGALRM, tick)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "while not told: tool()\nsignal.setitimer(signal.ITIMER_REAL, 0)\ntold[0]"
    )
    with Sandbox(Limits(calls=10**9), tools={"tool": lambda: None}) as box:
        assert box.run(code).result == "tool was called while another tool is at work."


@pytest.mark.parametrize("name", ["not a name", "class", "__import__"])
def test_a_tool_needs_a_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="tool"):
        Sandbox(tools={name: print})
