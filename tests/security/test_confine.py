"""A worker that was confined, each in a process of its own: what it may do, what it may not, and that it lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.security import Confinement, allow_cpu, explain
from dspex_lab.security import _landlock as landlock

needs_landlock = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not landlock.abi(), reason="this kernel has no Landlock"
)

_BEGIN = """
import json, os, resource, signal, sys
from dspex_lab.security import Confinement, allow_cpu, confine, explain
folder, elsewhere, measured = sys.argv[1:]
writable = (folder, *filter(None, [measured]))
def tell(**what): print(json.dumps(what), flush=True)
"""


def measured() -> str:
    """The folder that coverage writes to, where coverage is at work."""
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage else None
    return os.path.dirname(os.path.abspath(current.config.data_file)) if current else ""


def confined(tmp_path: Path, code: str, limits: str = "300 << 20, writable", check: bool = True) -> Any:
    """Run ``code`` in a confined process; return what it told, or how it ended."""
    folder, elsewhere = tmp_path / "workspace", tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    text = f"{_BEGIN}\nlevel = confine(Confinement({limits}))\n{code}"
    arguments = [str(folder), str(elsewhere), measured()]
    ran = subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=120, check=False)
    if not check:
        return ran
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_memory_bomb_is_a_memory_error_and_the_worker_lives(tmp_path: Path) -> None:
    code = (
        "held = []\ntry:\n    while True: held.append(bytearray(1 << 20))\nexcept MemoryError: n = len(held)\n"
        "del held\ntell(n=n)"
    )
    assert 100 < confined(tmp_path, code)["n"] < 300


def test_no_core_is_dumped(tmp_path: Path) -> None:
    told = confined(tmp_path, "tell(core=resource.getrlimit(resource.RLIMIT_CORE))")
    assert told == {"core": [0, 0]}
    ended = confined(tmp_path, "os.chdir(folder)\nos.abort()", check=False)
    assert ended.returncode == -6
    assert not list((tmp_path / "workspace").iterdir())


def test_the_level_is_told(tmp_path: Path) -> None:
    expected = f"rlimits+landlock {landlock.abi()}" if landlock.abi() else "rlimits"
    assert confined(tmp_path, "tell(level=level)") == {"level": expected}


@needs_landlock
def test_a_worker_writes_to_its_folders_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    kept = tmp_path / "elsewhere" / "kept"
    kept.write_text("kept")
    code = """
inside = os.path.join(folder, "deep", "file")
os.makedirs(os.path.dirname(inside))
with open(inside, "w") as file: file.write("x")
os.rename(inside, os.path.join(folder, "moved"))
os.symlink("moved", os.path.join(folder, "linked"))
os.truncate(os.path.join(folder, "moved"), 0)
kept, new = os.path.join(elsewhere, "kept"), os.path.join(elsewhere, "new")
attempts = {
    "write": lambda: open(kept, "w"), "append": lambda: open(kept, "a"), "make": lambda: open(new, "x"),
    "folder": lambda: os.mkdir(new), "remove": lambda: os.unlink(kept), "rename": lambda: os.rename(kept, new),
    "truncate": lambda: os.truncate(kept, 0), "symlink": lambda: os.symlink(kept, new), "fifo": lambda: os.mkfifo(new),
    "out": lambda: os.rename(os.path.join(folder, "moved"), new), "in": lambda: os.rename(kept, os.path.join(folder, "k")),
    "link": lambda: os.link(kept, os.path.join(folder, "hard")),
    "through": lambda: open(os.path.join(folder, "way", "kept"), "w"),
    "rmdir": lambda: os.rmdir(elsewhere), "dots": lambda: open(os.path.join(folder, "..", "elsewhere", "kept"), "w"),
}
os.symlink(elsewhere, os.path.join(folder, "way"))
done = []
for name, attempt in attempts.items():
    try: attempt()
    except OSError as error:
        assert explain(error) or error.errno in (13, 18), (name, error)
    else: done.append(name)
with open(kept) as file: text = file.read()
tell(done=done, text=text)
"""
    assert confined(tmp_path, code) == {"done": [], "text": "kept"}
    assert kept.read_text() == "kept"
    assert os.listdir(tmp_path / "elsewhere") == ["kept"]


@needs_landlock
def test_a_worker_reads_starts_programs_and_uses_shared_memory_and_devices(tmp_path: Path) -> None:
    code = """
import multiprocessing, multiprocessing.shared_memory, socket, subprocess, threading
with open("/dev/null", "w") as file: file.write("x")
multiprocessing.Lock()
shared = multiprocessing.shared_memory.SharedMemory(create=True, size=100)
shared.close(); shared.unlink()
subprocess.run(["true"], check=True)
failed = subprocess.run(["touch", os.path.join(elsewhere, "new")], stderr=subprocess.DEVNULL).returncode
thread = threading.Thread(target=print); thread.start(); thread.join()
socket.create_server(("127.0.0.1", 0)).close()
with open("/proc/self/comm", "w") as file: file.write("renamed")
tell(passwd=len(open("/etc/passwd").read()) > 0, failed=failed, here=len(os.listdir(elsewhere)))
"""
    assert confined(tmp_path, code) == {"passwd": True, "failed": 1, "here": 0}


@needs_landlock
def test_a_refusal_is_explained_and_nothing_else_is(tmp_path: Path) -> None:
    code = """
told = []
for attempt in (
    lambda: open(os.path.join(elsewhere, "new"), "w"),
    lambda: open(os.path.join(elsewhere, "none"), "r"),
    lambda: os.mkdir(os.path.join(folder, "a", "b")),
    lambda: os.rename(folder, os.path.join(elsewhere, "new")),
):
    try: attempt()
    except OSError as error: told.append(explain(error))
told.append(explain(PermissionError(13, "of something else")))
told.append(explain(PermissionError(13, "reading", folder)))
tell(told=told)
"""
    told = confined(tmp_path, code)["told"]
    assert f"may write only to {tmp_path / 'workspace'}" in told[0]
    assert f"{tmp_path / 'elsewhere' / 'new'} is elsewhere. Add its folder to writable=" in told[0]
    assert told[1:3] == [None, None]
    assert "writable=" in told[3]
    assert told[4:] == [None, None]


def test_nothing_is_explained_where_nothing_is_confined() -> None:
    assert explain(PermissionError(13, "no", "/etc/shadow")) is None


def test_processor_time_ends_the_worker_by_its_own_signal(tmp_path: Path) -> None:
    ended = confined(tmp_path, "while True: pass", limits="300 << 20, writable, 0.1", check=False)
    assert ended.returncode == -24


def test_processor_time_is_raised_from_task_to_task(tmp_path: Path) -> None:
    code = """
import time
def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
for _ in range(3):
    allow_cpu(0.5)
    spin(0.4)
allow_cpu(None)
tell(limit=resource.getrlimit(resource.RLIMIT_CPU)[0])
"""
    assert confined(tmp_path, code, limits="300 << 20, writable, 1") == {"limit": -1}


def test_a_worker_with_threads_is_not_confined(tmp_path: Path) -> None:
    code = (
        f"{_BEGIN}\nimport threading\nevent = threading.Event()\nthreading.Thread(target=event.wait).start()\n"
        "try: confine(Confinement(1 << 30))\nexcept RuntimeError as error: tell(error=str(error))\nevent.set()"
    )
    ran = subprocess.run([sys.executable, "-c", code, "", "", ""], capture_output=True, text=True, check=True, timeout=120)
    assert "before it starts threads; this one has 2" in json.loads(ran.stdout)["error"]


def test_without_landlock_only_limits_hold_and_that_is_said(tmp_path: Path) -> None:
    code = f"""{_BEGIN}
from dspex_lab.security import _landlock
_landlock.abi = lambda: 0
level = confine(Confinement(300 << 20, (folder,)))
open(os.path.join(elsewhere, "new"), "w").close()
try: bytearray(1 << 30)
except MemoryError: tell(level=level, explained=explain(PermissionError(13, "no", "/etc/shadow")))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, "", str(tmp_path), ""], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(ran.stdout) == {"level": "rlimits", "explained": None}


def test_a_limit_above_what_the_process_may_have_is_what_it_may_have(tmp_path: Path) -> None:
    code = (
        f"{_BEGIN}\nresource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))\n"
        "confine(Confinement(1 << 40))\ntell(data=resource.getrlimit(resource.RLIMIT_DATA))\nos._exit(0)"
    )
    ran = subprocess.run([sys.executable, "-c", code, "", "", ""], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(ran.stdout) == {"data": [1 << 30, 1 << 30]}


@needs_landlock
def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    confined(tmp_path, "tell()")
    assert (tmp_path / "workspace").is_dir()


@needs_landlock
def test_a_single_file_can_be_writable(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "log").write_text("")
    code = """
with open(os.path.join(elsewhere, "log"), "w") as file: file.write("x")
try: open(os.path.join(elsewhere, "new"), "w")
except PermissionError as error: tell(why=explain(error))
"""
    told = confined(tmp_path, code, limits='300 << 20, (*writable, os.path.join(elsewhere, "log"))')
    assert "writable=" in told["why"]
    assert (tmp_path / "elsewhere" / "log").read_text() == "x"


def test_no_data_is_no_limit(tmp_path: Path) -> None:
    code = "tell(data=resource.getrlimit(resource.RLIMIT_DATA)[0] != 0, n=len(bytearray(1 << 20)))"
    assert confined(tmp_path, code, limits="0, writable") == {"data": True, "n": 1 << 20}


@needs_landlock
def test_a_thread_can_be_confined_and_the_others_are_not(tmp_path: Path) -> None:
    code = f"""{_BEGIN}
import threading
from dspex_lab.security import confine_thread
def inner():
    try: open(os.path.join(elsewhere, "inner"), "w")
    except PermissionError as error: told["inner"] = "writable=" in explain(error)
def outer():
    told["level"] = confine_thread(Confinement(0, writable))
    thread = threading.Thread(target=inner); thread.start(); thread.join()
told = {{}}
thread = threading.Thread(target=outer); thread.start(); thread.join()
open(os.path.join(elsewhere, "main"), "w").close()
tell(**told)
"""
    arguments = [str(tmp_path / "workspace"), str(tmp_path), measured()]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(ran.stdout) == {"level": f"rlimits+landlock {landlock.abi()}", "inner": True}


def test_the_names_are_those_of_the_room() -> None:
    assert Confinement(1).writable == ()
    assert callable(allow_cpu)
