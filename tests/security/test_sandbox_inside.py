"""The half of the sandbox that runs beside the code, here without its walls, so that its lines can be counted."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_helpers import needs_sandbox

from dspex_lab.security.sandbox import _frames

pytestmark = needs_sandbox


class Kernel:
    """The other end of the channel."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, message: Any) -> None:
        self.end.sendall(_frames.pack(message, 1 << 30, 1000))

    def receive(self) -> Any:
        data = self.end.recv(_frames.HEADER.size, socket.MSG_WAITALL)
        return _frames.unpack(self.end.recv(_frames.length(data), socket.MSG_WAITALL), 1000)

    def run(self, code: str, tools: list[str] | None = None, most: int = 100_000, **variables: Any) -> Any:
        request = {"token": "t", "code": code, "variables": variables, "tools": tools or [], "most": most, "depth": 50}
        self.send(request)
        return self.receive()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    from dspex_lab.security.sandbox import _inside

    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        thread = threading.Thread(target=lambda: _inside.Harness(_inside.Channel(theirs.fileno())).serve())
        thread.start()
        yield Kernel(ours)
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_value_a_repr_and_a_failure_are_told(kernel: Kernel) -> None:
    assert kernel.run("a + 1", a=2) == {"token": "t", "kind": "done", "result": 3, "repr": False}
    assert kernel.run("a, {1}") == {"token": "t", "kind": "done", "result": "(2, {1})", "repr": True}
    assert len(kernel.run("set(range(10**5))", most=10**6)["result"]) == 100_001
    told = kernel.run("def f():\n    1/0\ntry:\n    f()\nexcept Exception as e:\n    raise KeyError('k') from e")
    assert (told["type"], told["detail"], told["line"], told["limit"]) == ("KeyError", "'k'", 6, None)
    assert "ZeroDivisionError" in told["traceback"]
    told = kernel.run("x = = 1")
    assert (told["type"], told["line"], told["column"]) == ("SyntaxError", 1, 5)
    assert "ValueError: in" in kernel.run("raise ExceptionGroup('g', [ValueError('in')])")["traceback"]


def test_awaiting_needs_no_function(kernel: Kernel) -> None:
    assert kernel.run("import asyncio\nawait asyncio.sleep(0, 5)")["result"] == 5


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("raise MemoryError", "memory"),
        ("raise OSError(12, 'no memory')", "memory"),
        ("raise PermissionError(13, 'no')", "violation"),
        ("raise PermissionError('mine')", None),
        ('raise RuntimeError("can\'t start new thread")', "violation"),
        ("'x' * 200_000", "output"),
        ("raise SystemExit", None),
    ],
)
def test_limits_have_names(kernel: Kernel, code: str, limit: str | None) -> None:
    assert kernel.run(code)["limit"] == limit
    assert kernel.run("1")["result"] == 1


def test_an_exception_that_breaks_its_own_telling_is_named(kernel: Kernel) -> None:
    told = kernel.run("class Odd(Exception):\n    __cause__ = property(lambda self: 1 / 0)\nraise Odd")
    assert (told["type"], told["line"]) == ("Odd", None)
    assert "could not be had" in told["detail"]


def test_a_closed_stream_does_no_harm(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = open(os.devnull, "w")  # noqa: SIM115
    closed.close()
    monkeypatch.setattr(sys, "__stdout__", closed)
    monkeypatch.setattr(sys, "__stderr__", closed)
    assert kernel.run("1")["result"] == 1


def test_tools_ask_the_kernel(kernel: Kernel) -> None:
    asked = kernel.run("tool(1, b=2)", ["tool", "other"])
    assert asked == {"token": "t", "kind": "call", "name": "tool", "args": [1], "kwargs": {"b": 2}}
    kernel.send({"value": "answer"})
    assert kernel.receive()["result"] == "answer"
    kernel.run("tool()", ["tool"])
    kernel.send({"error": "tool: ValueError: no"})
    told = kernel.receive()
    assert (told["type"], told["detail"], told["line"]) == ("ToolError", "tool: ValueError: no", 1)
    kernel.run("tool()\nafter = 1", ["tool"])
    kernel.send({"end": True})
    assert kernel.receive()["kind"] == "done"
    assert kernel.run("after", ["tool"])["type"] == "NameError"
    assert kernel.run("tool({1})", ["tool"])["type"] == "TypeError"
    assert kernel.run("tool('x' * 200_000)", ["tool"])["limit"] == "output"
    assert kernel.run("other", [])["type"] == "NameError"


def test_a_tool_is_not_called_while_one_is_at_work(kernel: Kernel) -> None:
    kernel.run("harness = tool.__closure__\ntool()", ["tool"])
    kernel.send({"value": 1})
    assert kernel.receive()["result"] == 1
    code = (
        "h = next(c.cell_contents for c in tool.__closure__ if type(c.cell_contents).__name__ == 'Harness')\n"
        "h._calling = True\ntry:\n    tool()\nfinally:\n    h._calling = False"
    )
    assert "another tool is at work" in kernel.run(code, ["tool"])["detail"]


def test_streams_are_made_of_the_first_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security.sandbox import _inside

    for name in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    _inside.open_streams()
    assert (sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno()) == (0, 1, 2)
    assert sys.stdout.line_buffering


# --- the warm Python ------------------------------------------------------------------------------------------------------


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a child and return its exit code."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_warm_python_forks_and_tells_of_deaths(monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security.sandbox import _child, _zygote

    monkeypatch.setattr(_zygote, "_MOST_DEATHS", 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            ours.close()
            # Without its walls, a child says that it is held, and ends.
            monkeypatch.setattr(_child, "become", lambda *a: refuse() if a[0]["readable"] else os.dup2(a[4][2], 3) and "held")
            monkeypatch.setattr(_child, "live", lambda: None)
            _zygote.main(str(theirs.fileno()))
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    with ours:
        ours.settimeout(60)
        assert json.loads(ours.recv(1000)) == {"pid": pid}
        for readable, said in (([], {"token": "t", "level": "held"}), (["/usr"], None)):
            control, end = socket.socketpair()
            policy = {"memory": 1, "readable": readable, "importable": [], "token": "t"}
            with control, end:
                socket.send_fds(ours, [json.dumps({"spawn": policy}).encode()], [1, 2, end.fileno()])
                data, fds, _, _ = socket.recv_fds(ours, 1000, 1)
                end.close()
                if said is not None:
                    assert Kernel(control).receive() == said
            child = json.loads(data)["pid"]
            os.close(fds[0])
            death = None
            while death is None:
                ours.send(json.dumps({"death": child}).encode())
                death = json.loads(ours.recv(1000))["death"]
            assert death[0] in (1, 99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def refuse() -> None:
    raise MemoryError


def test_a_warm_python_that_cannot_write_its_filter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security.sandbox import _zygote

    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("none")))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        before = signal.getsignal(signal.SIGINT)
        _zygote.main(str(theirs.detach()))
        signal.signal(signal.SIGINT, before)
        assert "libseccomp is not installed" in json.loads(ours.recv(1000))["refused"]


def test_a_child_gives_up_what_it_has_in_this_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dspex_lab.security import _landlock, _rlimits, _seccomp
    from dspex_lab.security.sandbox import _child

    told, control, parent, limits = tmp_path / "told", os.pipe(), os.getpid(), {}

    def work() -> None:
        # The three that would keep this process from writing down which lines it ran; the attacks show that they hold.
        monkeypatch.setattr(_landlock.Ruleset, "restrict", lambda self: None)
        monkeypatch.setattr(_seccomp, "install", lambda program: None)
        monkeypatch.setattr(_rlimits, "limit", lambda soft, hard: limits.update(hard))
        modules, streams = dict(sys.modules), (sys.stdin, sys.stdout, sys.stderr)
        policy = {"memory": 100 << 20, "importable": ["/packages"]}
        fds = (os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_WRONLY), control[0])
        level = _child.become(policy, _child.reading([]), b"", parent, fds)
        os.close(_child.CONTROL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), _child.CONTROL)
        opened = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:4]
        _child.live()
        sys.modules.update(modules)
        sys.stdin, sys.stdout, sys.stderr = streams
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
        told.write_text(
            json.dumps(
                {
                    "level": level.split()[0],
                    "opened": opened,
                    "cwd": os.getcwd(),
                    "path": sys.path[-1],
                    "session": os.getsid(0) == os.getpid(),
                    "capabilities": int(status["CapEff"], 16),
                    "oom": Path("/proc/self/oom_score_adj").read_text().strip(),
                    "core": limits["CORE"],
                    "data": limits["DATA"] > 100 << 20,
                }
            )
        )

    code = forked(work)
    for fd in control:
        os.close(fd)
    assert code == 0
    assert json.loads(told.read_text()) == {
        "level": "landlock",
        "opened": [0, 1, 2, 3],
        "cwd": "/",
        "path": "/packages",
        "session": True,
        "capabilities": 0,
        "oom": "1000",
        "core": 0,
        "data": True,
    }


def test_the_rules_name_python_s_files_and_not_its_packages() -> None:
    from dspex_lab.security.sandbox import _child

    library = os.path.dirname(os.path.realpath(os.__file__))
    paths = list(_child._of_python(library))
    assert f"{library}/os.py" in paths
    assert not [p for p in paths if p.endswith("-packages")]
    with _child.reading([str(Path.home())]) as rules:
        assert rules.fd > 2
