"""How the processes of a sandbox begin and end, who keeps the warm Python, and where nothing runs."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading

import pytest
from clocks import eventually
from sandbox_helpers import MB, gone, needs_sandbox

import dspex_lab as dx
from dspex_lab.errors import (
    SandboxDied,
    SandboxError,
    SandboxUnavailable,
)
from dspex_lab.security import Protection
from dspex_lab.security.sandbox import Sandbox, _process, _warm, warm

pytestmark = needs_sandbox


# --- beginnings and ends ----------------------------------------------------------------------------------------------


def test_a_run_is_accounted_for_by_the_kernel(sandbox: Sandbox) -> None:
    ran = sandbox.run("held = bytearray(100 << 20)\nfor _ in range(10**5): pass\ndel held")
    assert ran.peak_memory > 100 * MB
    assert ran.cpu_seconds > 0
    assert ran.seconds > 0
    assert "landlock" in ran.level
    sandbox.reset()


def test_closing_leaves_no_process_and_no_descriptor(alone: None) -> None:
    with Sandbox() as box:  # the first one imports what it needs
        box.run("1")
    before = os.listdir("/proc/self/fd")
    with warm():
        with Sandbox() as box, Sandbox() as other:
            box.run("1")
            other.run("1")
            pids = [box.pid, other.pid]
            zygote = _warm._zygote
            assert zygote is not None
        eventually(lambda: all(gone(pid) for pid in pids if pid))
        assert zygote.alive
    assert gone(zygote.pid)
    assert os.listdir("/proc/self/fd") == before


def test_a_lab_keeps_the_warm_python_that_some_code_has_started(alone: None) -> None:
    with dx.Lab(":memory:") as lab, dx.Lab(":memory:") as other:
        pipeline = dx.pipeline("p", answer=dx.code("program"))
        assert other.run(lambda x: x, x=1).status == "complete"
        assert _warm._zygote is None, "who runs no code pays nothing"
        pids = []
        for _ in range(2):
            assert lab.run(pipeline, program="6 * 7").outputs == {"answer": 42}
            assert _warm._zygote is not None
            pids.append(_warm._zygote.pid)
        assert pids[0] == pids[1]
        lab.close()
        assert not gone(pids[0]), "the other Lab has it too"
        other.close()
    assert gone(pids[0])


def test_a_lease_is_given_back_once_and_only_where_it_was_taken(alone: None) -> None:
    one, two = _warm.Lease(), _warm.Lease()
    for _ in range(2):
        one.take()
    two.take()
    for _ in range(2):
        one.end()
    assert _warm._leases == 1
    one.take()
    one._owner += 1  # as in a fork
    one.end()
    assert _warm._leases == 2


def test_a_sandbox_that_is_forgotten_is_closed() -> None:
    with warm():
        box = Sandbox()
        box.run("1")
        pid = box.pid
        assert pid
        del box
        gc.collect()
        eventually(lambda: gone(pid))


def test_a_closed_sandbox_runs_nothing() -> None:
    box = Sandbox()
    box.close()
    box.close()
    with pytest.raises(SandboxError, match="closed"):
        box.run("1")
    assert "closed" in repr(box)


def test_a_run_ends_when_another_thread_closes_the_sandbox() -> None:
    begun = threading.Event()
    box = Sandbox(tools={"begun": begun.set})

    def close() -> None:
        begun.wait(60)
        box.close()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(SandboxDied):
        box.run("begun()\nwhile True: pass")
    thread.join()
    assert not box.alive


def test_threads_take_turns() -> None:
    with Sandbox() as box:
        box.run("n = 0")
        threads = [threading.Thread(target=box.run, args=("n += 1",)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert box.run("n").result == 20


def test_a_process_ended_from_outside_is_replaced(sandbox: Sandbox) -> None:
    sandbox.run("kept = 1")
    pid = sandbox.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not sandbox.alive)
    assert sandbox.pid is None
    ran = sandbox.run("'kept' in dir()")
    assert (ran.result, ran.fresh) == (False, True)


def test_a_warm_python_ended_from_outside_is_replaced() -> None:
    with Sandbox() as box:
        box.run("1")
        zygote = _warm._zygote
        assert zygote is not None
        os.kill(zygote.pid, signal.SIGKILL)
        eventually(lambda: not box.alive)  # it dies with the Python it was forked from
        assert box.run("2").fresh


def test_the_death_of_a_process_whose_warm_python_is_gone_has_a_name() -> None:
    with Sandbox(tools={"end": lambda: os.kill(_warm._zygote.pid, signal.SIGKILL)}) as box:  # type: ignore[union-attr]
        with pytest.raises(SandboxDied, match="ended from outside"):
            box.run("end()\nwhile True: pass")
        assert box.run("1").result == 1


def test_nothing_survives_the_kernel_however_it_ends() -> None:
    code = (
        "import os, sys\nfrom dspex_lab.security.sandbox import Sandbox, _warm\nbox = Sandbox()\nbox.run('1')\n"
        "print(box.pid, _warm._zygote.pid, flush=True)\nsys.stdin.readline()"
    )
    for end in (lambda p: p.kill(), lambda p: p.communicate("\n")):
        with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as kernel:
            assert kernel.stdout
            pids = [int(pid) for pid in kernel.stdout.readline().split()]
            assert len(pids) == 2
            end(kernel)
            kernel.wait()
            eventually(lambda pids=pids: all(gone(pid) for pid in pids))


def test_a_fork_of_the_kernel_has_a_sandbox_of_its_own(sandbox: Sandbox) -> None:
    sandbox.run("kept = 'kept'")
    code = """
import os
from dspex_lab.security.sandbox import Sandbox
box = Sandbox()
box.run("kept = 1")
pid = os.fork()
if pid == 0:
    assert not box.alive
    assert box.run("'kept' in dir()").result is False
    box.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert box.run("kept").result == 1
box.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_where_the_kernel_gives_too_little_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = Protection(0, True, True, ("Landlock (no files but those allowed): Linux 5.13 or later is needed",))
    monkeypatch.setattr(_warm, "protection", lambda: lacking)
    with Sandbox() as box:
        with pytest.raises(SandboxUnavailable, match=r"Missing: Landlock .*Nothing was run") as caught:
            box.run("1")
        assert caught.value.level == "partial"
        assert not box.alive


def test_a_process_that_could_not_be_held_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = _process._warm.spawn
    monkeypatch.setattr(_process._warm, "spawn", lambda policy, fds: original({**policy, "memory": -(1 << 70)}, fds))
    with Sandbox() as box, pytest.raises(SandboxUnavailable, match="did not hold a process"):
        box.run("1")


def test_no_process_is_an_error_by_name(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_warm, "bare_python", lambda *_: ["/bin/false"])
    with Sandbox() as box, pytest.raises(SandboxUnavailable, match="No sandboxed process could be made"):
        box.run("1")


def test_a_warm_python_without_libseccomp_says_so(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security import _bare

    stub = 'import socket, sys\nsocket.socket(fileno=int(sys.argv[1])).send(b\'{"refused": "libseccomp is not installed"}\')'
    command = _bare.bare_python("x")[:-1]
    monkeypatch.setattr(_warm, "bare_python", lambda module, arguments: [*command, stub, *arguments])
    with Sandbox() as box, pytest.raises(SandboxUnavailable, match="libseccomp is not installed"):
        box.run("1")
