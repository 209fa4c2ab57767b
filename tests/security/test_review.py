"""What a hostile reader found, in the sandbox and beside it."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sandbox_helpers import needs_sandbox

import dspex_lab as dx
from dspex_lab._settings import find_settings
from dspex_lab.errors import ConfigurationError, SandboxError, SandboxTimeout
from dspex_lab.security import CodeError, Sandbox
from dspex_lab.security.interpreter import OneRun, SandboxInterpreter, limits_of
from dspex_lab.security.sandbox import _frames, _warm
from dspex_lab.sessions._values import _hidden, decode, encode

pytestmark = needs_sandbox


def test_a_string_that_never_ends_costs_the_kernel_no_more_than_its_length() -> None:
    hostile = b'"' + b'\\"' * 500_000
    assert len(list(_frames._PARTS.finditer(hostile))) == 1
    written = json.dumps({'a"b': [1, "x\\", "[["]}).encode()
    assert [m[0] for m in _frames._PARTS.finditer(written) if m[0] in (b"{", b"[", b"]", b"}")] == [b"{", b"[", b"]", b"}"]


def test_after_an_interrupt_the_right_process_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, asked = _warm.Zygote._answer, []

    def interrupted(self: _warm.Zygote) -> object:
        asked.append(1)
        if len(asked) == 2:  # the first is that it is there
            raise KeyboardInterrupt
        return answer(self)

    monkeypatch.setattr(_warm.Zygote, "_answer", interrupted)
    with Sandbox() as sandbox:
        with pytest.raises(KeyboardInterrupt):
            sandbox.run("1")
        assert sandbox.run("import os; os.getpid()").result == sandbox.pid
        with pytest.raises(SandboxTimeout):
            sandbox.run("while True: pass", timeout=0.3)


@pytest.mark.parametrize("made", ["None", "'[' * 100000", "'9' * 5000"])
def test_what_code_makes_of_json_is_a_named_error(made: str) -> None:
    one = OneRun(f"import json; json.dumps = lambda *a, **k: {made}; x = 1", {}, ("x",), limits_of(None))
    with pytest.raises((CodeError, SandboxError)):
        one()


def test_a_settings_file_costs_no_more_than_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dspex.toml").write_text(".".join("a" * 2000) + " = 1\n")
    with pytest.raises(ConfigurationError, match="nested more than"):
        find_settings(tmp_path)
    (tmp_path / "dspex.toml").write_text("colour = 1\n" + (" " * 4000 + "\n") * 50)
    assert find_settings(tmp_path).line(["colour"]) == 1


def test_a_key_is_seen_in_every_cell_of_a_table() -> None:
    key = "sk-" + "abcdefghijklmnopqrstuvwxyz123456"
    frame = pd.DataFrame({"a": ["hello", key]})
    for value in (frame, frame["a"], pa.table({"a": ["hello", key]}), np.array([b"hello", key.encode()])):
        assert key in "\n".join(_hidden(json.loads(encode(value, "state['a']")))).split("\n")


def test_cancelling_an_execution_that_waits_leaves_the_one_under_way_alone() -> None:
    began, go, ran = threading.Event(), threading.Event(), list[str]()

    def hold() -> str:
        began.set()
        go.wait()
        return "held"

    async def both() -> object:
        with SandboxInterpreter(tools={"hold": hold, "note": ran.append}) as interpreter:
            first = asyncio.ensure_future(interpreter.aexecute("hold()"))
            await asyncio.to_thread(began.wait)
            second = asyncio.ensure_future(interpreter.aexecute("note('second')"))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            go.set()
            return await first

    assert asyncio.run(both()) == "held"
    assert ran == []


def test_a_value_that_is_read_while_it_is_set_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with dx.Lab(":memory:") as lab, lab.sessions.open("s", state={"a": ["old"], "b": 0}) as session:
        session.state.forget()

        def slowly(text: str, path: str) -> object:
            monkeypatch.undo()
            session.state["a"] = ["new"]
            return decode(text, path)

        monkeypatch.setattr("dspex_lab.sessions._state.decode", slowly)
        assert session.state["a"] == ["new"]
        session.state["b"] = 1
        session.refresh()
        assert session.state["a"] == ["new"]
