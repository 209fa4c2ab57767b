"""What hostile code tries in a sandbox, and the name of the error it gets; nothing outside notices."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from attacks import ATTACKS
from clocks import eventually
from sandbox_helpers import MB, needs_sandbox, state_of

from dspex_lab.errors import (
    SandboxOutputLimit,
    SandboxTimeout,
)
from dspex_lab.security.sandbox import Limits, Sandbox, _warm

pytestmark = needs_sandbox


class Place(NamedTuple):
    """A sandbox to attack, and what it must not reach."""

    sandbox: Sandbox
    bystander: Sandbox
    names: dict[str, Any]
    store: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("home")
    key, store, link = home / ".ssh" / "id_rsa", home / "notebook.duckdb", home / "link"
    key.parent.mkdir()
    key.write_text("PRIVATE")
    store.write_bytes(b"the store")
    link.symlink_to(store)
    unix = str(home / "socket")
    limits = Limits(seconds=20, memory=64 * MB, calls=50, flood=8 * MB)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
        socket.create_server(("127.0.0.1", 0)) as server,
        Sandbox(limits, tools={"tool": lambda *a: None}) as sandbox,
        Sandbox() as bystander,
    ):
        listening.bind(unix)
        listening.setblocking(False)
        bystander.run("kept = 'kept'")
        names = {
            "SSH": str(key),
            "STORE": str(store),
            "LINK": str(link),
            "UNIX": unix,
            "KERNEL": os.getpid(),
            "PORT": server.getsockname()[1],
            "PACKAGE": pytest.__file__,
            "MARK": str(home / "executed"),
        }
        yield Place(sandbox, bystander, names, store)
        with pytest.raises(BlockingIOError):
            listening.recv(1)
        assert not os.path.exists(names["MARK"])


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gets_an_error_by_name_and_harms_nothing(place: Place, attack: str) -> None:
    code, expected, text = ATTACKS[attack]
    # What never ends is given little time; what ends by itself is given all it may need on a slow machine.
    timeout = 0.5 if expected is SandboxTimeout else None
    before = place.store.stat()
    with pytest.raises(expected, match=text):
        place.sandbox.run(code, place.names, timeout=timeout)
    if attack == "builtins of its own":  # what it broke is its own
        place.sandbox.reset()
    assert place.sandbox.run("del_me = None\n1 + 1").result == 2
    place.sandbox.reset()
    assert place.bystander.run("kept").result == "kept"
    after = place.store.stat()
    assert place.store.read_bytes() == b"the store"
    assert (after.st_mode, after.st_mtime_ns, after.st_uid) == (before.st_mode, before.st_mtime_ns, before.st_uid)


def test_the_environment_is_clean(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Sandbox() as sandbox:
        found = sandbox.run("import os\ndict(os.environ)").result
    assert set(found) <= {"LANG", "PATH", "HOME", "LC_CTYPE", "LD_LIBRARY_PATH"} | {n for n in found if n.endswith("_THREADS")}


def test_neither_the_process_nor_the_one_it_is_forked_from_has_the_kernel_s_secrets(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = os.urandom(16).hex()
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    monkeypatch.setattr(_warm, "_zygote", None)  # one is started now, with the secret in the environment
    monkeypatch.setattr(_warm, "_leases", 0)
    # A program that is simply started has it: where one looks, it would be seen.
    with Sandbox() as sandbox, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as started:
        sandbox.run("1")
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(b"\n")
        assert started.stdout.read(1) == b"\n"  # it is loaded
        assert _warm._zygote is not None
        for pid in (_warm._zygote.pid, sandbox.pid, started.pid):
            try:
                found = secret.encode() in memory_of(pid or 0)
            except PermissionError:  # a sandbox does not let its own user look
                assert pid == sandbox.pid
                continue
            assert found == (pid == started.pid)


def memory_of(pid: int) -> bytes:
    """Everything that a process can write to, and so may have kept."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            where, rights, *_ = line.split()
            first, last = (int(n, 16) for n in where.split("-"))
            if rights.startswith("rw"):
                memory.seek(first)
                parts.append(memory.read(last - first))
    return b"".join(parts)


def test_a_forged_result_is_a_result_like_any_other_and_the_account_is_the_kernels_own(place: Place) -> None:
    # The token can be found: it is in the process. What the code can do with it is what it could do without: give a value.
    code = """
    import gc, os, json
    harness = next(o for o in gc.get_objects() if type(o).__name__ == "Harness")
    said = {"token": harness._token, "kind": "done", "result": "forged", "repr": False, "cpu_seconds": -1, "peak_memory": 0}
    data = json.dumps(said).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)
    while True: pass
    """
    with Sandbox() as sandbox:
        ran = sandbox.run(textwrap.dedent(code))
        assert ran.result == "forged"
        assert ran.cpu_seconds >= 0
        assert ran.peak_memory > MB
        # It is stopped between runs, though it would go on.
        eventually(lambda: state_of(sandbox) == "T")
        with pytest.raises(SandboxTimeout):
            sandbox.run("1", timeout=0.3)
        assert sandbox.run("1").fresh


def test_a_tool_gets_no_hundred_megabytes_however_much_memory_the_code_has() -> None:
    got = []
    with (
        Sandbox(Limits(memory=1024 * MB), tools={"tool": got.append}) as sandbox,
        pytest.raises(SandboxOutputLimit, match="arguments of tool are too large: 104,857,"),
    ):
        sandbox.run("tool('x' * (100 << 20))")
    assert got == []


def test_processor_time_is_limited_also_where_the_wall_clock_is_not() -> None:
    with (
        Sandbox(Limits(seconds=600, cpu_seconds=0.2)) as sandbox,
        pytest.raises(SandboxTimeout, match=r"0\.2 s of processor time"),
    ):
        sandbox.run("while True: pass")


def test_the_kernel_ends_a_spin_should_nobody_watch() -> None:
    with Sandbox(Limits(seconds=600, cpu_seconds=0.2)) as sandbox:
        ran = sandbox.run(
            "import resource, signal\nlimits = resource.getrlimit(resource.RLIMIT_CPU)\n"
            "try: signal.signal(signal.SIGXCPU, print)\nexcept OSError: limits = list(limits) + ['not caught']\nlimits"
        )
    assert 1 <= ran.result[0] <= 3
    assert ran.result[-1] == "not caught"


def test_a_timer_does_nothing_between_runs(place: Place) -> None:
    with Sandbox() as sandbox:
        sandbox.run(
            "import signal\nticks = 0\ndef tick(*_):\n    global ticks\n    ticks += 1\n"
            "signal.signal(signal.SIGALRM, tick)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)"
        )
        eventually(lambda: state_of(sandbox) == "T")
        assert sandbox.run("signal.setitimer(signal.ITIMER_REAL, 0)\n'well'").result == "well"


def test_writable_and_executable_memory_is_no_way_out(place: Place) -> None:
    code = "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\xc3')\nlen(m)"
    assert place.sandbox.run(code).result == 4096


def test_the_process_has_no_descriptor_of_the_kernel(place: Place) -> None:
    code = (
        "import os\nopen_ = []\nfor fd in range(64):\n    try: os.fstat(fd); open_.append(fd)\n    except OSError: pass\nopen_"
    )
    with Sandbox() as sandbox:
        assert sandbox.run(code).result == [0, 1, 2, 3]


def test_root_is_nobody_special_in_it(place: Place) -> None:
    place.sandbox.run("1")
    text = Path(f"/proc/{place.sandbox.pid}/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"


UNPRIVILEGED = Path("/usr/bin/python3")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_the_attacks_fare_no_better_without_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    su = shutil.which("setpriv")
    if su is None or not UNPRIVILEGED.exists():
        pytest.skip("setpriv (util-linux) and a Python that everybody can read are needed")
    folder = Path("/tmp") / f"dspex-unprivileged-{os.getpid()}"  # noqa: S108 - pytest's own folders are root's
    package = Path(__import__("dspex_lab").__file__).parent
    try:
        (folder / "dspex_lab").mkdir(parents=True)
        for name in ("errors.py", "_lazy.py"):
            shutil.copy(package / name, folder / "dspex_lab")
        shutil.copytree(package / "security", folder / "dspex_lab" / "security")
        (folder / "dspex_lab" / "__init__.py").write_text("")
        (folder / "attacks.py").write_text(_SCRIPT.format(attacks=_selected()))
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        ran = subprocess.run(
            [su, "--reuid=65534", "--regid=65534", "--clear-groups", UNPRIVILEGED, "attacks.py"],
            cwd=folder,
            env={"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "held"


def _selected() -> dict[str, tuple[str, str]]:
    """The attacks that need no names of the fixture, and no time."""
    return {
        name: (code, error.__name__)
        for name, (code, error, _) in ATTACKS.items()
        if error is not SandboxTimeout and "tool" not in code and not any(n in code for n in ("SSH", "STORE", "LINK", "UNIX"))
    }


_SCRIPT = """
import os
from dspex_lab.security.sandbox import *
from dspex_lab.errors import *
import dspex_lab.errors as errors
assert os.getuid() == 65534
names = {{"KERNEL": os.getpid(), "PORT": 1, "PACKAGE": "/usr/lib/python3/dist-packages", "MARK": "/tmp/x"}}
with Sandbox(Limits(memory=64 << 20, flood=8 << 20)) as sandbox:
    for name, (code, expected) in {attacks!r}.items():
        try:
            sandbox.run(code, names)
        except getattr(errors, expected, CodeError):
            pass
        else:
            raise SystemExit(name)
        sandbox.reset()
print("held")
"""
