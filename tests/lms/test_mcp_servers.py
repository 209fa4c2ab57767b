"""Servers of MCP tools: their lives, what does not fit, and one over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("mcp", reason="MCP tools need the package mcp (extra mcp)")

from mcp_helpers import COMMAND, SERVER

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.mcp._mcp import mcp_tools


def gone(pid: int) -> bool:
    """Wait until a process is no more, or has ended and waits to be buried."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE or process.wait(30) is None or True
    except psutil.NoSuchProcess:
        return True


# --- life ---------------------------------------------------------------------------------------------------------


def test_nothing_is_started_before_the_tools_are_asked_for_and_nothing_is_left() -> None:
    before = set(threading.enumerate())
    tools = mcp_tools(COMMAND)
    assert repr(tools) == f"MCPTools({os.path.basename(sys.executable)!r}, not connected)"
    assert set(threading.enumerate()) <= before
    assert len(tools) > 5
    assert repr(tools).endswith(f"{len(tools)} tools)")
    pid = int(tools["pid"]())
    add = tools["add"]
    tools.close()
    tools.close()
    assert gone(pid)
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith("dspex-mcp")]
    for thread in left:
        thread.join(30)
    assert not [t.name for t in left if t.is_alive()]
    with pytest.raises(ConfigurationError, match="are closed"):
        add(a=1, b=2)
    with pytest.raises(ConfigurationError, match="are closed"):
        list(tools)
    assert repr(tools).endswith("closed)")


def test_an_async_with_block() -> None:
    async def go() -> int:
        async with mcp_tools(COMMAND, include=["pid"]) as tools:
            return int(await tools[0].acall())

    assert gone(asyncio.run(go()))


def test_tools_that_are_held_keep_the_server_and_what_nobody_holds_ends_it() -> None:
    pid_tool = mcp_tools(COMMAND)["pid"]
    gc.collect()
    pid = int(pid_tool())
    assert psutil.pid_exists(pid)
    del pid_tool
    gc.collect()
    assert gone(pid)
    for thread in threading.enumerate():
        if thread.name == "dspex-mcp-close":
            thread.join(30)


def test_a_kernel_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    script = f"""
import sys, threading
from dspex_lab.lms.mcp._mcp import mcp_tools
tools = mcp_tools([sys.executable, {SERVER!r}])
print(tools["pid"](), flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdout is not None
        pid = int(kernel.stdout.readline())
        assert psutil.pid_exists(pid)
        kernel.kill()
    assert gone(pid)


def test_a_process_that_ends_closes_them(tmp_path: Path) -> None:
    script = (
        f"import sys; from dspex_lab.lms.mcp._mcp import mcp_tools; print(mcp_tools([sys.executable, {SERVER!r}])['pid']())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert gone(int(done.stdout))
    assert "Traceback" not in done.stderr


def test_a_server_that_dies_is_an_answer_and_not_a_crash() -> None:
    with mcp_tools(COMMAND, include=["die", "add"]) as tools:
        assert tools["die"]().startswith("Error: die failed: ")
        assert tools["add"](a=1, b=2).startswith("Error: ")


# --- what does not fit --------------------------------------------------------------------------------------------


def test_a_server_that_cannot_be_started_says_why() -> None:
    with pytest.raises(ConfigurationError, match=r"MCP server 'no-program' cannot be used: FileNotFoundError"):
        list(mcp_tools(["/nowhere/no-program"]))
    key = "swordfish-77"
    with pytest.raises(ConfigurationError, match="no such licence for") as caught:
        list(mcp_tools([*COMMAND, "--broken"], env={"DESK_KEY": key}))
    assert key not in str(caught.value)
    assert len(str(caught.value)) < 1_500


def test_a_server_that_does_not_answer_is_ended() -> None:
    tools = mcp_tools([*COMMAND, "--slow"], start_timeout=0.5)
    before = set(psutil.Process().children())
    with pytest.raises(ConfigurationError, match=r"it did not answer within 0\.5 s"):
        list(tools)
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "either a command or a url"),
        ({"command": ["x"], "url": "http://127.0.0.1/mcp"}, "either a command or a url"),
        ({"command": "python server.py"}, "a list of words"),
        ({"command": []}, "a list of words"),
        ({"command": ["x"], "headers": {"a": "b"}}, "no headers beside a command"),
        ({"command": ["x"], "env": "KEY"}, "a dict of values"),
        ({"command": ["x"], "timeout": 0}, "seconds above 0"),
        ({"command": ["x"], "start_timeout": True}, "seconds above 0"),
        ({"command": ["x"], "include": "add"}, "a list of names"),
        ({"url": "ftp://a/b"}, "http:// or https://"),
        ({"url": "http://127.0.0.1/mcp", "env": {"a": "b"}}, "no env and no cwd beside a url"),
        ({"url": "http://127.0.0.1/mcp", "cwd": "."}, "no env and no cwd beside a url"),
        ({"url": "http://example.org/mcp", "headers": {"Authorization": "Bearer x"}}, "unencrypted"),
        ({"url": "http://me:secret@example.org/mcp"}, "unencrypted"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        mcp_tools(**arguments)


def test_tools_are_chosen_by_name_and_pattern_and_get_a_prefix() -> None:
    with mcp_tools(COMMAND, include=["add", "f*"], prefix="desk_") as tools:
        assert [tool.name for tool in tools] == ["desk_add", "desk_find", "desk_fail", "desk_facts", "desk_finish"]
        assert tools["desk_add"](a=1, b=1) == "2"
        with pytest.raises(KeyError, match="Did you mean 'desk_add'"):
            tools["desk_ad"]
    with pytest.raises(ConfigurationError, match=r"no tool 'ad'.*Did you mean 'add'"):
        list(mcp_tools(COMMAND, include=["ad"]))


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigurationError, match=r"'mcp' is needed for MCP tools.*pip install"):
        mcp_tools(COMMAND)


def test_an_older_package_says_which_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("mcp.Client")
    with pytest.raises(ConfigurationError, match=r"version 2 of the package 'mcp'.*pip install"):
        mcp_tools(COMMAND)


def test_what_is_shown_holds_no_secret() -> None:
    tools = mcp_tools(url="https://me:word@example.org:8443/mcp?key=1", headers={"Authorization": "Bearer b"})
    assert repr(tools) == "MCPTools('https://example.org:8443/mcp', not connected)"


# --- over HTTP ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve the same tools over HTTP from a thread of this process."""
    import uvicorn
    from mcp_server import server

    listening = socket.create_server(("127.0.0.1", 0))
    app = server.streamable_http_app()
    web = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="on"))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    finally:
        web.should_exit = True
        thread.join(30)
        listening.close()


def test_a_server_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with served() as url, mcp_tools(url=url, headers={"Authorization": "Bearer b"}, include=["add", "fail"]) as tools:
        assert tools["add"](a=1, b=2) == "3"
        assert asyncio.run(tools["fail"].acall(why="no")) == "Error: Error executing tool fail: no"


def test_an_address_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError, match=rf"MCP server 'http://127\.0\.0\.1:{port}/mcp' cannot be used"):
        list(mcp_tools(url=f"http://127.0.0.1:{port}/mcp", start_timeout=20))
